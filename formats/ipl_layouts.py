"""The record layouts of IPFilter's logs: C declarations, and the construct schemas of them.

A record is `struct iplog`, then `struct ipflog` and packet bytes (packet log), `struct natlog` (NAT
log) or `struct ipslog` (state log), with no padding between the parts or between records. The
version of IPFilter determines which fields there are, and the machine that wrote the log determines
where they lie. So a layout consists of a version, which chooses C declarations from the tables
below, and of an ABI, by which they are laid out as the compiler of that machine does it.

Sources: ip_fil.h, ip_nat.h, ip_state.h and ipl.h of IPFilter 2.x to 5.1.2 and of the NetBSD,
DragonFly and illumos trees; every offset was compared with compiled structs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from construct import (
    Bytes,
    Default,
    Int8ub,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32sl,
    Int32ub,
    Int32ul,
    Int64ub,
    Int64ul,
    Struct,
    this,
)

from pylog.formats.plan import Plan
from pylog.nearest import LAYOUTS, advice

LOGS = ("ipf", "nat", "state")
"""The packet, NAT and state logs: /dev/ipl, /dev/ipnat and /dev/ipstate."""

# struct iplog, the head of every record. 2.x and 3.0 have none. It begins with IPL_MAGIC ("IPLM")
# from 3.2 on, and the magic depends on the log from 4.0 on.

_IPLOG = {
    "2.x": "",
    "3.1": "ulong ipl_sec; ulong ipl_usec; u32 ipl_len; u32 ipl_count; size_t ipl_dsize;"
    " ptr ipl_next",
    "3.2": "ulong ipl_magic; ulong ipl_sec; ulong ipl_usec; u32 ipl_len; u32 ipl_count;"
    " size_t ipl_dsize; ptr ipl_next",
    "3.3": "u32 ipl_magic; u32 ipl_count; timeval ipl; size_t ipl_dsize; ptr ipl_next",
    "5.0.6": "u32 ipl_magic; u32 ipl_count; u32 ipl_seqnum; timeval ipl; size_t ipl_dsize;"
    " ptr ipl_next",
}

# struct ipflog. "if" is the interface: fl_unit and a name, or the name alone on systems whose
# interface names include the unit (NetBSD, OpenBSD, DragonFly).

_IPFLOG = {
    # struct ipl_ci, the only head of a record of 2.x; flags:24 and unit:8 share a u_long, of which
    # the 32 bits in use are fl_bits here
    "2.x": "ulong ipl_sec; ulong ipl_usec; u8 fl_hlen; u8 fl_plen; u16 fl_rule; bits4 if;"
    " align long",
    "3.1": "if4 if; u8 fl_plen; u8 fl_hlen; u16 fl_rule; u32 fl_flags",
    "3.2": "if4 if; u8 fl_plen; u8 fl_hlen; u16 fl_rule; u16 fl_group; u32 fl_flags",
    "3.3": "if4 if; u8 fl_plen; u8 fl_hlen; u16 fl_rule; u16 fl_group; u16 fl_loglevel;"
    " u32 fl_flags; u32 fl_lflags",
    "3.4.0": "if4 if; u8 fl_plen; u8 fl_hlen; u16 fl_loglevel; u32 fl_rule; u32 fl_group;"
    " u32 fl_flags; u32 fl_lflags",
    "3.4.29": "if16 if; u8 fl_plen; u8 fl_hlen; u16 fl_loglevel; u32 fl_rule; u32 fl_group;"
    " u32 fl_flags; u8 fl_dir; char _fl_pad[3]",
    "4.1": "unit fl_unit; u32 fl_rule; u32 fl_flags; u32 fl_lflags; u32 fl_logtag;"
    " char fl_nattag[16]; i32 fl_nattag_not; u16 fl_plen; u16 fl_loglevel; char fl_group[16];"
    " u8 fl_hlen; u8 fl_dir; char _fl_xxx[2]; ifname fl_ifname",
    "illumos": "unit fl_unit; u32 fl_rule; u32 fl_flags; u32 fl_lflags; u32 fl_logtag;"
    " char fl_nattag[16]; i32 fl_nattag_not; char fl_uuid[16]; u16 fl_plen; u16 fl_loglevel;"
    " char fl_group[16]; u8 fl_hlen; u8 fl_dir; char _fl_xxx[2]; ifname fl_ifname",
    "5.0.0": "unit fl_unit; u32 fl_rule; u32 fl_flags; u32 fl_lflags; u32 fl_logtag;"
    " char fl_nattag[16]; i32 fl_nattag_not; u16 fl_plen; u16 fl_loglevel; char fl_group[16];"
    " u8 fl_hlen; u8 fl_dir; u8 fl_breason; char _fl_xxx[1]; ifname fl_ifname",
    "5.0.5": "unit fl_unit; u32 fl_rule; u32 fl_flags; u32 fl_lflags; u32 fl_logtag;"
    " char fl_nattag[16]; i32 fl_nattag_not; u16 fl_plen; u16 fl_loglevel; char fl_group[16];"
    " u8 fl_hlen; u8 fl_dir; u8 fl_breason; u8 fl_family; ifname fl_ifname",
}

# struct natlog

_N2 = (
    "in4 nl_origip; in4 nl_outip; in4 nl_inip; be16 nl_origport; be16 nl_outport;"
    " be16 nl_inport; u16 nl_type; i32 nl_rule; quad nl_pkts; quad nl_bytes"
)
_NATLOG = {
    "2.x": "",
    "3.1": "timeval nl; in4 nl_origip; in4 nl_outip; in4 nl_inip; be16 nl_origport;"
    " be16 nl_outport; be16 nl_inport; u16 nl_type; i32 nl_rule",
    "3.2early": "timeval nl; " + _N2,
    "3.2": _N2,
    "3.4.0": _N2 + "; u8 nl_p",
    "4.1": "in4 nl_origip; in4 nl_outip; in4 nl_inip; be16 nl_origport; be16 nl_outport;"
    " be16 nl_inport; u16 nl_type; i32 nl_rule; quad nl_pkts[2]; quad nl_bytes[2]; u8 nl_p",
    "illumos": "in6 nl_origip; in6 nl_outip; in6 nl_inip; be16 nl_origport; be16 nl_outport;"
    " be16 nl_inport; u16 nl_type; i32 nl_rule; quad nl_pkts[2]; quad nl_bytes[2]; u8 nl_p;"
    " i32 nl_v",
    "5.0.0": "in6 nl_osrcip; in6 nl_odstip; in6 nl_nsrcip; in6 nl_ndstip; be16 nl_osrcport;"
    " be16 nl_odstport; be16 nl_nsrcport; be16 nl_ndstport; i32 nl_action; i32 nl_type;"
    " i32 nl_rule; quad nl_pkts[2]; quad nl_bytes[2]; u8 nl_p; u8 nl_v; char nl_ifnames[32]",
    "5.0.3": "in6 nl_osrcip; in6 nl_odstip; in6 nl_nsrcip; in6 nl_ndstip; be16 nl_osrcport;"
    " be16 nl_odstport; be16 nl_nsrcport; be16 nl_ndstport; i32 nl_action; i32 nl_type;"
    " i32 nl_rule; quad nl_pkts[2]; quad nl_bytes[2]; u8 nl_p[2]; u8 nl_v[2]; char nl_ifnames[32]",
}

# struct ipslog; isl_ps is a union of two ports in network order and an ICMP type in host order

_S3 = (
    "quad isl_pkts; quad isl_bytes; in6 isl_src; in6 isl_dst; u16 isl_type; ps isl_ps;"
    " u8 isl_v; u8 isl_p; u8 isl_flags; u8 isl_state[2]"
)
_IPSLOG = {
    "2.x": "",
    "3.1": "timeval isl; quad isl_pkts; quad isl_bytes; in4 isl_src; in4 isl_dst; u8 isl_p;"
    " u8 isl_flags; u16 isl_type; ps isl_ps",
    "3.2": "quad isl_pkts; quad isl_bytes; in4 isl_src; in4 isl_dst; u8 isl_p; u8 isl_flags;"
    " u16 isl_type; ps isl_ps",
    "3.3": "quad isl_pkts; quad isl_bytes; in4 isl_src; in4 isl_dst; u8 isl_p; u8 isl_flags;"
    " u8 isl_state[2]; u16 isl_type; ps isl_ps",
    "3.4.0": _S3,
    "3.4.29": _S3 + "; u32 isl_rulen; u32 isl_group",
    "4.1": "quad isl_pkts[4]; quad isl_bytes[4]; in6 isl_src; in6 isl_dst; u32 isl_tag;"
    " u16 isl_type; ps isl_ps; u8 isl_v; u8 isl_p; u8 isl_flags; u8 isl_state[2]; u32 isl_rulen;"
    " char isl_group[16]",
}


@dataclass(frozen=True)
class Version:
    """A generation of the structures: which declaration of each it has, and who shipped it.

    releases    the releases of IPFilter that write it
    systems     the systems that shipped them
    detected    whether it is tried on unknown bytes; the others differ from such a version in names
                only, and are used only if they are named
    """

    name: str
    iplog: str
    ipflog: str
    natlog: str
    ipslog: str
    releases: str
    systems: str
    aliases: tuple[str, ...] = ()
    detected: bool = True

    @property
    def structure(self) -> tuple[str, str, str, str]:
        """The declarations of all parts; versions that share them differ in a few names at most."""
        return self.iplog, self.ipflog, self.natlog, self.ipslog

    def declarations(self, log: str) -> tuple[str, str]:
        """The declarations of a log's record: head and body, "" if there is no such log."""
        body = {"ipf": _IPFLOG[self.ipflog], "nat": _NATLOG[self.natlog],
                "state": _IPSLOG[self.ipslog]}  # fmt: skip
        return _IPLOG[self.iplog], body[log]

    @cached_property
    def major(self) -> int:
        return int(self.name[0])

    @property
    def has_magic(self) -> bool:
        return self.iplog not in ("2.x", "3.1")

    @property
    def magic_tells_log(self) -> bool:
        return self.major >= 4


