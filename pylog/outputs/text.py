"""Writes a line of text for each record, for people.

    TIME ACTION DIRECTION INTERFACES PROTOCOL SOURCE -> DESTINATION FLAGS len N RULE "PREFIX" xCOUNT

With `columns` a line is those columns instead, see `_text_columns`.

The origin of a record follows the time in brackets: `[fw1]`. What a record does not say is left
out, except for the action, which is "-" then. Control bytes and all other characters that are not
printable are escaped, because prefixes and names come from other machines. What the records of a
rule share is formatted once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from msgspec import json
from msgspec.structs import astuple

from pylog import outputs
from pylog.batch import Batch
from pylog.memo import Memo
from pylog.options import SHOWN, Option
from pylog.outputs._lines import Lines
from pylog.outputs._named import COLUMN_OPTIONS, REQUESTED, excluded, leaving_out, named
from pylog.outputs._text_flow import counter_words, flow_words
from pylog.outputs._text_ruleset import Commits, change_words, step_words
from pylog.outputs._text_words import (
    PROTOCOLS,
    address_words,
    colour_of,
    fragment_text,
    protocol_words,
)
from pylog.record import (
    CounterRecord,
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
    RulesetRecord,
    TraceRecord,
    escape,
    fields_of,
    json_name,
    kind_of,
    places_of,
    rfc3339,
    row_type,
)
from pylog.zones import TZ, Clock, clock_of, zone_of

if TYPE_CHECKING:
    from pylog.record.joined import JoinedRecord

NAME = "text"
JOINS = True
ENDINGS = (".txt", ".text", ".log")
OPTIONS = (
    *COLUMN_OPTIONS,
    TZ,
    Option("services", bool, False, "show the names of services beside ports, as 443/https",
           topic=SHOWN),
)  # fmt: skip

AnyPacket = Packet[Any, Any]
AnyLoss = Loss[Any, Any]


class Output(outputs.Output):
    """Writes records as lines of text, in UTF-8."""

    takes_rows = True
    shows_payload = False

    def __init__(
        self, target: outputs.Target, *, tz: str = "UTC", columns: str | None = None,
        exclude: str | None = None, services: bool = False,
    ) -> None:  # fmt: skip
        self._stream = target.stream
        commits = Commits(target.colour)
        self._line_of = _maker(tz, columns, exclude, services, target.colour, commits)
        self._clock = clock_of(tz)
        if columns is not None:
            names = named(columns, exclude)
            self.takes_rows = not any(name in REQUESTED for name in names)
            self.shows_payload = "payload" in names

    def write(self, batch: Batch) -> None:
        self._write(batch.records())

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._write(rows)

    def _write(self, records: Iterable[Record | Row]) -> None:
        self._stream.write(self._lines(records))

    def _lines(self, records: Iterable[Record | Row]) -> bytes:
        lines = "\n".join([*map(self._line_of, records), ""])
        return lines.encode("utf-8", "backslashreplace")

    def lines_of(self, records: Sequence[Record]) -> bytes:
        return self._lines(records)

    def time_text(self, utc: str) -> str:
        return utc if self._clock is None else self._clock.text(utc)

    def write_lines(self, lines: bytes | memoryview) -> None:
        self._stream.write(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def _maker(
    tz: str, columns: str | None, exclude: str | None, services: bool, colour: bool,
    commits: Commits | None,
) -> Callable[[Any], str]:  # fmt: skip
    """The function that makes the line of a record or row, by the options of the output."""
    clock, left_out = clock_of(tz), excluded(exclude)
    if columns is not None:
        from pylog.outputs._text_columns import Columns

        return Columns(named(columns, exclude), clock, services, colour).line
    if clock is None and not left_out and not services:
        return lambda record: line(record, colour, None, commits)

    def changed(record: Any) -> str:
        if left_out:
            record = leaving_out(record, left_out)
        if services:
            from pylog.outputs._services import with_services  # only here: rarely needed

            record = with_services(record)
        return line(record, colour, clock, commits)

    return changed


def lines(
    *, tz: str = "UTC", columns: str | None = None, exclude: str | None = None,
    services: bool = False,
) -> Lines:  # fmt: skip
    """A line for each record, also for changes of a ruleset, of which the output makes blocks."""
    return Lines(_maker(tz, columns, exclude, services, False, None))


def check(*, tz: str, columns: str | None, exclude: str | None, services: bool) -> None:
    """ValueError for a zone or columns that do not exist."""
    zone_of(tz)
    named(columns, exclude)


def makes_lines(
    *, columns: str | None, exclude: str | None, services: bool, **_: Any
) -> bool:  # fmt: skip
    """As outputs.makes_lines: without columns that are decoded from a packet's payload, and the
    names of services, which depend on ports.
    """
    return not services and REQUESTED.keys().isdisjoint(named(columns, exclude))


def line(
    record: Record | Row,
    colour: bool = False,
    clock: Clock | None = None,
    commits: Commits | None = None,
) -> str:
    """The record as one line of text, without the newline; times are in UTC without a clock.

    commits   makes blocks of the changes of a ruleset, which are then several lines
    """
    given = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
    if given is None:  # a text log may have no more than what is written there
        time = getattr(record, "timestamp_local", None) or "-"
    else:
        time = given if isinstance(given, str) else rfc3339(given)
    if clock is not None and given is not None:
        time = clock.text(time)
    if record.origin is not None:
        time = f"{time} [{record.origin}]"
    # isinstance would ask ABCMeta, which takes longer than the rest of the line's beginning
    if type(record) is PacketRow or type(record) is PacketRecord:
        values = astuple(record)
        shared = _OF_SOURCE.get(record.source, _others)
        first, way, rule = shared[_shared_of(values)]
        (
            family, protocol, saddr, daddr, sport, dport, flags, icmp_type, icmp_code, fragment,
            length, cut, extra,
        ) = _packet_of(values)  # fmt: skip
        # most packets are written here, the others by _layers
        plain = family == "ipv4" and saddr and fragment is None and cut is None and length
        if plain and protocol == 6 and flags is not None and sport is not None:
            text = (f"{time} {first}{way} tcp {saddr}:{sport} -> {daddr}:{dport} {flags}"
                    f" len {length}{rule}")  # fmt: skip
        elif plain and protocol == 1 and icmp_code is not None and not (extra and "inner" in extra):
            text = (f"{time} {first}{way} icmp {saddr} -> {daddr} type {icmp_type} code {icmp_code}"
                    f" len {length}{rule}")  # fmt: skip
        else:
            words = "".join([f" {word}" for word in _layers(record)])
            text = f"{time} {first}{way}{words}{rule}"
    else:
        if commits is not None and kind_of(record) == "ruleset":
            return commits.text(record, time)
        if isinstance(record, PacketRecord):
            joined: Any = record
            packet = PacketRecord(*astuple(record)[: len(PacketRecord.__struct_fields__)])
            return " ".join([line(packet, colour, clock), *map(escape, _joined_words(joined))])
        first, *more = _WORDS.get(type(record), _fields)(record)
        text = " ".join([time, first, *more])
    if not text.isprintable():
        text = escape(text)
    return _coloured(text, record, len(escape(time)) + 1, len(escape(first))) if colour else text


def _coloured(text: str, record: Record | Row, start: int, size: int) -> str:
    """The line, with `size` characters from `start` on in the colour of the record."""
    mark = str(record.action) if isinstance(record, Packet) else ""
    if isinstance(record, Loss):
        mark = "lost"
    end = start + size
    return f"{text[:start]}{colour_of(mark, text[start:end])}{text[end:]}"


def _layers(record: Any) -> Iterator[str]:
    """What the packet's headers say."""
    yield from protocol_words(record)
    yield from address_words(record.saddr, record.sport, record.daddr, record.dport)
    if record.tcp_flags:
        yield record.tcp_flags
    if record.icmp_type is not None:
        code = "?" if record.icmp_code is None else record.icmp_code
        yield f"type {record.icmp_type} code {code}"
    inner = (record.extra or {}).get("inner")
    if inner:
        yield "for (" + " ".join(_inner(inner)) + ")"
    if record.fragment:
        yield f"frag {fragment_text(record.fragment)}"
    if record.length is not None:
        yield f"len {record.length}"
    if record.cut:
        yield f"({record.cut} header cut)"


