"""Reading the sources of a command into an aggregate of pylog.stats: columns or records.

Files are read in columns, by several processes with --jobs; a Parquet or Arrow file as it is. Live
sources, pipes and packets with their rules come as records, and so do files without the extra
`arrow`. What is read, damaged and lost is reported as by other commands.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from pylog import backends
from pylog.backends.files import files_of
from pylog.cli import begin_logging, say
from pylog.cli._arrow import spare_arrow
from pylog.cli._inputs import expand
from pylog.cli._joins import with_joins
from pylog.cli._outputs import no_verdict, noting_actions, report_unmatched
from pylog.cli._progress import bar, progress
from pylog.cli._sources import (
    Stopping,
    end,
    greet,
    is_unreadable,
    labels,
    losses_are_seen,
    opened,
    opened_in_bulk,
    summary,
    text_log_options,
)
from pylog.cli._where import lacks_zone, report_filtered
from pylog.decoder import LOT
from pylog.filter import Filter
from pylog.reader import Records
from pylog.stats import hints
from pylog.stats.summary import Aggregate, Summary

if TYPE_CHECKING:  # which needs the extra
    from pylog.table.splits import Tally

A = TypeVar("A", bound=Aggregate)
LOOK_S = 0.25
SPLIT_SIZE = 1 << 26
"""Bytes of a part for a process: what was counted of each part is written, read and merged, so few
large parts take less work than many small ones.
"""


def begin_process() -> None:
    """Prepare a process that counts parts."""
    begin_logging()
    spare_arrow()


class Counting:
    """Reads the sources of the arguments into an aggregate, by `all`.

    aggregate        what is made of the records
    failed           whether nothing of a log could be read
    unknowable       logs of which cannot be known whether they lost records
    without_losses   tables of logs with losses, which they do not hold
    left_out         how many records the filter left out
    containers       of the logs that were read, see Detection
    """

    def __init__(
        self, arguments: argparse.Namespace, make: Callable[[], Any], where: Filter | None
    ) -> None:
        """`make` makes an empty aggregate; it can be sent to other processes."""
        self._arguments, self._make, self._where = arguments, make, where
        self._actions = noting_actions(arguments)
        self.aggregate = make()
        self.failed = False
        self.unknowable: list[str] = []
        self._with_tables = False
        self.without_losses: list[str] = []
        self.left_out = 0
        self.containers: set[str] = set()

    def all(self, stopping: Stopping, for_s: float | None = None) -> None:
        """Read all sources to their end, or until a signal; so long at most.

        ValueError for sources that the arguments do not fit, BackendError for one that cannot be
        read, DecodeError for what is no log.
        """
        arguments = self._arguments
        tables, logs = _sorted_out(arguments.source)
        if tables and find_spec("pyarrow") is None:
            pass  # raises the error that says how to get it
        arguments.source = logs
        in_records = self._in_records(logs, for_s)
        spare_arrow()
        if arguments.jobs is not None and in_records:
            raise ValueError("--jobs is for files, read in columns")
        if logs:
            expand(arguments)
            labels(arguments)
            if in_records:
                self._records(stopping, for_s)
            elif arguments.jobs is None:
                for source in arguments.source:
                    self._bulk(source)
            else:
                self._parts()
        self._with_tables = bool(tables)
        for path in tables:
            self._table(path)
        if arguments.verbose:
            report_filtered(self._where, self.left_out)
        report_unmatched(self._actions)

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """The times of --since and --until, in nanoseconds since 1970 UTC."""
        limits: tuple[int | None, int | None] = self._arguments.limits
        return limits

    @property
    def untimed(self) -> int:
        """Records that the filter left out although they have no time."""
        return 0 if self._where is None else self._where.untimed

    def no_time(self, count: int) -> str:
        """That so many records have no time, and what to do about it."""
        lacks = lacks_zone(self._arguments, self.containers)
        return hints.no_time(count, lacks, self._with_tables)

    def no_verdict(self) -> str:
        """As cli._outputs.no_verdict."""
        return no_verdict(self._actions)

    def check_times(self, needing: str, counted: int, untimed: int) -> None:
        """ValueError if no record has a time, for options that need times.

        needing   those options, as they are typed; "": none was given
        counted   records that the aggregate got, and how many of those are `untimed`
        """
        untimed += self.untimed
        if needing and untimed and untimed == counted + self.left_out:
            raise ValueError(f"{needing} needs times, but {self.no_time(untimed)}")

    def _in_records(self, logs: list[str], for_s: float | None) -> bool:
        live = any(backends.is_live(source) or source == "-" for source in logs)
        wants = getattr(self._arguments, "rules", False) or getattr(self._arguments, "follow", None)
        missing = find_spec("pyarrow") is None or find_spec("numpy") is None
        return bool(live or wants or for_s is not None or missing)

    def _records(self, stopping: Stopping, for_s: float | None) -> None:
        """Read records, one by one."""
        arguments, aggregate = self._arguments, self.aggregate
        if not isinstance(aggregate, Summary):
            raise ValueError("only files are read here, and with the extra arrow")
        live = any(backends.is_live(source) or source == "-" for source in arguments.source)
        groups = [arguments.source] if live else [[source] for source in arguments.source]
        for group in groups:
            if stopping.status:
                break
            with opened(arguments, group) as reader:
                records: Any = with_joins(arguments, reader)
                stopping.records = records
                greet(records)
                source = records
                if self._where is not None:
                    source = records.where(self._where, actions=self._actions)
                self._until_end(aggregate, records, source, for_s)
                stopping.records = None
                self.left_out += getattr(source, "left_out", 0) if source is not records else 0
                for each in records.readers():
                    self._note(each)

    def _until_end(
        self, aggregate: Summary, records: Records, source: Any, for_s: float | None
    ) -> None:
        until = None if for_s is None else time.monotonic() + for_s
        regular = all(reader.backend.regular for reader in records.readers())
        with progress([reader.backend for reader in records.readers()], False) as move:
            while True:
                if until is not None and time.monotonic() >= until:
                    end(records)
                    until = None
                try:
                    lot = source.read_batch(None if regular and until is None else LOOK_S, LOT)
                except TimeoutError:
                    continue
                if not lot:
                    return
                if self._actions is not None:
                    lot = [self._actions.record(record) for record in lot]
                aggregate.add_records(lot)
                if not records.ready:
                    move()

    def _bulk(self, path: str) -> None:
        from pylog.stats import passes  # needs the extra
        from pylog.table.bulk import Bulk

        wanted = passes.selections(self.aggregate, self._where, self._actions)
        with opened_in_bulk(self._arguments, path) as bulk:
            assert isinstance(bulk, Bulk)
            with progress([bulk.backend], False) as move:
                passes.count_bulk(self.aggregate, bulk, wanted, move)
            self.left_out += sum(selection.left_out for selection in wanted.values())
            self._note(bulk)

    def _note(self, log: Any) -> None:
        """Report on a log that was read."""
        if self._arguments.verbose:
            say(summary(log))
        self.failed |= is_unreadable(log)
        self.containers.add(log.detection.container)
        if not losses_are_seen(log):
            self.unknowable.append(log.backend.title)

    def _parts(self) -> None:
        """Let several processes read parts."""
        from pylog.cli._parts import Done  # needs the extra
        from pylog.stats import passes
        from pylog.table.parallel import Pool, planned

        arguments = self._arguments
        done = Done(self._where)
        with Pool(arguments.jobs, begin=begin_process) as pool:
            splits = planned(
                arguments.source, arguments.jobs, arguments.layout, arguments.on_error,
                arguments.origin or None, dict(arguments.label), **text_log_options(arguments),
                split_size=SPLIT_SIZE,
            )  # fmt: skip
            parts = passes.count_splits(self._make, pool, splits, self._where, self._actions)
            names = list(dict.fromkeys(split.path for split in splits))
            title = names[0] if len(names) == 1 else f"{len(names)} files"
            with bar(sum(s.stop - s.start for s in splits), title, False) as move:
                for part, split, ended in parts:
                    self.aggregate.merge(part)
                    done.add(split, ended)
                    self.left_out += ended.tally.left_out
                    self._add_noted(ended.tally)
                    move(done.size)
        self.unknowable += done.unknowable
        self.failed |= done.report(False)

    def _add_noted(self, tally: Tally) -> None:
        """Add what a process noted."""
        self.containers.add(tally.container)
        if self._where is not None:
            self._where.untimed += tally.untimed
        for prefix, number in tally.prefixes.items():
            assert self._actions is not None
            self._actions.of(prefix)
            self._actions.count(prefix, number)

    def _table(self, path: str) -> None:
        from pylog.stats import passes  # needs the extra

        wanted = passes.selections(self.aggregate, self._where, self._actions)
        rows, losses = passes.count_table(self.aggregate, path, wanted)
        if losses == "left out":
            self.without_losses.append(path)
        elif losses not in ("none", "held"):
            self.unknowable.append(path)
        self.left_out += sum(selection.left_out for selection in wanted.values())
        if self._arguments.verbose:
            say(f"{path}: {rows} rows read")


def _sorted_out(sources: list[str]) -> tuple[list[str], list[str]]:
    """The tables among sources, each file of a data set by itself; and all other sources."""
    tables: list[str] = []
    logs: list[str] = []
    for source in sources:
        named = backends.named(source)
        if source == "-" or (named is not None and named[0] != "capture"):
            logs.append(source)
            continue
        files = files_of(source.removeprefix("capture:"))
        of_source = [file for file in files if _is_table(file)]
        others = [f for f in files if f not in of_source and f.rpartition("/")[2] != "_SUCCESS"]
        tables += of_source
        if not of_source:
            logs.append(source)
        else:
            logs += others
    return tables, logs


def _is_table(path: str) -> bool:
    if find_spec("pyarrow") is None:
        return path.endswith((".parquet", ".arrow"))
    from pylog.stats.passes import is_table

    return is_table(path)
