"""Writes records as JSON lines with the field names of the Elastic Common Schema (ECS).

A table says for each kind which field of ECS a field of the record becomes. What ECS has no name
for stands below `pylog` under the name that pylog's JSON has for it. There each name has one type,
because Elasticsearch refuses a document whose field has another type than before: names that may
be numbers are text, and mappings of free form (`extra`) are JSON as text. `message` is pylog's own
line. The payload is left out.

Source: https://www.elastic.co/docs/reference/ecs, version 9.4.0; a test compares the names with the
package @elastic/ecs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec

from pylog import outputs
from pylog.formats.ip_numbers import ICMPV6
from pylog.outputs._community_id import community_id
from pylog.outputs._event import change_of, end_of, hardware_addresses, ruleset_name
from pylog.outputs._lines import Lines, LinesOutput
from pylog.outputs._text_words import PROTOCOLS
from pylog.outputs.text import line as text_line
from pylog.record import (
    Record,
    columns_of,
    escape_json,
    fields_of,
    json_name,
    json_ready,
    kind_of,
    kinds,
    rfc3339,
)

NAME = "ecs"
LIKE = "json"
JOINS = True
VERSION = "9.4.0"
_TRANSPORTS = PROTOCOLS | {ICMPV6: "ipv6-icmp"}  # ECS takes IANA's keywords

Document = dict[str, Any]


def _octets(text: str) -> str:
    """The address of a link as RFC 7042 has it: 00-1A-2B-3C-4D-5E."""
    return text.upper().replace(":", "-")


def _interface(side: str) -> Callable[[Document, Any], None]:
    """Puts an interface, which is a name or a number."""

    def put(document: Document, value: Any) -> None:
        known_as = "id" if isinstance(value, int) else "name"
        _put(document, ("observer", side, "interface", known_as), str(value))

    return put


def _protocol(document: Document, value: int) -> None:
    _put(document, ("network", "iana_number"), str(value))
    if name := _TRANSPORTS.get(value):
        _put(document, ("network", "transport"), name)


def _address(side: str) -> Callable[[Document, Any], None]:
    def put(document: Document, value: str) -> None:
        end = document.setdefault(side, {})
        end["address"] = end["ip"] = value

    return put


def _tags(document: Document, value: Any) -> None:
    """The VLAN tags: the outermost, and the one within it."""
    _put(document, ("network", "vlan", "id"), str(value[0].id))
    if len(value) > 1:
        _put(document, ("network", "inner", "vlan", "id"), str(value[1].id))


def _direction(document: Document, value: str) -> None:
    side = {"in": "ingress", "out": "egress"}.get(value)
    path = ("network", "direction") if side else ("pylog", "direction")
    _put(document, path, side or value)


def _put(document: Document, path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
    document[path[-1]] = value


def _at(path: str, convert: Callable[[Any], Any] | None = None) -> Callable[[Document, Any], None]:
    """Puts a value at a path with dots, converted."""
    parts = tuple(path.split("."))
    if convert is None:
        return lambda document, value: _put(document, parts, value)
    return lambda document, value: _put(document, parts, convert(value))


_Table = dict[str, Callable[[Document, Any], None]]

_SHARED: _Table = {
    "source": _at("event.provider"),
    "seq": _at("event.sequence"),
    "reason": _at("event.reason", str),
    "origin": _at("observer.name"),
    "host": _at("observer.hostname"),
    "uid": _at("user.id", str),
    "gid": _at("user.group.id", str),
    "indev": _interface("ingress"),
    "outdev": _interface("egress"),
    "family": _at("network.type", str),
    "protocol": _protocol,
    "saddr": _address("source"),
    "daddr": _address("destination"),
    "sport": _at("source.port"),
    "dport": _at("destination.port"),
    "nat_saddr": _at("source.nat.ip"),
    "nat_daddr": _at("destination.nat.ip"),
    "nat_sport": _at("source.nat.port"),
    "nat_dport": _at("destination.nat.port"),
}
_RULESET = {name: put for name, put in _SHARED.items() if name != "family"}  # of a table there
_BY_KIND: dict[str, _Table] = {
    "packet": _SHARED | {
        "action": _at("event.action", str),
        "direction": _direction,
        "count": _at("network.packets"),
        "rule": _at("rule.id", str),
        "group": _at("rule.ruleset"),
        "prefix": _at("rule.name"),
        "rule_handle": _at("rule.id", str),
        "rule_text": _at("rule.description"),
        "vlan": _tags,
    },
    "flow": _SHARED | {
        "event": _at("event.action", str),
        "end_reason": _at("event.reason"),
        "rule": _at("rule.id", str),
        "group": _at("rule.ruleset"),
        "start_ns": _at("event.start", rfc3339),
        "stop_ns": _at("event.end", rfc3339),
        "duration_us": _at("event.duration", lambda us: json_ready(us * 1000)),
    },
    "ruleset": _RULESET | {
        "op": _at("event.action"),
        "pid": _at("process.pid"),
        "process": _at("process.name"),
        "cmdline": _at("process.command_line"),
    },
    "trace": _RULESET | {
        "verdict": _at("event.action", str),
        "handle": _at("rule.id", str),
        "text": _at("rule.description"),
        "tcp_flags": _at("pylog.tcp_flags"),
        "length": _at("network.bytes"),
    },
    "loss": _SHARED,
    "counter": _SHARED | {
        "name": _at("rule.name"),
        "event": _at("event.action"),
        "packets": _at("network.packets"),
        "bytes": _at("network.bytes", json_ready),
    },
}  # fmt: skip
"""How each kind fills the fields of ECS, by the names of the record's fields."""

