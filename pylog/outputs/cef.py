r"""Writes records as lines of ArcSight's Common Event Format (CEF).

    CEF:0|pylog|pylog|0.1.0|packet:block|packet block|5|rt=1700000000000 act=block src=10.1.1.1 ...

Keys and their longest values are those of the dictionary of the standard; what it has no key for is
in custom fields (cs1, cn1...) with their labels. In version 0 src and dst are addresses of IPv4;
those of IPv6 are c6a2 and c6a3. In the header | and \ are escaped, in values = and \. Control
characters are escaped as everywhere in pylog, so no value can forge a key or a line.

Source: "ArcSight Common Event Format (CEF) Implementation Standard", version 26.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pylog import outputs
from pylog.memo import Memo
from pylog.outputs._event import hardware_addresses, ruleset_name
from pylog.outputs._lines import Lines, LinesOutput
from pylog.outputs._text_words import PROTOCOLS
from pylog.outputs.text import line as text_line
from pylog.record import Record, escape, kind_of

NAME = "cef"
JOINS = True
ENDINGS = (".cef",)

LONGEST = {
    "act": 63, "app": 31, "cat": 1023, "cs1": 4000, "cs2": 4000, "cs3": 4000, "cs4": 4000,
    "cs5": 4000, "cs6": 4000, "deviceExternalId": 255, "deviceInboundInterface": 128,
    "deviceOutboundInterface": 128, "dvchost": 100, "externalId": 40, "msg": 1023, "proto": 31,
    "reason": 1023, "sproc": 1023, "suid": 1023,
}  # fmt: skip
"""The longest values of keys, in characters; what is longer is cut off."""

LABELS = {
    "c6a2": "Source IPv6 Address", "c6a3": "Destination IPv6 Address", "cs1": "Prefix",
    "cs2": "Rule", "cs3": "Ruleset", "cs4": "TCP flags", "cs5": "Rule text", "cs6": "Hook",
    "cn1": "ICMP type", "cn2": "ICMP code", "cn3": "Mark", "flexNumber1": "Generation",
}  # fmt: skip
"""What custom fields are, in the field of the same name with Label behind it."""

_SEVERITIES = {"packet": 3, "flow": 2, "loss": 7, "ruleset": 6, "trace": 1, "counter": 4}
_SEVERITIES_OF_ACTIONS = {"pass": 1, "block": 5, "log": 3}
_DIRECTIONS = {"in": 0, "out": 1}

Pairs = Iterator[tuple[str, Any]]


def _ends(record: Any) -> Pairs:
    """The addresses and ports of a packet or flow, before translation and after it."""
    for address, v4, v6 in (("saddr", "src", "c6a2"), ("daddr", "dst", "c6a3")):
        if (value := getattr(record, address)) is not None:
            yield (v6 if ":" in value else v4), value
    yield "spt", record.sport
    yield "dpt", record.dport
    for address, port, side in (
        ("nat_saddr", "nat_sport", "source"), ("nat_daddr", "nat_dport", "destination"),
    ):  # fmt: skip
        value = getattr(record, address, None)
        if value is not None and ":" not in value:  # an address of IPv4 in the dictionary
            yield f"{side}TranslatedAddress", value
        yield f"{side}TranslatedPort", getattr(record, port, None)
    if record.protocol is not None:
        yield "proto", PROTOCOLS.get(record.protocol, str(record.protocol)).upper()
    yield "deviceInboundInterface", record.indev
    yield "deviceOutboundInterface", record.outdev
    yield "cn1", record.icmp_type
    yield "cn2", record.icmp_code
    yield "cn3", record.mark


def _packet(record: Any) -> Pairs:
    yield "act", record.action
    yield "deviceDirection", _DIRECTIONS.get(record.direction)
    yield from _ends(record)
    smac, dmac = hardware_addresses(record)
    if smac is not None and len(smac) == len("00:00:00:00:00:00"):
        yield "smac", smac
    yield "dmac", dmac
    yield "cnt", record.count
    if record.length is not None:
        yield "in", record.length * (record.count or 1)
    yield "reason", record.reason
    yield "suid", record.uid
    yield "cs1", record.prefix
    handle = getattr(record, "rule_handle", None)
    if handle is not None:
        yield "cs2", handle
        yield "cs3", ruleset_name(record.rule_family, record.rule_table, record.rule_chain)
        yield "cs5", record.rule_text
    else:
        yield "cs2", record.rule
        yield "cs3", record.group
    yield "cs4", record.tcp_flags
    yield "cs6", record.hook


def _flow(record: Any) -> Pairs:
    yield "act", record.event
    yield "start", _milliseconds(record.start_ns)
    yield "end", _milliseconds(record.stop_ns)
    yield from _ends(record)
    counted = record.bytes or {}
    yield "in", counted.get("orig", counted.get("total"))
    yield "out", counted.get("reply")
    yield "cnt", record.count
    yield "reason", record.end_reason
    yield "cs2", record.rule
    yield "cs3", record.group
    yield "msg", text_line(record)


def _loss(record: Any) -> Pairs:
    yield "cnt", record.count
    yield "reason", record.reason
    yield "msg", record.describe()


def _ruleset(record: Any) -> Pairs:
    yield "act", record.op
    yield "spid", record.pid
    yield "sproc", record.process
    yield "suid", record.uid
    yield "cs2", record.handle
    if record.table is not None:
        yield "cs3", ruleset_name(record.family, record.table, record.chain)
    yield "cs5", record.text
    yield "cs6", record.hook
    yield "flexNumber1", record.generation
    yield "msg", text_line(record)


def _trace(record: Any) -> Pairs:
    yield "act", record.verdict
    yield from _ends(record)
    yield "in", record.length
    yield "cs2", record.handle
    if record.table is not None:
        yield "cs3", ruleset_name(record.family, record.table, record.chain)
    yield "cs4", record.tcp_flags
    yield "cs5", record.text
    yield "msg", text_line(record)


def _other(record: Any) -> Pairs:
    yield "cnt", record.count
    yield "msg", text_line(record)


_BY_KIND: dict[str, Callable[[Any], Pairs]] = {
    "packet": _packet, "flow": _flow, "loss": _loss, "ruleset": _ruleset, "trace": _trace,
}  # fmt: skip


def _milliseconds(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1_000_000


def _pairs(record: Record) -> Pairs:
    """The keys and values of a record, None for what it does not say."""
    kind = kind_of(record)
    given = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
    yield "rt", _milliseconds(given)
    yield "cat", kind
    yield "dvchost", record.host
    yield "deviceExternalId", record.origin
    yield "externalId", record.seq
    yield from _BY_KIND.get(kind, _other)(record)


def header_text(text: str) -> str:
    """A text as it may stand in the header."""
    return escape(text).replace("\\", "\\\\").replace("|", "\\|")


def value_text(key: str, value: Any) -> str:
    """The value of a key as it may stand behind =, cut to its longest."""
    text = escape(str(value))[: LONGEST.get(key)]
    if "\\" in text or "=" in text:
        text = text.replace("\\", "\\\\").replace("=", "\\=")
    return text.strip()  # blanks separate the pairs


def _header(kind: str, word: str) -> str:
    """The end of the header: signature, name and severity of a kind of record.

    word   what it is about: its action, event or operation; "" if it does not say
    """
    severity = _SEVERITIES_OF_ACTIONS.get(word) if kind == "packet" else None
    if severity is None:
        severity = _SEVERITIES.get(kind, 3)
    signature = f"{kind}:{word}" if word else kind
    name = f"{kind} {word}".strip()
    return f"{header_text(signature)}|{header_text(name)}|{severity}|"


def lines() -> Lines:
    """The lines of records."""
    from pylog import __version__  # takes a while

    begin = f"CEF:0|pylog|pylog|{header_text(__version__)}|"
    headers: Memo[tuple[str, str], str] = Memo(lambda key: _header(*key))

    def line(record: Record) -> str:
        words, about = [], ""
        for key, value in _pairs(record):
            if value is None:
                continue
            if key == "act":
                about = str(value)
            words.append(f"{key}={value_text(key, value)}")
            if (label := LABELS.get(key)) is not None:
                words.append(f"{key}Label={label}")
        return begin + headers[kind_of(record), about] + " ".join(words)

    return Lines(line)


class Output(LinesOutput):
    """Writes a line of CEF for each record."""

    def __init__(self, target: outputs.Target) -> None:
        super().__init__(target, lines())
