"""The words of a flow and of a counter in a line of text.

    TYPE EVENT PROTOCOL SOURCE -> DESTINATION type N code N as SOURCE -> DESTINATION STATE unreplied
    END REASON lasted N s packets N/N bytes N/N timeout N s zone N mark N helper NAME in NETNS @RULE

`as` has the ends after translation. A flow that goes on has `after N s`, how old it is. Counters of
two directions are the original one and the reply, or what the source says (docs/reference/json.md).
What a record does not say is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pylog.outputs._text_words import address_words, end_text, protocol_words

_OWN = ("state", "nat", "expect")
"""Types of flows that are no translation, or not said which."""


def flow_words(record: Any) -> Iterator[str]:
    """Of a flow."""
    kind = "flow" if record.flow_type is None else str(record.flow_type)
    yield f"{kind if kind in (*_OWN, 'flow') else f'nat {kind}'} {record.event}"
    yield from protocol_words(record)
    sport = "any" if kind == "expect" and record.sport == 0 else record.sport
    yield from address_words(record.saddr, sport, record.daddr, record.dport)
    if record.icmp_type is not None:
        code = "" if record.icmp_code is None else f" code {record.icmp_code}"
        yield f"type {record.icmp_type}{code}"
    if record.nat_saddr is not None:
        yield f"as {end_text(record.nat_saddr, record.nat_sport)}"
        if record.nat_daddr is not None:
            yield f"-> {end_text(record.nat_daddr, record.nat_dport)}"
    yield from _life(record)
    for name, counters in (("packets", record.packets), ("bytes", record.bytes)):
        if counters and any(counters.values()):
            yield f"{name} {'/'.join(map(str, counters.values()))}"
    yield from _place(record)
    if record.rule is not None:
        yield f"@{record.group}:{record.rule}" if record.group else f"@{record.rule}"


def _life(record: Any) -> Iterator[str]:
    """State, end and duration."""
    extra = record.extra or {}
    states = [record.first_state, record.state]
    if states != [None, None]:
        words = [str(state) for state in dict.fromkeys(states) if state is not None]
        yield ">".join(words)
    if record.status is not None and "SEEN_REPLY" not in record.status:
        yield "unreplied"
    if record.end_reason is not None:
        yield str(record.end_reason)
    if "nlmsg_pid" in extra:
        yield f"by portid {extra['nlmsg_pid']}"
    if record.duration_us is not None:
        yield f"lasted {record.duration_us / 1_000_000:.6f} s"
    elif record.event == "active" and record.start_ns is not None:
        now_ns = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
        if now_ns is not None and now_ns >= record.start_ns:
            yield f"after {(now_ns - record.start_ns) / 1_000_000_000:.6f} s"


def _place(record: Any) -> Iterator[str]:
    """What else there is to know of the entry."""
    helper = ((record.extra or {}).get("CTA_HELP") or {}).get("CTA_HELP_NAME")
    if record.timeout is not None:
        yield f"timeout {record.timeout} s"
    if record.zone is not None:
        yield f"zone {record.zone}"
    if record.mark:
        yield f"mark {record.mark:#x}"
    if helper is not None:
        yield f"helper {helper}"
    if record.netns is not None:
        yield f"in {record.netns}"
    if record.via is not None:
        yield f"via {record.via}"


def counter_words(record: Any) -> Iterator[str]:
    """Of a counter; numbers of other things than packets are those in `extra`, without zeros."""
    yield f"counter {record.event}"
    if record.name is not None:
        yield str(record.name)
    for name in ("packets", "bytes", "quota"):
        value = getattr(record, name)
        if value is not None:
            yield f"{name} {value}"
    if record.flags:
        yield ",".join(map(str, record.flags))
    for name, value in (record.extra or {}).items():
        if isinstance(value, int) and value and name.startswith("CTA_STATS_"):
            words = name.removeprefix("CTA_STATS_").removeprefix("GLOBAL_").lower()
            yield f"{words.replace('_', ' ')} {value}"