_BSD41 = "FreeBSD 6 to 9, NetBSD 2 to 6, Solaris"
_BSD51 = "FreeBSD 10 and later, NetBSD 7 and later"
VERSIONS = {
    v.name: v
    for v in (
        # name, iplog, ipflog, natlog, ipslog; the first is preferred where several versions decode
        # a dump identically
        Version("5.1.2", "5.0.6", "5.0.5", "5.0.3", "4.1", "5.1.0 and later", _BSD51,
                ("5.1", "5.1.0", "5.1.1", "master")),
        Version("5.0.6", "5.0.6", "5.0.5", "5.0.3", "4.1", "5.0.6 to 5.0.7", "", ("5.0.7",)),
        Version("4.1", "3.3", "4.1", "4.1", "4.1", "4.1.x", _BSD41, ("4.1.34", "4.1.35")),
        Version("4.1.0", "3.3", "4.1", "4.1", "4.1", "4.1.0 to 4.1.19", "", ("4.1.13",),
                detected=False),
        Version("3.4.35", "3.3", "3.4.29", "3.4.0", "3.4.29", "3.4.29 to 3.4.35",
                "FreeBSD 4 and 5, DragonFly", ("3.4.29",)),
        Version("3.4.0", "3.3", "3.4.0", "3.4.0", "3.4.0", "3.4.0 to 3.4.28",
                "FreeBSD 4, NetBSD 1.5, OpenBSD 2.9"),
        Version("5.0.5", "3.3", "5.0.5", "5.0.3", "4.1", "5.0.5", ""),
        Version("5.0.3", "3.3", "5.0.0", "5.0.3", "4.1", "5.0.3 to 5.0.4", "", ("5.0.4",)),
        Version("5.0.0", "3.3", "5.0.0", "5.0.0", "4.1", "5.0.0 to 5.0.2", "", ("5.0.2",)),
        Version("4.1-illumos", "3.3", "illumos", "illumos", "4.1", "4.1.9 with zones and uuid",
                "illumos"),
        Version("4.1-solaris", "3.3", "4.1", "illumos", "4.1", "4.1.9",
                "Solaris 10, older illumos"),
        Version("3.3", "3.3", "3.3", "3.4.0", "3.3", "late 3.3", "OpenBSD 2.6, NetBSD 1.4"),
        Version("3.3early", "3.3", "3.3", "3.2", "3.3", "early 3.3", ""),
        Version("3.2", "3.2", "3.2", "3.2", "3.2", "3.2", "Darwin 1"),
        Version("3.2early", "3.2", "3.2", "3.2early", "3.1", "early 3.2", ""),
        Version("3.1", "3.1", "3.1", "3.1", "3.1", "3.1, and the text of every ipl(4) manual", "",
                ("ipl4",)),
        Version("2.x", "2.x", "2.x", "2.x", "2.x", "2.x and 3.0", "", ("2", "3.0")),
    )
}  # fmt: skip
_ALIASES = {alias: v.name for v in VERSIONS.values() for alias in (v.name, *v.aliases)}

