"""Decodes IPFilter's records: by a table for the packet log, by functions for NAT and state.

`packet_log` makes the table of a layout for formats.mapping and columns.mapped. What differs
between versions is decided when the table is made, not for each record. `flows` makes the functions
for the other two logs, which have a record for each event of a flow and are decoded field by field.
Names are remembered, up to a limit, since whoever sends packets chooses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from pylog.formats import Message, Stream
from pylog.formats import ipl_names as names
from pylog.formats.addresses import addresses
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_names import NONE32
from pylog.formats.mapping import (
    ALL_ONES,
    Count,
    Mapping,
    Number,
    Packet,
    Seq,
    Time,
    Words,
    checked_count,
    flawed_time,
)
from pylog.formats.plan import BYTEORDER, Plan
from pylog.memo import Memo
from pylog.record import FlowRecord, Record, json_ready
from pylog.record.places import (
    AT_ACTION,
    AT_DIRECTION,
    AT_EXTRA,
    AT_FAMILY,
    AT_GROUP,
    AT_INDEV,
    AT_OUTDEV,
    AT_REASON,
    AT_RULE,
    AT_SHORT,
)

Decode = Callable[[bytes, Message, bool], Record]
"""(data, message, whether to keep its bytes) -> record; DecodeError."""

TIME = Time("ipl_sec", "ipl_usec")


def _c_string(array: bytes) -> str:
    """The text of a C character array, up to its NUL."""
    return array.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


_text = Memo(_c_string)


def flows(stream: Stream, layout: Layout, plans: dict[str, Plan]) -> dict[str, Decode]:
    """The functions that decode the records of a layout's NAT and state logs."""
    make = {"nat": _nat_decoder, "state": _state_decoder}
    return {
        device: make[device](stream, layout, plans[device]) for device in make if device in plans
    }


def _nanoseconds(
    stream: Stream, pos: int, sec: int, usec: int, extra: dict[str, Any]
) -> int | None:
    """The time of a flow record; None for a flaw."""
    flawed = flawed_time(stream, pos, TIME, sec, usec, extra)
    return None if flawed else sec * 1_000_000_000 + usec * 1000


def _observed(stream: Stream, message: Message) -> int | None:
    """When the record was received, by the reader or the capture file."""
    return stream.observed_ns if message.origin is None else message.origin.observed_ns


def _offset(stream: Stream, message: Message) -> int | None:
    return None if stream.live else stream.base + message.start


# Packet records


def split_bits(bits: int, order: str) -> tuple[int, int]:
    """fl_flags and fl_unit of 2.x: bit-fields of 24 and 8 bits in a shared word."""
    return (bits & 0xFFFFFF, bits >> 24) if order == "<" else (bits >> 8, bits & 0xFF)


def _action_3(flags: int) -> str | int:
    """The action of a rule before 4.0; the order of the tests is ipmon's."""
    if flags & 0x2:
        return "pass"
    if flags & 0x1:
        return "block"
    return "nomatch" if flags & 0x40000000 else "log"


def _action_4(flags: int) -> str | int:
    """The action of a rule of 4.x and 5.x, a number if it has no name."""
    command = flags & 0xF
    if command == 2:
        return "pass"
    if command == 1:
        return "block"
    if flags & 0x1F == 0x10:
        return "log"
    return "nomatch" if flags & 0x40000000 else command


def _group_text(group: int | bytes | None) -> str | None:
    """A group as ipmon shows it after the @: "0" is the main list, None what ipmon shows as -1.

    It is a number before 4.0, and a name since then.
    """
    if isinstance(group, bytes):
        return None if group[:2] == b"\xff\0" else _text[group] or "0"
    return None if group is None or group == NONE32 else str(group)


_groups = Memo(_group_text)


