"""Live records that become lines by columns are the bytes that rows give, in the same places."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import samples

from pylog import PacketRecord, engine, outputs
from pylog.actions import Actions
from pylog.cli import _live
from pylog.cli._live import LiveLines, Lot, live_lines
from pylog.filter import Filter
from pylog.reader import Reader
from pylog.testing import Nflog, packet


def fill(nflog: Nflog) -> Iterator[None]:
    """Packets of several kinds, with a gap in the middle; what is between yields comes together."""
    for number in range(40):
        nflog.log(packet(dport=number, saddr=f"10.0.{number % 3}.{number}", prefix="in drop "))
        if number == 20:
            nflog.lose(3)
        if number % 7 == 0:
            nflog.log(packet(family="ipv6", saddr="2001:db8::1", daddr="2001:db8::2", dport=53))
        if number % 11 == 0:
            nflog.log(packet(data=bytes(number), mark=number))
            yield


@pytest.fixture(autouse=True)
def _same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every receipt comes at the same time."""
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_123_456_789)
    monkeypatch.setattr(_live, "LOOK_S", 0.01)


def written(
    to: str, by_lines: bool, monkeypatch: pytest.MonkeyPatch, where: str | None = None,
    given: Callable[[Nflog], Iterator[None]] = fill, **options: Any,
) -> tuple[bytes, LiveLines, int]:  # fmt: skip
    """What an output writes of what the double logs, what has read it, and how many records were
    left out.
    """
    monkeypatch.setattr(engine, "OF_LINES", 1 if by_lines else 1 << 40)
    stream = io.BytesIO()
    output = outputs.open(to, outputs.Target(stream))
    with Nflog() as nflog, nflog.open("5", latency=True, **options) as reader:
        assert isinstance(reader, Reader)
        actions = Actions({"*drop*": "block"})
        source = reader if where is None else reader.where(Filter(where), actions=actions)
        lines = live_lines(source, output, actions)
        assert lines is not None
        lots = lines.lots()
        for _ in given(nflog):
            write(output, itertools.takewhile(lambda lot: lot.number, lots))
        reader.stop()
        write(output, lots)
    output.close()
    return stream.getvalue(), lines, source.left_out + lines.left_out


def write(output: outputs.Output, lots: Iterable[Lot]) -> None:
    for lot in lots:
        if lot.lines is not None:
            output.write_lines(lot.lines)
        else:
            output.write_rows(lot.rows)


@pytest.mark.parametrize("to", ["json", "csv", "text"])
@pytest.mark.parametrize("where", [None, "dport >= 30 or family == ipv6"])
def test_lines_are_the_bytes_that_rows_give(
    to: str, where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_rows, rows, left_out = written(to, False, monkeypatch, where)
    by_columns, lines, also = written(to, True, monkeypatch, where)
    assert by_columns == by_rows
    assert rows.by_columns == 0 and lines.by_columns > 0
    assert also == left_out and bool(left_out) == (where is not None)


def test_real_messages_are_the_bytes_that_rows_give(monkeypatch: pytest.MonkeyPatch) -> None:
    import pylog

    with pylog.open(samples.FIXTURES / "nflog" / "batch.bin", raw=True) as reader:
        raws = [record.raw or b"" for record in itertools.islice(reader.packets(), 60)]

    def given(nflog: Nflog) -> Iterator[None]:
        for number, raw in enumerate(raws):
            nflog.log(raw, group=5)
            if number % 20 == 0:
                yield

    by_rows, *_ = written("json", False, monkeypatch, given=given)
    by_columns, lines, _ = written("json", True, monkeypatch, given=given)
    assert by_columns == by_rows and by_rows.count(b"\n") == len(raws)
    assert lines.by_columns


def test_an_overrun_without_numbers_is_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(nflog: Nflog) -> Iterator[None]:
        nflog.lose(2)
        for port in range(5):
            nflog.log(packet(dport=port))
            yield

    by_rows, *_ = written("json", False, monkeypatch, given=given, seq=False)
    by_columns, *_ = written("json", True, monkeypatch, given=given, seq=False)
    assert by_columns == by_rows and by_rows.count(b'"kind":"loss"') == 1


def test_a_reader_rests_only_where_enough_comes() -> None:
    pace = engine.Pace(0.1)
    pace.read(1 << 20, 100.0)
    assert pace.rest_s == 0.0  # after a long silence
    pace.read(1000, 100.1)
    assert pace.rest_s == 0.0
    pace.read(1 << 20, 100.2)
    assert 0 < pace.rest_s <= 0.1
    pace.read(1 << 24, 100.3)
    assert pace.rest_s < 0.02
    unresting = engine.Pace(0.0)
    unresting.read(1 << 20, 0.0)
    unresting.read(1 << 24, 0.1)
    assert unresting.rest_s == 0.0


def test_a_rest_ends_within_the_time_that_the_kernel_may_take() -> None:
    with Nflog() as nflog:
        for options, longest in (({}, 0.15), ({"latency": True}, 0.0), ({"timeout_s": 0.1}, 0.075)):
            with nflog.open("5", **options) as reader:
                assert isinstance(reader, Reader)
                assert _live._longest_s(reader.backend) == pytest.approx(longest)


def test_an_empty_lot_comes_when_nothing_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "LOOK_S", 0.01)
    with Nflog() as nflog, nflog.open("5") as reader:
        assert isinstance(reader, Reader)
        lines = live_lines(reader, outputs.open("json", outputs.Target(io.BytesIO())), None)
        assert lines is not None
        lots = lines.lots()
        assert next(lots).number == 0
        nflog.log(packet(dport=7))
        (row,) = next(lot for lot in lots if lot.number).rows
        assert row.dport == 7  # type: ignore[union-attr]
        assert isinstance(packet(), PacketRecord)