_BASES = {  # name: byte order, size of long, alignment of 64-bit integers
    "lp64le": ("<", 8, 8),  # x86-64, aarch64
    "lp64be": (">", 8, 8),  # sparc64, ppc64
    "ilp32le": ("<", 4, 4),  # i386
    "ilp32le8": ("<", 4, 8),  # ARM, MIPS little-endian
    "ilp32be": (">", 4, 8),  # sparc, powerpc, MIPS big-endian
}


@dataclass(frozen=True)
class ABI:
    """How the machine that wrote a log lays out C structures.

    base     lp64le, lp64be, ilp32le (i386), ilp32le8 (ARM) or ilp32be: byte order, size of long,
             alignment of 64-bit integers
    time64   struct timeval of NetBSD 6 and later: 64-bit seconds, 32-bit microseconds
    unit     whether ipflog has fl_unit (FreeBSD, Solaris) or only the interface's name (NetBSD...)
    ifname   LIFNAMSIZ: 16, or 32 on Solaris and illumos
    quad32   the counters of NAT and state records (U_QUAD_T) are a u_long of 32 bits, as in old
             builds on systems other than the BSDs
    """

    base: str
    time64: bool = False
    unit: bool = True
    ifname: int = 16
    quad32: bool = False

    @property
    def name(self) -> str:
        return (
            self.base
            + ("-time64" if self.time64 else "")
            + ("" if self.unit else "-nounit")
            + ("-name32" if self.ifname == 32 else "")
            + ("-quad32" if self.quad32 else "")
        )

    @property
    def order(self) -> str:
        """The byte order as struct writes it, < or >."""
        return _BASES[self.base][0]

    @cached_property
    def types(self) -> dict[str, tuple[Any, int]]:
        """The construct type of each C type, and its alignment in bytes."""
        order, long, align8 = _BASES[self.base]
        little = order == "<"
        u16, u32 = (Int16ul, Int32ul) if little else (Int16ub, Int32ub)
        u64 = Int64ul if little else Int64ub
        ulong = (u64, 8) if long == 8 else (u32, 4)
        return {
            "u8": (Int8ub, 1),
            "u16": (u16, 2),
            "u32": (u32, 4),
            "i32": (Int32sl if little else Int32sb, 4),
            "quad": (u32, 4) if self.quad32 else (u64, align8),
            "ulong": ulong,
            "size_t": ulong,
            "ptr": ulong,
            "be16": (Bytes(2), 2),  # network order, whatever the machine's
            "in4": (Bytes(4), 4),
            "in6": (Bytes(16), 4),
            "ps": (Bytes(4), 2),
            "time": (u64, align8) if self.time64 or long == 8 else (u32, 4),
            "usec": (u64, 8) if long == 8 and not self.time64 else (u32, 4),
        }


def _c_struct(declaration: str, abi: ABI) -> list[Any]:
    """The members of a C struct as construct fields, padded and aligned as the ABI asks."""
    fields: list[Any] = []
    at, widest = 0, 1

    def align(to: int) -> None:
        nonlocal at
        if at % to:
            gap = to - at % to
            fields.append(f"_pad{at}" / Default(Bytes(gap), bytes(gap)))
            at += gap

    def add(name: str, schema: Any, alignment: int) -> None:
        nonlocal at, widest
        align(alignment)
        widest = max(widest, alignment)
        if name.startswith("_"):
            schema = Default(schema, bytes(schema.sizeof()))
        fields.append(name / schema)
        at += schema.sizeof()

    for member in filter(None, (part.strip() for part in declaration.split(";"))):
        kind, name = member.split(" ", 1)
        name, _, count = name.rstrip("]").partition("[")
        if kind == "timeval":
            seconds, alignment = abi.types["time"]
            add(f"{name}_sec", seconds, alignment)
            add(f"{name}_usec", *abi.types["usec"])
            align(alignment)  # the struct's own tail
        elif kind in ("if4", "if16"):
            if abi.unit:
                add("fl_unit", *abi.types["u32"])
            add("fl_ifname", Bytes(4 if kind == "if4" and abi.unit else 16), 1)
        elif kind == "bits4":
            if abi.unit:
                add("fl_bits", *abi.types["u32"])
                add("fl_ifname", Bytes(4), 1)
            else:
                add("fl_flags", *abi.types["ulong"])
                add("fl_ifname", Bytes(16), 1)
        elif kind == "unit":
            if abi.unit:
                add(name, *abi.types["u32"])
        elif kind == "ifname":
            add(name, Bytes(abi.ifname), 1)
        elif kind == "align":
            widest = max(widest, abi.types["ulong"][1])
        elif kind == "char" or (count and kind == "u8"):
            add(name, Bytes(int(count)), 1)
        else:
            schema, alignment = abi.types[kind]
            add(name, schema[int(count)] if count else schema, alignment)
    align(widest)
    return fields