_LEFT_OUT = ("timestamp_ns", "observed_ns", "payload", "offset", "hwaddr")
"""Fields that a document has in another form, or not at all."""


def _times(document: Document, record: Any) -> None:
    """The time of the event: the kernel's, or else when the message was received."""
    at, received = record.timestamp_ns, record.observed_ns
    if at is None:
        at, received = received, None
    if at is not None:
        document["@timestamp"] = rfc3339(at)
    if received is not None:
        _put(document, ("event", "created"), rfc3339(received))


# Below `pylog`: each name has one type


def _listed(value: Any) -> Any:
    """A list of words as such; any other JSON as text."""
    if isinstance(value, list | tuple) and not any(isinstance(v, dict | list) for v in value):
        return [str(part) for part in value]
    return msgspec.json.encode(value).decode()


_FORMS: dict[str, Callable[[Any], Any]] = {
    "word": str, "name": str, "address": str, "json": _listed, "octets": bytes.hex,
    "time": rfc3339, "u64": json_ready, "i64": json_ready, "counters": json_ready,
    "fragment": msgspec.to_builtins, "vlan": msgspec.to_builtins,
}  # fmt: skip


@cache
def _ambiguous() -> frozenset[str]:
    """The names that kinds have with different types, which become text."""
    types: dict[str, set[object]] = {}
    for name, kind in kinds().items():
        for column, form in columns_of(kind).items():
            if column not in _BY_KIND.get(name, _SHARED):
                numbers = form in ("u8", "u16", "u32", "u64", "i64")
                types.setdefault(column, set()).add("number" if numbers else _FORMS.get(form, form))
    return frozenset(name for name, forms in types.items() if len(forms) > 1)


def _own(name: str, column: str) -> Callable[[Document, Any], None]:
    """Puts a field below `pylog`."""
    form = str if name in _ambiguous() and column != "json" else _FORMS.get(column)
    return _at(f"pylog.{name}", form)


class _Filler(NamedTuple):
    """How the fields of a type of record are put into a document, by their places."""

    steps: tuple[tuple[int, Callable[[Document, Any], None]], ...]
    finish: Callable[[Document, Any], None]


@cache
def _filler(kind: Any) -> _Filler:
    word = kind_of(kind)
    table = _BY_KIND.get(word, _SHARED)
    steps = [
        (place, table.get(name) or _own(json_name(name), field.column))
        for place, (name, field) in enumerate(fields_of(kind).items())
        if field.column is not None and name not in _LEFT_OUT
    ]
    return _Filler(tuple(steps), _FINISH.get(word, _finish_other))


# What follows from several fields


def _categorize(document: Document, kind: str, category: str, *types: str) -> None:
    event = document.setdefault("event", {})
    event["kind"] = kind
    if category:
        event["category"] = [category]
    event["type"] = list(types)


