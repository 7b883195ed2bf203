"""Records of all kinds, for tests of what has to write every one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import effort
import samples

import pylog
from pylog.errors import DecodeError
from pylog.outputs._lines import lines_of
from pylog.record import (
    CounterRecord,
    FlowRecord,
    LossRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    Vlan,
)
from pylog.record.joined import joined
from pylog.testing import packet

HOSTILE = 'drop\r\n{"a":1}\0\x1b[2J\x7f\u2028\u202e a=b|c\\d "e] % {x}'


@cache
def recorded() -> tuple[Record, ...]:
    """A few records of each fixture, of all kinds."""
    records: list[Record] = [
        FlowRecord("nfct", "nfct-le", event="new", protocol=6, saddr="10.0.0.1", sport=1),
        FlowRecord("nfct", "nfct-le", event="destroy", packets={"orig": 5, "reply": 2},
                   bytes={"orig": 2**60, "reply": 60}, start_ns=10**18, stop_ns=10**18 + 5,
                   duration_us=7, end_reason="expired", nat_saddr="192.0.2.9", nat_sport=7,
                   status=["IPS_ASSURED", 4096], zone=3, state=99, netns=4, id=5),
        CounterRecord("nfct", "nfacct-le", name="web", packets=2**60, bytes=7, flags=["QUOTA", 4]),
        LossRecord("ipl", "x", size=7, offset=9, reason="cut off", host="fw1", origin="a.bin"),
        RulesetRecord("nftables", "nft-le", op="del_rule", change="replace", family=99, uid=0,
                      table="t", chain="c", handle=7, text="accept", cmdline="nft -f x", pid=5,
                      process="nft", flags=3, expressions=[{"name": "cmp", "data": {"a": 1}}]),
        TraceRecord("nftables", "nft-le", id="ab", type="rule", verdict="drop", handle=4,
                    family="inet", table="t", chain="c", text="drop", saddr="::1", length=60),
        joined(packet(), rule_family="inet", rule_table="t", rule_chain="c", rule_handle=7,
               rule_text="accept", nat_saddr="192.0.2.9", flow_age=1.5, flow_id=5,
               rule_candidates=[{"handle": 7}]),
        packet(action=7, uid=1, gid=2, vlan=(Vlan(5), Vlan(6)), count=3, prefix=HOSTILE),
    ]  # fmt: skip
    for path in effort.sample(samples.dumps("*/*")):
        try:
            with pylog.open(path) as reader:
                records += [record for _, record in zip(range(10), reader, strict=False)]
        except (ValueError, DecodeError):  # it has no layout by itself
            continue
    return tuple(records)


def flat(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a document by their paths, with their values."""
    for name, value in document.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from flat(value, inner)
        else:
            yield inner, value


def documents() -> list[dict[str, Any]]:
    """The documents of ECS of all these records."""
    line = lines_of("ecs").line
    return [json.loads(line(record)) for record in recorded()]
