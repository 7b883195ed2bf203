"""Listings of conntrack's flows show what a loss cost, and which flows have ended in it."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import conntrack
import ctkernel
import effort
import pytest
from ctkernel import Piece, ended, listing, marked, message

import pylog
from pylog import LossRecord, outputs
from pylog.batch import Batch
from pylog.formats import nfct_living
from pylog.formats.nfct_living import Living
from pylog.formats.nfct_requests import Mark, Purpose, begun, is_marked, mark_of, without
from pylog.formats.nfct_scope import FlowScope, MaskedMark
from pylog.reader import Reader
from pylog.record import to_json

START = marked(ctkernel.START)


def read(*pieces: bytes | Piece, **options: Any) -> list[Any]:
    """The records of a live source, after its first mark."""
    given = [piece if isinstance(piece, Piece) else Piece(piece) for piece in pieces]
    with Reader(ctkernel.Source([Piece(START), *given], **options)) as reader:
        return list(reader)


def told(records: list[Any]) -> list[tuple[Any, ...]]:
    """What matters of records: the flow's number, the event and what pylog adds; of losses the
    count.
    """
    return [
        (record.count, record.log)
        if isinstance(record, LossRecord)
        else (record.id ^ 0x5A5A, record.event, record.via, record.end_reason)
        for record in records
    ]


# Listings


def test_entries_say_what_the_listing_was_for() -> None:
    records = read(listing(Purpose.SNAPSHOT, [1, 2]), message(3), listing(Purpose.POLL, [1, 2, 3]))
    assert told(records) == [
        (1, "dump", "snapshot", None), (2, "dump", "snapshot", None), (3, "new", None, None),
        *((n, "dump", "poll", None) for n in (1, 2, 3)),
    ]  # fmt: skip


def test_a_loss_has_its_number_and_its_place_and_flows_that_are_gone_are_lost() -> None:
    first = message(1, mark=7, zone=5) + message(2) + message(3)
    records = read(Piece(first, lost=4), listing(Purpose.REPAIR, [2, 9]))
    assert told(records) == [
        (1, "new", None, None), (2, "new", None, None), (3, "new", None, None), (4, "nfct"),
        (2, "dump", "repair", None), (9, "dump", "repair", None),
        (1, "destroy", "repair", "lost"), (3, "destroy", "repair", "lost"),
    ]  # fmt: skip
    new, lost = records[0], records[-2]
    for name in ("family", "protocol", "saddr", "daddr", "sport", "dport", "id", "zone", "mark"):
        assert getattr(lost, name) == getattr(new, name) is not None
    assert lost.flow_type == "state" and lost.observed_ns is not None
    assert lost.status is lost.timestamp_ns is lost.packets is lost.raw is None


def test_what_ends_during_a_listing_is_not_lost() -> None:
    """It was in the dump, or not any more; a flow that begins meanwhile need not be in it."""
    during = ended(1) + message(3) + ended(2)
    for numbers in ([1], [1, 2], []):
        records = read(message(1), message(2), listing(Purpose.REPAIR, numbers, during))
        ends = [r for r in records if r.event == "destroy"]
        assert [(r.id ^ 0x5A5A, r.end_reason) for r in ends] == [(1, "expired"), (2, "expired")]
    assert told(read(message(1), listing(Purpose.REPAIR, [1], during + ended(3))))[-1] == (
        3, "destroy", None, "expired")  # fmt: skip


def test_without_a_loss_a_flow_that_is_gone_was_unseen() -> None:
    records = read(message(1), listing(Purpose.POLL, []))
    assert told(records)[-1] == (1, "destroy", "poll", "unseen")
    records = read(Piece(message(1), lost=1), listing(Purpose.POLL, []))
    assert told(records)[-1] == (1, "destroy", "poll", "lost")


def test_a_loss_at_the_end_has_its_number() -> None:
    assert told(read(Piece(message(1), lost=3))) == [(1, "new", None, None), (3, "nfct")]


def test_a_flow_is_given_once_by_a_listing() -> None:
    assert len(read(listing(Purpose.SNAPSHOT, [1, 2, 1]))) == 2


def test_a_listing_without_its_end_ends_no_flow() -> None:
    cut = listing(Purpose.REPAIR, [])[: len(START)]
    assert [r.event for r in read(message(1), cut, message(2))] == ["new", "new"]
    assert [r.event for r in read(message(1), marked(Mark(Purpose.REPAIR, True)))] == ["new"]


def test_of_a_reliable_listener_the_end_comes_later() -> None:
    repair = listing(Purpose.REPAIR, [], reliable=True)
    assert told(read(message(1), repair, ended(1)))[-1] == (1, "destroy", None, "expired")
    assert told(read(message(1), repair, repair))[-1] == (1, "destroy", "repair", "lost")


# Repeats


def test_ends_that_come_again_are_left_out() -> None:
    again = ended(1, time=7)
    assert len(read(message(1), ended(1, time=5), again, again)) == 2
    assert len(read(ended(1, time=5), again)) == 1  # it began before pylog read
    # the same flow again, with the same id
    records = read(message(1), ended(1), message(1), ended(1), ended(1))
    assert [r.event for r in records] == ["new", "destroy", "new", "destroy"]


def test_a_beginning_that_comes_again_is_an_update() -> None:
    assert [r.event for r in read(message(1), message(1))] == ["new", "update"]
    # after a loss it may be another flow
    records = read(Piece(message(1), lost=2), message(1))
    assert [getattr(r, "event", None) for r in records] == ["new", None, "new"]


# Scope


def test_only_flows_that_are_wanted_are_given() -> None:
    all_flows = [message(1), message(2, zone=7), message(3, v6=True), message(4, mark=0x12)]

    def wanted(*arguments: Any) -> list[int]:
        records = read(b"".join(all_flows), listing(Purpose.REPAIR, []),
                       scope=FlowScope(*arguments))  # fmt: skip
        given = [(r.id ^ 0x5A5A, r.event) for r in records]
        news = [n for n, event in given if event == "new"]
        assert news == [n for n, event in given if event == "destroy"]  # by what was kept
        return news

    assert wanted() == [1, 2, 3, 4]
    assert wanted(["ipv6"]) == [3]
    assert wanted(None, [7]) == [2]
    assert wanted(None, [0, 7]) == [1, 2, 3, 4]
    assert wanted(None, None, [MaskedMark(0x10, 0xF0)]) == [4]
    assert wanted(None, None, [MaskedMark(0)]) == [1, 2, 3]


# All orders of events


@pytest.mark.parametrize("number", range(effort.number(200)))
def test_received_and_lost_are_what_was_made_and_listings_repair_what_is_known(number: int) -> None:
    chance = effort.chance("living", number)
    run = ctkernel.Run(chance, 30)
    with Reader(ctkernel.Source(run.pieces)) as reader:
        records: list[Any] = list(reader)
        events = [r for r in records if not isinstance(r, LossRecord) and r.via is None]
        assert len(events) + (reader.dropped or 0) == run.made
        assert reader.received == sum(not isinstance(r, LossRecord) for r in records)
        assert reader.uncounted == 0
    alive: set[int] = set()
    for record in records:
        if isinstance(record, LossRecord):
            continue
        if record.event == "destroy":
            assert record.end_reason in ("expired", "lost")
            assert record.id in alive or record.via is None
            alive.discard(record.id)
        else:
            alive.add(record.id)
    if not run.pieces[-1].lost:
        assert {n ^ 0x5A5A for n in alive} == run.alive


@pytest.mark.parametrize("order", "<>")
def test_any_bytes_give_records_or_losses(order: str) -> None:
    data = bytearray(
        marked(ctkernel.START, order) + message(1, order=order) + message(2, order=order, zone=3)
        + listing(Purpose.REPAIR, [2], ended(2, order=order), order=order)
    )  # fmt: skip
    for place in effort.sample(range(len(data)), 20):
        change = effort.chance("any bytes", place).choice((0x01, 0x80, 0xFF))
        data[place] ^= change
        with pylog.open(io.BytesIO(bytes(data))) as reader:
            list(reader)
        data[place] ^= change
    with pylog.open(io.BytesIO(bytes(data))) as reader:
        records = list(reader)
    assert told(records) == [
        (1, "new", None, None), (2, "new", None, None), (2, "dump", "repair", None),
        (2, "destroy", None, "expired"), (1, "destroy", "repair", "lost"),
    ]  # fmt: skip


# Limits


def test_flows_beyond_the_limit_are_not_kept_and_this_is_noted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    living = Living(2)
    assert len(living) == 0
    monkeypatch.setattr(nfct_living, "MOST_ENDED", 2)
    monkeypatch.setattr(Living.__init__, "__defaults__", (2,))
    flows = b"".join(message(n) for n in (1, 2, 3, 4))
    records = read(flows, listing(Purpose.REPAIR, []))
    assert [r.id ^ 0x5A5A for r in records if r.end_reason == "lost"] == [1, 2]
    assert sum("flows: of the others" in text for text in caplog.messages) == 1


# Recordings


def test_recordings_without_a_mark_pass_unchanged() -> None:
    data = conntrack.unpacked("full.cat")
    twice = data + data
    with pylog.open(io.BytesIO(twice)) as reader:
        count = len(list(reader))
        assert not reader.decoder.stream.grouped
    with pylog.open(io.BytesIO(data)) as reader:
        assert count == 2 * len(list(reader))


def test_rows_are_those_of_the_records() -> None:
    data = b"".join([START, message(1), message(2), listing(Purpose.REPAIR, [2, 3]), ended(2)])
    with pylog.open(io.BytesIO(data)) as reader:
        wanted = [to_json(record) for record in reader]
    with pylog.open(io.BytesIO(data)) as reader:
        rows = reader.rows()
        given: list[Any] = []
        while batch := rows.read_batch():
            given += batch
    assert pylog.record.row_lines(given) == b"".join(line + b"\n" for line in wanted)


def test_a_capture_gives_the_records_that_reading_live_gave(tmp_path: Path) -> None:
    pieces = [
        Piece(START), Piece(START, namespace="blue"), Piece(message(1)),
        Piece(message(1) + message(2), namespace="blue"),
        Piece(message(1), namespace=7), Piece(message(3), lost=5),
        Piece(listing(Purpose.REPAIR, [3])), Piece(listing(Purpose.REPAIR, [2]), namespace="blue"),
        Piece(ended(2) + ended(2), namespace="blue"), Piece(ended(1), namespace=7),
    ]  # fmt: skip
    with Reader(ctkernel.Source(pieces)) as reader:
        live: list[Any] = list(reader)
    assert [(r.netns, r.id ^ 0x5A5A) for r in live if getattr(r, "end_reason", "") == "lost"] == [
        (None, 1), ("blue", 1)]  # fmt: skip
    path = tmp_path / "flows.pcapng"
    with path.open("wb") as file, Reader(ctkernel.Source(pieces), raw=True) as reader:
        reader.pass_messages()
        output = outputs.open("pcapng", outputs.Target(file, str(path)), {})
        while batch := reader.read_batch():
            output.write(Batch(batch))
        output.close()
    with pylog.open(path) as stored:
        read_again: list[Any] = list(stored)

    def shown(record: Any) -> Any:
        names = ("kind", "event", "id", "via", "end_reason", "netns", "count", "log", "saddr")
        return [getattr(record, name, None) for name in names]

    assert list(map(shown, read_again)) == list(map(shown, live))
    assert Counter(r.netns for r in read_again if r.kind == "flow")["blue"] == 5


def test_only_a_recording_that_begins_with_a_mark_is_not_cut_into_splits() -> None:
    assert is_marked(START) and not is_marked(message(1)) and not is_marked(b"")
    assert not is_marked(conntrack.unpacked("full.cat"))


# Requests


def test_the_number_of_a_request_says_what_it_is_for() -> None:
    for purpose in Purpose:
        for is_end in (False, True):
            for reliable in (False, True):
                mark = Mark(purpose, is_end, reliable)
                assert mark_of(mark.seq) == mark
    assert mark_of(0) is mark_of(ctkernel.START.seq + 16) is None


@pytest.mark.parametrize("order", "<>")
def test_what_begins_during_a_dump_is_left_out_of_it(order: str) -> None:
    dump = b"".join(message(n, flags=2, order=order) for n in range(5))
    events = message(1, order=order) + message(9, order=order) + ended(2, order=order)
    keys = set(begun(events + message(3, flags=0, order=order), order))
    assert len(keys) == 2
    left = b"".join(message(n, flags=2, order=order) for n in (0, 2, 3, 4))
    assert without(dump, order, keys) == left
    assert without(dump, order, set()) == dump
