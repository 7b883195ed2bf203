"""Who had this address: answers from logs, against what the recordings say and a made-up world."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import effort
import inprocess
import pytest
import samples

import pylog
from pylog.batch import Batch
from pylog.flows import Flows
from pylog.outputs import Target
from pylog.outputs import open as open_output
from pylog.record import FlowRecord, LossRecord, Record, json_lines, rfc3339
from pylog.who import Answer, Who
from pylog.who.coverage import Coverage, Coverages, Seen
from pylog.who.intervals import Intervals
from pylog.who.questions import Endpoint, Question, endpoint, period, question, questions_of
from pylog.who.stored import ask

S = 1_000_000_000
T = 1_700_000_000 * S
NAT = samples.FIXTURES / "ipl" / "v5-1-2-lp64le-nat.all.bin"
OLD = samples.FIXTURES / "ipl" / "v3435-lp64le-nat.nat.bin"


def flow(event: str, at: float | None, **fields: Any) -> FlowRecord:
    given: dict[str, Any] = {
        "event": event, "flow_type": "map", "family": "ipv4", "protocol": 6, "saddr": "10.0.0.1",
        "sport": 1000, "daddr": "192.0.2.80", "dport": 443, "nat_saddr": "198.51.100.1",
        "nat_sport": 2000, "nat_daddr": "192.0.2.80", "nat_dport": 443, "id": 7,
        "timestamp_ns": None if at is None else T + round(at * S),
    }  # fmt: skip
    return FlowRecord("nfct", "ctnetlink-le", **given | fields)


def loss(at: float | None = None, **fields: Any) -> LossRecord:
    time = None if at is None else T + round(at * S)
    return LossRecord(
        "nfct", "ctnetlink-le", observed_ns=time, log="nfct", **{"count": 3, **fields}
    )


def other(at: float, number: int = 9) -> FlowRecord:
    """A flow that nobody asks for: the log goes on."""
    return flow("new", at, nat_saddr="198.51.100.9", id=number, nat_sport=number)


def who(
    records: Sequence[Any], at: float, until: float | None = None,
    address: str = "198.51.100.1:2000", unknown: str | None = None, **settings: Any,
) -> list[Answer]:  # fmt: skip
    asked = question(address, "0", **settings)
    asked = asked._replace(start_ns=T + round(at * S), stop_ns=T + round((until or at) * S))
    answering = Who([asked])
    answering.feed(records, answering.begin("log", unknown))
    return list(answering.answers())


def states(*arguments: Any, **settings: Any) -> list[str]:
    return [answer.state for answer in who(*arguments, **settings)]


# Questions


@pytest.mark.parametrize(("text", "parts"), [
    ("192.0.2.1", ("192.0.2.1", None, None)),
    ("192.0.2.1:443", ("192.0.2.1", 443, 443)),
    ("192.0.2.1:1024-2047", ("192.0.2.1", 1024, 2047)),
    ("2001:DB8:0::1", ("2001:db8::1", None, None)),
    ("[2001:db8::1]", ("2001:db8::1", None, None)),
    ("[2001:db8::1]:443", ("2001:db8::1", 443, 443)),
    ("[::1]:0-65535", ("::1", 0, 65535)),
])  # fmt: skip
def test_an_address_may_have_a_port_or_a_block_of_ports(text: str, parts: Any) -> None:
    assert endpoint(text) == Endpoint(*parts)


@pytest.mark.parametrize("text", [
    "", "host", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:65536", "192.0.2.1:9-8", "192.0.2", "[::1",
    "fe80::1%eth0", "[192.0.2.1]]", "192.0.2.1/24", "192.0.2.1:-1", "\u0661.2.3.4",
])  # fmt: skip
def test_what_is_no_address_is_an_error_that_shows_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"no address: write|but a port is"):
        endpoint(text)


@pytest.mark.parametrize(("text", "start", "seconds"), [
    ("2023-11-14", "2023-11-14T00:00:00", 86400),
    ("2023-11-14T22:13", "2023-11-14T22:13:00", 60),
    ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20", 1),
    ("2023-11-14 22:13:20", "2023-11-14T22:13:20", 1),
    ("2023-11-14t22:13:20.5z", "2023-11-14T22:13:20.5", 0.1),
    ("2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20", 1),
    ("2023-11-14T23:13:20+0100", "2023-11-14T22:13:20", 1),
    ("1700000000", "2023-11-14T22:13:20", 1),
    ("@1700000000.25", "2023-11-14T22:13:20.25", 0.01),
    ("2023-11-14T22:13:20Z..2023-11-14T22:13:29Z", "2023-11-14T22:13:20", 10),
    ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59", 1),
])  # fmt: skip
def test_a_time_stands_for_all_that_its_last_digit_leaves_open(
    text: str, start: str, seconds: float
) -> None:
    first, last = period(text)
    assert rfc3339(first).rstrip("0Z").rstrip(".").ljust(19, "0") == start.ljust(19, "0")
    assert last - first == round(seconds * S) - 1


def test_a_time_without_an_offset_is_in_the_zone() -> None:
    oslo = ZoneInfo("Europe/Oslo")
    assert period("2023-11-14T23:13:20", oslo)[0] == T
    first, last = period("2026-10-25", oslo)
    assert last + 1 - first == 25 * 3600 * S
    with pytest.raises(ValueError, match="clocks change then"):
        period("2026-10-25T02:30", oslo)


@pytest.mark.parametrize("text", [
    "", "now", "2023-13-01", "2023-11-14T25:00", "2023-11-14T22:13:20Z..2023-11-13", "..",
    "2023-11-14..", "2023-11-14T2", "999999999999", "0000-01-01",
])  # fmt: skip
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        period(text)


def test_questions_of_a_file_have_their_numbers_and_what_they_leave_out_is_the_default() -> None:
    lines = [
        "Time,Address", "", "# comment",
        "2023-11-14T22:13:20Z,192.0.2.1:5", "1700000000;[::1]:5;udp",
        "2023-11-14 22:13:20 192.0.2.1 - 192.0.2.2:80", '"1700000000"\t192.0.2.1\t""\t-  # why',
    ]  # fmt: skip
    made = list(questions_of(lines, "f", protocol="tcp"))
    assert [q.number for q in made] == [1, 2, 3, 4]
    assert [q.protocol for q in made] == [6, 17, 6, 6]
    assert made[1].of == Endpoint("::1", 5, 5) and made[2].peer == Endpoint("192.0.2.2", 80, 80)
    assert {q.start_ns for q in made} == {T}
    with pytest.raises(ValueError, match=r"^f, line 2: 'x' is no address"):
        list(questions_of(["1700000000,192.0.2.1", "1700000000,x"], "f"))
    with pytest.raises(ValueError, match="line 1: not TIME,ADDRESS"):
        list(questions_of(["1700000000"], "f"))


# Which end of a flow


@pytest.mark.parametrize(("log", "address", "match", "had", "peer"), [
    (NAT, "203.0.113.5:20000", "source", ("10.1.1.1", 40000), ("192.0.2.80", 443)),
    (OLD, "203.0.113.5:20000", "source", ("10.1.1.1", 40000), ("192.0.2.80", 443)),
    (NAT, "10.1.1.1:40000", "inside", ("10.1.1.1", 40000), ("192.0.2.80", 443)),
    (NAT, "203.0.113.128:1536-1799", "source", ("10.2.3.4", 7000), ("192.0.2.80", 7001)),
])  # fmt: skip
def test_a_source_is_answered_by_what_stood_behind_it(
    log: Path, address: str, match: str, had: Any, peer: Any
) -> None:
    answers = list(ask([question(address, "2023-11-14")._replace(start_ns=0)], [str(log)]))
    first = answers[0]
    assert first.state in ("certain", "open") and first.match == match
    assert (first.address, first.port) == had and (first.peer, first.peer_port) == peer
    assert first.incomplete is not None and "has 2023-11-14" in first.incomplete


@pytest.mark.parametrize("log", [NAT, OLD])
def test_a_destination_of_ipfilter_is_answered_alike_in_all_its_releases(log: Path) -> None:
    done = inprocess.text(
        "who", "198.51.100.7:80", "--at", "2023-11-14T22:29:40Z", "--peer", "198.51.100.23:50001",
        "--to", "json", log,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["match"] == "destination"
    assert (answer["address"], answer["port"]) == ("10.1.1.80", 8080)
    assert (answer["peer"], answer["peer_port"]) == ("198.51.100.23", 50001)
    assert answer["start"] == "2023-11-14T22:29:36.975312Z" and answer["clock"] == "kernel"


def test_an_address_that_is_not_translated_is_itself() -> None:
    plain = {"nat_saddr": None, "nat_sport": None, "nat_daddr": None, "nat_dport": None,
             "flow_type": "state"}  # fmt: skip
    records = [flow("new", 0, **plain), flow("destroy", 9, **plain)]
    (answer,) = who(records, 5, address="192.0.2.80:443")
    assert answer.match == "itself" and (answer.address, answer.port) == ("192.0.2.80", 443)
    assert (answer.peer, answer.peer_port) == ("10.0.0.1", 1000)


def test_both_ends_of_a_flow_may_be_translated() -> None:
    hairpin = {"daddr": "198.51.100.1", "dport": 80, "nat_saddr": "10.0.0.254", "nat_sport": 3000,
               "nat_daddr": "10.0.0.80", "nat_dport": 8080, "flow_type": "rwr_map"}  # fmt: skip
    records = [flow("new", 0, **hairpin), flow("destroy", 9, **hairpin)]
    (outside,) = who(records, 5, address="198.51.100.1:80")
    assert (outside.match, outside.address, outside.port) == ("destination", "10.0.0.80", 8080)
    (inside,) = who(records, 5, address="10.0.0.254:3000")
    assert (inside.match, inside.address, inside.port) == ("source", "10.0.0.1", 1000)
    assert (inside.peer, inside.peer_port) == ("10.0.0.80", 8080)


def test_protocol_and_peer_narrow_a_question() -> None:
    records = [
        flow("new", 0), flow("new", 1, protocol=17, id=8),
        flow("new", 2, id=9, daddr="192.0.2.81", nat_daddr="192.0.2.81"), other(9),
    ]  # fmt: skip
    assert [answer.id for answer in who(records, 5)] == [7, 8, 9]
    assert [answer.id for answer in who(records, 5, protocol="udp")] == [8]
    assert [answer.id for answer in who(records, 5, peer="192.0.2.81")] == [9]
    assert [answer.id for answer in who(records, 5, peer="192.0.2.80:443", protocol="6")] == [7]
    assert [answer.id for answer in who(records, 5, peer="192.0.2.80:80")] == [None]
    assert who(records, 5, address="198.51.100.1:2001")[0].state == "nobody"


# When


def test_a_flow_is_there_from_its_beginning_to_its_end() -> None:
    records = [
        other(0),
        flow("new", 2),
        flow("update", 3),
        flow("destroy", 5),
        other(9, 10),
    ]
    assert [states(records, at) for at in (1.9, 2, 4, 5, 5.1)] == [
        ["nobody"], ["certain"], ["certain"], ["certain"], ["nobody"]]  # fmt: skip
    assert states(records, 0, 1.9) == ["nobody"] and states(records, 0, 2) == ["certain"]
    assert states(records, 5.5, within_s=0) == ["nobody"]
    asked = question("198.51.100.1:2000", "1700000007", within_s=2)
    answering = Who([asked])
    answering.feed(records, answering.begin("log"))
    assert [a.state for a in answering.answers()] == ["certain"]


def test_the_kernels_times_of_beginning_and_end_count_before_those_of_events() -> None:
    times = {"start_ns": T + 1, "stop_ns": T + 5 * S}
    records = [flow("new", 1), flow("destroy", 6, **times), other(9)]
    (answer,) = who(records, 5)
    assert (answer.start, answer.stop) == (rfc3339(T + 1), rfc3339(T + 5 * S))
    assert answer.held_us == 4_999_999
    assert states(records, 5.5) == ["nobody"]


def test_without_the_kernels_times_the_answer_says_that_they_are_observed() -> None:
    records = [
        flow("new", None, observed_ns=T),
        flow("destroy", None, observed_ns=T + S),
    ]
    (answer,) = who(records, 0.5)
    assert answer.state == "certain" and answer.clock == "observed"


def test_a_flow_that_has_not_ended_is_open_up_to_the_end_of_the_log_and_unknown_after_it() -> None:
    records = [flow("new", 0), other(9)]
    (answer,) = who(records, 8)
    assert answer.state == "open" and answer.stop_after == rfc3339(T + 9 * S)
    later = who(records, 10)
    assert [each.state for each in later] == ["unknown", "unknown"]
    assert later[0].address == "10.0.0.1" and "log ends at" in str(later[0].reason)
    assert later[1].address is None


def test_a_flow_without_a_beginning_began_before_the_log() -> None:
    records = [other(0), flow("update", 4), flow("destroy", 5), other(9, 10)]
    (answer,) = who(records, 1)
    assert answer.state == "certain" and answer.start_before == rfc3339(T) and not answer.start
    assert states(records, -1) == ["unknown", "unknown"]
    without = [flow("expire", 4, id=1), flow("destroy", 5)]  # a log of ends only
    assert states(without, 4.5)[0] == "unknown" and states(without, 5)[0] == "certain"


def test_a_tuple_that_is_used_twice_gives_both() -> None:
    second = {"saddr": "10.0.0.2", "id": 8}
    records = [flow("new", 0), flow("destroy", 2), flow("new", 4, **second),
               flow("destroy", 6, **second), other(9)]  # fmt: skip
    assert [answer.address for answer in who(records, 0, 9)] == ["10.0.0.1", "10.0.0.2"]
    assert [answer.address for answer in who(records, 5)] == ["10.0.0.2"]
    assert states(records, 3) == ["nobody"]
    again = [flow("new", 0), flow("destroy", 2), flow("new", 2.1), flow("destroy", 6)]
    assert len(who(again, 0, 9)) == 2 and len(who(again, 5)) == 1


def test_an_end_that_the_kernel_repeats_is_one() -> None:
    records = [flow("new", 0), flow("destroy", 2), flow("destroy", 3), other(9)]
    assert states(records, 2.5) == ["nobody"] and states(records, 1) == ["certain"]


def test_a_new_flow_on_the_same_tuple_ends_the_former_whose_end_was_lost() -> None:
    records = [flow("new", 0), flow("new", 5), flow("destroy", 7), other(9)]
    former, latter = who(records, 0, 9)
    assert former.start == rfc3339(T) and former.stop is None
    assert latter.start == rfc3339(T + 5 * S)
    assert states(records, 3)[0] == "unknown"


def test_records_without_times_give_candidates_only() -> None:
    answers = who([flow("new", None), flow("destroy", None)], 5)
    assert [answer.state for answer in answers] == ["unknown", "unknown"]
    assert answers[0].address == "10.0.0.1"
    assert answers[1].reason == "there are no flows with times in the logs"


def test_expectations_are_no_flows() -> None:
    assert states([flow("new", 0, flow_type="expect"), other(0), other(9, 10)], 5) == ["nobody"]


# Losses


def test_nobody_is_no_answer_in_a_loss_and_after_it() -> None:
    records = [other(0), other(3, 10), loss(4), other(5, 11), other(9, 12)]
    assert [states(records, at) for at in (2, 3.5, 4.5, 6, 8)] == [["nobody"], *[["unknown"]] * 4]
    (answer,) = who(records, 6)
    assert answer.reason == (
        f"3 records lost of nfct between {rfc3339(T + 3 * S)} and {rfc3339(T + 5 * S)}, and no"
        " listing of the flows followed"
    )
    assert states([r for r in records if not isinstance(r, LossRecord)], 6) == ["nobody"]


def test_after_a_listing_nobody_is_an_answer_again() -> None:
    repaired = [other(0), loss(4), flow("dump", 5, id=3, nat_sport=1, via="repair"),
                flow("dump", 5.1, id=4, nat_sport=2, via="repair"), other(9)]  # fmt: skip
    assert [states(repaired, at) for at in (3, 5, 5.05, 6)] == [
        ["unknown"], ["unknown"], ["unknown"], ["nobody"]]  # fmt: skip


def test_a_loss_of_another_log_hides_no_flow() -> None:
    nflog = LossRecord("nflog", "nfulnl-le", log="5", count=9)
    ruleset = LossRecord("nftables", "nft-le", log="ruleset", count=9)
    assert states([other(0), nflog, ruleset, other(9, 10)], 5) == ["nobody"]
    damage = LossRecord("nfct", "ctnetlink-le", 100, size=20, reason="damage")
    assert states([other(0), damage, other(9, 10)], 5) == ["unknown"]


def test_after_a_loss_an_open_flow_may_have_ended() -> None:
    records = [flow("new", 0), loss(4), other(5), flow("update", 6), other(9)]
    assert states(records, 5) == ["open"]  # seen later
    records = [flow("new", 0), other(3), loss(4), other(5, 10), other(9, 11)]
    assert states(records, 2) == ["open"]
    answers = who(records, 6)
    assert answers[0].state == "unknown" and "3 records lost" in str(answers[0].reason)


def test_before_a_loss_a_flow_without_a_beginning_may_not_have_begun() -> None:
    records = [other(0), loss(4), other(5, 10), flow("destroy", 7), other(9, 11)]
    assert [states(records, at)[0] for at in (2, 4.5, 5, 6)] == [
        "unknown", "unknown", "certain", "certain"]  # fmt: skip


def test_a_flow_that_ended_in_a_loss_is_certain_only_up_to_it() -> None:
    lost = flow("destroy", None, observed_ns=T + 6 * S, end_reason="lost", via="repair")
    records = [flow("new", 0), other(3), loss(4), lost, other(9, 10)]
    assert [states(records, at)[0] for at in (2, 3, 5, 7)] == [
        "certain", "certain", "unknown", "nobody"]  # fmt: skip


def test_an_answer_says_if_others_may_be_missing() -> None:
    records = [other(0), loss(1), flow("new", 2), flow("destroy", 5), other(9, 10)]
    (answer,) = who(records, 3)
    assert answer.state == "certain" and "3 records lost" in str(answer.incomplete)


@pytest.mark.parametrize("case", effort.sample(range(100)))
def test_intervals_that_meet_are_those_that_a_search_through_all_finds(case: int) -> None:
    chance = effort.chance(case)
    given = [
        (chance.randrange(-20, 20), chance.randrange(-20, 25), number)
        for number in range(chance.choice((0, 1, 2, 7, 8, 40)))
    ]
    intervals = Intervals(given)
    for _ in range(50):
        low, high = chance.randrange(-30, 30), chance.randrange(-30, 30)
        met = list(intervals.meeting(low, high))
        expected = [each[2] for each in given if each[0] <= high and each[1] >= low]
        assert sorted(met) == expected
        starts = [given[number][0] for number in met]
        assert starts == sorted(starts, reverse=True)


def test_logs_that_cover_a_time_and_those_around_it_are_named() -> None:
    who = Who([])
    for name, first, last in (("a", 0, 5), ("b", 10, 20), ("c", 15, 30), ("empty", 0, 0)):
        log = who.begin(name)
        if name != "empty":
            who.feed([flow("new", first), flow("update", last)], log)
        log.end()
    logs = Coverages(who.coverages)
    names = [[log.name for log in logs.at(T + at * S, T + at * S)] for at in (3, 7, 15, 20, 25)]
    assert names == [["a"], [], ["b", "c"], ["b", "c"], ["c"]]
    assert logs.missing(T + 7 * S, T + 7 * S).startswith("a ends at")
    assert " and b begins at" in logs.missing(T + 7 * S, T + 7 * S)
    assert logs.missing(T - S, T - S).startswith("a begins at")
    assert logs.missing(T + 40 * S, T + 40 * S).startswith("c ends at")
    only = Coverages(who.coverages[:1])
    assert only.missing(T - S, T + 9 * S).endswith("only")
    assert "there are no flows" in Coverages([]).missing(0, 1)


def test_very_many_losses_take_bounded_memory() -> None:
    log = Coverage("log")
    for at in range(5000):
        log.add(other(2 * at), T + 2 * at * S)
        log.add(loss(2 * at + 1), T + (2 * at + 1) * S)
    log.end()
    assert len(log.gaps) <= 4096
    assert log.hiding(T + 9000 * S, T + 9000 * S) is not None
    assert log.alive_until(Seen(T, 1))[0] == T


# A world of which everything is known


class World:
    """Flows of a NAT gateway with few addresses and ports, and a log that misses some events."""

    def __init__(self, chance: random.Random, kind: str) -> None:
        self.flows: list[tuple[int, int, dict[str, Any]]] = []
        """When each began and ended, and its fields."""
        times = chance.sample(range(2, 1000), 2 * 30)
        events: list[tuple[int, str, int]] = []
        for number in range(30):
            start, stop = sorted((times.pop(), times.pop()))
            fields = {
                "saddr": f"10.0.0.{chance.randint(1, 3)}", "sport": chance.randint(1, 3),
                "nat_saddr": f"198.51.100.{chance.randint(1, 2)}",
                "nat_sport": chance.randint(2000, 2003), "protocol": chance.choice((6, 17)),
                "id": number,
            }  # fmt: skip
            if chance.random() < 0.3:
                fields |= {"flow_type": "rdr", "nat_saddr": fields["saddr"],
                           "nat_sport": fields["sport"], "saddr": "192.0.2.9", "sport": 5,
                           "nat_daddr": fields["saddr"], "nat_dport": 8080,
                           "daddr": fields["nat_saddr"], "dport": fields["nat_sport"]}  # fmt: skip
                fields |= {"nat_saddr": "192.0.2.9", "nat_sport": 5}
            self.flows.append((start, stop, fields))
            events += [(start, "new", number), (stop, "destroy", number)]
        self.first, self.last = chance.randint(0, 300), chance.randint(600, 1000)
        events = [event for event in sorted(events) if self.first <= event[0] <= self.last]
        self.records = list(self._logged(events, chance, kind))
        self.covered = [event[0] for event in events]

    def _logged(
        self, events: list[tuple[int, str, int]], chance: random.Random, kind: str
    ) -> Iterator[Record]:
        at = 0
        seen: dict[int, bool] = {}
        while at < len(events):
            if kind != "complete" and 0 < at < len(events) - 6 and chance.random() < 0.04:
                size = chance.randint(1, 5)
                at += size
                yield loss(events[at - 1][0] + 0.1, count=size)
                if kind == "repaired":
                    now = events[at - 1][0] + 0.2
                    yield from self._listing(now, seen)
                continue
            time, event, number = events[at]
            at += 1
            seen[number] = event == "new"
            yield flow(event, time, **self.flows[number][2])

    def _listing(self, now: float, seen: dict[int, bool]) -> Iterator[Record]:
        for number, (start, stop, fields) in enumerate(self.flows):
            time = {"timestamp_ns": None, "observed_ns": T + round((now + number / 1000) * S)}
            if start <= now < stop:
                seen[number] = True
                yield flow("dump", None, **fields | time, via="repair")
            elif seen.get(number):
                seen[number] = False
                yield flow("destroy", None, **fields | time, via="repair", end_reason="lost")

    def truth(self, asked: Question) -> set[int]:
        """The flows that were there at a time, and that a question asks for."""
        return {
            number for number, (start, stop, fields) in enumerate(self.flows)
            if T + start * S <= asked.stop_ns and asked.start_ns <= T + stop * S
            and asked.protocol in (None, fields["protocol"])
            and any(asked.of.has(fields.get(a, b), fields.get(p, q)) for a, b, p, q in (
                ("nat_saddr", "", "nat_sport", ""), ("saddr", "", "sport", ""),
                ("daddr", "192.0.2.80", "dport", 443),
                ("nat_daddr", "192.0.2.80", "nat_dport", 443)))
        }  # fmt: skip

    def ever_shown(self, number: int) -> bool:
        return any(isinstance(r, FlowRecord) and r.id == number for r in self.records)


def asked_of(chance: random.Random) -> list[Question]:
    made = []
    for number in range(60):
        address = chance.choice([
            f"198.51.100.{chance.randint(1, 2)}", f"198.51.100.1:{chance.randint(2000, 2003)}",
            "198.51.100.2:2001-2002", f"10.0.0.{chance.randint(1, 3)}", "192.0.2.80:443",
            "192.0.2.9",
        ])  # fmt: skip
        start = T + chance.randint(0, 10000) * S // 10
        length = chance.choice((0, 0, 0, 5, 200)) * S
        protocol = chance.choice((None, None, 6))
        made.append(Question(endpoint(address), start, start + length, protocol, number=number,
                             text=address))  # fmt: skip
    return made


@pytest.mark.parametrize("kind", ["complete", "lossy", "repaired"])
@pytest.mark.parametrize("case", range(effort.number(200, 6)))
def test_answers_agree_with_the_world(case: int, kind: str) -> None:
    chance = effort.chance("who", case, kind)
    world, questions = World(chance, kind), asked_of(chance)
    answers = grouped(questions, world.records)
    first, last = T + min(world.covered) * S, T + max(world.covered) * S
    for asked in questions:
        given = answers[asked.number]
        truth = world.truth(asked)
        assert ids(given) <= truth, "what is certain or open is true"
        named = {a.id for a in given if a.id is not None}
        missing = truth - named
        unsure = any((a.state == "unknown" and a.id is None) or a.incomplete for a in given)
        inside = first <= asked.start_ns and asked.stop_ns <= last
        for number in missing:  # neither seen at its beginning nor at its end, or it is said
            hidden = not world.ever_shown(number)
            before = world.flows[number][0] < min(world.covered)
            assert unsure or (hidden and before)
        if any(a.state == "nobody" for a in given):
            assert inside and len(given) == 1
        if kind == "complete" and inside:
            assert not unsure and not any(a.state == "unknown" for a in given)
            assert missing <= {n for n in missing if not world.ever_shown(n)}


def written(records: Sequence[Record], path: Path, kind: str) -> str:
    with open(path, "wb") as stream:
        output = open_output("parquet", Target(stream), {"kind": kind})
        output.write(Batch(list(records)))
        output.close()
    return str(path)


def told(answers: Any) -> list[Any]:
    """Answers without the names of logs."""
    return [[(name, str(value).split(" ", 1)[-1] if name in ("reason", "incomplete") else value)
             for name in Answer.__struct_fields__ if name != "log"
             for value in [getattr(answer, name)]] for answer in answers]  # fmt: skip


@pytest.mark.parametrize("kind", ["complete", "lossy", "repaired"])
@pytest.mark.parametrize("case", range(effort.number(60)))
def test_records_lines_and_tables_give_the_same_answers(
    case: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from pylog.outputs import parquet

    chance = effort.chance("who tables", case, kind)
    monkeypatch.setattr(parquet, "ROW_GROUP", chance.choice((5, 20, 100)))
    world, questions = World(chance, kind), asked_of(chance)
    answering = Who(questions)
    answering.feed(world.records, answering.begin("log"))
    expected = told(answering.answers())
    lines = tmp_path / "log.jsonl"
    lines.write_bytes(json_lines(world.records))
    assert told(ask(questions, [str(lines)])) == expected
    flows = written([r for r in world.records if isinstance(r, FlowRecord)],
                    tmp_path / "flows.parquet", "flow")  # fmt: skip
    losses = written([r for r in world.records if isinstance(r, LossRecord)],
                     tmp_path / "losses.parquet", "loss")  # fmt: skip
    assert told(ask(questions, [flows, losses])) == expected


@pytest.mark.parametrize("kind", ["complete", "lossy", "repaired"])
@pytest.mark.parametrize("case", range(effort.number(100)))
def test_flow_logs_agree_with_the_world(case: int, kind: str) -> None:
    chance = effort.chance("who flows", case, kind)
    world, questions = World(chance, kind), asked_of(chance)
    flows = Flows(limit=chance.choice((3, 1000)))
    records = [*flows.feed(world.records), *flows.end()]
    of_events, of_flows = grouped(questions, world.records), grouped(questions, records)
    for asked in questions:
        given, truth = of_flows[asked.number], world.truth(asked)
        assert ids(given) <= truth, "what is certain or open is true"
        if any(answer.state == "nobody" for answer in given):
            assert not [number for number in truth if world.ever_shown(number)]
            assert all(world.flows[number][0] < min(world.covered) for number in truth)
        if kind == "complete" and asked.stop_ns <= T + max(world.covered) * S:
            begun = {n for n in truth if world.flows[n][0] >= min(world.covered)}
            assert ids(of_events[asked.number]) & begun <= ids(given)


def ids(answers: Sequence[Answer]) -> set[int | None]:
    """The flows of answers that are certain or open."""
    return {answer.id for answer in answers if answer.state in ("certain", "open")}


def grouped(
    questions: Sequence[Question], records: Sequence[Record]
) -> dict[int | None, list[Answer]]:
    """The answers of records, by the number of the question."""
    answering = Who(questions)
    answering.feed(records, answering.begin("log"))
    answers: dict[int | None, list[Answer]] = {question.number: [] for question in questions}
    for answer in answering.answers():
        answers[answer.number].append(answer)
    return answers


# The command

RECORDING = samples.FIXTURES / "nfct" / "full.cat.xz"
AT = "2026-11-28T19:26:40Z"


def asked_for(*arguments: object) -> list[dict[str, Any]]:
    """The answers of the command as objects."""
    done = inprocess.text("who", "--to", "json", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_recording_of_conntrack_answers_as_its_tuples_say() -> None:
    """conntrack printed: tcp src=10.1.0.2 dst=10.2.0.2 sport=60939 dport=5010
    src=10.2.0.2 dst=10.2.0.1 sport=5010 dport=60939, and ktimestamp 39.47 to 41.49."""
    (answer,) = asked_for("10.2.0.1:60939", "--at", AT, RECORDING)
    assert (answer["state"], answer["match"]) == ("certain", "source")
    assert (answer["address"], answer["port"], answer["protocol"]) == ("10.1.0.2", 60939, 6)
    assert answer["start"] == "2026-11-28T19:26:39.473769975Z"
    assert answer["stop"] == "2026-11-28T19:26:41.493236741Z" and answer["held_us"] == 2019466
    assert answer["clock"] == "kernel" and answer["id"] == 2151237245


@pytest.mark.parametrize(("address", "behind"), [
    ("[fd02::77]", {"fd01::2"}), ("10.2.0.77", {"10.1.0.2", "10.1.0.3"}),
    ("10.1.0.1:8080", {"10.2.0.2"}), ("10.1.0.1:8081", {"10.1.0.1"}),
])  # fmt: skip
def test_all_kinds_of_translation_of_conntrack_are_answered(address: str, behind: set[str]) -> None:
    answers = asked_for(address, "--at", "2026-11-28", RECORDING)
    assert {answer["address"] for answer in answers} == behind
    assert {answer["match"] for answer in answers} <= {"source", "destination"}


def test_flow_logs_answer_as_the_events_that_they_are_made_of(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table, losses, lines = (tmp_path / n for n in ("f.parquet", "l.parquet", "f.jsonl.gz"))
    for arguments in (["--kind", "flow", "-w", table], ["--kind", "loss", "-w", losses],
                      ["-w", lines]):  # fmt: skip
        assert inprocess.text("read", "--flows", *arguments, RECORDING).returncode == 0
    for address in ("10.2.0.1", "[fd02::77]"):
        question = (address, "--at", "2026-11-28T19:26:34Z..2026-11-28T19:26:44Z")
        expected, *others = (
            [[a.get(name) for name in ("state", "address", "start", "stop", "match")]
             for a in asked_for(*question, *logs)]
            for logs in ([RECORDING], [table, losses], [lines])
        )  # fmt: skip
        assert expected and others == [expected, expected]
    (alone,) = asked_for("10.9.9.9", "--at", AT, table)
    assert alone["state"] == "unknown" and "--kind loss" in alone["reason"]
    (both,) = asked_for("10.9.9.9", "--at", AT, table, losses)
    assert both["state"] == "nobody"


def test_losses_of_a_table_without_times_leave_everything_unknown(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    flows = written([other(0), other(9, 10)], tmp_path / "f.parquet", "flow")
    losses = written([loss()], tmp_path / "l.parquet", "loss")
    (answer,) = asked_for("10.9.9.9", "--at", "1700000005", losses, flows)
    assert answer["reason"] == "3 records lost of nfct at an unknown time"


def test_a_data_set_is_one_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pylog.open(RECORDING) as reader:
        records = [record for record in reader if isinstance(record, FlowRecord)]
    (tmp_path / "set").mkdir()
    for part in range(3):
        written(records[part * 150 : part * 150 + 150], tmp_path / f"set/p-{part}.parquet", "flow")
    (tmp_path / "set" / "_SUCCESS").touch()
    (answer,) = asked_for("10.2.0.1:60939", "--at", AT, tmp_path / "set")
    assert answer["start"] == "2026-11-28T19:26:39.473769975Z" and answer["stop"]
    assert answer["log"] == str(tmp_path / "set")


def test_a_directory_may_have_flows_and_losses(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    written([other(0), other(9, 10)], tmp_path / "flows.parquet", "flow")
    written([], tmp_path / "losses.parquet", "loss")
    (answer,) = asked_for("10.9.9.9", "--at", "1700000005", tmp_path)
    assert answer["state"] == "nobody"
    written([], tmp_path / "packets.parquet", "packet")
    done = inprocess.text("who", "10.9.9.9", "--at", "1700000005", tmp_path)
    assert done.returncode == 1 and "packets.parquet has no flows" in done.stderr
    done = inprocess.text("who", "10.9.9.9", "--at", "1700000005", "--skip-unknown", tmp_path)
    assert "packets.parquet: no table of flows, and passed over" in done.stderr
    assert ": nobody;" in done.stdout
    done = inprocess.text("read", tmp_path / "flows.parquet")
    assert done.returncode == 1 and "only pylog who reads it" in done.stderr


def test_standard_input_is_a_raw_log_or_lines_of_json() -> None:
    with pylog.open(NAT) as reader:
        lines = json_lines(reader)
    question = ("who", "198.51.100.7:80", "--at", "2023-11-14T22:28Z", "-")
    raw, of_lines = (inprocess.run(*question, stdin=data) for data in (NAT.read_bytes(), lines))
    assert raw.stdout == of_lines.stdout and b"was 10.1.1.80:8080" in raw.stdout


def test_a_table_with_addresses_as_bytes_answers_too(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    names = ["source", "layout", "event", "timestamp", "start", "stop", "sport", "dport",
             "nat_sport", "nat_dport", "saddr_bytes", "daddr_bytes", "nat_saddr_bytes",
             "nat_daddr_bytes", "family"]  # fmt: skip
    table = pylog.read_table(RECORDING, kind="flow", columns=names)
    pq.write_table(table, tmp_path / "f.parquet")
    (answer,) = asked_for("10.2.0.1:60939", "--at", AT, tmp_path / "f.parquet")
    assert (answer["address"], answer["port"]) == ("10.1.0.2", 60939)
    pq.write_table(table.drop_columns(["nat_sport"]), tmp_path / "f.parquet")
    done = inprocess.text("who", "10.2.0.1", "--at", AT, tmp_path / "f.parquet")
    assert done.returncode == 1 and "has no columns nat_sport" in done.stderr


def test_arrow_files_and_types_of_other_writers_are_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pylog.read_table(RECORDING, kind="flow")
    with (
        pa.OSFile(str(tmp_path / "f.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    plain = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type)
                       for f in table.schema])  # fmt: skip
    pq.write_table(table.cast(plain), tmp_path / "f.parquet")
    for name in ("f.arrow", "f.parquet"):
        (answer,) = asked_for("10.2.0.1:60939", "--at", AT, tmp_path / name)
        assert (answer["address"], answer["port"]) == ("10.1.0.2", 60939)


@pytest.mark.parametrize("name", effort.sample(
    ("timestamp", "stop", "start", "observed", "saddr", "nat_sport", "event", "via", "id")
))  # fmt: skip
def test_columns_of_other_types_are_read_or_an_error(name: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    records = [flow("new", 1, start_ns=T, stop_ns=T, via="repair", observed_ns=T), other(2)]
    written(records, tmp_path / "f.parquet", "flow")
    table = pq.read_table(tmp_path / "f.parquet")
    at = table.schema.get_field_index(name)
    values = [["x", "198.51.100.1"], [b"\xff", b"\x0a\0\0\1"], [1, 2], [1.5, None], [[], None],
              [True, False], [{"a": 1}, None], [None, None]]  # fmt: skip
    tables = [table.set_column(at, name, pa.array(column)) for column in values]
    for wrong in (*tables, table.append_column(name, table[name])):
        pq.write_table(wrong, tmp_path / "wrong.parquet")
        done = inprocess.text(
            "who", "198.51.100.1", "--at", "1700000001", tmp_path / "wrong.parquet"
        )
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr
        assert done.stdout or name in done.stderr


def test_rotated_logs_are_one_in_the_order_of_time(tmp_path: Path) -> None:
    whole = NAT.read_bytes()
    with pylog.open(NAT) as reader:
        middle = list(reader)[20].offset
    (tmp_path / "nat.1").write_bytes(whole[:middle])
    (tmp_path / "nat.0").write_bytes(whole[middle:])
    question = ("198.51.100.7", "--at", "2023-11-14T22:29:00Z..2023-11-14T22:44:00Z")
    parts, one = asked_for(*question, tmp_path), asked_for(*question, NAT)
    assert [a["start"] for a in parts] == [a["start"] for a in one] and len(one) > 1
    assert [a.get("stop") for a in parts] == [a.get("stop") for a in one]


def test_questions_of_a_file_are_answered_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text(f"time,address\n{AT},10.2.0.1:60939\n{AT},10.9.9.9\n{AT},[fd02::77],udp\n")
    done = inprocess.text("who", "--from", file, "--to", "json", RECORDING)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1  # there is none to the second
    assert [(a["number"], a["question"], a["state"]) for a in answers] == [
        (1, "10.2.0.1:60939", "certain"), (2, "10.9.9.9", "nobody"), (3, "[fd02::77]", "certain"),
    ]  # fmt: skip
    given = inprocess.run("who", RECORDING, "--from", "-", stdin=file.read_bytes())
    assert len(given.stdout.splitlines()) == 3


@pytest.mark.parametrize(("arguments", "error"), [
    (["10.0.0.1", "x.bin"], "--at is needed"),
    (["10.0.0", "x.bin", "--at", "2026-11-28"], "'10.0.0' is no address"),
    (["10.0.0.1", "x.bin", "--at", "yesterday"], "'yesterday' is no time"),
    (["10.0.0.1", "x.bin", "--at", "2026", "--protocol", "tpc"], "did you mean tcp"),
    (["10.0.0.1", "x.bin", "--at", "2026", "--within", "-1"], "within is -1"),
    (["10.0.0.1", "x.bin", "--at", "2026", "--tz", "Olso"], "no time zone"),
    (["10.0.0.1", "nflog:5", "--at", "2026"], "is live"),
    (["--from", "-", "-"], "standard input cannot have both"),
    (["--from", "f", "x.bin", "--at", "2026"], "--at is not for --from"),
])  # fmt: skip
def test_wrong_usage_is_an_error_before_anything_is_read(arguments: list[str], error: str) -> None:
    done = inprocess.text("who", *arguments)
    assert done.returncode == 2 and error in done.stderr and not done.stdout


def test_a_log_without_flows_answers_nothing_and_a_file_that_is_no_log_is_an_error(
    tmp_path: Path,
) -> None:
    packets = samples.FIXTURES / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"
    done = inprocess.text("who", "10.1.1.1", "--at", "2023-11-14", packets)
    assert done.returncode == 1 and "no flows in it" in done.stderr
    assert "unknown; there are no flows with times in the logs" in done.stdout
    text = tmp_path / "note.txt"
    text.write_text("no log\n")
    assert inprocess.text("who", "10.1.1.1", "--at", "2026", text).returncode == 1
    done = inprocess.text("who", "203.0.113.5:20000", "--at", "2023-11-14T22:30Z",
                          "--skip-unknown", text, NAT)  # fmt: skip
    assert done.returncode == 0 and "passed over" in done.stderr


def test_lines_that_are_no_records_are_losses(tmp_path: Path) -> None:
    lines = json_lines([other(0), other(9, 10)]).splitlines(keepends=True)
    log = tmp_path / "f.jsonl"
    log.write_bytes(lines[0] + b'{"kind":"flow","source":\n' + lines[1])
    (answer,) = asked_for("10.9.9.9", "--at", "1700000005", log)
    assert answer["state"] == "unknown" and "25 bytes lost" in answer["reason"]


@pytest.mark.parametrize("size", effort.sample(range(8, 4000, 50), 3))
def test_a_damaged_table_is_an_error(size: int, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "f.parquet"
    written([other(at, at) for at in range(50)], path, "flow")
    data = bytearray(path.read_bytes())
    damaged = [data[:size], data[: len(data) - size], data[:size] + b"\xff" * 9 + data[size + 9 :]]
    for content in damaged:
        path.write_bytes(content)
        done = inprocess.text("who", "198.51.100.9", "--at", "1700000005", path)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr
