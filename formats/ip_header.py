"""The size that the header of an IP packet states, without making a record.

`ipv4` reads the fixed part of an IPv4 header by its schema; bytes that were not logged are read as
zeros, as ipmon does. `stated_length` gives the length that a header of either version states.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pylog.formats.packet_schemas import IPV4
from pylog.formats.plan import Plan

_SIZE = IPV4.sizeof()
_fields = Plan(IPV4).reader(
    ("version_ihl", "length", "id", "flags_offset", "protocol", "src", "dst")
)


class IPv4(NamedTuple):
    """Fields of an IPv4 header.

    size      bytes of the header, by its own length field
    fragment  flags and the offset in units of 8 bytes: `fragment & 0x1FFF`
    """

    size: int
    length: int
    id: int
    fragment: int
    protocol: int
    source: bytes
    destination: bytes


def ipv4(data: bytes) -> IPv4:
    """The header that the data begins with, in network byte order."""
    version_ihl, *rest = _fields(data[:_SIZE].ljust(_SIZE, b"\0"), 0)
    return IPv4((version_ihl & 15) * 4, *rest)


def stated_length(data: bytes, at: int = 0, order: Literal["little", "big"] = "big") -> int:
    """The length that the IP header at `at` states; its first 6 bytes must be there.

    order   of ip_len, which old kernels keep in the machine's order
    """
    if data[at] >> 4 == 6:
        return 40 + int.from_bytes(data[at + 4 : at + 6])
    return int.from_bytes(data[at + 2 : at + 4], order)
