"""Sends a line for each record to a local socket: JSON lines or any other line format.

The socket belongs to the receiver. If it is a stream, each line ends with a newline, and arrives at
least once: what the receiver had not read when it ended is sent again to the next one. If it takes
datagrams, each line is one, and is sent once.
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

NAME = "unix"
PLACE = True
DELIVERY = "at least once"
ADDRESS = "unix:PATH"
OPTIONS = FORMAT_OPTIONS
PORTS = {"unix": 0}
check, needs_raw, shows_joins = check_lines, lines_need_raw, lines_show_joins


def check_address(address: str, **options: Any) -> None:
    """ValueError for an address of another kind."""
    checked(address, PORTS, options)


class Output(PlainLines):
    """Sends lines to a local socket."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        super().__init__(place, checked(place.address, PORTS, options), options)