@dataclass(frozen=True)
class Layout:
    """The records of a version of IPFilter as a machine writes them.

    `schema(log)` is the construct schema of a record; parse(build(x)) == x, and
    build(parse(b)) == b, padding included.
    """

    version: Version
    abi: ABI

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def name(self) -> str:
        return f"ipl-{self.version.name}-{self.abi.name}"

    @property
    def logs(self) -> tuple[str, ...]:
        """The logs that this version has: 2.x logged packets only."""
        return LOGS if self.version.natlog != "2.x" else ("ipf",)

    @property
    def host_order_ip(self) -> bool:
        """Whether ip_len and ip_off of the logged IPv4 header are in little-endian order.

        Kernels before 5.0 log them as the network code had swapped them, in the machine's order. On
        a big-endian machine this makes no difference.
        """
        return self.version.major < 5 and self.abi.order == "<"

    def magic(self, log: str) -> bytes:
        """IPL_MAGIC, IPL_MAGIC_NAT or IPL_MAGIC_STATE as it lies in a record; b"" before 3.2."""
        if not self.version.has_magic:
            return b""
        last = {"ipf": b"M", "nat": b"N", "state": b"S"}[log]
        magic = b"IPL" + (last if self.version.magic_tells_log else b"M")
        magic = magic if self.abi.order == ">" else magic[::-1]
        if self.version.iplog == "3.2" and _BASES[self.abi.base][1] == 8:  # a u_long there
            magic = magic.rjust(8, b"\0") if self.abi.order == ">" else magic.ljust(8, b"\0")
        return magic

    @property
    def head(self) -> Plan:
        """The fields of the head of every record, which is empty in 2.x."""
        return _head(self.version.iplog, ABI(self.abi.base, self.abi.time64))

    @cache  # noqa: B019 - layouts are few, made once and kept
    def schema(self, log: str) -> Struct:
        """The construct schema of a record of the log, as a flat struct.

        A packet record ends with `packet`, of ipl_dsize (2.x: fl_hlen + fl_plen) less the rest.
        """
        head, body = self.version.declarations(log)
        if not body:
            raise ValueError(f"{self.name} has no {log} records")
        first = _c_struct(head, self.abi)
        fields = [*first, *_c_struct(body, self.abi)]
        if log == "ipf":
            size = sum(field.sizeof() for field in fields)
            length = this.ipl_dsize - size if first else this.fl_hlen + this.fl_plen
            fields.append("packet" / Bytes(length))
        return Struct(*fields)

    @cache  # noqa: B019 - as above
    def plan(self, log: str) -> Plan:
        """The fixed part of a record of the log, compiled."""
        return Plan(self.schema(log))


