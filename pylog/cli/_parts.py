"""`pylog convert` by several processes of this machine, and on a Dask cluster.

Here the logs may also be directories, globs and fsspec URLs.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, BinaryIO

from pylog import outputs
from pylog.cli import say
from pylog.cli._sources import nothing_read, summed_up
from pylog.cli.read import bar
from pylog.table.files import files, size
from pylog.table.parallel import Pool, planned, read_batches, write_batches
from pylog.table.select import Selection
from pylog.table.sinks import Sink
from pylog.table.splits import End, Split, SplitReader, Tally

RECORDS = "records"
"""The name of the file that a process writes its records to."""


class Done:
    """What has been done of some splits, to be told at the end."""

    def __init__(self) -> None:
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
        """How many records there were, by kind."""
        return sum((tally.counts for tally in self._tallies.values()), Counter[str]())

    def told(self, verbose: bool) -> bool:
        """Tell what there is to tell of the logs; whether nothing of one could be read."""
        unreadable = False
        for name, tally in self._tallies.items():
            if verbose:
                say(summed_up(name, tally.container, tally))
            if tally.ending is not None:
                say(f"{name}: {tally.ending}")
            unreadable |= nothing_read(name, tally)
        return unreadable


def to_sink(
    arguments: argparse.Namespace, selections: Mapping[str, Selection], sink: Sink, folder: str
) -> Done:
    """Have processes decode the logs, and write the columns to the sink.

    folder   where the processes' files are to be
    """
    done = Done()
    with Pool(arguments.jobs, folder) as pool:
        splits = planned(arguments.source, arguments.jobs, arguments.layout, arguments.on_error)
        work = partial(write_batches, selections=selections)
        with bar(sum(s.stop - s.start for s in splits), arguments.source[0], False) as move:
            for split, part, end in pool.folders(splits, work):
                for kind, batch in read_batches(part, selections):
                    sink.write(kind, batch)
                done.add(split, end)
                move(done.size)
    return done


def to_stream(
    arguments: argparse.Namespace,
    name: str,
    given: Mapping[str, Any],
    stream: BinaryIO,
    folder: str,
) -> Done:
    """Have processes write the records as the output of that name does, and put it together.

    given   the options of the output
    """
    done = Done()
    with Pool(arguments.jobs, folder) as pool:
        splits = planned(arguments.source, arguments.jobs, arguments.layout, arguments.on_error)
        work = partial(write_records, name=name, given=given)
        with bar(sum(s.stop - s.start for s in splits), arguments.source[0], False) as move:
            for split, part, end in pool.folders(splits, work):
                with open(os.path.join(part, RECORDS), "rb") as records:
                    if name == "csv" and stream.tell():
                        records.readline()  # the header, of which one is enough
                    shutil.copyfileobj(records, stream, 1 << 20)
                done.add(split, end)
                move(done.size)
    return done


def write_records(split: Split, folder: str, *, name: str, given: Mapping[str, Any]) -> End:
    """Write the records of a split into a folder, as the output of that name does."""
    with SplitReader(split) as reader, open(os.path.join(folder, RECORDS), "wb") as stream:
        output = outputs.output(name, stream, given=given)
        for record in reader.records():
            output.write(record)
        output.close()
        return reader.ended()


def to_data_set(arguments: argparse.Namespace) -> Done:
    """Have a Dask cluster write the records of a kind as one Parquet data set."""
    from pylog import dask  # needs the extra

    columns = None if arguments.columns is None else arguments.columns.split(",")
    done = Done()
    whole = sum(map(size, files(arguments.source)))
    with dask.connected(arguments.dask) as client, bar(whole, arguments.out, False) as move:

        def add(split: Split, end: End) -> None:
            done.add(split, end)
            move(done.size)

        dask.write(
            client, arguments.source, arguments.out, kind=arguments.kind or "packet",
            columns=columns, layout=arguments.layout, on_error=arguments.on_error,
            force=arguments.force, done=add,
        )  # fmt: skip
    return done
