"""One line a record, for a person who reads first.

    TIME ACTION DIRECTION INTERFACES PROTOCOL SOURCE -> DESTINATION FLAGS len N RULE "PREFIX" xCOUNT

What a record does not say is left out, but for the action, which is "-" then. Control bytes and
everything else that is not printable are escaped: prefixes and names come from other machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pylog import outputs
from pylog.memo import Memo
from pylog.record import (
    FlowRecord,
    Fragment,
    LossRecord,
    PacketRecord,
    Record,
    escape,
    rfc3339,
)

PROTOCOLS = {
    0: "hopopt", 1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 41: "ipv6", 43: "ipv6-route",
    44: "ipv6-frag", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 59: "ipv6-nonxt",
    60: "ipv6-opts", 88: "eigrp", 89: "ospf", 94: "ipip", 103: "pim", 108: "ipcomp", 112: "vrrp",
    115: "l2tp", 132: "sctp", 136: "udplite", 137: "mpls-in-ip",
}  # fmt: skip
"""Names of common IP protocols (IANA); others are shown by number."""

_COLOURS = {"pass": "\x1b[32m", "block": "\x1b[31m", "lost": "\x1b[33m"}
_PLAIN = "\x1b[0m"


class Output(outputs.Output):
    """Writes records as lines of text, in UTF-8."""

    def __init__(self, stream: BinaryIO, colour: bool = False) -> None:
        self._stream = stream
        self._colour = colour

    def write(self, record: Record) -> None:
        self.write_batch((record,))

    def write_batch(self, records: Iterable[Record]) -> None:
        colour = self._colour
        lines = "".join([f"{line(record, colour)}\n" for record in records])
        self._stream.write(lines.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def line(record: Record, colour: bool = False) -> str:
    """The record as one line of text, without the newline."""
    time = record.timestamp_ns if record.timestamp_ns is not None else record.observed_ns
    if isinstance(record, PacketRecord):
        first, rest = _packet(record)
        mark = str(record.action)
    else:
        mark = "lost" if isinstance(record, LossRecord) else ""
        first, *words = _loss(record) if isinstance(record, LossRecord) else _flow(record)
        rest = "".join([f" {word}" for word in words])
    if not rest.isprintable() or not first.isprintable():
        first, rest = escape(first), escape(rest)
    if colour and mark in _COLOURS:
        first = f"{_COLOURS[mark]}{first}{_PLAIN}"
    return f"{'-' if time is None else rfc3339(time)} {first}{rest}"


def _packet(record: PacketRecord) -> tuple[str, str]:
    """The first word or two, and the others, each after a space."""
    first, way = _ways[
        record.action, record.short, record.direction, record.physindev, record.indev,
        record.outdev, record.physoutdev, record.vlan,
    ]  # fmt: skip
    rule = _rules[
        record.source, record.group, record.rule, record.reason, record.mark, record.uid,
        record.prefix, record.count,
    ]  # fmt: skip
    length = "" if record.length is None else f" len {record.length}"
    usual = record.protocol == 6 and record.family == "ipv4" and record.fragment is None
    if usual and record.cut is None and record.tcp_flags is not None:
        return first, (
            f"{way} tcp {record.saddr}:{record.sport} -> {record.daddr}:{record.dport}"
            f" {record.tcp_flags}{length}{rule}"
        )
    words = "".join([f" {word}" for word in _layers(record)])
    cut = f" ({record.cut} header cut)" if record.cut else ""
    return first, f"{way}{words}{length}{cut}{rule}"


def _layers(record: PacketRecord) -> Iterator[str]:
    """What the packet's headers say."""
    yield from _protocol(record)
    yield from _addresses(record.saddr, record.sport, record.daddr, record.dport)
    if record.tcp_flags:
        yield record.tcp_flags
    if record.icmp_type is not None:
        code = "?" if record.icmp_code is None else record.icmp_code
        yield f"type {record.icmp_type} code {code}"
    inner = (record.extra or {}).get("inner")
    if inner:
        yield "for (" + " ".join(_inner(inner)) + ")"
    if record.fragment:
        yield f"frag {_fragment(record.fragment)}"


# What the records of one rule have in common is written once


