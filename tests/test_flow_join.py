"""The join of packets with flows: by NFULA_CT, by addresses and ports, and never a guess."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import samples
from effort import sample

import pylog
from pylog.flows import join as flow_join
from pylog.flows.join import HELD_NS, KEPT_NS, FlowJoin
from pylog.joined import Joined
from pylog.outputs.text import line
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record
from pylog.record.joined import JoinedRecord

MS = 1_000_000
START = 1_700_000_000_000_000_000
INSIDE, OUTSIDE, SERVER, REAL = "10.1.0.2", "203.0.113.1", "198.51.100.7", "10.2.0.3"


def flow(at_ms: int, event: str, **fields: Any) -> FlowRecord:
    given: dict[str, Any] = {
        "family": "ipv4", "protocol": 6, "saddr": INSIDE, "sport": 4000, "daddr": SERVER,
        "dport": 443, "id": 1, "flow_type": "state", "status": ["CONFIRMED"],
    }  # fmt: skip
    return FlowRecord("nfct", "ctnetlink-le", timestamp_ns=START + at_ms * MS, event=event,
                      **given | fields)  # fmt: skip


def packet(at_ms: float, **fields: Any) -> PacketRecord:
    given: dict[str, Any] = {
        "group": "5", "family": "ipv4", "protocol": 6, "saddr": INSIDE, "sport": 4000,
        "daddr": SERVER, "dport": 443, "timestamp_ns": START + int(at_ms * MS),
    }  # fmt: skip
    return PacketRecord("nflog", "nfulnl-le", **given | fields)


def joined(*records: Record, join: FlowJoin | None = None) -> list[JoinedRecord]:
    join = FlowJoin() if join is None else join
    given = [*join.feed(records), *join.end()]
    assert [_plain(record) for record in given] == [_plain(record) for record in records]
    assert not join.waiting
    return [record for record in given if isinstance(record, JoinedRecord)]


def _plain(record: Any) -> Any:
    return [getattr(record, name) for name in type(record).__struct_fields__[:10]]


TRANSLATED = {"nat_saddr": OUTSIDE, "nat_sport": 1024, "nat_daddr": REAL, "nat_dport": 8443}


@pytest.mark.parametrize(("ends", "direction", "other"), [
    ((INSIDE, 4000, SERVER, 443), "original", (OUTSIDE, 1024, REAL, 8443)),
    ((INSIDE, 4000, REAL, 8443), "original", (OUTSIDE, 1024, REAL, 8443)),
    ((OUTSIDE, 1024, REAL, 8443), "original", (INSIDE, 4000, SERVER, 443)),
    ((REAL, 8443, OUTSIDE, 1024), "reply", (SERVER, 443, INSIDE, 4000)),
    ((REAL, 8443, INSIDE, 4000), "reply", (SERVER, 443, INSIDE, 4000)),
    ((SERVER, 443, INSIDE, 4000), "reply", (REAL, 8443, OUTSIDE, 1024)),
])  # fmt: skip
def test_a_packet_of_either_direction_and_side_has_its_flow(
    ends: Any, direction: str, other: Any
) -> None:
    names = ("saddr", "sport", "daddr", "dport")
    (record,) = joined(
        flow(0, "new", **TRANSLATED), packet(20, **dict(zip(names, ends, strict=True)))
    )
    assert (record.flow_id, record.flow_match, record.flow_unknown) == (1, "ends", None)
    assert (record.flow_direction, record.flow_age) == (direction, 0.02)
    assert tuple(getattr(record, f"nat_{name}") for name in names) == other


def test_a_flow_without_translation_has_no_other_side() -> None:
    (record,) = joined(flow(0, "new", state="SYN_SENT"), packet(1))
    assert (record.flow_id, record.nat_saddr, record.flow_state) == (1, None, "SYN_SENT")
    assert line(record).endswith(" flow 1 SYN_SENT original 0.001000 s")


def test_the_first_packet_waits_for_the_event_of_its_flow() -> None:
    join = FlowJoin()
    assert join.feed([packet(0)]) == [] and join.waiting
    assert join.feed([flow(0, "new")]) == [] and join.waiting
    (record, *_) = join.feed([packet(HELD_NS / MS + 1)])
    assert isinstance(record, JoinedRecord) and (record.flow_id, record.flow_age) == (1, 0.0)


def test_the_state_is_the_one_at_the_time_of_the_packet() -> None:
    records: list[Record] = [
        flow(0, "new", state="SYN_SENT"), flow(10, "update", state="ESTABLISHED"),
        flow(30, "update", state="FIN_WAIT"), packet(5), packet(20), packet(40),
    ]  # fmt: skip
    assert [r.flow_state for r in joined(*records)] == ["SYN_SENT", "ESTABLISHED", "FIN_WAIT"]


def test_a_state_that_was_received_soon_after_is_not_certain() -> None:
    def received(at_ms: int, event: str, state: str) -> FlowRecord:
        made = flow(at_ms, event, state=state)
        return msgspec.structs.replace(made, timestamp_ns=None, observed_ns=made.timestamp_ns)

    records: list[Record] = [
        received(0, "new", "SYN_SENT"), received(1500, "update", "ESTABLISHED"), packet(200),
        packet(1450), packet(1600),
    ]  # fmt: skip
    assert [r.flow_state for r in joined(*records)] == ["SYN_SENT", None, "ESTABLISHED"]


def test_protocols_without_states_have_a_word_for_what_was_seen() -> None:
    udp = {"protocol": 17}
    records: list[Record] = [
        flow(0, "new", **udp), flow(10, "update", status=["SEEN_REPLY"], **udp),
        flow(20, "update", status=["SEEN_REPLY", "ASSURED"], **udp),
        packet(5, **udp), packet(15, **udp), packet(25, **udp),
    ]  # fmt: skip
    assert [r.flow_state for r in joined(*records)] == ["UNREPLIED", "REPLIED", "ASSURED"]


def test_a_port_that_is_used_again_leads_to_the_flow_of_that_time() -> None:
    records: list[Record] = [
        flow(0, "new"), flow(100, "destroy"), flow(500, "new", id=2), packet(50), packet(300),
        packet(600),
    ]  # fmt: skip
    first, none, second = joined(*records)
    assert (first.flow_id, second.flow_id) == (1, 2)
    assert none.flow_unknown == "no flow has these addresses and ports at that time"


def test_two_flows_at_once_are_named_as_candidates() -> None:
    zones = [flow(0, "new", zone=7), flow(0, "new", id=2, zone=8)]
    (record,) = joined(*zones, packet(5))
    assert record.flow_id is None
    assert record.flow_unknown == "2 flows have these addresses and ports at that time"
    start = "2023-11-14T22:13:20.000000Z"
    assert record.flow_candidates == [
        {"id": 1, "zone": 7, "start": start}, {"id": 2, "zone": 8, "start": start},
    ]  # fmt: skip
    assert line(record).endswith("at that time: flow 1, flow 2)")


def test_flows_of_another_machine_are_not_taken() -> None:
    here, there = flow(0, "new", host="a"), flow(0, "new", id=2, host="b")
    first, second = joined(here, there, packet(5, host="a"), packet(5, host="b"))
    assert (first.flow_id, second.flow_id) == (1, 2)
    (record,) = joined(here, packet(5, host="c"))
    assert record.flow_id is None


def test_icmp_is_matched_by_its_identifier_and_errors_by_what_they_quote() -> None:
    ping = {"protocol": 1, "sport": 77, "dport": None, "icmp_type": 8, "icmp_code": 0}
    echo = bytes.fromhex("450000540000400040010000") + bytes(8) + bytes.fromhex("00000000004d0001")
    icmp = {"protocol": 1, "sport": None, "dport": None}
    reply = packet(2, saddr=SERVER, daddr=INSIDE, icmp_type=0, payload=echo, **icmp)
    other = packet(2, saddr=SERVER, daddr=INSIDE, icmp_type=0, payload=echo[:-4] + b"\0\1\0\1",
                   **icmp)  # fmt: skip
    inner = {"protocol": 6, "saddr": INSIDE, "sport": 4000, "daddr": SERVER, "dport": 443}
    error = packet(2, saddr="10.9.9.9", daddr=INSIDE, icmp_type=3, extra={"inner": inner}, **icmp)
    found = joined(flow(0, "new", **ping), flow(0, "new", id=2), reply, other, error)
    assert [r.flow_id for r in found] == [1, None, 2]
    assert [r.flow_direction for r in found] == ["reply", None, "original"]


def test_a_packet_without_ports_has_a_reason() -> None:
    from pylog.record import Fragment

    later = packet(5, sport=None, dport=None, fragment=Fragment(1, 1480))
    cut = packet(5, sport=None, dport=None, cut="tcp")
    for record in joined(flow(0, "new"), later, cut):
        assert record.flow_unknown == "the packet's addresses and ports were not logged"


def test_a_loss_of_flow_records_is_the_reason_that_is_given() -> None:
    loss = LossRecord("nfct", "ctnetlink-le", count=3, log="nfct")
    (record,) = joined(flow(0, "new", id=9, sport=1), loss, packet(5))
    assert (record.flow_unknown or "").endswith("; records of flows were lost")
    (record,) = joined(packet(5))
    assert (record.flow_unknown or "").endswith("; the log has no records of flows")


def test_a_flow_that_was_there_before_has_no_age() -> None:
    (record,) = joined(flow(0, "dump", via="snapshot"), packet(5))
    assert (record.flow_id, record.flow_age) == (1, None)
    (record,) = joined(flow(0, "dump", start_ns=START - 1000 * MS), packet(5))
    assert record.flow_age == 1.005


def test_the_kernels_entry_is_taken_where_the_message_has_it() -> None:
    with pylog.open(samples.FIXTURES / "nflog" / "conntrack.bin") as reader:
        records = list(Joined(reader, FlowJoin()))
    assert records
    for record in records:
        assert isinstance(record, JoinedRecord) and record.extra is not None
        entry = record.extra["NFULA_CT"]
        assert (record.flow_id, record.flow_match) == (entry["CTA_ID"], "kernel")
        reply = record.extra["NFULA_CT_INFO"].endswith("_REPLY")
        assert record.flow_direction == ("reply" if reply else "original")
        assert record.flow_state in ("UNREPLIED", "REPLIED", "ASSURED", "SYN_SENT", "ESTABLISHED",
                                     "SYN_RECV", "TIME_WAIT", "CLOSE")  # fmt: skip


def test_an_entry_before_its_translation_has_that_of_the_event() -> None:
    way = {"CTA_TUPLE_IP": {"CTA_IP_V4_SRC": INSIDE, "CTA_IP_V4_DST": SERVER},
           "CTA_TUPLE_PROTO": {"CTA_PROTO_NUM": 6, "CTA_PROTO_SRC_PORT": 4000,
                               "CTA_PROTO_DST_PORT": 443}}  # fmt: skip
    extra = {"NFULA_CT": {"CTA_ID": 1, "CTA_TUPLE_ORIG": way}, "NFULA_CT_INFO": "NEW"}
    (record,) = joined(packet(0, extra=extra), flow(0, "new", **TRANSLATED))
    assert (record.flow_match, record.nat_saddr, record.nat_dport) == ("kernel", OUTSIDE, 8443)


@pytest.mark.parametrize("entry", [
    None, [], {}, {"CTA_ID": 4}, {"CTA_ID": 4, "CTA_PROTOINFO": {}},
    {"CTA_ID": 4, "CTA_TUPLE_ORIG": {"CTA_TUPLE_IP": {}}},
    {"CTA_ID": 4, "CTA_PROTOINFO": {"unknown": [[1, "00"]]}},
])  # fmt: skip
def test_an_entry_of_few_attributes_is_no_error(entry: Any) -> None:
    (record,) = joined(packet(0, extra={"NFULA_CT": entry}))
    assert record.flow_match or record.flow_unknown


def test_a_first_reader_that_always_has_records_is_not_read_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Busy:
        def read_batch(self, timeout: float | None = None) -> list[Record]:
            return [flow(0, "update")]

    monkeypatch.setattr("pylog.joined.FIRST_S", 0.01)
    busy: Any = Busy()
    assert Joined(busy, FlowJoin(), first=busy).read(timeout=1) is not None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_join, "MAXIMUM_FLOWS", 50)
    join = FlowJoin()
    for i in range(1000):
        join.feed([flow(i, "new", id=i, sport=i)])
    for i in range(900, 1000):
        join.feed([flow(1000 + i, "destroy", id=i, sport=i)])
    assert len(join._flows) <= 50 and len(join._ended) <= 50
    assert len(join._by_ends) <= 2 * (50 + 50)
    join.feed([flow(2 * KEPT_NS // MS, "new", id=1), flow(3 * KEPT_NS // MS, "destroy", id=1)])
    assert len(join._ended) == 1 and len(join._by_ends) == 2 * (len(join._flows) + 1)


def test_among_very_many_flows_with_the_same_ends_none_is_searched() -> None:
    join = FlowJoin()
    join.feed(flow(i, "new", id=i) for i in range(1000))
    (record,) = joined(packet(1001), join=join)
    assert record.flow_unknown == "1000 flows have or had these addresses and ports"
    join.feed(flow(1002, "destroy", id=i) for i in range(1, 1000))
    join.feed([flow(2 * KEPT_NS // MS, "new", id=1), flow(3 * KEPT_NS // MS, "destroy", id=1)])
    (record,) = joined(packet(3 * KEPT_NS // MS + 10), join=join)
    assert record.flow_id == 0


def test_packets_wait_again_after_a_clock_that_was_wrong_for_a_while() -> None:
    join = FlowJoin()
    join.feed([flow(10**9, "new", id=2, sport=1)])
    (record,) = joined(packet(0), flow(1, "new"), join=join)
    assert record.flow_id == 1
    join.feed([packet(10**9)])
    join.feed([flow(2, "update")])
    assert not join.waiting


@pytest.mark.parametrize("seed", sample(range(40)))
def test_a_match_is_the_only_flow_that_had_these_ends(seed: int) -> None:
    """Against a search through all flows, for random flows, packets and delays of events."""
    chance = random.Random(seed)
    flows: list[tuple[int, int, int, dict[str, Any]]] = []
    events: list[tuple[int, Record]] = []
    for number in range(60):
        ends: dict[str, Any] = {"sport": chance.randrange(4), "dport": chance.randrange(2)}
        if chance.random() < 0.5:
            ends |= {"nat_saddr": OUTSIDE, "nat_sport": chance.randrange(4), "nat_daddr": SERVER,
                     "nat_dport": ends["dport"]}  # fmt: skip
        begin = chance.randrange(0, 4000, 10)
        end = begin + chance.randrange(10, 300, 10)
        flows.append((number, begin, end, ends))
        events += [(begin, flow(begin, "new", id=number, **ends)),
                   (end, flow(end, "destroy", id=number, **ends))]  # fmt: skip
    packets = []
    for _ in range(200):
        at = chance.randrange(5, 4300, 10)
        outside = chance.random() < 0.4
        fields = {"saddr": OUTSIDE if outside else INSIDE, "sport": chance.randrange(4),
                  "dport": chance.randrange(2)}  # fmt: skip
        packets.append((at, packet(at, **fields)))
    records = [r for _, r in sorted([*events, *packets], key=lambda pair: pair[0])]
    for record in joined(*records):
        at_ms = ((record.timestamp_ns or 0) - START) // MS
        fitting = {
            number for number, begin, end, ends in flows
            if begin <= at_ms <= end and (record.saddr, record.sport, record.dport) in (
                (INSIDE, ends["sport"], ends["dport"]),
                (ends.get("nat_saddr", INSIDE), ends.get("nat_sport", ends["sport"]),
                 ends["dport"]),
            )
        }  # fmt: skip
        assert ({record.flow_id} if record.flow_id is not None else None) == (
            fitting if len(fitting) == 1 else None
        )
        assert len(record.flow_candidates or ()) == (len(fitting) if len(fitting) > 1 else 0)
