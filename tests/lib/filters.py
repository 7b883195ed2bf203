"""A slow and obvious interpreter of filters, on the JSON of a record; and strategies for both.

It shares the parser with pylog.filter, and nothing else: names, values and comparisons are written
again, one field at a time, as docs/filters.md says them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import strategies as st

from pylog.filter import syntax
from pylog.formats.packet_headers import requested
from pylog.record import (
    FlowRecord,
    Fragment,
    LossRecord,
    PacketRecord,
    Record,
    Vlan,
    to_json,
)

ADDRESSES = ("saddr", "daddr", "addr")
NUMBERS = ("protocol", "sport", "dport", "port", "seq", "length", "ttl", "fragment.offset",
           "vlan.id", "packets.in", "rule")  # fmt: skip
NAMES = ("indev", "outdev", "dev", "hook", "action")
TEXTS = ("prefix", "group", "direction", "tcp_flags")
TIMES = ("timestamp", "observed")
EXTRA = ("extra.a", "extra.b.c", "extra.list")
ENDS = {
    "addr": ("saddr", "daddr"), "port": ("sport", "dport"),
    "dev": ("indev", "outdev", "physindev", "physoutdev"),
}  # fmt: skip
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}
SERVICES = {"ssh": 22, "domain": 53}
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


# The interpreter


def reference(node: syntax.Node, record: Record) -> bool:
    """Whether a record is wanted."""
    if isinstance(record, LossRecord) and _spares_losses(node):
        return True
    row = json.loads(to_json(record))
    if isinstance(record, PacketRecord):
        row["ttl"] = requested(record.payload, record.family).ttl
    return _holds(node, row)


def _spares_losses(node: syntax.Node) -> bool:
    return all(leaf.name != "kind" for leaf in syntax.leaves(node))


def _holds(node: syntax.Node, row: dict[str, Any]) -> bool:
    if isinstance(node, syntax.Not):
        return not _holds(node.part, row)
    if isinstance(node, syntax.All):
        return all(_holds(part, row) for part in node.parts)
    if isinstance(node, syntax.Any):
        return any(_holds(part, row) for part in node.parts)
    values = [v for name in ENDS.get(node.name, (node.name,)) for v in _values(name, row)]
    if isinstance(node, syntax.Present):
        return bool(values)
    if node.mask is not None:
        values = [v & int(node.mask.text, 0) for v in values]
    fits = [_fits(node.name, node.operator, v, node.operand) for v in values]
    if node.operator in ("!=", "not in"):
        return bool(values) and not any(fits)
    return any(fits)


def _values(name: str, row: dict[str, Any]) -> list[Any]:
    """What a name reads: mostly one value or none; of VLAN tags that of each."""
    first, *path = name.split(".")
    values = [row.get(first)]
    if first == "vlan" and path:
        values = row.get("vlan") or []
    for part in path:
        values = [v.get(part) if isinstance(v, dict) else None for v in values]
    return [value for value in values if value is not None]


def _fits(name: str, operator: str, value: Any, operand: syntax.Operand) -> bool:
    if operator in ("in", "not in", "==", "!="):
        entries = operand.entries if isinstance(operand, syntax.Members) else (operand,)
        return any(_is(name, value, entry) for entry in entries)
    assert isinstance(operand, syntax.Literal)
    if operator == "contains":
        return isinstance(value, str) and operand.text in value
    if operator == "startswith":
        return isinstance(value, str) and value.startswith(operand.text)
    if operator == "has" and name == "tcp_flags":
        return all(letter in value for letter in operand.text)
    if operator == "has":
        return isinstance(value, list) and any(_is(name, v, operand) for v in value)
    wanted: Any = _literal(name, operand)
    if name in ADDRESSES:
        value = ip_address(value)
        if value.version != wanted.version:
            return False
    elif name in TIMES:
        value = _ns(value)
    elif not isinstance(value, int) or isinstance(value, bool):
        return False
    return bool({
        "<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted,
    }[operator])  # fmt: skip


def _is(name: str, value: Any, entry: syntax.Operand) -> bool:
    """Whether a value is what an entry stands for."""
    if isinstance(entry, syntax.Span):
        return _fits(name, ">=", value, entry.low) and _fits(name, "<=", value, entry.high)
    assert isinstance(entry, syntax.Literal)
    if name in ADDRESSES:
        address, network = ip_address(value), ip_network(entry.text, strict=False)
        return address.version == network.version and address in network
    if name in TIMES:
        return bool(_ns(value) == _literal(name, entry))
    if name == "tcp_flags":
        return sorted(value) == sorted(entry.text)
    if name in (*NUMBERS, *NAMES) or name.startswith("extra"):
        if isinstance(value, list | dict):
            return False
        if isinstance(value, bool):
            return not entry.quoted and entry.text == str(value).lower()
        if isinstance(value, str):
            is_number = entry.text.isdecimal() and name in NAMES and not entry.quoted
            return value == entry.text and not is_number
        return not entry.quoted and value == _literal(name, entry)
    return bool(value == entry.text)


def _literal(name: str, literal: syntax.Literal) -> Any:
    text = literal.text
    if name in ADDRESSES:
        return ip_address(text)
    if name in TIMES:
        if text == "-2h":
            return NOW_NS - 7200 * 10**9
        return _ns(text)
    text = str(PROTOCOLS.get(text, text) if name == "protocol" else SERVICES.get(text, text))
    return int(text, 0) if text.removeprefix("0x").isalnum() and text[0].isdecimal() else None


def _ns(text: str) -> int:
    """A time of a row or a filter, all of which are in UTC here."""
    second, _, part = text.rstrip("Z").partition(".")
    since = datetime.fromisoformat(second).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(seconds=1) * 10**9 + int(part.ljust(9, "0") or 0)


# Strategies: few values, so that filters often hold


def _maybe(*values: Any) -> Any:
    return st.sampled_from((None, None, *values))


_FOUR = ("10.0.0.1", "10.0.0.255", "10.1.2.3", "192.0.2.7")
_SIX = ("fe80::1", "2001:db8::5", "::ffff:10.0.0.1", "::")
_TIMES = (NOW_NS, NOW_NS - 3 * 3600 * 10**9, 1, 1_700_000_000_123_456_789, 2**63 + 5, None)
_DEVICES = ("eth0", "lo", 5, "5", "#5")
_PAYLOAD = bytes.fromhex("4500002800010000400600000a0102030a000001") + bytes(20)
_EXTRAS = ({"a": 5}, {"a": "5", "b": {"c": "x"}}, {"a": True, "list": ["x", 5]}, {"b": {"c": 1}})

PACKETS = st.builds(
    PacketRecord, st.sampled_from(("ipl", "nflog")), st.just("x"),
    timestamp_ns=st.sampled_from(_TIMES), observed_ns=st.sampled_from(_TIMES),
    seq=_maybe(0, 5, 2**32 - 1), action=_maybe("pass", "block", 3), direction=_maybe("in", "out"),
    hook=_maybe("input", 5), rule=_maybe(1, 5), group=_maybe("5", "wan"),
    prefix=_maybe("drop ", "in", "5"), indev=_maybe(*_DEVICES), outdev=_maybe(*_DEVICES),
    physindev=_maybe(*_DEVICES), protocol=_maybe(6, 17, 5), saddr=_maybe(*_FOUR, *_SIX),
    daddr=_maybe(*_FOUR, *_SIX), sport=_maybe(22, 53, 8000, 8050), dport=_maybe(22, 5, 65535),
    tcp_flags=_maybe("S", "AS", "-"), fragment=_maybe(Fragment(1, 8, True), Fragment(2)),
    vlan=_maybe((Vlan(5),), (Vlan(6), Vlan(5)), ()), length=_maybe(40, 5), extra=_maybe(*_EXTRAS),
    payload=_maybe(_PAYLOAD), family=_maybe("ipv4", "ipv6"),
)  # fmt: skip
FLOWS = st.builds(
    FlowRecord, st.just("nfct"), st.just("x"), timestamp_ns=st.sampled_from(_TIMES),
    protocol=_maybe(6, 17), saddr=_maybe(*_FOUR, *_SIX), sport=_maybe(22, 53), rule=_maybe(5),
    packets=_maybe({"in": 5, "out": 0}, {"total": 2**63}), extra=_maybe(*_EXTRAS),
    indev=_maybe(*_DEVICES), group=_maybe("5"),
)  # fmt: skip
LOSSES = st.builds(LossRecord, st.just("ipl"), st.just("x"), seq=_maybe(5), count=_maybe(5, 2**63))

_PREFIXES = (*_FOUR, *_SIX, "10.0.0.0/8", "10.0.0.0/31", "fe80::/10", "::/0", "0.0.0.0/0",
             "::ffff:0:0/96")  # fmt: skip
_INTEGERS = ("0", "5", "6", "22", "0x16", "8000", "65535", "4294967295")
_SMALL = {"protocol": ("6", "tcp", "udp", "5", "0x11"), "ttl": ("64", "5"), "vlan.id": ("5", "6"),
          "sport": ("22", "ssh", "domain", "8000", "65535"),
          "dport": ("22", "ssh", "5"), "port": ("22", "53")}  # fmt: skip
_WORDS = ("eth0", "lo", "block", "pass", "input", "5", '"5"', '"#5"', "in", "wan", '"drop "', "x")
_WHEN = ("2026-11-28T12:00:00Z", "2026-11-28", "-2h", "2023-11-14T22:13:20.123456789Z",
         "2300-01-01")  # fmt: skip


@st.composite
def _leaf(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from((*ADDRESSES, *NUMBERS, *NAMES, *TEXTS, *TIMES, *EXTRA, "kind")))
    if draw(st.integers(0, 5)) == 0:
        return name
    pools = [
        (ADDRESSES, _PREFIXES), (NUMBERS, _SMALL.get(name, _INTEGERS)), (TIMES, _WHEN),
        (("kind",), ("packet", "flow", "loss")), (("tcp_flags",), ("S", "A", "SA", "AS")),
    ]  # fmt: skip
    pool = next((words for names, words in pools if name in names), _WORDS)
    bits = ""
    if name in NUMBERS and draw(st.integers(0, 3)) == 0:
        bits = f" & {draw(st.sampled_from(('1', '0x5', '0xF0', '64')))}"
        if draw(st.booleans()):
            return name + bits
    operators = ["==", "!=", "in", "not in"]
    if name in (*NUMBERS, *TIMES, *ADDRESSES):
        operators += ["<", "<=", ">", ">="]
    elif name in NAMES or name in TEXTS:
        operators += ["contains", "startswith"]
    if name == "tcp_flags" or name == "extra.list":
        operators.append("has")
    operator = draw(st.sampled_from(operators))
    if operator in ("<", "<=", ">", ">=") and name in ADDRESSES:
        pool = (*_FOUR, *_SIX)
    word = st.sampled_from(pool)
    if operator not in ("in", "not in"):
        text = draw(word)
        if operator in ("contains", "startswith"):
            text = '"' + text.strip('"') + '"'
        return f"{name}{bits} {operator} {text}"
    entries = draw(st.lists(word, max_size=3))
    if name in NUMBERS and name not in ("protocol", "port"):
        low = draw(st.integers(0, 30))
        entries.append(f"{low}..{low + draw(st.integers(0, 9000))}")
    return f"{name}{bits} {operator} {{{', '.join(entries)}}}"


def _nested(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.tuples(st.lists(parts, min_size=2, max_size=3), st.sampled_from(("and", "or")))
    return st.one_of(
        joined.map(lambda pair: f"({f' {pair[1]} '.join(pair[0])})"),
        parts.map(lambda part: f"not {part}"),
    )


EXPRESSIONS = st.recursive(_leaf(), _nested, max_leaves=6)