@cache
def _head(iplog: str, abi: ABI) -> Plan:
    """The head that a version has, in the parts of an ABI that it depends on."""
    return Plan(Struct(*_c_struct(_IPLOG[iplog], abi)))


@cache
def layout(version: str, abi: str | ABI) -> Layout:
    """The layout of a version ("5.1.2", an alias such as "5.1") and an ABI ("lp64le-nounit").

    ValueError for an unknown name, with the names that there are.
    """
    if version not in _ALIASES:
        hint = advice(version, VERSIONS, LAYOUTS)
        raise ValueError(f"no IPFilter version {version!r}{hint}")
    return Layout(VERSIONS[_ALIASES[version]], abi if isinstance(abi, ABI) else _abi(abi))


def _abi(name: str) -> ABI:
    base, *options = name.split("-")
    abi = ABI(
        base, time64="time64" in options, unit="nounit" not in options,
        ifname=32 if "name32" in options else 16, quad32="quad32" in options,
    )  # fmt: skip
    if base not in _BASES or abi.name != name:
        raise ValueError(
            f"no ABI {name!r}; an ABI is one of {', '.join(_BASES)},"
            " then any of -time64, -nounit, -name32, -quad32, in this order"
        )
    return abi


@cache
def named(name: str) -> Layout:
    """The layout of a name such as "ipl-5.1.2-lp64le-nounit"; ValueError if there is none."""
    prefix, _, rest = name.partition("-")
    for alias in sorted(_ALIASES, key=len, reverse=True):
        if prefix == "ipl" and rest.startswith(alias + "-"):
            return layout(alias, rest[len(alias) + 1 :])
    raise ValueError(
        f"no layout {name!r}; a layout is ipl-VERSION-ABI, as ipl-5.1.2-lp64le"
        f"{advice(name, (layout.name for layout in layouts()), LAYOUTS)}"
    )


def layouts() -> Iterator[Layout]:
    """Every layout that is tried on unknown bytes, in order of preference."""
    plain = [ABI(base) for base in _BASES]
    for version in (version for version in VERSIONS.values() if version.detected):
        solaris = version.name in ("4.1-illumos", "4.1-solaris")
        for abi in plain:
            variants = [replace(abi, ifname=32)] if solaris else [abi]
            if version.major >= 4 and not solaris:
                variants += [replace(abi, time64=True), replace(abi, unit=False)]
                variants += [replace(abi, time64=True, unit=False), replace(abi, ifname=32)]
            elif not solaris:
                variants += [replace(abi, unit=False)]
            yield from (Layout(version, variant) for variant in variants)
    for name in ("4.1", "3.4.35", "3.4.0", "3.3", "3.2"):
        for base in ("ilp32le", "ilp32be"):
            yield Layout(VERSIONS[name], ABI(base, quad32=True))