def _finish_packet(document: Document, record: Any) -> None:
    verdict = {"pass": "allowed", "block": "denied"}.get(record.action, "info")
    _categorize(document, "event", "network", "connection", verdict)
    if record.length is not None:
        _put(document, ("network", "bytes"), record.length * (record.count or 1))
    smac, dmac = hardware_addresses(record)
    if smac is not None:
        _put(document, ("source", "mac"), _octets(smac))
    if dmac is not None:
        _put(document, ("destination", "mac"), _octets(dmac))
    if getattr(record, "rule_chain", None) is not None:
        place = ruleset_name(record.rule_family, record.rule_table, record.rule_chain)
        _put(document, ("rule", "ruleset"), place)


def _finish_flow(document: Document, record: Any) -> None:
    end = end_of(record)
    _categorize(document, "event", "network", "connection", end or "info")
    for name in ("packets", "bytes"):
        counters = getattr(record, name)
        if not counters:
            continue
        if "orig" in counters:
            _put(document, ("source", name), json_ready(counters["orig"]))
            if "reply" in counters:
                _put(document, ("destination", name), json_ready(counters["reply"]))
        if "orig" in counters or "total" in counters or "in" in counters:
            _put(document, ("network", name), json_ready(sum(counters.values())))


def _finish_ruleset(document: Document, record: Any) -> None:
    _categorize(document, "event", "configuration", change_of(record))
    if record.table is not None:
        place = ruleset_name(record.family, record.table, record.chain)
        _put(document, ("rule", "ruleset"), place)
    if (record.op or "").endswith("_rule"):
        own = document.get("pylog", {})
        for name, path in (("handle", "id"), ("text", "description")):
            if (value := own.pop(name, None)) is not None:
                _put(document, ("rule", path), str(value))


def _finish_trace(document: Document, record: Any) -> None:
    _categorize(document, "event", "network", "info")
    if record.table is not None:
        place = ruleset_name(record.family, record.table, record.chain)
        _put(document, ("rule", "ruleset"), place)


def _finish_loss(document: Document, record: Any) -> None:
    _categorize(document, "pipeline_error", "", "error")
    document["event"]["action"] = "cut-off" if record.cut_off else "records-lost"
    document["error"] = {"message": record.describe()}


def _finish_counter(document: Document, _: Any) -> None:
    _categorize(document, "metric", "network", "info")


def _finish_other(document: Document, _: Any) -> None:
    _categorize(document, "event", "network", "info")


_FINISH: dict[str, Callable[[Document, Any], None]] = {
    "packet": _finish_packet,
    "flow": _finish_flow,
    "ruleset": _finish_ruleset,
    "trace": _finish_trace,
    "loss": _finish_loss,
    "counter": _finish_counter,
}


def _addresses(record: Any) -> Iterator[str]:
    for name in ("saddr", "daddr", "nat_saddr", "nat_daddr"):
        if (address := getattr(record, name, None)) is not None:
            yield address


def document(record: Record) -> Document:
    """The record as ECS has it: objects within objects, ready for JSON."""
    made: Document = {}
    _times(made, record)
    steps, finish = _filler(type(record))
    values = msgspec.structs.astuple(record)
    for place, put in steps:
        value = values[place]
        if value is not None:
            put(made, value)
    finish(made, record)
    if (identity := community_id(record)) is not None:
        _put(made, ("network", "community_id"), identity)
    event = made["event"]
    event["module"], event["dataset"] = "pylog", f"pylog.{kind_of(record)}"
    made.setdefault("observer", {})["type"] = "firewall"
    if related := list(dict.fromkeys(_addresses(record))):
        made["related"] = {"ip": related}
    made["ecs"] = {"version": VERSION}
    made["message"] = text_line(record)
    return made


def lines() -> Lines:
    """The documents of records as lines that are safe on a terminal."""
    encode = msgspec.json.Encoder().encode
    return Lines(lambda record: escape_json(encode(document(record)).decode()))


class Output(LinesOutput):
    """Writes a document of ECS for each record."""

    def __init__(self, target: outputs.Target) -> None:
        super().__init__(target, lines())
