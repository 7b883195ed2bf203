"""`pylog convert` by several processes of this machine (--jobs), or by a Dask cluster (--dask).

The logs may also be directories, globs and fsspec URLs. They are cut into splits; each process
writes the records or columns of its splits to files, which are copied to the output in the order of
the splits.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

import msgspec

from pylog import outputs
from pylog.actions import Actions
from pylog.backends.files import files, size
from pylog.batch import Batch
from pylog.cli import begin_logging, say
from pylog.cli._copy import write_piece
from pylog.cli._outputs import given_actions, noting_actions, report_no_verdict, report_unmatched
from pylog.cli._progress import bar
from pylog.cli._sources import losses_are_seen, nothing_read, summed_up, text_log_options
from pylog.cli._where import given_filter, report_filtered, report_untimed
from pylog.decoder import LOT
from pylog.filter import Filter
from pylog.outputs._columns import ColumnsOutput, report_left_out, wanted
from pylog.table.parallel import Pool, Work, planned, read_batches, write_batches
from pylog.table.select import Selection
from pylog.table.splits import End, Split, SplitReader, Tally

RECORDS = "records"
"""The name of the file to which a process writes its records."""

PREFIXES = "prefixes"
"""The name of the file of what prefixes were matched."""


class Done:
    """The splits that are done, and what is to be reported of them at the end."""

    def __init__(self, where: Filter | None = None) -> None:
        """`where` is the filter that left out records."""
        self._where = where
        self._stops: dict[str, int] = {}
        self._tallies: dict[str, Tally] = {}

    def add(self, split: Split, end: End) -> None:
        """A split is done."""
        self._stops[split.path] = split.stop
        tally = self._tallies.setdefault(split.path, Tally(end.tally.container, ""))
        tally.add(end.tally)

    @property
    def size(self) -> int:
        """How many bytes are done."""
        return sum(self._stops.values())

    @property
    def counts(self) -> Counter[str]:
        """How many records were decoded, by kind."""
        return sum((tally.counts for tally in self._tallies.values()), Counter[str]())

    @property
    def unknowable(self) -> list[str]:
        """The logs of which cannot be known whether they lost records."""
        return [name for name, tally in self._tallies.items() if not losses_are_seen(tally)]

    def report_unsaid(self, arguments: argparse.Namespace, actions: Actions | None) -> None:
        """Report what was left out because the logs do not say it."""
        tallies = self._tallies.values()
        if self._where is not None:
            self._where.untimed += sum(tally.untimed for tally in tallies)
        report_untimed(arguments, {tally.container for tally in tallies})
        if all(tally.received == tally.left_out for tally in tallies):
            report_no_verdict(actions)

    def report(self, verbose: bool) -> bool:
        """Report on the logs; whether there is one of which nothing could be read."""
        unreadable = False
        for name, tally in self._tallies.items():
            if verbose:
                say(summed_up(name, tally.container, tally))
                report_filtered(self._where, tally.left_out)
            if tally.ending is not None:
                say(f"{name}: {tally.ending}")
            unreadable |= nothing_read(name, tally)
        return unreadable


def to_output(
    arguments: argparse.Namespace,
    name: str,
    options: Mapping[str, Any],
    output: outputs.Output,
    stream: BinaryIO,
    folder: str,
) -> Done:
    """Let processes decode the logs, and write the records to the output of that name.

    stream   the stream of the output; the files of processes are copied to it, unless the output
             takes columns
    folder   the folder for the files of the processes
    """
    if isinstance(output, ColumnsOutput):
        return _to_columns(arguments, output, folder)
    output.flush()  # the header, before the records
    actions = noting_actions(arguments)
    where = given_filter(arguments)
    work = partial(write_records, name=name, options=options, actions=actions, where=where)
    done = Done(where)
    for part in _parts(arguments, work, folder, done, actions):
        with open(os.path.join(part, RECORDS), "rb") as records:
            shutil.copyfileobj(records, stream, 1 << 20)
    return done


def _to_columns(arguments: argparse.Namespace, output: ColumnsOutput, folder: str) -> Done:
    actions = noting_actions(arguments)
    where = given_filter(arguments)
    selections = {
        kind: Selection(kind, names, where, actions) for kind, names in output.wanted.items()
    }
    done = Done(where)
    work = partial(write_batches, selections=selections)
    for part in _parts(arguments, work, folder, done, actions):
        for kind, columns in read_batches(part, selections):
            output.write(Batch.of_columns({kind: columns}))
    output.leave_out(done.counts)
    output.note_losses(not done.unknowable)
    return done


def _parts(
    arguments: argparse.Namespace, work: Work, folder: str, done: Done, actions: Actions | None
) -> Iterator[str]:
    """The folders that `work` fills, one for each split of the logs, in their order."""
    if actions is not None:
        work = partial(_noting_prefixes, work=work, actions=actions)
    with Pool(arguments.jobs, folder, begin_logging) as pool:
        splits = planned(
            arguments.source, arguments.jobs, arguments.layout, arguments.on_error,
            arguments.origin or None, dict(arguments.label), **text_log_options(arguments),
        )  # fmt: skip
        names = list(dict.fromkeys(split.path for split in splits))
        name = names[0] if len(names) == 1 else f"{len(names)} files"
        with bar(sum(s.stop - s.start for s in splits), name, False) as move:
            for split, part, end in pool.folders(splits, work):
                yield part
                if actions is not None:
                    with open(os.path.join(part, PREFIXES), "rb") as file:
                        unmatched, prefixed, prefixes = msgspec.json.decode(file.read())
                    actions.unmatched.intersection_update(unmatched)
                    actions.prefixed |= prefixed
                    for prefix, number in prefixes.items():
                        actions.count(prefix, number)
                done.add(split, end)
                move(done.size)
    report_unmatched(actions)
    done.report_unsaid(arguments, actions)


def _noting_prefixes(split: Split, folder: str, *, work: Work, actions: Actions) -> End:
    """Do the work, in a process of its own, and write into the folder what `actions` matched."""
    end = work(split, folder)
    with open(os.path.join(folder, PREFIXES), "wb") as file:
        noted = [sorted(actions.unmatched), actions.prefixed, actions.prefixes]
        file.write(msgspec.json.encode(noted))
    return end


def write_records(
    split: Split,
    folder: str,
    *,
    name: str,
    options: Mapping[str, Any],
    actions: Actions | None = None,
    where: Filter | None = None,
) -> End:
    """Write the records of a split into a folder, as a continuation of the output of that name."""
    with SplitReader(split) as reader, open(os.path.join(folder, RECORDS), "wb") as stream:
        output = outputs.open(name, outputs.Target(stream, appending=True), options)
        if outputs.makes_lines(name, options):
            for piece in reader.bulk.lines(output, where, actions):
                write_piece(output, piece)
            output.close()
            end = reader.ended()
            end.tally.left_out = reader.bulk.left_out
            end.tally.untimed = 0 if where is None else where.untimed
            return end
        records, left_out = reader.records(), 0
        while lot := list(itertools.islice(records, LOT)):
            if actions is not None:
                lot = [actions.record(record) for record in lot]
            if where is not None:
                read, lot = len(lot), [record for record in lot if where.matches(record)]
                left_out += read - len(lot)
            output.write(Batch(lot))
        output.close()
        end = reader.ended()
        end.tally.left_out = left_out
        end.tally.untimed = 0 if where is None else where.untimed
        return end


def to_data_set(
    arguments: argparse.Namespace,
    kind: str | None = None,
    columns: str | None = None,
    exclude: str | None = None,
) -> Done:
    """Let a Dask cluster write the records of a kind as one Parquet data set."""
    from pylog import dask  # needs the extra

    kind, names = wanted(kind, columns, exclude)
    where = given_filter(arguments)
    done = Done(where)
    total = sum(map(size, files(arguments.source)))
    with dask.connected(arguments.dask) as client, bar(total, arguments.out, False) as move:

        def add(split: Split, end: End) -> None:
            done.add(split, end)
            move(done.size)

        dask.write(
            client, arguments.source, arguments.out, kind=kind, columns=names,
            layout=arguments.layout, on_error=arguments.on_error, force=arguments.force, done=add,
            actions=given_actions(arguments), where=where,
            **text_log_options(arguments),
        )  # fmt: skip
    report_left_out(done.counts, (kind,))
    return done
