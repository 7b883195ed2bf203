"""`pylog ulogd --check` and -i: explains a configuration, and shows what a plugin has."""

from __future__ import annotations

from pylog.ulogd.conffile import Conffile


def info(name: str) -> list[str]:
    """The options and keys of a plugin, as `ulogd -i` shows them; ValueError."""
    return [name]


def explanation(conffile: Conffile) -> tuple[list[str], int]:
    """Lines that explain the file, and the exit status."""
    return [conffile.path], 0
