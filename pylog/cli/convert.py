"""Convert logs to a file for other programs: Parquet, Arrow, SQLite, JSON lines, CSV, pcapng, ipl.

The ending of OUT chooses the form; --help lists the endings, and .json, .feather, .db, .pcap and
.log are understood, too. A Parquet or Arrow file holds one kind
of record, packets unless --kind says otherwise; how many records of other kinds were left out is
reported. Parquet, Arrow and SQLite need the extra arrow.

OUT is written under another name in the same folder, and renamed when it is complete, so that an
interrupted conversion leaves nothing.

With --jobs several processes decode (not for .pcapng and .ipl). With --dask a cluster does, and OUT
is a Parquet data set: a directory, or fsspec URL, of files in the order of their names. The records
are the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import pylog
from pylog import outputs
from pylog.cli import say
from pylog.cli._copy import copy
from pylog.cli._engine import by_engine, in_columns
from pylog.cli._flows import add_flows_arguments, as_flows, flows_of, prepare_flows
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._outputs import (
    add_action_argument,
    add_output_options,
    noting_actions,
    output_options,
    report_no_verdict,
    report_unmatched,
)
from pylog.cli._sources import (
    RECORDS,
    Stopping,
    add_origin_arguments,
    add_source_arguments,
    add_text_log_arguments,
    check_is_no_log,
    check_not_live,
    given_options,
    group_of,
    is_unreadable,
    labels,
    losses_are_seen,
    paths_of,
    summary,
    wants_origin,
)
from pylog.cli._where import add_where_arguments, given_filter, report_filtered, report_untimed
from pylog.errors import BackendError
from pylog.open_log import OpenLog
from pylog.options import SHOWN
from pylog.reader import Records
from pylog.transports.files import is_special, replacing
from pylog.transports.packing import packed

USAGE = "[options] IN ... OUT"
EPILOG = """examples:
  pylog convert fw.dump fw.csv
  pylog convert --exclude payload,extra nflog.pcap nflog.jsonl
  pylog convert --columns timestamp,saddr,dport nflog.pcap nflog.parquet
"""
HELP = "convert logs to a Parquet, Arrow, SQLite, JSON, CSV, pcapng or ipl file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog convert`."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="IN",
        help="a file, directory, glob or URL, or - for standard input",
    )
    add_input_arguments(parser)
    parser.add_argument(
        "out", metavar="OUT",
        help=f"the file to write, ending in {', '.join(_endings())}; with .gz or .zst after that it"
        " is compressed",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="report on standard error what was detected, read, damaged and lost",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many processes decode (default: this one)"
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="let the Dask cluster of this scheduler convert"
    )
    group_of(parser, SHOWN)  # which the help shows before the groups below
    add_action_argument(group_of(parser, RECORDS))
    add_where_arguments(parser)
    add_flows_arguments(parser)
    add_origin_arguments(parser)
    add_source_arguments(parser)
    add_text_log_arguments(parser)
    add_output_options(parser, dict.fromkeys(outputs.endings().values()), _ending)


def _endings() -> list[str]:
    """The ending of each output that has one, for people."""
    return [_ending(name) for name in dict.fromkeys(outputs.endings().values())]


def _ending(name: str) -> str:
    """The usual ending of an output, for people; "" if it writes no files."""
    return next(iter(outputs.description(name).endings), "")


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog convert`."""
    form = outputs.form_of(arguments.out)
    if form is None:
        outputs.check_ending(arguments.out)
        raise ValueError(f"{arguments.out} must end in {', '.join(_endings())}, after a name")
    name = form.name
    prepare_flows(arguments, name)
    if arguments.flows and (arguments.jobs is not None or arguments.dask is not None):
        raise ValueError("--flows is not for --jobs and --dask: a flow may be in several parts")
    options = output_options(arguments, name, _ending)
    check_not_live(arguments.source)
    expand(arguments)
    labels(arguments)
    given_filter(arguments)  # a bad one is reported before anything is written
    check_is_no_log(arguments.out, paths_of(arguments.source))
    if arguments.dask is not None:
        return _to_data_set(arguments, name, options)
    if arguments.jobs is not None and outputs.description(name).raw:
        raise ValueError(f"--jobs is not for {_ending(name)}, whose records depend on those before")
    if outputs.description(name).needs_path and is_special(arguments.out):
        raise BackendError(f"cannot write {arguments.out}: {name} needs a regular file")
    with Stopping(), replacing(arguments.out, arguments.force) as path:
        with open(path, "wb") as raw, packed(raw, form.suffix) as stream:
            failed = _write(arguments, name, options, stream, path)
        if failed and not is_special(path):  # nothing of a log could be read: there is no OUT
            os.unlink(path)
    return int(failed)


def _write(
    arguments: argparse.Namespace, name: str, options: dict[str, Any], stream: BinaryIO, path: str
) -> bool:
    """Write the records to a file; whether there was a log of which nothing could be read."""
    failed = False
    actions, where = noting_actions(arguments), given_filter(arguments)
    received = left_out = 0
    containers: set[str] = set()
    output = outputs.open(name, outputs.Target(stream, path), options)
    try:
        if arguments.jobs is not None:
            from pylog.cli import _parts  # needs the extra

            folder = os.path.dirname(path) or "."
            done = _parts.to_output(arguments, name, options, output, stream, folder)
            return done.report(arguments.verbose)
        flows = flows_of(arguments, merged=False)
        for source in arguments.source:
            with _opened(arguments, source, name, options) as reader:
                records = as_flows(reader, flows, source is arguments.source[-1])
                if where is not None and isinstance(records, Records):
                    records = records.where(where, actions=actions)
                passed_over = copy(records, output, actions=actions, where=where)
                if isinstance(records, Records):
                    passed_over = records.left_out
                if arguments.verbose:
                    say(summary(reader))
                    report_filtered(where, passed_over)
                output.note_losses(losses_are_seen(reader))
                containers.add(reader.detection.container)
                received, left_out = received + reader.received, left_out + passed_over
                failed |= is_unreadable(reader)
    finally:
        output.close()
    report_unmatched(actions)
    report_untimed(arguments, containers)
    if received == left_out:
        report_no_verdict(actions)
    return failed


def _opened(
    arguments: argparse.Namespace, source: str, name: str, options: Mapping[str, Any]
) -> OpenLog:
    """A reader of a file, in bulk if that is faster for the output."""
    if outputs.description(name).columns and not arguments.flows:
        return in_columns(arguments, source)
    raw = outputs.description(name).raw
    reader = pylog.open(
        source, layout=arguments.layout, on_error=arguments.on_error, raw=raw,
        origin=wants_origin(arguments) and labels(arguments).get(source, True),
        **given_options(arguments),
    )  # fmt: skip
    if raw:
        reader.pass_messages()
    return by_engine(arguments, reader, source, name, options, not arguments.flows)


def _to_data_set(arguments: argparse.Namespace, name: str, options: dict[str, Any]) -> int:
    """Let a cluster write a Parquet data set."""
    if name != "parquet" or arguments.jobs is not None:
        raise ValueError("--dask writes a data set, OUT.parquet, by processes of its own")
    from pylog.cli import _parts  # needs the extra

    with Stopping():
        done = _parts.to_data_set(arguments, **options)
    return int(done.report(arguments.verbose))
