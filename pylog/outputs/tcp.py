"""Sends a line for each record over TCP, or over TLS on TCP: JSON lines or any other line format.

A line ends with a newline. If the connection breaks it is made again, and lines that the receiving
system had not acknowledged are sent again: each arrives at least once.
"""

from __future__ import annotations

from typing import Any

from pylog import outputs
from pylog.outputs._lines import FORMAT_OPTIONS
from pylog.outputs._sent_lines import (
    PlainLines,
    check_lines,
    checked,
    lines_need_raw,
    lines_show_joins,
)
from pylog.transports import tls

NAME = "tcp"
PLACE = True
DELIVERY = "at least once"
ADDRESS = "tcp://HOST:PORT or tls://HOST:PORT"
OPTIONS = (*FORMAT_OPTIONS, *tls.OPTIONS)
PORTS = {"tcp": 0, "tls": 0}
check, needs_raw, shows_joins = check_lines, lines_need_raw, lines_show_joins


def check_address(address: str, **options: Any) -> None:
    """ValueError for an address of another kind, or options that are not for it."""
    checked(address, PORTS, options)


class Output(PlainLines):
    """Sends lines over TCP."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        super().__init__(place, checked(place.address, PORTS, options), options)