# What the records of a rule share

_SHARED = (
    "count", "action", "short", "direction", "hook", "rule", "group", "prefix", "reason", "indev",
    "outdev", "physindev", "physoutdev", "mark", "uid", "vlan",
)  # fmt: skip
"""The fields that the words before and after the packet are made of."""
_shared_of = itemgetter(*places_of(PacketRecord, _SHARED))
_packet_of = itemgetter(
    *places_of(
        PacketRecord,
        ("family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "icmp_type",
         "icmp_code", "fragment", "length", "cut", "extra"),
    )
)  # fmt: skip


def _shared(source: str, values: tuple[Any, ...]) -> tuple[str, str, str]:
    """The words before the packet (the first or the first two, then the rest) and after it."""
    record = PacketRecord(source, "", **dict(zip(_SHARED, values, strict=True)))
    first = f"{'-' if record.action is None else record.action}{' short' if record.short else ''}"
    way, rule = ("".join([f" {word}" for word in words(record)]) for words in (_way, _rule))
    return escape(first), way, rule


_Shared = Memo[tuple[Any, ...], tuple[str, str, str]]
_ipfilter: _Shared = Memo(partial(_shared, "ipl"))
_others: _Shared = Memo(partial(_shared, ""))
_OF_SOURCE: dict[str, _Shared] = {
    "nflog": Memo(partial(_shared, "nflog")),
    "ipl": _ipfilter,
    "ipmon": _ipfilter,
}


