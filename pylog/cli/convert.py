"""Convert logs to a file for other programs: Parquet, Arrow, SQLite, JSON lines, CSV, pcapng, ipl.

The ending of OUT tells what it is to be: .parquet, .arrow, .sqlite, .jsonl, .csv, .pcapng or .ipl.
A Parquet or Arrow file holds one kind of record, packets unless --kind says otherwise; how many
others there were is told. The first three need the extra arrow.

OUT is written beside its place under another name, and gets its name when it is whole: whoever
finds it finds all of it, and an interrupted conversion leaves nothing.

With --jobs several processes decode (all endings but .pcapng and .ipl), with --dask a cluster does,
and OUT is a Parquet data set: a directory, or fsspec URL, of files in the order of their names. IN
may then also be a directory, a glob or an fsspec URL, and there is no difference in the records.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pylog
from pylog import outputs
from pylog.cli import say
from pylog.cli._files import create
from pylog.cli._sources import (
    Stopping,
    add_source_arguments,
    check_is_no_log,
    is_live,
    is_unreadable,
    paths_of,
    summary,
)
from pylog.cli.read import progress
from pylog.errors import BackendError
from pylog.reader import Reader
from pylog.record import KINDS

if TYPE_CHECKING:  # these need the extra
    from pylog.table.select import Selection
    from pylog.table.sinks import Sink

HELP = "convert logs to a Parquet, Arrow, SQLite, JSON, CSV, pcapng or ipl file"

TABLES = (".parquet", ".arrow", ".sqlite")
OUTPUTS = {".jsonl": "json", ".csv": "csv", ".pcapng": "pcapng", ".ipl": "ipl"}
LOT = 4096
"""After so many records the progress bar is moved."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog convert`."""
    parser.add_argument("source", nargs="+", metavar="IN", help="a file, or - for standard input")
    parser.add_argument("out", metavar="OUT", help="the file to write, with one of the endings")
    parser.add_argument(
        "--kind", choices=KINDS,
        help="which records (default: packet; .sqlite: all, a table each; else always all)",
    )  # fmt: skip
    parser.add_argument(
        "--columns", metavar="NAME,NAME...",
        help="which columns of the kind, also saddr_text and the like (default: all)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="tell on standard error what was found, read, damaged and lost",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many processes decode (default: this one)"
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="have the Dask cluster of this scheduler do it"
    )
    parser.add_argument(
        "--csv-safe", action="store_true", help="as for pylog read --to csv, when OUT ends in .csv"
    )
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog convert`."""
    ending = os.path.splitext(arguments.out)[1]
    if ending not in (*TABLES, *OUTPUTS):
        known = ", ".join((*TABLES, *OUTPUTS))
        raise ValueError(f"{arguments.out} must end in one of {known}, after a name")
    if ending in OUTPUTS and (arguments.kind or arguments.columns):
        raise ValueError(f"--kind and --columns are for {', '.join(TABLES)}")
    if arguments.csv_safe and ending != ".csv":
        raise ValueError("--csv-safe is for .csv")
    for source in arguments.source:
        if is_live(source):
            raise ValueError(f"{source} is live: pylog read and pylog capture write what comes")
    check_is_no_log(arguments.out, paths_of(arguments.source))
    if arguments.dask is not None:
        return _to_data_set(arguments, ending)
    if arguments.jobs is not None and ending in (".pcapng", ".ipl"):
        raise ValueError(f"--jobs is not for {ending}, whose records depend on those before")
    with Stopping(), beside(arguments.out, arguments.force) as path:
        if ending in TABLES:
            status = _to_table(arguments, ending, path)
        else:
            status = _to_output(arguments, OUTPUTS[ending], path)
        if status:  # of a log nothing could be read: what there is does not become OUT
            os.unlink(path)
    return status


@contextlib.contextmanager
def beside(out: str, force: bool) -> Iterator[str]:
    """The path of a new file, which becomes `out` at the end, if that is reached and it is there.

    Otherwise it is removed. It gets the permissions of the file that it replaces.

    Raises BackendError for a file that exists, unless `force`, and for one that cannot be written.
    """

    def check() -> None:
        if os.path.exists(out) and not os.path.isfile(out):
            raise BackendError(f"cannot write {out}: it exists, and is no file")
        if os.path.lexists(out) and not force:
            raise BackendError(f"cannot write {out}: it exists; --force replaces it")

    check()
    folder, name = os.path.split(out)
    path = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        try:
            create(path, like=out)
        except OSError as error:
            raise BackendError(f"cannot write {out}: {error.strerror or error}") from error
        try:
            yield path
            if not os.path.exists(path):
                return
            check()
            os.replace(path, out)
        except OSError as error:
            raise BackendError(
                f"cannot write {out}: {error.strerror or error}; 0 records written, as an"
                " incomplete file is removed"
            ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _to_table(arguments: argparse.Namespace, ending: str, path: str) -> int:
    """Write columns, by batches."""
    from pylog.table import sinks  # needs the extra
    from pylog.table.select import Selection

    make: Any = {".parquet": sinks.Parquet, ".arrow": sinks.Arrow, ".sqlite": sinks.SQLite}[ending]
    columns = None if arguments.columns is None else arguments.columns.split(",")
    if ending == ".sqlite":
        if columns and arguments.kind is None:
            raise ValueError("--columns is for one kind of record: name it with --kind")
        kinds = tuple(KINDS) if arguments.kind is None else (arguments.kind,)
        selections = {kind: Selection(kind, columns or _readable(kind)) for kind in kinds}
    else:
        kind = arguments.kind or "packet"
        selections = {kind: Selection(kind, columns)}
    sink: Sink = make(path, {kind: s.result for kind, s in selections.items()})
    try:
        if arguments.jobs is None:
            counts, failed = _to_sink(arguments, selections, sink)
        else:
            from pylog.cli import _parts  # needs the extra

            done = _parts.to_sink(arguments, selections, sink, os.path.dirname(path) or ".")
            counts, failed = done.counts, done.told(arguments.verbose)
    finally:
        sink.close()
    _tell_left_out(counts, selections)
    return int(failed)


def _to_sink(
    arguments: argparse.Namespace, selections: Mapping[str, Selection], sink: Sink
) -> tuple[Counter[str], bool]:
    """Write columns to the sink: how many records there were, and if a log was unreadable."""
    from pylog.table.bulk import opened

    counts: Counter[str] = Counter()
    failed = False
    for source in arguments.source:
        with opened(source, layout=arguments.layout, on_error=arguments.on_error) as bulk:
            with progress(bulk, False) as move:
                for kind, batch in bulk.batches(selections):
                    sink.write(kind, batch)
                    move()
            counts += bulk.counts
            failed |= _told(bulk, arguments.verbose)
    return counts, failed


def _to_data_set(arguments: argparse.Namespace, ending: str) -> int:
    """Have a cluster write a Parquet data set."""
    if ending != ".parquet" or arguments.jobs is not None:
        raise ValueError("--dask writes a data set, OUT.parquet, by processes of its own")
    from pylog.cli import _parts  # needs the extra

    with Stopping():
        done = _parts.to_data_set(arguments)
    failed = done.told(arguments.verbose)
    _tell_left_out(done.counts, (arguments.kind or "packet",))
    return int(failed)


def _tell_left_out(counts: Mapping[str, int], kinds: Iterable[str]) -> None:
    """Tell how many records were of other kinds."""
    for kind in KINDS:
        if counts[kind] and kind not in kinds:
            records = "record" if counts[kind] == 1 else "records"
            say(f"{counts[kind]} {kind} {records} left out: --kind {kind} writes those")


def _readable(kind: str) -> list[str]:
    """The columns of a kind, with addresses as text."""
    from pylog.table.schemas import TEXTS, schema

    texts = {of: name for name, of in TEXTS[kind].items()}
    return [texts.get(name, name) for name in schema(kind).names]


def _to_output(arguments: argparse.Namespace, name: str, path: str) -> int:
    """Write records, one by one."""
    failed = False
    given = {"csv_safe": True} if arguments.csv_safe else {}
    with open(path, "wb") as stream:
        if arguments.jobs is not None:
            from pylog.cli import _parts  # needs the extra

            folder = os.path.dirname(path) or "."
            done = _parts.to_stream(arguments, name, given, stream, folder)
            return int(done.told(arguments.verbose))
        output = outputs.output(name, stream, given=given)
        for source in arguments.source:
            with pylog.open(
                source, layout=arguments.layout, on_error=arguments.on_error,
                raw=outputs.needs_raw(name),
            ) as reader:  # fmt: skip
                with progress(reader, False) as move:
                    for number, record in enumerate(reader):
                        output.write(record)
                        if number % LOT == 0:
                            move()
                failed |= _told(reader, arguments.verbose)
        output.close()
    return int(failed)


def _told(reader: Reader, verbose: bool) -> bool:
    """Tell what there is to tell of a log at its end; whether nothing of it could be read."""
    if verbose:
        say(summary(reader))
    return is_unreadable(reader)
