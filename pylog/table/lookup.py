"""Flows and losses of Parquet and Arrow files, for the questions who had an address.

A row group is read only if its statistics allow an answer in it: an address that is asked for, and
in a table of complete flows (`--flows`) a time. Of those the columns of addresses, ports and times
are compared, for all rows and all questions at once, and the remaining rows become records.
Files are read one row group after the other, so that memory does not grow with their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.errors import BackendError
from pylog.record import FlowRecord, LossRecord, Record
from pylog.table import rows
from pylog.table.parts import Bounds, OpenTable, Part
from pylog.table.schemas import chosen, packed, schema, sixteen
from pylog.who.coverage import LISTED
from pylog.who.questions import Question

ENDS = (("saddr", "sport"), ("daddr", "dport"), ("nat_saddr", "nat_sport"),
        ("nat_daddr", "nat_dport"))  # fmt: skip
TIMES = ("timestamp", "observed", "stop")
"""Columns with the time of a row: the first that has one."""
COMPARED = ("event", "start", *TIMES)
SHOWN = (
    "source", "layout", "event", "flow_type", "rule", "family", "protocol", "icmp_type", "id",
    "zone", "netns", "via", "end_reason", "last", "origin", "host",
)  # fmt: skip
"""Columns that answers need besides."""
LEAST, MOST = -(2**63), 2**63 - 1


class Wanted:
    """What questions ask for, as arrays; no row that answers is left out, but others may remain."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.any_port = sorted({q.of.address for q in questions if q.of.low is None})
        self.with_port = sorted({q.of.address for q in questions if q.of.low is not None})
        self.ports = np.zeros(1 << 16, np.bool_)
        for question in questions:
            if question.of.low is not None and question.of.high is not None:
                self.ports[question.of.low : question.of.high + 1] = True
        self._ends = sorted({q.of for q in questions}, key=str)
        periods: list[list[int]] = []
        for low, high in sorted((q.start_ns, q.stop_ns) for q in questions):
            if periods and low <= periods[-1][1]:
                periods[-1][1] = max(high, periods[-1][1])
            else:
                periods.append([low, high])
        times = np.clip(np.array(periods, dtype=object), LEAST, MOST).astype(np.int64)
        self._starts, self._stops = times[:, 0], times[:, 1]

    def in_time(self, start: Any, stop: Any) -> Any:
        """Where a time from `start` to `stop` is in part one of those that are asked for."""
        at = np.searchsorted(self._stops, start)
        some = at < len(self._stops)
        return some & (self._starts[np.minimum(at, len(self._starts) - 1)] <= stop)

    def has_time(self, start: int, stop: int) -> bool:
        """As `in_time`, for one."""
        return bool(self.in_time(np.int64(start), np.int64(stop)))

    def has_end(self, addresses: Bounds, ports: Bounds | None) -> bool:
        """Whether an address that is asked for, with its port, can be within the bounds of columns.

        ports   None: not known
        """
        low, high, _ = addresses
        if low is None:
            return False
        for address, first, last in self._ends:
            value = sixteen(address) if isinstance(low, bytes) else address
            if low <= value <= high:
                if first is None or ports is None:
                    return True
                if ports[0] is not None and first <= ports[1] and ports[0] <= last:
                    return True
        return False


