"""One line a record, for a person who reads first.

    TIME ACTION DIRECTION INTERFACES PROTOCOL SOURCE -> DESTINATION FLAGS len N RULE "PREFIX" xCOUNT

What a record does not say is left out, but for the action, which is "-" then. Control bytes and
everything else that is not printable are escaped: prefixes and names come from other machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pylog import outputs
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
        words, mark = _packet(record), str(record.action)
    elif isinstance(record, FlowRecord):
        words, mark = _flow(record), ""
    else:
        words, mark = _loss(record), "lost"
    first, *rest = (escape(word) for word in words)
    if colour and mark in _COLOURS:
        first = f"{_COLOURS[mark]}{first}{_PLAIN}"
    return " ".join(["-" if time is None else rfc3339(time), first, *rest])


def _packet(record: PacketRecord) -> Iterator[str]:
    yield f"{'-' if record.action is None else record.action}{' short' if record.short else ''}"
    if record.direction:
        yield record.direction
    devices = [record.physindev, record.indev, record.outdev, record.physoutdev]
    if any(device is not None for device in devices):
        yield _devices(record)
    if record.vlan:
        yield "vlan " + ".".join(str(tag.id) for tag in record.vlan)
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
    if record.length is not None:
        yield f"len {record.length}"
    if record.cut:
        yield f"({record.cut} header cut)"
    if record.rule is not None or (record.group and record.source != "nflog"):
        yield f"@{record.group or '-1'}:{record.rule if record.rule is not None else '-1'}"
    if record.reason is not None:
        yield f"reason {record.reason}"
    if record.mark is not None:
        yield f"mark {record.mark:#x}"
    if record.uid is not None:
        yield f"uid {record.uid}"
    if record.prefix is not None:
        yield f'"{record.prefix}"'
    if record.count is not None and record.count > 1:
        yield f"x{record.count}"


def _devices(record: PacketRecord) -> str:
    """in>out, a bridge's ports in brackets; interface numbers as #N."""

    def name(device: str | int | None, port: str | int | None) -> str:
        text = "" if device is None else f"#{device}" if isinstance(device, int) else device
        return text if port is None else f"{text}[{f'#{port}' if isinstance(port, int) else port}]"

    into, out = name(record.indev, record.physindev), name(record.outdev, record.physoutdev)
    return f"{into}>{out}" if into and out else into or out


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
