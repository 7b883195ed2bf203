"""Flows: one record for each flow, from the events of conntrack and of IPFilter."""

from __future__ import annotations

import argparse
import json
import lzma
import re
from collections import Counter
from pathlib import Path
from typing import Any

import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog.cli import main
from pylog.cli._flows import prepare_flows
from pylog.flows import Flows
from pylog.flows.reader import Flowed
from pylog.reader import Records
from pylog.record import FlowRecord, LossRecord, Record
from pylog.scrub import Scrubbing

NFCT = samples.FIXTURES / "nfct"
T0 = 1_795_893_993_000_000_000
S = 1_000_000_000
CONFIRMED = ["CONFIRMED"]
REPLIED = ["SEEN_REPLY", "CONFIRMED"]
ASSURED = ["SEEN_REPLY", "ASSURED", "CONFIRMED"]


def event(word: str, at_s: float | None = None, number: int = 1, **fields: Any) -> FlowRecord:
    """An event of the UDP flow `number`, `at_s` seconds after T0 by the kernel's clock."""
    timestamp_ns = None if at_s is None else T0 + round(at_s * S)
    given: dict[str, Any] = {
        "flow_type": "state", "family": "ipv4", "protocol": 17, "saddr": "192.0.2.1",
        "daddr": "192.0.2.2", "sport": number, "dport": 53, "id": number,
        "status": list(CONFIRMED), "timestamp_ns": timestamp_ns, "event": word,
    }  # fmt: skip
    return FlowRecord("nfct", "ctnetlink-le", **given | fields)


def destroyed(at_s: float, start_s: float, number: int = 1, **fields: Any) -> FlowRecord:
    times = {"start_ns": T0 + round(start_s * S), "stop_ns": T0 + round(at_s * S)}
    counters = {"packets": {"orig": 3, "reply": 2}, "bytes": {"orig": 300, "reply": 200}}
    return event("destroy", at_s, number, **times | counters | fields)


def made(*records: Record, **settings: Any) -> list[Any]:
    """The flows of records, at the end of reading."""
    flows = Flows(**settings)
    return [*flows.feed(records), *flows.end()]


def one(*records: Record, **settings: Any) -> FlowRecord:
    (flow,) = made(*records, **settings)
    assert isinstance(flow, FlowRecord)
    return flow


# Conntrack against conntrack's own text


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "full.cat"
    path.write_bytes(lzma.decompress((NFCT / "full.cat.xz").read_bytes()))
    return path