def _joined_words(record: JoinedRecord) -> Iterator[str]:
    """What a packet was joined with."""
    if record.rule_handle is not None or record.rule_unknown is not None:
        yield f"by {rule_words(record)}"
    if record.flow_match is not None or record.flow_unknown is not None:
        yield f"flow {_flow_of_packet(record)}"


def _flow_of_packet(record: JoinedRecord) -> str:
    """The flow of a packet, as text; "?" with the reason if that is not sure."""
    if record.flow_unknown is not None:
        ids = [f"flow {flow.get('id')}" for flow in record.flow_candidates or ()]
        return f"? ({': '.join([record.flow_unknown, *filter(None, [', '.join(ids)])])})"
    age = None if record.flow_age is None else f"{record.flow_age:.6f} s"
    words = [record.flow_id, record.flow_state, record.flow_direction, age]
    text = " ".join([str(word) for word in words if word is not None])
    ends = (record.nat_saddr, record.nat_sport, record.nat_daddr, record.nat_dport)
    return " as ".join([text, *address_words(*ends)])


def rule_words(record: JoinedRecord) -> str:
    """The rule that logged a packet, as text; "?" with the reason if that is not sure."""
    if record.rule_handle is not None:
        name = f"{record.rule_family} {record.rule_table} {record.rule_chain}"
        text = f": {record.rule_text}" if record.rule_text else ""
        return f"{name} handle {record.rule_handle}{text}"
    listed = [f"{rule.get('family')} {rule.get('table')} {rule.get('chain')} handle"
              f" {rule.get('handle')}" for rule in record.rule_candidates or ()]  # fmt: skip
    return f"? ({': '.join([record.rule_unknown or '', *filter(None, [', '.join(listed)])])})"


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
    if record.source == "ipl":
        if rule is not None or group:
            yield f"@{group or '-1'}:{rule if rule is not None else '-1'}"
    elif group and record.source != "nflog":
        yield f"@{group}:{'' if rule is None else rule}"
    elif rule is not None:
        yield f"@{rule}"
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


def _inner(inner: dict[str, Any]) -> Iterator[str]:
    """The packet that an ICMP error quotes."""
    protocol = inner.get("protocol")
    if protocol is not None:
        yield PROTOCOLS.get(protocol, f"proto {protocol}")
    get = inner.get
    yield from address_words(get("saddr"), get("sport"), get("daddr"), get("dport"))


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


def _trace(record: Any) -> Iterator[str]:
    yield f"trace {record.id}"
    yield step_words(record)
    into, out = _device(record.indev, None), _device(record.outdev, None)
    if into or out:
        yield f"{into}>{out}" if into and out else into or out
    if record.protocol is not None:
        yield PROTOCOLS.get(record.protocol, f"proto {record.protocol}")
    yield from address_words(record.saddr, record.sport, record.daddr, record.dport)


def _fields(record: Record | Row) -> Iterator[str]:
    """The kind of a record and its fields, for kinds that are not listed in _WORDS."""
    yield kind_of(record)
    kind: Any = type(record)  # mypyc sees no __hash__ in the class of a Struct
    for name, field in fields_of(kind).items():
        value = getattr(record, name)
        if value is None or field.column in (None, "octets") or name in _IN_NO_LINE:
            continue
        if isinstance(value, Fragment):
            value = fragment_text(value)
        elif isinstance(value, dict | tuple):
            value = json.encode(value).decode()
        elif field.column == "time" and isinstance(value, int):
            value = rfc3339(value)
        yield f"{json_name(name)} {value}"


_IN_NO_LINE = ("layout", "offset", "timestamp_ns", "observed_ns", "origin")
"""Fields that a line leaves out, or has at its beginning."""


_WORDS: dict[type, Callable[[Any], Iterator[str]]] = {
    FlowRecord: flow_words,
    FlowRow: flow_words,
    CounterRecord: counter_words,
    row_type(CounterRecord): counter_words,
    LossRecord: _loss,
    LossRow: _loss,
    RulesetRecord: change_words,
    row_type(RulesetRecord): change_words,
    TraceRecord: _trace,
    row_type(TraceRecord): _trace,
}
