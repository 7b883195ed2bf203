"""Lines made of columns are the bytes that an output writes of records, whatever the input."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import tables

import pylog
from pylog import cli, engine, outputs
from pylog.actions import Actions
from pylog.batch import Batch
from pylog.errors import DecodeError
from pylog.filter import Filter
from pylog.formats.columns import arrays
from pylog.open_log import OnError
from pylog.table import bulk, lines, patterns


class Case(NamedTuple):
    """An output, its options, a filter and what prefixes stand for."""

    name: str
    options: dict[str, Any]
    where: str | None = None
    actions: dict[str, str] | None = None


CASES = (
    Case("json", {}),
    Case("json", {"exclude": "payload,extra"}),
    Case("json", {"columns": "timestamp,dport,saddr,payload", "rename": {"dport": "to"}}),
    Case("json", {}, "protocol == 6 and dport < 1024 or length > 60"),
    Case("json", {}, "action == block", {"*d*": "block", "*": "pass"}),
    Case("csv", {}),
    Case("csv", {"csv_safe": True, "exclude": "offset"}),
    Case("csv", {"columns": "seq,daddr,saddr,timestamp"}, "saddr in 0.0.0.0/1"),
    Case("text", {}),
    Case("text", {"tz": "Europe/Oslo"}, None, {"*": "pass"}),
    Case("text", {"columns": "timestamp,protocol,saddr,sport,daddr,payload", "tz": "Asia/Tehran"}),
    Case("text", {"exclude": "saddr"}, "not tcp_flags"),
)
NAMES = [" ".join([case.name, *case.options, *(["where"] if case.where else [])]) for case in CASES]


def of_records(
    data: bytes, layout: str | None, case: Case, on_error: OnError = "resync"
) -> tuple[bytes, str]:
    """What the output writes of the records, and the error that ends it."""
    stream, error = io.BytesIO(), ""
    output = outputs.open(case.name, outputs.Target(stream), case.options)
    actions = None if case.actions is None else Actions(case.actions)
    try:
        for record in pylog.open(io.BytesIO(data), layout=layout, on_error=on_error):
            given = record if actions is None else actions.record(record)
            if case.where is None or Filter(case.where).matches(given):
                output.write(Batch([given]))
    except DecodeError as damage:
        error = str(damage)
    output.close()
    return stream.getvalue(), error


def of_columns(
    data: bytes, layout: str | None, case: Case, on_error: OnError = "resync"
) -> tuple[tuple[bytes, str], int]:
    """As `of_records` of lines that are made of columns, and how many lines were."""
    stream, count = io.BytesIO(), 0
    output = outputs.open(case.name, outputs.Target(stream), case.options)
    assert outputs.makes_lines(case.name, case.options)
    actions = None if case.actions is None else Actions(case.actions)
    where = None if case.where is None else Filter(case.where)
    error = ""
    with bulk.opened(io.BytesIO(data), layout=layout, on_error=on_error) as log:
        try:
            for piece in log.lines(output, where, actions):
                if piece.lines is None:
                    output.write(Batch(piece.records))
                else:
                    output.write_lines(piece.lines)
                    count += piece.number
        except DecodeError as damage:
            error = str(damage)
    output.close()
    return (stream.getvalue(), error), count


@contextlib.contextmanager
def small_pieces() -> Iterator[None]:
    """Few bytes and lines at a time."""
    with (
        mock.patch.multiple(bulk, MIN_WINDOW=4096, MAX_WINDOW=8192, STRETCH=1024),
        mock.patch.object(arrays, "SPACING", 512),
        mock.patch.multiple(lines, ROWS=3, EACH=2),
        mock.patch.object(patterns, "FEW", 8),
    ):
        yield


ORIGINS = samples.origins()
DUMPS = [dump for dump in samples.dumps() if dump.stat().st_size < 200_000]


NAMED = zip(CASES, NAMES, strict=True)


@pytest.mark.parametrize(
    ("dump", "case"),
    [pytest.param(dump, case, id=f"{samples.name(dump)} {name}")
     for dump, (case, name) in effort.sample(itertools.product(DUMPS, NAMED), least=24)],
)  # fmt: skip
def test_lines_of_columns_are_those_of_records(dump: Path, case: Case) -> None:
    data = dump.read_bytes()
    with small_pieces():
        assert of_columns(data, None, case)[0] == of_records(data, None, case)


@pytest.mark.parametrize("dump", ["ipl/v5-1-2-lp64le-filter.ipf", "nflog/batch", "nflog/seq"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_there_are_lines_of_columns(dump: str, case: Case) -> None:
    (path,) = samples.dumps(f"{dump}.bin")
    data = path.read_bytes()
    made, count = of_columns(data, None, case)
    assert made == of_records(data, None, case)
    assert count or case.where is not None


RAW = [
    dump for dump in samples.dumps("*/*.bin")
    if 1000 < dump.stat().st_size < 60000 and "2.x" not in ORIGINS[samples.name(dump)]
]  # fmt: skip


@effort.examples(200)
@given(st.data())
def test_lines_of_a_damaged_log_are_those_of_records(data: st.DataObject) -> None:
    dump = data.draw(st.sampled_from(RAW), label="dump")
    damaged = data.draw(st.composite(tables.spliced)(dump.read_bytes()), label="damaged")
    case = data.draw(st.sampled_from(CASES), label="case")
    layout = ORIGINS[samples.name(dump)]["layout"]
    on_error: OnError = data.draw(st.sampled_from(["resync", "strict"]), label="on_error")
    with small_pieces() if data.draw(st.booleans()) else contextlib.nullcontext():
        made, _ = of_columns(damaged, layout, case, on_error)
        assert made == of_records(damaged, layout, case, on_error)


@pytest.mark.parametrize("dump", ["ipl/v5-1-2-lp64le-filter.ipf", "nflog/batch"])
@pytest.mark.parametrize("to", ["json", "csv", "text"])
@pytest.mark.parametrize("given", [["read"], ["read", "--where", "sport > 1024"], ["convert"]])
def test_commands_write_the_same_by_either_engine(
    dump: str, to: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = samples.dumps(f"{dump}.bin")
    made = []
    for name, enough in (("rows", 1 << 40), ("columns", 0)):
        out = tmp_path / f"{name}.{ {'json': 'jsonl', 'text': 'txt'}.get(to, to) }"
        target = [str(out)] if given == ["convert"] else ["-w", str(out)]
        with mock.patch.object(engine, "OF_FILE", enough):
            assert cli.main([*given, "-v", str(path), *target]) == 0
        assert ("decoded by columns" in capsys.readouterr().err) is (name == "columns")
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_one_irregular_message_leaves_the_others_in_columns() -> None:
    (path,) = samples.dumps("nflog/seq.bin")
    data, case = path.read_bytes() * 8, Case("json", {})
    (made, _), count = of_columns(data, None, case)
    assert count == made.count(b"\n") - 1  # the last message is too near the end of the data
    changed, second = bytearray(data), int.from_bytes(data[:4], "little")
    changed[second + 22 : second + 24] = b"\xc8\0"  # the type of its first attribute: unheard of
    made_of_changed, left = of_columns(bytes(changed), None, case)
    assert made_of_changed == of_records(bytes(changed), None, case)
    assert left == count - 1
