"""The logs in which `pylog who` looks: raw logs, JSON lines of pylog, Parquet and Arrow files.

The first bytes of a file show which of these it is. Raw logs and JSON lines are read once, for all
questions, in the order of their first records, so that a flow may begin in one and end in the next.
Tables are looked up by pylog.table.lookup. A table of flows does not hold losses: if none of losses
is given beside it (`--kind loss`), what was lost is not known.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

import pylog
from pylog.backends.capture import Capture
from pylog.backends.files import files_of, is_url, opened
from pylog.errors import BackendError, DecodeError
from pylog.memo import Memo
from pylog.reader import Reader
from pylog.record import (
    Flow,
    FlowRecord,
    FlowRow,
    Loss,
    LossRecord,
    LossRow,
    Record,
    fields_of,
    kinds,
    row_type,
)
from pylog.who import Answer, Who
from pylog.who.coverage import FOREVER, Coverage, hides_flows, loss_text
from pylog.who.holders import time_of
from pylog.who.questions import Question

if TYPE_CHECKING:  # which needs the extra
    from pylog.table.lookup import Table

PARQUET, ARROW = b"PAR1", b"ARROW1"
LINE = 1 << 24
"""The longest line of JSON, in bytes."""
LOT = 4096

OpenRaw = Callable[[str | BinaryIO], Reader]
Note = Callable[[str], None]
Watch = Callable[[Reader], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _unwatched(reader: Reader) -> Iterator[Callable[[], None]]:
    yield lambda: None


def ask(
    questions: Sequence[Question],
    logs: Sequence[str],
    open_raw: OpenRaw = pylog.open,
    note: Note = print,
    watch: Watch = _unwatched,
    skip_unknown: bool = False,
    wanted: Callable[[FlowRecord], bool] | None = None,
) -> Iterator[Answer]:
    """The answers of logs to questions.

    logs           files, directories, globs, URLs, or - for standard input
    open_raw       opens a raw log, by its name or as a binary file object
    note           takes what is to be reported of the logs
    watch          the context of reading a raw log, with a function that is called now and then
    skip_unknown   pass over files that are no logs, and are not named one by one
    wanted         which flows answer, see Who

    Raises DecodeError for what is no log, BackendError for what cannot be read, BackendUnavailable
    for a table without the extra `arrow`.
    """
    who = Who(questions, wanted)
    lists, tables = _sorted_out(logs, note if skip_unknown else None)
    if skip_unknown:
        unknown = [log for log in lists if _is_unknown(log, open_raw)]
        lists = [log for log in lists if log not in unknown]
        for log in unknown:
            note(f"{log}: no log, and passed over")
    if not lists and not tables:
        raise BackendError("no log is left to be read")
    if len(lists) > 1:
        lists.sort(key=lambda log: _first_time(log, open_raw))
    for log in lists:
        coverage = who.begin(log)
        for batch in _records(log, open_raw, note, watch):
            who.feed(batch, coverage)
        if not coverage.flows:
            note(f"{log}: no flows in it")
    if tables:
        _look_up(who, questions, tables)
    return who.answers()


def _sorted_out(logs: Sequence[str], pass_over: Note | None) -> tuple[list[str], list[Table]]:
    """Single files to be read as lists of records, and tables. The files of a directory that are
    tables are one table.

    pass_over   takes the tables of other records, which are then left out; None: they are an error
    """
    lists: list[str] = []
    tables: list[Table] = []
    for log in logs:
        if log == "-":
            lists.append(log)
            continue
        table_files: list[str] = []
        files = files_of(log)
        for file in files:
            if os.path.basename(file).startswith("_") and files != [log]:
                continue  # _SUCCESS of a data set
            (table_files if _is_table(file) else lists).append(file)
        if table_files:
            tables += _tables(log, table_files, pass_over)
    return lists, tables


def _tables(name: str, files: Sequence[str], pass_over: Note | None) -> Iterator[Table]:
    """The tables that files are: one of flows, and one of losses."""
    from pylog.table.lookup import Table, columns_of, kind_of_columns  # needs the extra

    by_kind: dict[str | None, list[str]] = {}
    for file in files:
        of_file = kind_of_columns(columns_of(file))
        if of_file is None and pass_over is not None:
            pass_over(f"{file}: no table of flows, and passed over")
        else:
            by_kind.setdefault(of_file, []).append(file)
    for kind, of_kind in by_kind.items():
        yield Table(of_kind[0] if kind is None else name, of_kind)


def _is_table(path: str) -> bool:
    if not (is_url(path) or os.path.isfile(path)):
        return False
    with opened(path) as file:
        return file.read(len(ARROW)).startswith((PARQUET, ARROW))


# Lists of records


def _records(
    log: str, open_raw: OpenRaw, note: Note | None = None, watch: Watch = _unwatched
) -> Iterator[list[Record]]:
    """The records of a raw log, or of JSON lines."""
    source: str | BinaryIO = log
    stdin: Any = getattr(sys.stdin, "buffer", None)
    if log == "-" and hasattr(stdin, "peek"):
        source = stdin
        if stdin.peek(1).startswith(b"{"):
            yield from _json_records(source)
            return
    try:
        reader = open_raw(source)
    except DecodeError as error:
        if log == "-" or error.field != "input" or not _is_json(log):
            raise
        yield from _json_records(log)
        return
    with reader, watch(reader) as move:
        while batch := reader.read_batch():
            yield batch
            move()
        if note is not None and reader.ending is not None:
            note(f"{reader.backend.title}: {reader.ending}")


def _is_unknown(log: str, open_raw: OpenRaw) -> bool:
    """Whether a file is no log that pylog reads."""
    if log == "-":
        return False
    try:
        open_raw(log).close()
    except DecodeError as error:
        return error.field in ("input", "link type") and not _is_json(log)
    return False


def _first_time(log: str, open_raw: OpenRaw) -> int:
    """The time of the first record that has one; of standard input, which is read last, none."""
    if log == "-":
        return FOREVER
    for batch in _records(log, open_raw):
        for record in batch:
            time_ns = time_of(record)
            if time_ns is not None:
                return time_ns
    return FOREVER


def _is_json(path: str) -> bool:
    source = Capture(path)
    try:
        return source.receive().lstrip().startswith(b"{")
    finally:
        source.close()


def _json_records(path: str | BinaryIO) -> Iterator[list[Record]]:
    """The flows and losses of a file of JSON lines.

    A line that is no record is a loss, in its place.
    """
    decoder = msgspec.json.Decoder(reduce(or_, (row_type(kind) for kind in kinds().values())))
    batch: list[Record] = []
    offset = 0
    for line in _lines(path):
        try:
            row = decoder.decode(line)
            record = _record_of(row) if isinstance(row, FlowRow | LossRow) else None
        except (msgspec.DecodeError, ValueError) as error:
            if not line.strip():
                offset += len(line)
                continue
            record = LossRecord("capture", "json", offset, size=len(line), reason=str(error))
        offset += len(line)
        if record is not None:
            batch.append(record)
        if len(batch) >= LOT:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(path: str | BinaryIO) -> Iterator[bytes]:
    """The lines of a file, with their ends; DecodeError for one that is too long."""
    source = Capture(path)
    try:
        held = b""
        while data := source.receive():
            *lines, held = (held + data).splitlines(keepends=True)
            if held.endswith(b"\n"):
                lines.append(held)
                held = b""
            yield from lines
            if len(held) > LINE:
                raise DecodeError("line", f"{len(held)} bytes", f"at most {LINE}", 0, source.name)
        if held:
            yield held
        if source.failure is not None:
            raise source.failure.copy_for_raising(source.name)
    finally:
        source.close()


def _second(text: str) -> int:
    """A second of RFC 3339 without its zone, as nanoseconds since 1970."""
    time = datetime.fromisoformat(f"{text}+00:00")
    return (time - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // _SECOND * 1_000_000_000


_SECOND = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)
_seconds = Memo(_second)


def _ns(text: str) -> int:
    """A time of pylog's JSON in nanoseconds since 1970; ValueError for anything else."""
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is no time of RFC 3339 in UTC")
    second, _, part = text[:-1].partition(".")
    return _seconds[second] + (int(part.ljust(9, "0")[:9]) if part else 0)


