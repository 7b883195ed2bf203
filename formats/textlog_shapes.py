"""The shapes of regular lines of the kernel's LOG: what is left of a line without its digits.

All lines of a shape have the same words in the same order, and differ in numbers and addresses
only. A shape is read here if its packets are TCP, UDP or ICMP without fragments, options and quoted
packets.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pylog.formats.ip_numbers import ICMP, ICMPV6, TCP, UDP
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.textlog_fields import LARGEST
from pylog.formats.textlog_kernel import FLAGS
from pylog.record.places import (
    AT_DPORT,
    AT_GID,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_LENGTH,
    AT_MARK,
    AT_SPORT,
    AT_UID,
)

CUT = b" SRC="
"""Where lines are cut."""
DIGITS = b"0123456789abcdef.:"
"""The bytes of numbers and addresses."""
_SHAPE = re.compile(
    rb" DST= LEN= (?:TOS=x(?P<tos>[A-F]{0,2}) PREC=x(?P<prec>[A-F]{0,2}) TTL= (?P<ident>ID)="
    rb"|TC= HOPLIMIT= FLOWLBL=) (?:DF )?PROTO=(?:"
    rb"(?P<tcp>TCP) SPT= DPT= (?P<seq>SEQ= ACK= )?WINDOW= RES=x (?P<flags>(?:[A-Z]{3} )*)URGP="
    rb"|(?P<udp>UDP) SPT= DPT= LEN=(?= )|(?P<icmp>ICMPv?) TYPE= CODE=(?P<echo> ID= SEQ=)?)"
    rb"(?P<owner> UID= GID=)?(?P<mark> MARK=x)? ?\r?"
)
"""After LEN= of UDP a blank must follow: without it the number may be cut."""
MOST_NUMBER = 0xFFFFFFFF
"""The largest number of any word."""


class Number(NamedTuple):
    """A number of a shape: its place in the record or its name in `extra`, base and largest."""

    place: int | str
    base: int
    most: int
    only_if_set: bool = False


class Shape(NamedTuple):
    """What a shape says.

    text      the shape itself
    tos       whether TOS= and PREC= have capital letters
    between   what is left of the value of PROTO= without capital letters
    numbers   those from the third value on; None: the value of PROTO=
    """

    text: bytes
    family: str
    protocol: int
    flags: str | None
    tos: bool
    between: bytes
    numbers: tuple[Number | None, ...]


def shape_of(text: bytes) -> Shape | None:
    """What a shape says; None: the grammar must read such lines."""
    match = _SHAPE.fullmatch(text)
    if match is None or not (words := set((match["flags"] or b"").decode().split())) <= set(FLAGS):
        return None
    numbers: list[Number | None] = [Number(AT_LENGTH, 10, 999_999_999)]
    if match["ident"]:
        numbers += [Number("tos", 16, 0xFF), Number("prec", 16, 0xFF)]
    else:
        numbers += [Number("tos", 10, 0xFF)]
    ident = "ip_id" if match["ident"] else "flow_label"
    numbers += [Number("ttl", 10, LARGEST["ttl"]), Number(ident, 10, LARGEST[ident]), None]
    protocol, between, flags = UDP, b" ", None
    if match["icmp"]:
        protocol, between = (ICMPV6, b"v6 ") if match["icmp"] == b"ICMPv" else (ICMP, b" ")
        numbers += [Number(AT_ICMP_TYPE, 10, 0xFF), Number(AT_ICMP_CODE, 10, 0xFF)]
        if match["echo"]:
            numbers += [Number("icmp_id", 10, 0xFFFF), Number("icmp_seq", 10, 0xFFFF)]
    else:
        numbers += [Number(AT_SPORT, 10, 0xFFFF), Number(AT_DPORT, 10, 0xFFFF)]
    if match["udp"]:
        numbers.append(Number("udp_length", 10, 0xFFFF))
    elif match["tcp"]:
        protocol, flags = TCP, TCP_FLAGS[sum(FLAGS[word] for word in words)]
        if match["seq"]:
            numbers += [Number("tcp_seq", 10, MOST_NUMBER), Number("tcp_ack", 10, MOST_NUMBER)]
        numbers += [Number("tcp_window", 10, LARGEST["tcp_window"]),
                    Number("tcp_reserved", 16, MOST_NUMBER, True),
                    Number("tcp_urgent", 10, MOST_NUMBER, True)]  # fmt: skip
    if match["owner"]:
        numbers += [Number(AT_UID, 10, MOST_NUMBER), Number(AT_GID, 10, MOST_NUMBER)]
    if match["mark"]:
        numbers.append(Number(AT_MARK, 16, MOST_NUMBER))
    return Shape(
        text, "ipv4" if match["ident"] else "ipv6", protocol, flags,
        bool(match["tos"] or match["prec"]), between, tuple(numbers),
    )  # fmt: skip
