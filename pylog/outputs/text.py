"""One line a record, for a person who reads first.

    TIME ACTION DIRECTION INTERFACES PROTOCOL SOURCE -> DESTINATION FLAGS len N RULE "PREFIX" xCOUNT

After the time comes the origin in brackets, where a record has one: `[fw1]`. What a record does not
say is left out, but for the action, which is "-" then. Control bytes and everything else that is
not printable are escaped: prefixes and names come from other machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from msgspec import json
from msgspec.structs import astuple

from pylog import outputs
from pylog.batch import Batch
from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.memo import Memo
from pylog.record import (
    Flow,
    FlowRecord,
    FlowRow,
    Fragment,
    Loss,
    LossRecord,
    LossRow,
    Packet,
    PacketRecord,
    PacketRow,
    Record,
    Row,
    escape,
    fields_of,
    json_name,
    kind_of,
    places_of,
    rfc3339,
)

NAME = "text"
ENDINGS = (".txt", ".text", ".log")

PROTOCOLS = PROTOCOL_NAMES | {0: "hopopt", 4: "ipip"}
"""Names of common IP protocols (IANA); others are shown by number."""

AnyPacket = Packet[Any, Any]
AnyFlow = Flow[Any, Any]
AnyLoss = Loss[Any, Any]

_COLOURS = {"pass": "\x1b[32m", "block": "\x1b[31m", "lost": "\x1b[33m"}
_PLAIN = "\x1b[0m"


class Output(outputs.Output):
    """Writes records as lines of text, in UTF-8."""

    takes_rows = True
    shows_payload = False

    def __init__(self, target: outputs.Target) -> None:
        self._stream = target.stream
        self._colour = target.colour

    def write(self, batch: Batch) -> None:
        self._write(batch.records())

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._write(rows)

    def _write(self, records: Iterable[Record | Row]) -> None:
        colour = self._colour
        lines = "\n".join([*[line(record, colour) for record in records], ""])
        self._stream.write(lines.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def line(record: Record | Row, colour: bool = False) -> str:
    """The record as one line of text, without the newline."""
    given = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
    time = "-" if given is None else given if isinstance(given, str) else rfc3339(given)
    if record.origin is not None:
        time = f"{time} [{record.origin}]"
    # isinstance would ask ABCMeta, which takes longer than the rest of the line's beginning
    if type(record) is PacketRow or type(record) is PacketRecord:
        told = astuple(record)
        of_source = _nflog if record.source == "nflog" else _others
        first, way, rule = of_source[_alike_of(told)]
        (
            family, protocol, saddr, daddr, sport, dport, flags, icmp_type, icmp_code, fragment,
            length, cut, extra,
        ) = _packet_of(told)  # fmt: skip
        usual = family == "ipv4" and saddr and fragment is None and cut is None and length
        if usual and protocol == 6 and flags is not None:
            text = (f"{time} {first}{way} tcp {saddr}:{sport} -> {daddr}:{dport} {flags}"
                    f" len {length}{rule}")  # fmt: skip
        elif usual and protocol == 1 and icmp_code is not None and not (extra and "inner" in extra):
            text = (f"{time} {first}{way} icmp {saddr} -> {daddr} type {icmp_type} code {icmp_code}"
                    f" len {length}{rule}")  # fmt: skip
        else:
            words = "".join([f" {word}" for word in _layers(record)])
            text = f"{time} {first}{way}{words}{rule}"
    else:
        first, *more = _WORDS.get(type(record), _fields)(record)
        text = " ".join([time, first, *more])
    if not text.isprintable():
        text = escape(text)
    return _coloured(text, record, len(escape(time)) + 1, len(escape(first))) if colour else text


def _coloured(text: str, record: Record | Row, start: int, size: int) -> str:
    """A line whose first words, `size` characters from `start` on, have their colour."""
    mark = str(record.action) if isinstance(record, Packet) else ""
    if isinstance(record, Loss):
        mark = "lost"
    if mark not in _COLOURS:
        return text
    end = start + size
    return f"{text[:start]}{_COLOURS[mark]}{text[start:end]}{_PLAIN}{text[end:]}"


def _layers(record: AnyPacket) -> Iterator[str]:
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
    if record.length is not None:
        yield f"len {record.length}"
    if record.cut:
        yield f"({record.cut} header cut)"


# What the records of one rule have in common is written once

_ALIKE = (
    "count", "action", "short", "direction", "hook", "rule", "group", "prefix", "reason", "indev",
    "outdev", "physindev", "physoutdev", "mark", "uid", "vlan",
)  # fmt: skip
"""What the words before and after the packet are made of."""
_alike_of = itemgetter(*places_of(PacketRecord, _ALIKE))
_packet_of = itemgetter(
    *places_of(
        PacketRecord,
        ("family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "icmp_type",
         "icmp_code", "fragment", "length", "cut", "extra"),
    )
)  # fmt: skip


def _alike(source: str, told: tuple[Any, ...]) -> tuple[str, str, str]:
    """What is before the packet, and after it: the first word or two, then each after a space."""
    record = PacketRecord(source, "", **dict(zip(_ALIKE, told, strict=True)))
    first = f"{'-' if record.action is None else record.action}{' short' if record.short else ''}"
    way, rule = ("".join([f" {word}" for word in words(record)]) for words in (_way, _rule))
    return escape(first), way, rule


_nflog: Memo[tuple[Any, ...], tuple[str, str, str]] = Memo(partial(_alike, "nflog"))
_others: Memo[tuple[Any, ...], tuple[str, str, str]] = Memo(partial(_alike, ""))


def _way(record: AnyPacket) -> Iterator[str]:
    """Direction, devices and VLAN."""
    if record.direction:
        yield record.direction
    into, out = _device(record.indev, record.physindev), _device(record.outdev, record.physoutdev)
    if into or out:
        yield f"{into}>{out}" if into and out else into or out
    if record.vlan:
        yield "vlan " + ".".join(str(tag.id) for tag in record.vlan)


def _rule(record: AnyPacket) -> Iterator[str]:
    """Group and rule, reason, mark, owner, prefix and count."""
    group, rule = record.group, record.rule
    if rule is not None or (group and record.source != "nflog"):
        yield f"@{group or '-1'}:{rule if rule is not None else '-1'}"
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


def _device(device: str | int | None, port: str | int | None) -> str:
    """A name, or #N for a number; a bridge's port after it in brackets."""
    text = "" if device is None else f"#{device}" if isinstance(device, int) else device
    return text if port is None else f"{text}[{f'#{port}' if isinstance(port, int) else port}]"


