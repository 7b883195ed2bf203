"""Pieces that are decoded by column are the records that they are without columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa

from pylog import engine, outputs
from pylog.actions import Actions
from pylog.batch import Batch
from pylog.filter import Filter
from pylog.formats import Message
from pylog.origins import NOWHERE, Origin
from pylog.pipeline.blocks import SourceInfo, detection_of
from pylog.pipeline.columns import Columns, runs
from pylog.pipeline.config import Stack
from pylog.pipeline.decoding import Decoding, Wanted
from pylog.pipeline.feeds import Made
from pylog.pipeline.forms import columns_of, lines_of, takes_rows
from pylog.pipeline.kept import Lines
from pylog.pipeline.parsing import Piece
from pylog.pipeline.stages import Settings, Stages
from pylog.record import LossRecord, Record, kind_of, row_of
from pylog.table.schemas import schema
from pylog.testing import packet

LOGS = sorted((Path(__file__).resolve().parents[1] / "fixtures" / "nflog").glob("*.bin"))
MIXED = LOGS[0].parent / "seq.bin"
MOST = 120
"""Messages of a dump that are read."""
NAMES = schema("packet").names
OTHER_NAMES = {2: "eth9", 3: "lan0"}


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "OF_RUN", 1)
    monkeypatch.setattr(engine, "OF_LINES", 1)


def pieces(data: bytes, damage: bool = False) -> list[Piece]:
    """The messages of a dump a few at a time, each piece received later; some are missing, a loss
    was reported, interfaces get other names, and some bytes are damaged.
    """
    info = SourceInfo("fw", "nflog:5", 1, ["nfulnl-le"], begun=True, numbered=True)
    items = detection_of("nfulnl-le").stream().split(data, True)
    messages = [data[i.start : i.end + 3 & ~3] for i in items if isinstance(i, Message)]
    del messages[MOST:]
    made = [Piece(info)]
    for number, at in enumerate(range(0, len(messages), 6)):
        some = b"".join(messages[at : at + 5 if number % 3 == 1 else at + 6])
        if damage and number % 4 == 2:
            some = some[:-30] + bytes(30)
        names = OTHER_NAMES if number == 5 else None
        made.append(Piece(info, some, 10**18 + at * 10**6, None, names))
        if number == 3:
            loss = LossRecord("nflog", "nfulnl-le", observed_ns=10**18, reason="queue")
            made.append(Piece(info, loss=loss))
    return made


def decoded(
    given: Sequence[Piece], wanted: Wanted, columns: Columns | None
) -> tuple[list[Record], list[pa.RecordBatch]]:
    made = Decoding({"fw": wanted}, columns=columns)
    records: list[Record] = []
    batches: list[pa.RecordBatch] = []
    for run in runs(given):
        assert isinstance(run, list)
        more, own, _ = made.take_run(run)
        records += more
        batches += own
    return records, batches


def rows(batches: Sequence[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for name in batch.schema.names:
            if pa.types.is_timestamp(batch.schema.field(name).type):
                at = batch.schema.get_field_index(name)
                batch = batch.set_column(at, name, batch.column(at).cast(pa.int64()))
        yield from batch.to_pylist()


@pytest.mark.parametrize("damage", [False, True], ids=["whole", "damaged"])
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_columns_are_the_records(path: Path, damage: bool) -> None:
    given = pieces(path.read_bytes(), damage)
    wanted = Wanted(Origin("fw", "here"), Actions({"*drop*": "block"}))
    records, _ = decoded(given, wanted, None)
    others, batches = decoded(given, wanted, Columns({"packet": NAMES}))
    for kind in {kind_of(record) for record in [*records, *others]} - {"packet"}:
        same = [[r for r in each if kind_of(r) == kind] for each in (records, others)]
        assert same[0] == same[1]
    packets = [record for record in records if kind_of(record) == "packet"]
    left = [record for record in others if kind_of(record) == "packet"]
    in_columns = [*rows(batches), *rows([Batch(left).columns("packet", NAMES)])]
    by_time = [sorted(each, key=repr) for each in
               (rows([Batch(packets).columns("packet", NAMES)]), in_columns)]  # fmt: skip
    assert by_time[0] == by_time[1]


def test_most_packets_are_in_columns_and_in_order() -> None:
    given = pieces(MIXED.read_bytes())
    records, batches = decoded(given, Wanted(NOWHERE), Columns({"packet": NAMES}))
    rows_of = sum(batch.num_rows for batch in batches)
    assert rows_of > 0.8 * (rows_of + sum(kind_of(record) == "packet" for record in records))
    for batch in batches:
        observed = batch.column("observed").cast(pa.int64()).to_pylist()
        assert observed == sorted(observed)


def test_the_filter_leaves_out_rows_and_counts_them() -> None:
    given = pieces(MIXED.read_bytes())
    wanted = Filter("seq >= 30 and family == ipv4")
    records, _ = decoded(given, Wanted(NOWHERE), None)
    matching = [r for r in records if kind_of(r) == "packet" and wanted.matches(r)]
    made = Decoding({"fw": Wanted(NOWHERE)}, columns=Columns({"packet": NAMES}, wanted))
    found = 0
    others: list[Record] = []
    for run in runs(given):
        assert isinstance(run, list)
        more, batches, _ = made.take_run(run)
        others += more
        found += sum(batch.num_rows for batch in batches)
    unread = [r for r in others if kind_of(r) == "packet"]
    assert matching
    assert found + sum(map(wanted.matches, unread)) == len(matching)
    assert made.news()[0] + len(unread) + found == sum(kind_of(r) == "packet" for r in records)


def written(
    given: Sequence[Piece], stack: Stack, wanted: Wanted, by_lines: bool
) -> tuple[bytes, int]:
    """What a stack writes of pieces, as lines or as rows, and how many packets were lines."""
    stages, stream = Stages(stack.stages), io.BytesIO()
    output = outputs.open(stack.to, outputs.Target(stream))
    lines = lines_of(stack, stages) if by_lines else None
    assert not by_lines or lines is not None
    rows = takes_rows(output, stack, stages)
    made = Decoding({"fw": wanted}, rows=rows, lines=lines, where=stack.stages.early())
    in_lines = 0
    for run in runs(given):
        assert isinstance(run, list)
        lot = Made()
        lot.add(made.take_run(run))
        for each in (lot.records, *lot.lines):
            if isinstance(each, Lines):
                output.write_lines(each.data)
                in_lines += len(each)
            else:
                kept: Any = stages.apply(each)
                output.write_rows(kept) if rows else output.write(Batch(kept))
    output.close()
    return stream.getvalue(), in_lines


@pytest.mark.parametrize("to", ["json", "csv", "text"])
@pytest.mark.parametrize("damage", [False, True], ids=["complete", "damaged"])
@pytest.mark.parametrize("where", [None, "seq >= 30 and family == ipv4"])
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_lines_are_the_bytes_that_rows_give(
    path: Path, where: str | None, damage: bool, to: str
) -> None:
    given = pieces(path.read_bytes(), damage)
    stack = Stack("a", ["fw"], to, "f", stages=Settings(where=where))
    wanted = Wanted(Origin("fw", "here"), Actions({"*drop*": "block"}))
    expected, _ = written(given, stack, wanted, False)
    made, in_lines = written(given, stack, wanted, True)
    assert made == expected
    assert in_lines or path != MIXED


class Taking:
    """An output that takes columns of packets."""

    wanted: ClassVar = {"packet": NAMES}


@pytest.mark.parametrize(
    ("settings", "fit"),
    [
        (Settings(), True),
        (Settings(where="dport == 22", drop=[]), True),
        (Settings(drop=["payload"]), False),
        (Settings(set={"action": "block"}), False),
        (Settings(every=2), False),
        (Settings(rate=1.0), False),
        (Settings(dedup=1.0), False),
    ],
)
def test_stacks_with_other_stages_than_where_get_records(settings: Settings, fit: bool) -> None:
    output: Any = Taking()
    stack = Stack("a", ["fw"], "json", "f", stages=settings)
    assert (columns_of(output, stack, Stages(settings)) is not None) == fit


@pytest.mark.parametrize(
    "settings",
    [
        Settings(where="dport == 22 and not saddr in 10.0.0.0/8"),
        Settings(where='prefix startswith "drop"', set={"action": "block", "group": "7"}),
        Settings(set={"length": 2**60, "hook": 3, "seq": 5}),
        Settings(set={"extra.site": "a", "extra.large": 2**60}, drop=["indev", "mark", "payload"]),
        Settings(drop=["extra.NFULA_CT", "timestamp", "reason"], every=2),
    ],
    ids=lambda settings: "-".join(n for n, value in settings._asdict().items() if value),
)
def test_stages_do_the_same_to_rows(settings: Settings) -> None:
    log = LOGS[0].parent / "conntrack.bin"
    records: list[Record] = decoded(pieces(log.read_bytes()), Wanted(NOWHERE), None)[0]
    records += [
        packet(dport=22, saddr="192.0.2.1", prefix="drop ", mark=1, payload=b"x"),
        packet(dport=22, saddr="10.0.0.1", extra={"NFULA_CT": 1}),
        LossRecord("nflog", "nfulnl-le", observed_ns=10**18, count=3, reason="x"),
    ]
    stages = Stages(settings)
    assert stages.fit_rows
    expected: Any = [row_of(record) for record in stages.apply(records)]
    rows: Any = [row_of(record) for record in records]
    assert Stages(settings).apply(rows) == expected != []


@pytest.mark.parametrize("settings", [Settings(rate=1.0), Settings(where="timestamp > 2020-01-01")])
def test_stages_that_read_times_take_no_rows(settings: Settings) -> None:
    assert not Stages(settings).fit_rows