class Table:
    """The files of a table, in their order: of flows, or of losses.

    name   as errors and answers call it
    kind   flow or loss
    """

    def __init__(self, name: str, files: Sequence[str]) -> None:
        """Raises BackendError for a file that cannot be read, or lacks a column."""
        self.name, self._files = name, files
        of_files = [columns_of(file) for file in files]
        self.names = [column for column in of_files[0] if all(column in of for of in of_files)]
        self.kind = kind_of_columns(self.names)
        if self.kind is None:
            raise BackendError(f"{name} has no flows: write it with --kind flow")
        needed = {"source", "layout"}
        if self.kind == "flow":
            needed |= {"event", *(column for end in ENDS for column in end)}
        of_addresses = packed(self.kind)
        missing = needed - {of_addresses.get(column, column) for column in self.names}
        if missing:
            text = ", ".join(sorted(missing))
            raise BackendError(f"{name} has no columns {text}: write it without --columns")

    def losses(self) -> Iterator[list[LossRecord]]:
        """The records of a table of losses."""
        for part in self._each():
            for batch in _cast(part.read(self._there(schema("loss").names)), "loss").to_batches():
                yield [r for r in self._records("loss", batch) if isinstance(r, LossRecord)]

    def flows(self, questions: Sequence[Question]) -> Iterator[list[FlowRecord]]:
        """The records that may answer."""
        wanted = Wanted(questions)
        for part in self._each():
            if not self._may_answer(part, wanted):
                continue
            table = _cast(part.read(self._compared()), "flow")
            mask = self._mask(table, wanted)
            if not mask.any():
                continue
            chosen_rows = pa.array(mask)
            table = table.filter(chosen_rows)
            names = [name for name in self._there(SHOWN) if name not in table.schema.names]
            shown = _cast(part.read(names).filter(chosen_rows), "flow")
            for column in shown.schema:
                table = table.append_column(column, shown.column(column.name))
            for batch in table.combine_chunks().to_batches():
                yield [r for r in self._records("flow", batch) if isinstance(r, FlowRecord)]

    def first_records(self) -> Iterator[list[Record]]:
        """The records from the first one on, with few fields: to see what the table is of."""
        names = self._there(["source", "layout", "event", "flow_type", "via", *TIMES])
        for part in self._each():
            for batch in _cast(part.read(names), "flow").to_batches(max_chunksize=4096):
                yield self._records("flow", batch)

    def period(self) -> tuple[int, int] | None:
        """The earliest and latest time of a row, in nanoseconds since 1970; None without times."""
        lows, highs = [], []
        for part in self._each():
            if not part.rows:
                continue
            of_part = self._period_of(part)
            if of_part is not None:
                lows.append(of_part[0])
                highs.append(of_part[1])
        return (min(lows), max(highs)) if lows else None

    def around(self, times: Sequence[int]) -> list[tuple[int | None, int | None]]:
        """For each of some times in order: of the rows the last time up to it, and the first after
        it; None: there is none.
        """
        asked = np.array(times, np.int64)
        before, after = np.full(len(asked), LEAST), np.full(len(asked), MOST)
        for part in self._each():
            column = np.sort(self._times_of(part))
            column = column[column != LEAST]
            if len(column):
                at = np.searchsorted(column, asked, "right")
                padded = np.concatenate(([LEAST], column, [MOST]))
                before = np.maximum(before, padded[at])
                after = np.minimum(after, padded[at + 1])
        return [
            (None if low == LEAST else int(low), None if high == MOST else int(high))
            for low, high in zip(before, after, strict=True)
        ]

    def listings(self, losses: Sequence[int]) -> list[tuple[int, int]]:
        """The times of the first and last row of each listing of all flows, in their order.

        losses   times in order, at which a listing ends
        """
        asked = np.array(losses, np.int64)
        found: list[tuple[int, int]] = []
        former = -1  # the losses before the row before, if that is of a listing
        for part in self._each():
            if not {"via", "event"} <= set(self.names):
                break
            table = _cast(part.read(self._there(["via", "event", *TIMES])), "flow")
            via = pc.is_in(table.column("via").cast(pa.string()), pa.array(LISTED))
            stored = pc.is_in(table.column("event").cast(pa.string()), pa.array(["end", "active"]))
            times = _times(table)
            place = np.where(via.to_numpy() & ~stored.to_numpy(), np.searchsorted(asked, times), -1)
            edges = np.flatnonzero(np.diff(place, prepend=-2))
            for start, stop in zip(edges, [*edges[1:], len(place)], strict=True):
                if place[start] >= 0:
                    first, last = int(times[start]), int(times[stop - 1])
                    if start == 0 and place[0] == former:
                        first = found.pop()[0]
                    found.append((first, last))
            former = place[-1] if len(place) else former
        return sorted(found)

    # Parts of files

    def _each(self) -> Iterator[Part]:
        for file in self._files:
            with OpenTable(file) as (_, parts):
                yield from parts

    def _there(self, names: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(names) if name in self.names]

    def _compared(self) -> list[str]:
        """The columns by which rows are chosen; addresses as text, or else as bytes."""
        ends = [self._address(address) for address, _ in ENDS] + [port for _, port in ENDS]
        return self._there([*ends, *COMPARED])

    def _address(self, name: str) -> str:
        return name if name in self.names else f"{name}_bytes"

    def _times_of(self, part: Part) -> Any:
        """The time of each row; LEAST where there is none."""
        return _times(_cast(part.read(self._there(TIMES)), "flow"))

    def _records(self, kind: str, batch: pa.RecordBatch) -> list[Record]:
        """The records of rows; BackendError where a damaged file has no values for them."""
        try:
            return rows.records(kind, batch)
        except (pa.ArrowException, msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise BackendError(f"cannot read {self.name}: {error}") from error

    def _period_of(self, part: Part) -> tuple[int, int] | None:
        for name in self._there(TIMES):
            stats = _bounds(part, name, int)
            if stats is None or (stats[2] and stats[0] is not None):
                break  # no statistics, or rows without this time, which have another
            if stats[0] is not None:
                return int(stats[0]), int(stats[1])
        column = self._times_of(part)
        column = column[column != LEAST]
        return (int(column.min()), int(column.max())) if len(column) else None

    def _may_answer(self, part: Part, wanted: Wanted) -> bool:
        """Whether the statistics allow a row that answers."""
        for address, port in ENDS:
            name = self._address(address)
            addresses = _bounds(part, name, str if name == address else bytes)
            if addresses is None or wanted.has_end(addresses, _bounds(part, port, int)):
                break
        else:
            return False
        events, starts = _bounds(part, "event", str), _bounds(part, "start", int)
        if events is None or events[0] != "end" or events[1] != "end" or events[2]:
            return True  # events of flows, whose other end may be anywhere
        ends = [_bounds(part, name, int) for name in self._there(TIMES)]
        if starts is None or None in ends:
            return True
        start = LEAST if starts[2] or starts[0] is None else starts[0]
        stops = [end[1] for end in ends if end is not None and end[1] is not None]
        return wanted.has_time(start, max(stops, default=MOST))

    def _mask(self, table: pa.Table, wanted: Wanted) -> Any:
        """Which rows may answer."""
        mask = np.zeros(table.num_rows, np.bool_)
        for address, port in ENDS:
            column = table.column(self._address(address))
            if wanted.any_port:
                mask |= _is_in(column, wanted.any_port)
            if wanted.with_port:
                here = _is_in(column, wanted.with_port)
                if here.any():
                    ports = table.column(port).fill_null(0).to_numpy()
                    mask |= here & wanted.ports[ports] & table.column(port).is_valid().to_numpy()
        if not mask.any():
            return mask
        start, stop = _span(table)
        return mask & wanted.in_time(start, stop)


def columns_of(file: str) -> list[str]:
    """The names of the columns of a file; BackendError for one that cannot be read."""
    with OpenTable(file) as (names, _):
        return names


def kind_of_columns(names: Sequence[str]) -> str | None:
    """flow or loss, by the names of columns; None for another kind."""
    if not {"flow_type", "nat_saddr", "nat_saddr_bytes"}.isdisjoint(names):
        return "flow"
    return "loss" if "size" in names and "reason" in names else None


def _cast(table: pa.Table, kind: str) -> pa.Table:
    """The table with the types that pylog's columns have; BackendError for one that differs."""
    wanted = chosen(kind, table.schema.names)
    if table.schema.equals(wanted):
        return table
    arrays = []
    for column, field in zip(table.columns, wanted, strict=True):
        try:
            if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
                column = column.cast(pa.string()).dictionary_encode()
            arrays.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise BackendError(
                f"the column {field.name} is {column.type}, but must be {field.type}: {error}"
            ) from error
    return pa.Table.from_arrays(arrays, schema=wanted)


def _bounds(part: Part, name: str, kind: type) -> Bounds | None:
    """The bounds of a column; None also if they are of another type than its values should be."""
    bounds = part.stats(name)
    if bounds is None or bounds[0] is None or type(bounds[0]) is type(bounds[1]) is kind:
        return bounds
    return None


def _is_in(column: Any, addresses: Sequence[str]) -> Any:
    """Where a column has one of these addresses."""
    if pa.types.is_fixed_size_binary(column.type):
        values = pa.array([sixteen(address) for address in addresses], column.type)
    else:
        values = pa.array(addresses, column.type)
    return pc.is_in(column, values).to_numpy()


def _ns(table: pa.Table, name: str) -> Any:
    """A column of times in nanoseconds; LEAST where there is none."""
    if name not in table.schema.names:
        return np.full(table.num_rows, LEAST)
    column = table.column(name)
    return column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).fill_null(LEAST).to_numpy()


def _times(table: pa.Table) -> Any:
    """The time of each row, as holders.time_of has it; LEAST where there is none."""
    taken = _ns(table, TIMES[0])
    for name in TIMES[1:]:
        taken = np.where(taken == LEAST, _ns(table, name), taken)
    return taken


def _span(table: pa.Table) -> tuple[Any, Any]:
    """From when to when the flow of each row may have been there; of an event, any time."""
    event = table.column("event").cast(pa.string())
    ended = pc.fill_null(pc.equal(event, "end"), False).to_numpy()
    stored = ended | pc.fill_null(pc.equal(event, "active"), False).to_numpy()
    start = np.where(stored, _ns(table, "start"), LEAST)
    stop = _ns(table, "stop")
    stop = np.where(stop == LEAST, _times(table), stop)
    return start, np.where(ended & (stop != LEAST), stop, MOST)
