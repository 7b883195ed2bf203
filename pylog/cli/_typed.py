"""Errors of the library as the command line shows them.

The library names an option as its keyword, "qthresh is 0"; who typed --qthresh looks for that. The
tables of backends and outputs say how each option is typed.
"""

from __future__ import annotations

import argparse
import re

from pylog import backends, outputs


def as_typed(arguments: argparse.Namespace, text: str) -> str:
    """An error of the library about an option, which has the option as it was typed."""
    given = vars(arguments)
    typed = {"window_s": "--window"}
    for module in backends.modules().values():
        typed |= {o.name: o.typed for o in module.OPTIONS if given.get(o.name) is not None}
    for name in outputs.names():
        options = outputs.description(name).options
        typed |= {o.name: o.typed for o in options if given.get(f"to.{o.name}") is not None}
    named = r"^\w+(?= is |: )|(?<=; leave out )\w+$"
    return re.sub(named, lambda match: typed.get(match[0], match[0]), text)
