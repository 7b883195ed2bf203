"""Sends a datagram for each record over UDP: JSON or any other line format.

Nobody acknowledges a datagram: it is sent once, as best effort. Use tcp where no record may be
lost.
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

NAME = "udp"
PLACE = True
DELIVERY = "best effort"
ADDRESS = "udp://HOST:PORT"
OPTIONS = FORMAT_OPTIONS
PORTS = {"udp": 0}
check, needs_raw, shows_joins = check_lines, lines_need_raw, lines_show_joins


def check_address(address: str, **options: Any) -> None:
    """ValueError for an address of another kind."""
    checked(address, PORTS, options)


class Output(PlainLines):
    """Sends lines as datagrams."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        super().__init__(place, checked(place.address, PORTS, options), options)
