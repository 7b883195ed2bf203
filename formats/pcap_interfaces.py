"""Interfaces of capture files: the clock, link type and names that a packet's block refers to.

pcap has one interface, in the header of the file. pcapng has any number of them in each section,
and packets name theirs by its place in the section. So an interface that cannot be used keeps its
place and is marked as refused: otherwise packets would be read with the clock of another interface.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pylog.errors import DecodeError
from pylog.formats import Stream
from pylog.formats.pcap_blocks import (
    IF_DESCRIPTION,
    IF_TSOFFSET,
    IF_TSRESOL,
    MAXIMUM_BLOCK,
    MAXIMUM_SNAPLEN,
    OPT_COMMENT,
    OPT_END,
    Note,
    note,
    plans,
)
from pylog.formats.plan import BYTEORDER
from pylog.record import MAX_SECONDS

LONGEST_LAYOUT = 255
"""A longer description is not the name of a layout, and is not kept."""

MAXIMUM = 1 << 16
"""The most interfaces in a section; further interfaces and their packets are refused."""

REFUSED = -1
"""The link type of an interface that cannot be read."""


class Interface(msgspec.Struct):
    """An interface of a capture.

    number     its place among all interfaces of the file, those of earlier sections included
    units      time stamps count 1/units seconds, from `offset_s` seconds after 1970
    observed   whether its times are times of receipt
    names      of network interfaces, by their numbers in its packets
    stream     of the packets' format, if the interface names their layout
    dropped    (offset, isb_ifdrop, isb_osdrop) of its last statistics block
    claimed    how many records were lost, by the counts in its packets' blocks
    reported   how many of them have been reported, because of notes or of those counts
    refused    why its packets cannot be read; "" if they can
    netns      the network namespace of its packets, if it names one
    """

    number: int
    linktype: int
    snaplen: int = 0
    description: str = ""
    units: int = 1_000_000
    offset_s: int = 0
    observed: bool = True
    names: dict[int, str] = {}
    stream: Stream | None = None
    dropped: tuple[int, int, int] | None = None
    claimed: int = 0
    reported: int = 0
    refused: str = ""
    netns: str | int | None = None

    @property
    def longest(self) -> int:
        """The most bytes that a packet of pcap may have."""
        return min(max(self.snaplen & 0x7FFFFFFF, MAXIMUM_SNAPLEN), MAXIMUM_BLOCK)

    def observed_ns(self, ticks: int | None) -> int | None:
        """When a packet was received; None if unknown, or if no record can have that time."""
        if ticks is None or not self.observed:
            return None
        if self.units == 10**9 and not self.offset_s:
            return ticks  # of 64 bits, so before the year 9999
        since = ticks * 10**9 // self.units
        observed_ns = self.offset_s * 10**9 + since
        return observed_ns if 0 <= observed_ns < (MAX_SECONDS + 1) * 10**9 else None


class Origin(msgspec.Struct, gc=False):
    """Where a message was captured.

    stream     the stream of the message's format
    interface  Interface.number
    names      of network interfaces, by number
    cut        how many bytes of the packet were not captured
    process    the note of the process that made the commit, for its message
    """

    linktype: int
    stream: Stream
    interface: int
    names: dict[int, str]
    observed_ns: int | None = None
    cut: int = 0
    process: Note | None = None


def options(
    data: bytes, start: int, end: int, order: str, base: int
) -> Iterator[tuple[int, int, int]]:
    """The options in data[start:end] as (code, value's start, value's end).

    base   offset in the input of the data, for the DecodeError of an option that does not fit
    """
    unpack = plans(order)["option"].unpack
    while start + 4 <= end:
        code, size = unpack(data, start)
        if code == OPT_END:
            return
        if start + 4 + size > end:
            raise DecodeError("option length", size, f"at most {end - start - 4}", base + start)
        yield code, start + 4, start + 4 + size
        start += 4 + (size + 3 & ~3)


def read_interface(
    data: bytes, start: int, end: int, order: str, base: int, number: int
) -> Interface:
    """The interface that the block data[start:end] declares; DecodeError if it cannot be used."""
    plan = plans(order)["interface"]
    if end - start < plan.size + 4:
        raise DecodeError(
            "interface block", f"{end - start} bytes", f"at least {plan.size + 4}", base + start
        )
    _, _, linktype, _, snaplen = plan.unpack(data, start)
    interface = Interface(number, linktype, snaplen)
    for code, at, stop in options(data, start + plan.size, end - 4, order, base):
        value = data[at:stop]
        if code == IF_DESCRIPTION and len(value) <= LONGEST_LAYOUT:
            interface.description = value.decode("utf-8", "backslashreplace")
        elif code == OPT_COMMENT and (comment := note(value)) is not None:
            interface.observed = not comment.unobserved
            if isinstance(comment.netns, str) or 0 <= (comment.netns or 0) < 1 << 31:
                interface.netns = comment.netns
        elif code == IF_TSRESOL and len(value) == 1:
            # 7 bits of exponent: 2^-64 is a legal clock
            interface.units = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == IF_TSOFFSET and len(value) == 8:
            interface.offset_s = int.from_bytes(value, BYTEORDER[order], signed=True)
    return interface