@cache
def packet_log(layout: Layout) -> Mapping:
    """The table of a layout's packet log."""
    major, order = layout.version.major, layout.abi.order
    flags_table, lflags_table, reasons, _ = names.words(layout.version)
    narrow = layout.version.ipflog in ("2.x", "3.1", "3.2", "3.3")  # u16 rule and group
    action_of = _action_4 if major >= 4 else _action_3

    def explain(
        unit: int | None, flags: int | None, lflags: int | None, logtag: int | None,
        nattag: bytes | None, loglevel: int | None, group: int | bytes | None,
        direction: int | None, breason: int | None, family: int | None, ifname: bytes,
        uuid: bytes | None, bits: int | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        if bits is not None:  # 2.x: u_long flags:24, unit:8
            flags, unit = split_bits(bits, order)
        flags = flags or 0
        if narrow and group == 0xFFFF:
            group = None
        extra: dict[str, Any] = {"fl_flags": names.bit_names(flags_table, flags)}
        if lflags:
            extra["fl_lflags"] = names.bit_names(lflags_table, lflags)
        if loglevel is not None and loglevel != 0xFFFF:
            extra["fl_loglevel"] = loglevel
        if logtag:
            extra["fl_logtag"] = logtag
        if nattag and _text[nattag]:
            extra["fl_nattag"] = _text[nattag]
        if family:
            extra["fl_family"] = family
        if uuid and any(uuid):
            extra["fl_uuid"] = uuid.hex()
        short = bool((lflags or 0) & 0x8 if major >= 4 else flags & 0x8000000) or None
        if direction is None:  # before 3.4.29: FR_OUTQUE, FR_INQUE
            direction = 1 if flags & 0x4 else 0 if flags & 0x8 else None
        elif direction > 1:
            extra["fl_dir"] = direction
        device = _text[ifname] or None
        if major < 5 and unit is not None and device and not device[-1].isdigit():
            device += str(unit) if unit < 0x8000 else ""  # a larger unit was never set
        return (
            action_of(flags), short,
            "in" if direction == 0 else "out" if direction == 1 else None,
            _groups[group], reasons.get(breason, breason) if breason else None,
            device if direction != 1 else None, device if direction == 1 else None,
            names.FAMILIES.get(family or 0), json_ready(extra),
        )  # fmt: skip

    return Mapping("ipl", layout.name, layout.plan("ipf"), (
        Count("ipl_count"),
        Seq("ipl_seqnum"),
        TIME,
        Number(AT_RULE, "fl_rule", add=1, none=ALL_ONES, of_rule=True),
        Words(
            (AT_ACTION, AT_SHORT, AT_DIRECTION, AT_GROUP, AT_REASON, AT_INDEV, AT_OUTDEV,
             AT_FAMILY, AT_EXTRA),
            ("fl_unit", "fl_flags", "fl_lflags", "fl_logtag", "fl_nattag", "fl_loglevel",
             "fl_group", "fl_dir", "fl_breason", "fl_family", "fl_ifname", "fl_uuid", "fl_bits"),
            explain,
        ),
        Packet(host_order=layout.host_order_ip),
    ), "ipf", layout.magic("ipf"))  # fmt: skip


# NAT and state records


def _port(data: bytes | None, protocol: int | None) -> int | None:
    """A port (or an ICMP id) of a flow; 0 is a port only if the protocol has ports."""
    if data is None:
        return None
    port = int.from_bytes(data)
    return port if port or protocol in (None, 6, 17, 132) else None


def _counters(values: Iterable[int | None], directions: tuple[str, ...]) -> dict[str, int] | None:
    counters = {d: v for d, v in zip(directions, values, strict=False) if v is not None}
    return counters or None


def _nat_decoder(stream: Stream, layout: Layout, plan: Plan) -> Decode:
    """A function that decodes NAT records."""
    modern = layout.version.major >= 5
    directions = names.NAT_DIRECTIONS if "nl_pkts.0" in plan.names else ("total",)
    legacy = layout.version.natlog in ("3.1", "3.2early")

    def decode(data: bytes, message: Message, raw: bool) -> FlowRecord:
        start = message.start
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        extra: dict[str, Any] = {}
        count = checked_count(stream, start, "ipl_count", f["ipl_count"], extra)
        time = _nanoseconds(stream, start, f["ipl_sec"], f["ipl_usec"], extra)
        kind: int = f["nl_type"]
        event: str | int
        if modern:
            protocol, v = f["nl_p"], f["nl_v"]
            if isinstance(protocol, bytes):  # of the original and of the translated flow
                if protocol[1] != protocol[0]:
                    extra["nl_p"] = list(protocol)
                if v[1] != v[0]:
                    extra["nl_v"] = list(v)
                protocol, v = protocol[0], v[0]
            ends: tuple[str | None, ...] = ("osrc", "odst", "nsrc", "ndst")
            event = names.NAT_EVENTS_5.get(f["nl_action"], f["nl_action"])
            flow_type: str | int = names.NAT_KINDS_5.get(kind, kind)
            indev, outdev = f["nl_ifnames"][:16], f["nl_ifnames"][16:]
        else:
            protocol, v = f.get("nl_p"), f.get("nl_v", 4)
            ends = ("in", "orig", "out", None)
            if kind in names.NAT_KINDS:
                event, flow_type = "new", names.NAT_KINDS[kind]
            else:
                event, flow_type = names.NAT_EVENTS_4.get(kind, kind), "nat"
            indev = outdev = b""
        if v not in (4, 6):
            extra.setdefault("nl_v", v)
        width = 4 if v == 4 else 16  # as every ipmon
        address = [addresses[f[f"nl_{e}ip"][:width]] if e else None for e in ends]
        port = [_port(f[f"nl_{e}port"], protocol) if e else None for e in ends]
        if legacy:
            extra |= {"nl_sec": str(f["nl_sec"]), "nl_usec": str(f["nl_usec"])}
        rule = f["nl_rule"]
        packets = [f.get("nl_pkts", f.get("nl_pkts.0")), f.get("nl_pkts.1")]
        octets = [f.get("nl_bytes", f.get("nl_bytes.0")), f.get("nl_bytes.1")]
        return FlowRecord(
            source="ipl", layout=layout.name, offset=_offset(stream, message),
            timestamp_ns=time,
            observed_ns=_observed(stream, message), seq=f.get("ipl_seqnum"), count=count,
            event=event, flow_type=flow_type,
            rule=rule + 1 if rule != -1 else None,
            indev=_text[indev] or None, outdev=_text[outdev] or None,
            family="ipv4" if v == 4 else "ipv6", protocol=protocol,
            saddr=address[0], daddr=address[1], sport=port[0], dport=port[1],
            nat_saddr=address[2], nat_daddr=address[3], nat_sport=port[2], nat_dport=port[3],
            packets=_counters(packets, directions), bytes=_counters(octets, directions),
            extra=extra or None, raw=data[start : message.end] if raw else None,
        )  # fmt: skip

    return decode


def _state_decoder(stream: Stream, layout: Layout, plan: Plan) -> Decode:
    """A function that decodes state records."""
    many = "isl_pkts.0" in plan.names
    directions = names.STATE_DIRECTIONS if many else ("total",)
    states = names.words(layout.version).tcp_states
    order = BYTEORDER[layout.abi.order]

    def decode(data: bytes, message: Message, raw: bool) -> FlowRecord:
        start = message.start
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        extra: dict[str, Any] = {}
        count = checked_count(stream, start, "ipl_count", f["ipl_count"], extra)
        time = _nanoseconds(stream, start, f["ipl_sec"], f["ipl_usec"], extra)
        protocol, v, ps = f["isl_p"], f.get("isl_v", 4), f["isl_ps"]
        if v not in (4, 6):
            extra["isl_v"] = v
        width = 4 if v == 4 else 16  # as every ipmon
        sport = dport = icmp_type = None
        if protocol in (6, 17):
            sport, dport = int.from_bytes(ps[:2]), int.from_bytes(ps[2:])
        elif protocol in (1, 58):
            icmp_type = int.from_bytes(ps[:2], order)  # in host order
        elif any(ps):
            extra["isl_ps"] = ps.hex()
        if protocol == 6 and "isl_state" in f:
            extra["isl_state"] = [states[s] if s < len(states) else s for s in f["isl_state"]]
        if f["isl_flags"]:
            extra["isl_flags"] = f["isl_flags"]
        if f.get("isl_tag"):
            extra["isl_tag"] = f["isl_tag"]
        if "isl_sec" in f:
            extra |= {"isl_sec": str(f["isl_sec"]), "isl_usec": str(f["isl_usec"])}
        rule, event = f.get("isl_rulen"), f["isl_type"]
        keys = [f".{i}" for i in range(4)] if many else [""]
        return FlowRecord(
            source="ipl", layout=layout.name, offset=_offset(stream, message),
            timestamp_ns=time,
            observed_ns=_observed(stream, message), seq=f.get("ipl_seqnum"), count=count,
            event=names.STATE_EVENTS.get(event, event), flow_type="state",
            rule=None if rule is None or rule == NONE32 else rule + 1,
            group=_groups[f.get("isl_group")],
            family="ipv4" if v == 4 else "ipv6", protocol=protocol,
            saddr=addresses[f["isl_src"][:width]], daddr=addresses[f["isl_dst"][:width]],
            sport=sport, dport=dport, icmp_type=icmp_type,
            packets=_counters([f["isl_pkts" + k] for k in keys], directions),
            bytes=_counters([f["isl_bytes" + k] for k in keys], directions),
            extra=extra or None, raw=data[start : message.end] if raw else None,
        )  # fmt: skip

    return decode