def test_flows_are_those_that_conntrack_shows_to_end(full: Path) -> None:
    lines = lzma.decompress((NFCT / "full.txt.xz").read_bytes()).decode().splitlines()
    shown: list[Any] = []
    for line in lines:
        if "[DESTROY]" in line:
            counts = list(map(int, re.findall(r"(?:packets|bytes)=(\d+)", line)))
            number = int(re.findall(r" id=(\d+)", line)[-1])
            duration_s = int(re.findall(r"delta-time=(\d+)", line)[0])
            pids = re.findall(r"portid=(\d+)", line)
            shown.append((number, counts, duration_s, int(pids[0]) if pids else None))
    with pylog.open(full) as reader:
        records = [r for r in made(*reader) if isinstance(r, FlowRecord)]
    ends = [r for r in records if r.event == "end"]
    given = []
    for flow in ends:
        assert flow.packets is not None
        assert flow.bytes is not None
        assert flow.start_ns is not None
        assert flow.stop_ns is not None
        counts = [flow.packets["orig"], flow.bytes["orig"], flow.packets["reply"],
                  flow.bytes["reply"]]  # fmt: skip
        asked = (flow.extra or {}).get("nlmsg_pid")
        given.append((flow.id, counts, flow.stop_ns // S - flow.start_ns // S, asked))
    assert given == shown
    assert len(given) == 111
    assert Counter(r.end_reason for r in ends) == {"expired": 87, "removed": 18, "killed": 6}
    assert [r.end_reason for r in records if r.event == "active"] == ["open"]
    assert Counter(r.flow_type for r in records)["expect"] == 8  # which pass


def test_last_packets_are_between_the_events_that_packets_caused_and_the_end(full: Path) -> None:
    heard: dict[int | None, int] = {}
    unknown = []
    with pylog.open(full) as reader:
        records = [r for r in reader if isinstance(r, FlowRecord) and r.flow_type != "expect"]
    flows = Flows()
    for record in records:
        if record.event != "destroy":
            assert record.timestamp_ns is not None
            if not (record.extra or {}).get("nlmsg_pid"):
                heard[record.id] = record.timestamp_ns
        for flow in flows.feed([record]):
            assert isinstance(flow, FlowRecord)
            if flow.last_ns is None:
                unknown.append((flow.end_reason, flow.protocol))
                continue
            assert flow.start_ns is not None
            assert flow.stop_ns is not None
            assert heard[flow.id] <= flow.last_ns <= flow.stop_ns + S // 250
            assert flow.duration_us == (flow.last_ns - flow.start_ns) // 1000
    # one without a NEW event, and three that conntrack -I made
    assert sorted(unknown) == [("expired", 17), ("removed", 1), ("removed", 6), ("removed", 17)]


def test_helper_and_parent_are_remembered_from_the_first_event(full: Path) -> None:
    with pylog.open(full) as reader:
        flows = [r for r in made(*reader) if isinstance(r, FlowRecord) and r.event == "end"]
    ftp = [r for r in flows if r.protocol == 6 and r.dport == 21 and "CTA_HELP" in (r.extra or {})]
    assert ftp
    assert ftp[0].extra is not None
    assert ftp[0].extra["CTA_HELP"] == {"CTA_HELP_NAME": "ftp"}
    children = [r for r in flows if "CTA_TUPLE_MASTER" in (r.extra or {})]
    assert {r.dport for r in children} >= {40100}
    assert [r for r in flows if "CTA_LABELS" in (r.extra or {})]
    assert {(r.first_state, r.state) for r in flows if r.dport == 5010} == {
        ("SYN_SENT", "TIME_WAIT")
    }


# The last packet


def test_the_last_packet_of_a_flow_that_expired_is_a_timeout_before_its_end() -> None:
    flow = one(
        event("new", 0, timeout=30),
        event("update", 0.1, timeout=30, status=REPLIED),
        destroyed(42.5, 0, status=REPLIED),
    )
    assert flow.end_reason == "expired"
    assert (flow.start_ns, flow.last_ns, flow.stop_ns) == (T0, T0 + 12.5 * S, T0 + 42.5 * S)
    assert flow.duration_us == 12_500_000
    assert (flow.event, flow.packets) == ("end", {"orig": 3, "reply": 2})


def test_a_timeout_that_was_rounded_down_is_that_of_the_event_before() -> None:
    flow = one(
        event("new", 0, timeout=30),
        event("update", 0.1, timeout=29, status=REPLIED),
        destroyed(30.1, 0, status=REPLIED),
    )
    assert flow.last_ns == T0 + S // 10


@pytest.mark.parametrize(
    "records",
    [
        # it became a stream, whose timeout is another one, and nobody said so
        [event("new", 0, timeout=30), destroyed(130, 0, status=ASSURED)],
        [event("new", 0, timeout=120, state="SYN_SENT"), destroyed(140, 0, state="TIME_WAIT")],
        # it would have been before it began
        [event("new", 0, timeout=432000), destroyed(300, 0)],
        [event("new", 0, timeout=30), destroyed(60, 0, status=[*CONFIRMED, "OFFLOAD"])],
        # its last data may not have been acknowledged
        [event("new", 0, protocol=6, state="ESTABLISHED", timeout=432000),
         destroyed(500000, 0, protocol=6, state="ESTABLISHED")],
        [event("new", 0, timeout=30, extra={"nlmsg_pid": 7}), destroyed(60, 0)],
        [event("new", 0, timeout=30), event("update", 1, timeout=900, extra={"nlmsg_pid": 7}),
         destroyed(950, 0)],
        [destroyed(60, 0)],
    ],
)  # fmt: skip
def test_the_last_packet_is_unknown_where_the_timeout_is(records: list[Record]) -> None:
    flow = one(*records)
    assert (flow.last_ns, flow.duration_us) == (None, None)
    assert flow.stop_ns is not None


def test_a_flow_that_was_removed_says_who_did_it_and_how_long_it_was_quiet() -> None:
    flow = one(
        event("new", 0, timeout=30, extra={"nlmsg_pid": 0}),
        destroyed(60, 0, timeout=12, extra={"nlmsg_pid": 4711}),
    )
    assert (flow.end_reason, flow.extra) == ("removed", {"nlmsg_pid": 4711})
    assert flow.last_ns == T0 + 42 * S  # it had 12 to 13 of 30 seconds left


def test_an_established_flow_without_further_packets_has_a_last_one() -> None:
    new = event("new", 0, protocol=6, state="ESTABLISHED", timeout=432000)
    expired = destroyed(432000.5, 0, protocol=6, state="ESTABLISHED")
    assert one(new, expired).last_ns == T0 + S // 2
    asked: dict[str, Any] = {"extra": {"nlmsg_pid": 7}, "protocol": 6, "state": "ESTABLISHED"}
    assert one(new, destroyed(100, 0, timeout=431950, **asked)).last_ns == T0 + 50 * S
    assert one(new, destroyed(500000, 0, timeout=200, **asked)).last_ns is None


def test_a_reset_is_the_last_packet() -> None:
    flow = one(
        event("new", 0, protocol=6, timeout=120, state="SYN_SENT"),
        destroyed(0.25, 0, protocol=6, timeout=119, state="CLOSE"),
    )
    assert (flow.end_reason, flow.last_ns, flow.first_state) == ("killed", T0 + S // 4, "SYN_SENT")


def test_without_times_of_the_kernel_those_of_receipt_are_used() -> None:
    flow = one(
        event("new", observed_ns=T0, timeout=30),
        event("destroy", observed_ns=T0 + 31 * S),
    )
    assert (flow.start_ns, flow.last_ns, flow.stop_ns) == (T0, T0 + S, T0 + 31 * S)
    nothing = one(event("new", timeout=30), event("destroy"))
    assert (nothing.start_ns, nothing.last_ns, nothing.stop_ns) == (None, None, None)


# Which events are of one flow


def test_a_number_that_is_used_again_is_another_flow() -> None:
    first, second = made(
        event("new", 0), destroyed(1, 0), event("new", 1.1), destroyed(2, 1.1)
    )  # fmt: skip
    assert (first.start_ns, second.start_ns) == (T0, T0 + 1.1 * S)


def test_a_repeated_destroy_is_no_second_flow() -> None:
    end = destroyed(1, 0)
    assert len(made(event("new", 0), end, end, end)) == 1
    # also while another flow has the number
    assert len(made(event("new", 0), end, event("new", 1.1), end, destroyed(2, 1.1))) == 2


def test_a_flow_whose_end_was_unseen_ends_when_another_one_has_its_number() -> None:
    unseen, after = made(event("new", 0), event("new", 9), destroyed(10, 9))
    assert (unseen.event, unseen.end_reason, unseen.start_ns) == ("end", "unseen", T0)
    assert (unseen.stop_ns, unseen.last_ns, unseen.timestamp_ns) == (None, None, T0 + 9 * S)
    assert after.end_reason == "expired"
    unseen, after = made(event("new", 0), destroyed(10, 9))  # nor was the NEW event
    assert (unseen.end_reason, after.start_ns, after.first_state) == ("unseen", T0 + 9 * S, None)


def test_an_event_that_overtakes_an_earlier_one_changes_nothing() -> None:
    new, update = event("new", 0, timeout=30), event("update", 0.1, timeout=30, status=REPLIED)
    end = destroyed(40, 0, status=REPLIED)
    expected = one(new, update, end)
    assert one(update, new, end) == expected
    assert len(made(new, end, update)) == 1
    assert len(made(end, new)) == 1


def test_a_listing_that_shows_a_flow_before_its_first_event_is_the_same_flow() -> None:
    dump = event("dump", observed_ns=T0 + S, start_ns=T0, via="snapshot", timeout=29)
    flow = one(dump, event("new", 0.00005, timeout=30), destroyed(30, 0))
    assert (flow.start_ns, flow.last_ns, flow.via) == (T0, T0 + 50_000, None)


def test_a_flow_that_ended_in_a_loss_has_no_end_time() -> None:
    loss = LossRecord("nfct", "ctnetlink-le", count=5, log="nfct")
    records = made(
        event("new", 0), loss,
        event("destroy", observed_ns=T0 + 9 * S, end_reason="lost", via="repair"),
        event("new", 10, 2), event("dump", observed_ns=T0 + 9 * S, via="repair", number=3),
    )  # fmt: skip
    assert records[0] == loss
    assert [r.end_reason for r in records[1:]] == ["lost", "open", "open"]
    lost = records[1]
    assert (lost.start_ns, lost.stop_ns, lost.last_ns, lost.via) == (T0, None, None, "repair")
    assert records[3].start_ns is None


def test_zones_namespaces_and_origins_tell_flows_apart() -> None:
    cases: dict[str, tuple[Any, Any]] = {"zone": (None, 7), "netns": ("a", "b")}
    for name, values in {**cases, "origin": ("x", "y")}.items():
        records = [event("new", 0, **{name: value}) for value in values]
        records += [destroyed(1, 0, **{name: value}) for value in values]
        assert [getattr(flow, name) for flow in made(*records)] == list(values)
    new, end = event("new", 0, origin="log.1"), destroyed(40, 0, origin="log")
    assert len(made(new, end)) == 2
    assert len(made(new, end, by_origin=False)) == 1


def test_other_records_pass_unchanged() -> None:
    others: list[Any] = [
        event("new", 0, flow_type="expect"), event("destroy", 1, flow_type="expect"),
        event("new", 0, flow_type=None), event("end", 0), event("active", 0),
        LossRecord("nfct", "ctnetlink-le"), event("other", 0),
    ]  # fmt: skip
    assert made(*others) == others


# Flows that go on


def test_a_long_flow_is_reported_with_what_was_counted_since() -> None:
    def dump(at_s: int, orig: int) -> FlowRecord:
        counters: Any = {"packets": {"orig": orig, "reply": 0}, "bytes": {"orig": orig * 100}}
        return event("dump", observed_ns=T0 + at_s * S, via="poll", **counters)

    flows = made(
        event("new", 0), dump(5, 10), dump(12, 12), dump(23, 12), event("new", 29, 2),
        event("update", 31, 2), destroyed(40, 0, packets={"orig": 20, "reply": 3}),
        active_timeout_s=10,
    )  # fmt: skip
    of_first = [flow for flow in flows if flow.id == 1]
    assert [(r.event, r.end_reason) for r in of_first] == [("active", "active")] * 3 + [
        ("end", "expired")
    ]
    counts = [r.packets and (r.packets["orig"], r.packets["reply"]) for r in of_first]
    # the listing at 12 s comes after the report that it causes, as that at 23 s
    assert counts == [(10, 0), (2, 0), (0, 0), (8, 3)]
    assert of_first[3].extra["packets"] == {"orig": 20, "reply": 3}
    assert [r.observed_ns for r in of_first[:2]] == [T0 + 12 * S, T0 + 23 * S]
    assert {r.start_ns for r in of_first} == {T0}


def test_counters_that_another_program_set_to_zero_go_on_from_there() -> None:
    def dump(at_s: int, orig: int) -> FlowRecord:
        return event("dump", observed_ns=T0 + at_s * S, packets={"orig": orig})

    flows = made(
        event("new", 0), dump(5, 10), dump(12, 4), destroyed(22, 0, packets={"orig": 6}),
        active_timeout_s=10,
    )  # fmt: skip
    assert [flow.packets for flow in flows] == [{"orig": 10}, {"orig": 4}, {"orig": 2}]


def test_reports_go_on_after_a_clock_that_was_wrong_for_a_while() -> None:
    flows = Flows(active_timeout_s=10)
    year = 365 * 86400
    flows.feed([event("new", year, number) for number in (1, 2, 3)])
    records: list[Any] = []
    for at_s in range(40):
        records += flows.feed([event("update", at_s, 4)])
    assert Counter(r.id for r in records) == dict.fromkeys((1, 2, 3, 4), 3)
    # to and fro: each record moves one flow at most
    records = [r for i in range(100) for r in flows.feed([event("update", i % 2 * year, 4)])]
    assert len(records) <= 100


def test_a_report_without_new_counters_has_none() -> None:
    flows = Flows(active_timeout_s=10)
    counted = event("dump", observed_ns=T0 + S, packets={"orig": 1})
    assert flows.feed([event("new", 0), counted]) == []
    (first,) = flows.due(T0 + 10 * S)
    (second,) = flows.due(T0 + 20 * S)
    assert isinstance(first, FlowRecord)
    assert isinstance(second, FlowRecord)
    assert (first.packets, second.packets) == ({"orig": 1}, None)
    assert second.observed_ns == T0 + 20 * S
    assert flows.due(T0 + 29 * S) == []


def test_the_oldest_flow_is_reported_early_when_the_table_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flows = Flows(limit=2)
    reports = flows.feed(event("new", number, number) for number in range(5))
    assert [(r.id, r.end_reason) for r in reports if isinstance(r, FlowRecord)] == [
        (0, "evicted"), (1, "evicted"), (2, "evicted")
    ]  # fmt: skip
    assert (flows.alive, flows.evicted) == (2, 3)
    assert [record.message for record in caplog.records] == [
        "more than 2 flows live: the oldest are reported early, as evicted"
    ]
    # its end gives a record as of a flow that began before
    (end,) = flows.feed([destroyed(60, 0, 0)])
    assert isinstance(end, FlowRecord)
    assert (end.end_reason, end.start_ns) == ("expired", T0)


def test_counters_of_an_evicted_flow_are_given_once() -> None:
    counted = event("dump", observed_ns=T0 + S, packets={"orig": 2}, start_ns=T0)
    evicted, _, end = made(
        counted, event("new", 2, 2), destroyed(9, 2, 2), destroyed(9, 0, packets={"orig": 5}),
        limit=1,
    )  # fmt: skip
    assert (evicted.end_reason, evicted.packets) == ("evicted", {"orig": 2})
    assert (end.packets, end.extra) == ({"orig": 3}, {"packets": {"orig": 5}})


def test_a_large_extra_is_not_remembered() -> None:
    flow = one(event("new", 0, extra={"CTA_99": "00" * 60000}), destroyed(1, 0))
    assert flow.extra is None


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="limit is 0, but must be 1 or more"):
        Flows(limit=0)
    with pytest.raises(ValueError, match="active_timeout_s is 0, but must be more than 0"):
        Flows(active_timeout_s=0)
    with pytest.raises(ValueError, match="active_timeout_s is nan"):
        Flows(active_timeout_s=float("nan"))


# IPFilter


def ipl(word: str, at_s: int, **fields: Any) -> FlowRecord:
    given: dict[str, Any] = {
        "flow_type": "state", "protocol": 1, "saddr": "192.0.2.1", "daddr": "192.0.2.2",
        "icmp_type": 8, "timestamp_ns": T0 + at_s * S, "event": word,
    }  # fmt: skip
    return FlowRecord("ipl", "ipl-5.1.2-lp64le", **given | fields)


@pytest.mark.parametrize(
    "name", ["v5-1-2-lp64le-nat.all", "v4-1-35-lp64le-nat.nat", "v3435-lp64le-nat.nat"]
)
def test_nat_entries_have_the_counters_that_ipmon_shows(name: str) -> None:
    text = (samples.FIXTURES / "ipl" / f"{name}.txt").read_text()
    shown = re.findall(r"NAT:EXPIRE.* Pkts (\S+) Bytes (\S+)", text)
    assert shown
    with pylog.open(samples.FIXTURES / "ipl" / f"{name}.bin") as reader:
        ends = [r for r in made(*reader) if isinstance(r, FlowRecord) and r.event == "end"]
    given = []
    for flow in ends:
        assert flow.flow_type != "nat"
        assert flow.start_ns is not None
        own = [(flow.extra or {}).get(of, getattr(flow, of)) for of in ("packets", "bytes")]
        given.append(tuple("/".join(map(str, counts.values())) for counts in own))
        outwards = {"map": True, "mapblock": True, "rdr": False}.get(str(flow.flow_type))
        if outwards is not None and "in" in own[0]:
            orig, reply = ("out", "in") if outwards else ("in", "out")
            assert flow.packets == {"orig": own[0][orig], "reply": own[0][reply]}
    assert given == shown


def test_a_bimap_begins_at_the_end_that_its_record_shows_as_translated() -> None:
    with pylog.open(samples.FIXTURES / "ipl" / "v5-1-2-lp64le-nat.all.bin") as reader:
        flows = [r for r in made(*reader) if isinstance(r, FlowRecord) and r.flow_type == "bimap"]
    assert [r.packets for r in flows] == [{"orig": 1, "reply": 0}] * 2
    with pylog.open(samples.FIXTURES / "ipl" / "v4-1-35-lp64le-nat.nat.bin") as reader:
        flows = [r for r in made(*reader) if isinstance(r, FlowRecord) and r.flow_type == "bimap"]
    assert [r.packets for r in flows] == [{"in": 0, "out": 1}, {"in": 1, "out": 0}]


def test_a_forwarded_packet_of_a_state_counts_once() -> None:
    counters = {"forward_in": 4, "forward_out": 4, "backward_in": 0, "backward_out": 3}
    flow = one(ipl("new", 0), ipl("expire", 60, packets=counters, bytes=counters))
    assert flow.packets == flow.bytes == {"orig": 4, "reply": 3}
    assert flow.extra == {"packets": counters, "bytes": counters}
    assert (flow.start_ns, flow.stop_ns, flow.last_ns) == (T0, T0 + 60 * S, None)


@pytest.mark.parametrize(
    ("word", "reason"),
    [("expire", "expired"), ("flush", "removed"), ("remove", "removed"), ("killed", "killed"),
     ("orphan", "killed"), ("unload", "removed"), ("destroy", "killed"), ("purge", "removed")],
)  # fmt: skip
def test_every_end_of_ipfilter_has_a_reason(word: str, reason: str) -> None:
    flow = one(ipl("clone", 0), ipl("statechange", 1), ipl(word, 2))
    assert (flow.event, flow.end_reason, flow.start_ns) == ("end", reason, T0)
    assert (flow.extra or {}).get("event", "expire") == word


def test_very_many_states_that_the_log_does_not_tell_apart_are_kept_apart() -> None:
    alike: dict[str, Any] = {"id": None, "protocol": 1, "sport": None, "dport": None}
    begun = (event("new", i, **alike) for i in range(15_001))
    ended = (event("destroy", 20_000, **alike) for _ in range(1000))
    records = made(*begun, *ended, limit=15_000)
    assert [r.start_ns for r in records] == [T0 + i * S for i in range(15_001)]
    reasons = ["evicted", *["expired"] * 1000, *["open"] * 14_000]
    assert [r.end_reason for r in records] == reasons


def test_states_of_icmp_that_the_log_does_not_tell_apart_end_in_their_order() -> None:
    flows = made(ipl("new", 0), ipl("new", 1), ipl("expire", 60), ipl("expire", 61), ipl("new", 62))
    assert [(r.event, r.start_ns - T0) for r in flows] == [
        ("end", 0), ("end", S), ("active", 62 * S)
    ]  # fmt: skip
    tcp = {"protocol": 6, "sport": 1, "dport": 2, "icmp_type": None}
    flows = made(ipl("new", 0, **tcp), ipl("new", 9, **tcp), ipl("expire", 60, **tcp))
    assert [r.end_reason for r in flows] == ["unseen", "expired"]


@pytest.mark.parametrize("pattern", ["ipl/v*nat*.bin", "ipl/v*state*.bin"])
def test_every_end_in_the_fixtures_of_ipfilter_is_a_flow(pattern: str) -> None:
    go_on = ("new", "clone", "statechange", "intermediate")
    for dump in effort.sample(samples.dumps(pattern), least=5):
        with pylog.open(dump) as reader:
            records = [r for r in reader if isinstance(r, FlowRecord)]
        flows = made(*records)
        reasons = Counter(r.end_reason for r in flows)
        ended = reasons.total() - reasons["unseen"] - reasons["open"]
        assert ended == sum(r.event not in go_on for r in records), dump


# Any events


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[FlowRecord], dict[int, int]]:
    """Events of several flows in the order of time, and what each had counted when it ended."""
    timed: list[tuple[float, FlowRecord]] = []
    totals = {}
    for number in range(draw(st.integers(1, 8))):
        start = draw(st.floats(0, 100).map(lambda s: round(s, 3)))
        timed.append((start, event("new", start, number, timeout=30)))
        at, count = start, 0
        for _ in range(draw(st.integers(0, 4))):
            at += draw(st.floats(0.001, 30).map(lambda s: round(s, 3)))
            count += draw(st.integers(0, 5))
            if draw(st.booleans()):
                timed.append((at, event("update", at, number, timeout=30, status=REPLIED)))
            else:
                times = {"observed_ns": T0 + round(at * S), "start_ns": T0 + round(start * S)}
                timed.append((at, event("dump", None, number, packets={"orig": count}, **times)))
        at += 1
        totals[number] = count + draw(st.integers(0, 5))
        end = destroyed(at, start, number, packets={"orig": totals[number]})
        timed += [(at + repeat, end) for repeat in range(draw(st.integers(0, 2)))]
    timed.sort(key=lambda pair: pair[0])
    return [record for _, record in timed], totals


@given(st.data(), histories())
@effort.examples(400)
def test_counters_are_given_once_and_each_flow_ends_once(
    data: st.DataObject, history: tuple[list[FlowRecord], dict[int, int]]
) -> None:
    records, totals = history
    kept = [record for record in records if data.draw(st.integers(0, 4))]
    active_s = data.draw(st.sampled_from([None, 1, 7.5]))
    flows = made(*kept, active_timeout_s=active_s)
    ends = Counter(r.id for r in flows if r.event == "end")
    assert ends == {record.id: 1 for record in kept if record.event == "destroy"}
    for number in ends:
        given = sum(r.packets["orig"] for r in flows if r.id == number and r.packets)
        assert given == totals[number]
    left = {record.id for record in kept} - set(ends)
    assert Counter(r.id for r in flows if r.end_reason == "open") == dict.fromkeys(left, 1)


@given(st.data(), histories(), st.integers(1, 4))
@effort.examples(400)
def test_in_any_order_each_flow_ends_once_and_the_table_stays_small(
    data: st.DataObject, history: tuple[list[FlowRecord], dict[int, int]], limit: int
) -> None:
    records = data.draw(st.permutations(history[0]))
    flows = Flows(limit=limit, active_timeout_s=5)
    given: list[Record] = []
    for record in records:
        given += flows.feed([record])
        assert flows.alive <= limit
    given += flows.end()
    ends = Counter(r.id for r in given if isinstance(r, FlowRecord) and r.event == "end")
    assert ends == {record.id: 1 for record in records if record.event == "destroy"}


# Reading


class Given(Records):
    """A reader of records in lots; a lot that is an exception is raised."""

    def __init__(self, *lots: Any) -> None:
        self._lots = list(lots)

    def readers(self) -> list[Any]:
        return []

    def read(self, timeout: float | None = None) -> Record | None:
        raise NotImplementedError

    def read_batch(self, timeout: float | None = None, limit: int = 0) -> list[Record]:
        lot = self._lots.pop(0) if self._lots else []
        if isinstance(lot, Exception):
            raise lot
        return list(lot)


def test_the_reader_gives_flows_and_what_lives_at_the_end() -> None:
    reader = Flowed(Given([event("new", 0)], [event("new", 1, 2), destroyed(2, 0)]))
    assert [r.end_reason for r in reader if isinstance(r, FlowRecord)] == ["expired", "open"]
    assert reader.read() is None


def test_what_lives_comes_before_an_error() -> None:
    reader = Flowed(Given([event("new", 0)], OSError("gone"), OSError("gone")))
    record = reader.read()
    assert isinstance(record, FlowRecord)
    assert record.end_reason == "open"
    with pytest.raises(OSError, match="gone"):
        reader.read()


def test_a_timeout_loses_nothing() -> None:
    reader = Flowed(Given([event("new", 0)], TimeoutError(), [destroyed(1, 0)]))
    with pytest.raises(TimeoutError):
        reader.read(timeout=0)
    assert len(reader.read_batch()) == 1


def test_parts_of_a_log_are_one_log(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pylog.open(full) as reader:
        middle = [record.offset for record in reader][200]
    data = full.read_bytes()
    parts = [tmp_path / "log.1", tmp_path / "log"]
    parts[0].write_bytes(data[:middle])
    parts[1].write_bytes(data[middle:])
    columns = ["--to", "csv", "--columns", "event,id,start,stop,last,end_reason,packets"]
    assert main(["read", "--flows", *columns, str(full)]) == 0
    expected = capsys.readouterr().out
    assert expected.count("\n") == 121
    assert main(["read", "--flows", *columns, *map(str, parts)]) == 0
    assert capsys.readouterr().out == expected
    assert main(["replay", "--speed", "max", "--flows", *columns, *map(str, parts)]) == 0
    assert capsys.readouterr().out == expected


def test_flows_become_tables(full: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "flows.parquet"
    names = "start,last,end_reason,duration_us,packets"
    assert main(["convert", "--flows", "--columns", names, str(full), str(target)]) == 0
    rows = pq.read_table(target).to_pylist()
    assert Counter(row["end_reason"] for row in rows)["expired"] == 87
    again = tmp_path / "again.parquet"
    assert main(["read", "--flows", "--columns", names, "-w", str(again), str(full)]) == 0
    assert pq.read_table(again).to_pylist() == rows


@pytest.mark.parametrize(
    ("sources", "kind"),
    [
        (["nfct:"], "flow"), (["nftables:"], "ruleset"), (["nfct:", "nftables:"], None),
        (["nfct:", "nflog:5"], None), (["nftables:+nflog:5"], None), (["f.pcapng"], None),
    ],
)  # fmt: skip
def test_a_table_of_a_live_source_without_packets_has_its_records(
    sources: list[str], kind: str | None
) -> None:
    arguments = argparse.Namespace(
        flows=False, active_timeout=None, flow_limit=None, source=sources, **{"to.kind": None}
    )
    prepare_flows(arguments, "parquet")
    assert getattr(arguments, "to.kind") == kind


def test_events_are_scrubbed_before_they_become_flows(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", "--flows", "--scrub", "--to", "json", str(full)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 120
    for line in lines:
        assert json.loads(line)["saddr"].startswith(("198.18.", "2001:db8::"))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--flow-limit", "5"], "--flow-limit needs --flows"),
        (["--flows", "--events", "new,update"], "needs the events destroy, but --events is new,u"),
        (["--active-timeout", "5"], "--active-timeout needs --flows"),
        (["--flows", "--flow-limit", "0"], "--flow-limit is 0, but must be 1 or more"),
        (["--flows", "--active-timeout", "nan"], "--active-timeout is nan, but must be more"),
        (["--flows", "--to", "pcapng"], "--flows is not for pcapng"),
        (["--flows", "--to", "ipmon"], "--flows is not for ipmon"),
    ],
)
def test_options_that_do_not_fit_are_errors(
    words: list[str], error: str, full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", *words, str(full)]) == 2
    assert error in capsys.readouterr().err


def test_flows_are_not_made_in_parts(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "--flows", "--jobs", "2", str(full), str(tmp_path / "x.jsonl")]) == 2
    assert "--flows is not for --jobs and --dask" in capsys.readouterr().err


def test_a_flow_without_its_message_is_scrubbed_by_its_fields() -> None:
    def tuple_of(address: str) -> dict[str, Any]:
        return {"CTA_TUPLE_IP": {"CTA_IP_V4_SRC": address, "CTA_IP_V4_DST": "192.0.2.2"}}

    extra = {"CTA_TUPLE_MASTER": tuple_of("192.0.2.9"), "CTA_SECCTX": {"CTA_SECCTX_NAME": "x"},
             "CTA_HELP": {"CTA_HELP_NAME": "ftp", "CTA_HELP_INFO": "c0000209"},
             "unknown": [[99, "c0000209"]], "nlmsg_pid": 7}  # fmt: skip
    flow = one(event("new", 0, extra=extra, nat_saddr="192.0.2.77", origin="a", netns="b"))
    scrubbed = Scrubbing().record(flow)
    assert isinstance(scrubbed, FlowRecord)
    assert (scrubbed.saddr, scrubbed.daddr, scrubbed.nat_saddr, scrubbed.nat_daddr) == (
        "198.18.0.1", "198.18.0.2", "198.18.0.3", None
    )  # fmt: skip
    assert scrubbed.extra == {
        "CTA_TUPLE_MASTER": {
            "CTA_TUPLE_IP": {"CTA_IP_V4_SRC": "198.18.0.4", "CTA_IP_V4_DST": "198.18.0.2"}
        },
        "CTA_HELP": {"CTA_HELP_NAME": "ftp"},
    }
    assert (scrubbed.origin, scrubbed.netns) == (None, "b")
    assert "192.0.2." not in repr(scrubbed)