def _way(told: tuple[Any, ...]) -> tuple[str, str]:
    """Action, and after a space each direction, devices and VLAN."""
    action, short, direction, physindev, indev, outdev, physoutdev, vlan = told
    words = []
    if direction:
        words.append(direction)
    if any(device is not None for device in (physindev, indev, outdev, physoutdev)):
        into, out = _device(indev, physindev), _device(outdev, physoutdev)
        words.append(f"{into}>{out}" if into and out else into or out)
    if vlan:
        words.append("vlan " + ".".join(str(tag.id) for tag in vlan))
    first = f"{'-' if action is None else action}{' short' if short else ''}"
    return first, "".join([f" {word}" for word in words])


def _rule(told: tuple[Any, ...]) -> str:
    """Group and rule, reason, mark, owner, prefix and count, each after a space."""
    source, group, rule, reason, mark, uid, prefix, count = told
    words = []
    if rule is not None or (group and source != "nflog"):
        words.append(f"@{group or '-1'}:{rule if rule is not None else '-1'}")
    if reason is not None:
        words.append(f"reason {reason}")
    if mark is not None:
        words.append(f"mark {mark:#x}")
    if uid is not None:
        words.append(f"uid {uid}")
    if prefix is not None:
        words.append(f'"{prefix}"')
    if count is not None and count > 1:
        words.append(f"x{count}")
    return "".join([f" {word}" for word in words])


_ways, _rules = Memo(_way), Memo(_rule)


def _device(device: str | int | None, port: str | int | None) -> str:
    """A name, or #N for a number; a bridge's port after it in brackets."""
    text = "" if device is None else f"#{device}" if isinstance(device, int) else device
    return text if port is None else f"{text}[{f'#{port}' if isinstance(port, int) else port}]"


def _protocol(record: PacketRecord | FlowRecord) -> Iterator[str]:
    if record.protocol is not None:
        yield PROTOCOLS.get(record.protocol, f"proto {record.protocol}")
    elif record.family == "arp":
        yield "arp"
    elif isinstance(record.family, int):
        yield f"ethertype {record.family:#06x}"


def _end(address: str | None, port: int | None) -> str:
    if address is None:
        return "?"
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _addresses(
    saddr: str | None, sport: int | None, daddr: str | None, dport: int | None
) -> Iterator[str]:
    if saddr is not None or daddr is not None:
        yield f"{_end(saddr, sport)} -> {_end(daddr, dport)}"


def _inner(inner: dict[str, Any]) -> Iterator[str]:
    """The packet that an ICMP error quotes."""
    protocol = inner.get("protocol")
    if protocol is not None:
        yield PROTOCOLS.get(protocol, f"proto {protocol}")
    get = inner.get
    yield from _addresses(get("saddr"), get("sport"), get("daddr"), get("dport"))


def _fragment(fragment: Fragment) -> str:
    return f"{fragment.id}@{fragment.offset}{'+' if fragment.more else ''}"


def _flow(record: FlowRecord) -> Iterator[str]:
    kind = str(record.flow_type)
    kind = kind if kind in ("state", "nat") else f"nat {kind}"
    yield f"{kind} {record.event}"
    yield from _protocol(record)
    yield from _addresses(record.saddr, record.sport, record.daddr, record.dport)
    if record.icmp_type is not None:
        yield f"type {record.icmp_type}"
    if record.nat_saddr is not None:
        yield f"as {_end(record.nat_saddr, record.nat_sport)}"
        if record.nat_daddr is not None:
            yield f"-> {_end(record.nat_daddr, record.nat_dport)}"
    for name, counters in (("packets", record.packets), ("bytes", record.bytes)):
        if counters and any(counters.values()):
            yield f"{name} {'/'.join(map(str, counters.values()))}"
    if record.rule is not None:
        yield f"@{record.group}:{record.rule}" if record.group else f"@{record.rule}"


def _loss(record: LossRecord) -> Iterator[str]:
    if record.size is not None:
        where = "" if record.offset is None else f" at offset {record.offset}"
        yield f"LOST {record.size} bytes{where}"
    else:
        count = (
            "an unknown number of records" if record.count is None else f"{record.count} records"
        )
        count = "1 record" if record.count == 1 else count
        queue = f"group {record.queue}" if record.source == "nflog" else record.queue
        yield f"LOST {count}" + (f" of {queue}" if record.queue else "")
    if record.reason:
        yield f"({record.reason})"