def _protocol(record: AnyPacket | AnyFlow) -> Iterator[str]:
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


def _flow(record: AnyFlow) -> Iterator[str]:
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


def _loss(record: AnyLoss) -> Iterator[str]:
    where = "" if record.offset is None else f" at offset {record.offset}"
    if record.cut_off:
        yield f"CUT OFF{where}"
    else:
        log = f"group {record.log}" if record.source == "nflog" else record.log
        place = "" if record.size is None else where
        yield f"LOST {record.amount()}{place}" + (f" of {log}" if record.log else "")
    if record.reason:
        yield f"({record.reason})"


def _fields(record: Record | Row) -> Iterator[str]:
    """The kind of a record and what its fields say, for kinds without words of their own."""
    yield kind_of(record)
    kind: Any = type(record)  # mypyc sees no __hash__ in the class of a Struct
    for name, field in fields_of(kind).items():
        value = getattr(record, name)
        if value is None or field.column in (None, "octets") or name in _IN_NO_LINE:
            continue
        if isinstance(value, Fragment):
            value = _fragment(value)
        elif isinstance(value, dict | tuple):
            value = json.encode(value).decode()
        elif field.column == "time" and isinstance(value, int):
            value = rfc3339(value)
        yield f"{json_name(name)} {value}"


_IN_NO_LINE = ("layout", "offset", "timestamp_ns", "observed_ns", "origin")
"""Fields of all kinds that a line leaves out, or has at its beginning."""


_WORDS: dict[type, Callable[[Any], Iterator[str]]] = {
    FlowRecord: _flow,
    FlowRow: _flow,
    LossRecord: _loss,
    LossRow: _loss,
}
