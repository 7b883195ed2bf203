"""The headers of pflog: struct pfloghdr of each system, as construct schemas, and their layouts.

The first byte of a header is its length, and the packet begins at the length rounded up to 4. A
layout is named by that length, for lengths that several systems write also by the system, and by
the byte order of the machine for headers with uid and pid: pflog-61-netbsd-le. OpenBSD 3.0 to
3.3 wrote 28 bytes without a length, under another link type.

Sources: net/if_pflog.h of OpenBSD 3.0 to 7.8, FreeBSD 5.3 to 14, NetBSD, DragonFly and XNU;
NetBSD's npf_ext_log.c; print-pflog.c of tcpdump.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from construct import Bytes, Int8ub, Int16sb, Int16ub, Int32ub, Struct

from pylog.formats.plan import Plan

OLD, SHORT, RIDENTIFIER, LONG, FREEBSD, OPENBSD = 28, 45, 49, 61, 69, 100
SIZES = (OLD, SHORT, RIDENTIFIER, LONG, FREEBSD, OPENBSD)
"""The lengths of headers, without the padding after them."""
OPENBSD_PAD = 63
"""PFLOG_HDRLEN of OpenBSD 3.8: the offset of the padding. It is read as LONG."""

IFNAMSIZ = RULESET = 16  # PF_RULESET_NAME_SIZE

_COMMON = (
    "length" / Int8ub,
    "af" / Int8ub,
    "action" / Int8ub,
    "reason" / Int8ub,
    "ifname" / Bytes(IFNAMSIZ),
    "ruleset" / Bytes(RULESET),
    "rulenr" / Int32ub,
    "subrulenr" / Int32ub,
)
_PAD = "_pad" / Bytes(3)
_USERS = tuple(name / Bytes(4) for name in ("uid", "pid", "rule_uid", "rule_pid"))
"""In the order of the machine that logged, all other fields in network order."""

HEADERS: dict[int, Any] = {
    OLD: Struct(
        "af" / Int32ub, "ifname" / Bytes(IFNAMSIZ), "rulenr" / Int16sb, "reason" / Int16ub,
        "action" / Int16ub, "dir" / Int16ub,
    ),
    SHORT: Struct(*_COMMON, "dir" / Int8ub, _PAD),
    RIDENTIFIER: Struct(*_COMMON, "ridentifier" / Int32ub, "dir" / Int8ub, _PAD),
    LONG: Struct(*_COMMON, *_USERS, "dir" / Int8ub, _PAD),
    FREEBSD: Struct(
        *_COMMON, *_USERS, "dir" / Int8ub, _PAD, "ridentifier" / Int32ub,
        "reserve" / Int8ub, _PAD,
    ),
    OPENBSD: Struct(
        *_COMMON, *_USERS, "dir" / Int8ub, "rewritten" / Int8ub, "naf" / Int8ub, "_pad" / Bytes(1),
        "saddr" / Bytes(16), "daddr" / Bytes(16), "sport" / Int16ub, "dport" / Int16ub,
    ),
}  # fmt: skip
"""By the length of the header."""

LEAST = SHORT
"""The shortest header that has a length."""
NOBODY = 0xFFFFFFFF
"""No rule, no uid or no pid."""
UID_MAX = 0x7FFFFFFF
"""No uid on NetBSD and Darwin."""

ORDERS = {"<": "le", ">": "be"}
SYSTEMS = {
    SHORT: ("openbsd", "freebsd", "dragonfly"),
    LONG: ("openbsd", "freebsd", "dragonfly", "netbsd", "npf", "darwin"),
}
"""The systems that write headers of a length that does not tell them apart."""
OF_SYSTEM = {RIDENTIFIER: "freebsd", FREEBSD: "freebsd", OPENBSD: "openbsd"}
"""The system by a length that only one writes."""


@cache
def plan(size: int) -> Plan:
    """The header of that length as a compiled struct, with the padding after it."""
    return Plan(HEADERS[size])


def packet_at(length: int) -> int:
    """Where the packet begins, by the length that the header states (BPF_WORDALIGN)."""
    return length + 3 & ~3


class Layout(NamedTuple):
    """A layout of headers.

    size     of the header
    system   that wrote it, "" if that is open; "old" with size 28: dir 0 is in, and 1 is out
    order    of the machine, "" where the header has nothing in it
    """

    size: int
    system: str = ""
    order: str = ""

    @property
    def name(self) -> str:
        words = ["pflog", str(self.size)]
        if self.size not in OF_SYSTEM and self.system:
            words.append(self.system)
        if self.order:
            words.append(ORDERS[self.order])
        return "-".join(words)

    def of_size(self, size: int) -> Layout:
        """The layout of a header of another length, from the same machine."""
        if size == self.size:
            return self
        order = (self.order or "<") if size >= LONG else ""
        return Layout(size, OF_SYSTEM.get(size, ""), order)


@cache
def layouts() -> dict[str, Layout]:
    """All layouts by name, those of present systems first."""
    every = [
        *(Layout(OPENBSD, "openbsd", order) for order in ORDERS),
        *(Layout(FREEBSD, "freebsd", order) for order in ORDERS),
        *(Layout(LONG, system, order) for system in (*SYSTEMS[LONG], "") for order in ORDERS),
        Layout(RIDENTIFIER, "freebsd"),
        *(Layout(SHORT, system) for system in (*SYSTEMS[SHORT], "")),
        Layout(OLD),
        Layout(OLD, "old"),
    ]
    return {layout.name: layout for layout in every}


def named(name: str) -> Layout:
    """The layout of a name; ValueError if there is none."""
    layout = layouts().get(name)
    if layout is None:
        raise ValueError(f"no layout {name!r}; there are {', '.join(layouts())}")
    return layout


def size_of(length: int) -> int | None:
    """The header in SIZES that one of a stated length is; None: there is none so short.

    A length that no system writes yet is taken for the next shorter one, with more behind it.
    """
    if length < LEAST:
        return None
    return max(size for size in SIZES if size <= length)