def _record_of(row: Flow[str, Any] | Loss[str, Any]) -> Record:
    """The record of which pylog wrote a row; counters stay texts where they are."""
    kind = FlowRecord if isinstance(row, FlowRow) else LossRecord
    values: dict[str, Any] = {}
    for name, field in fields_of(kind).items():
        value = getattr(row, name)
        if value is not None and field.column == "time":
            value = _ns(value)
        values[name] = value
    return kind(**values)


# Tables


def _look_up(who: Who, questions: Sequence[Question], tables: Sequence[Table]) -> None:
    losses: list[LossRecord] = []
    with_losses = [table for table in tables if table.kind == "loss"]
    for table in with_losses:
        for batch in table.losses():
            losses += [loss for loss in batch if hides_flows(loss)]
    for table in tables:
        if table.kind == "loss":
            continue
        unknown = f"what was lost is not in {table.name}: name a file of --kind loss beside it"
        coverage = who.begin(table.name, None if with_losses else unknown)
        period = table.period()
        if period is not None:
            coverage.extend(*period)
        for records in table.first_records():
            for record in records:
                if isinstance(record, FlowRecord):
                    coverage.characterize(record)
            if coverage.begins and coverage.nat:
                break
        _lose(coverage, table, losses)
        for chosen in table.flows(questions):
            who.look(chosen, coverage)


def _lose(coverage: Coverage, table: Table, losses: Sequence[LossRecord]) -> None:
    """Put losses into the coverage of a table: between the rows around their times."""
    timed = sorted(
        ((time, loss_text(loss)) for loss in losses if (time := time_of(loss)) is not None),
        key=lambda each: each[0],
    )
    for loss in losses:
        if time_of(loss) is None:
            coverage.unknown = f"{loss_text(loss)} at an unknown time"
            return
    times = [time for time, _ in timed]
    if not times:
        return
    listings = table.listings(times)
    firsts = [first for first, _ in listings]
    for (time_ns, text), (start_ns, stop_ns) in zip(timed, table.around(times), strict=True):
        at = bisect_right(firsts, time_ns)
        coverage.lose(text, start_ns, stop_ns, listings[at][1] if at < len(listings) else None)
