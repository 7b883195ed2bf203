"""Write the messages of live sources, exactly as received, to pcapng files.

NFLOG messages are packets of link type NFLOG (239), which Wireshark and tcpdump open; those of
nftables are of link type NETLINK (253), and IPFilter's records of IPFILTER (116). A capture of
nftables begins with a listing of the ruleset. Names of interfaces, losses and layouts are kept with
them, so that pylog read and pylog replay give the same records as reading live.

With --rotate-size or --rotate-time, or if FILE exists, it gets a number: fw.pcapng becomes
fw-00001.pcapng, fw-00002.pcapng and so on, after existing files. No existing file is overwritten.
At SIGHUP a new file begins. Messages are written as soon as no more are at hand, so that even
kill -9 leaves a file that lacks at most its last block.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from pylog import outputs
from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._copy import LOOK_S
from pylog.cli._files import add_rotation_arguments, seconds
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._outputs import count
from pylog.cli._sources import (
    DECODING,
    Stopping,
    add_live_arguments,
    add_source_arguments,
    end,
    greet,
    is_unreadable,
    lost_text,
    opened,
)
from pylog.cli._where import add_where_arguments, given_filter, report_filtered
from pylog.formats import RawBatch
from pylog.input import left_s
from pylog.outputs import pcapng
from pylog.outputs._files import OutputFiles
from pylog.reader import Records
from pylog.record import LossRecord, Record
from pylog.transports.files import is_special
from pylog.transports.packing import SUFFIXES, without_suffix
from pylog.transports.rotation import Files

USAGE = "[options] -w FILE SOURCE ..."
EPILOG = """examples:
  pylog capture -w fw.pcapng nflog:5                        until Ctrl-C (as root)
  pylog capture -w rules.pcapng nftables:+trace             changes of the ruleset, and traces
  pylog capture -w fw.pcapng --rotate-size 100M nflog:5,6   fw-00001.pcapng and so on
"""
HELP = "write live messages to pcapng files"

LOT = 256
"""After so many records they are written, even if more are at hand."""

SURE = 128
"""After so many records the output is flushed, and they count as written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog capture`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE",
        help="nflog:GROUP[,GROUP...], nftables:[+trace][+nflog:GROUP] or ipl:[DEVICE,...], or a log"
        " in a file; several are merged",
    )  # fmt: skip
    parser.add_argument(
        "-w", "--write", metavar="FILE", required=True, help="the pcapng file; - is standard output"
    )
    parser.add_argument(
        "-n", "--count", type=count, metavar="COUNT", help="stop after that many records"
    )
    parser.add_argument(
        "--duration", type=seconds, metavar="TIME",
        help="stop after that time, in seconds, or with s, m, h, d",
    )  # fmt: skip
    add_rotation_arguments(parser)
    parser.add_argument(
        "--compress", action="store_true",
        help="compress the files: with zstd if FILE ends in .zst, else with gzip (.gz)",
    )  # fmt: skip
    add_input_arguments(parser)
    add_where_arguments(parser, title=DECODING)
    add_source_arguments(parser)
    add_live_arguments(parser)


def _opened(arguments: argparse.Namespace) -> tuple[Files, OutputFiles]:
    """The files to write, of which the first is open.

    Raises ValueError for a name whose ending is that of another form, BackendError for a file that
    cannot be written.
    """
    path: str = arguments.write
    special = path == "-" or is_special(path)
    stem, suffix = without_suffix(path)
    form = None if special else outputs.form_of(stem)
    if form is None and not special:
        outputs.check_ending(stem)
    if form is not None and form.name != pcapng.NAME:
        raise ValueError(
            f"capture writes pcapng, but the ending of {path} says {form.name}: name another file,"
            f" or let pylog read -w {path} write it"
        )
    if arguments.compress and not suffix:
        suffix = SUFFIXES[0]
        path = path if special else path + suffix
    standard = None
    if path == "-":
        if sys.stdout.isatty():
            raise ValueError("pcapng is not for a terminal: name a file with -w")
        standard = stdout()
    files = Files(
        path, "number", suffix=suffix, size=arguments.rotate_size, age_s=arguments.rotate_time,
        standard=standard, keep_pipe=standard is None,
    )  # fmt: skip
    output = OutputFiles(files, lambda file: pcapng.Output(outputs.Target(file.stream)))
    if output.file.path != path and not files.numbered:
        say(f"{path} exists: writing {output.file.name}")
    return files, output


def _write(output: OutputFiles, batch: Sequence[Record | RawBatch]) -> int:
    """Write what Reader.read_raw gives; how many records."""
    records = flushed = 0
    with output.writing() as capture:
        assert isinstance(capture, pcapng.Output)
        for item in batch:
            if isinstance(item, RawBatch):
                capture.write_raw(item)
                records += len(item.packets)
            else:
                capture.write(Batch([item]))
                records += not isinstance(item, LossRecord)
            if records - flushed >= SURE:  # a disk that fills up costs no more than these
                output.confirm(records - flushed)
                flushed = records
    output.add(records - flushed)
    return records


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog capture`."""
    deadline = None if arguments.duration is None else time.monotonic() + arguments.duration
    expand(arguments)
    wanted = given_filter(arguments)
    with Stopping() as stopping, opened(arguments, arguments.source, raw=True) as records:
        stopping.records = records
        for reader in records.readers():
            reader.pass_messages()
        greet(records)
        if wanted is not None:
            records = records.where(wanted)
        files, output = _opened(arguments)
        stopping.reopens = files.reopens
        try:
            try:
                _copy(records, output, arguments.count, deadline, stopping)
            finally:
                output.close()
        finally:
            readers = records.readers()
            name = readers[0].backend.title if len(readers) == 1 else f"{len(readers)} sources"
            dropped = [reader.dropped for reader in readers if reader.dropped is not None]
            lost = lost_text(sum(dropped) if dropped else None, sum(r.uncounted for r in readers))
            say(f"{name}: {output.records} records captured, lost records: {lost}; {files.text()}")
            report_filtered(wanted, records.left_out)
            for reader in readers:
                is_unreadable(reader)
    return stopping.status


def _copy(
    records: Records,
    output: OutputFiles,
    left: int | None,
    deadline: float | None,
    stopping: Stopping,
) -> None:
    """Write records to files, at most `left` of them, until the deadline."""
    unwritten = 0
    live = not all(reader.backend.regular for reader in records.readers())
    if any(reader.backend.live for reader in records.readers()):
        output.confirm(0)  # so that the file has its header before anything comes
    while left is None or left > 0:
        if not records.ready or unwritten >= LOT:
            if unwritten:
                output.confirm(0)
            output.turn(stopping.hung_up())
            unwritten = 0
            if left_s(deadline) == 0.0:
                deadline = None
                end(records)
        due = [LOOK_S if live else None, output.left_s(), left_s(deadline)]
        timeout = min((t for t in due if t is not None), default=None)
        try:
            batch = records.read_raw(timeout, min(left or LOT, LOT))
        except TimeoutError:
            continue
        if not batch:
            return
        written = _write(output, batch)
        unwritten += written
        if left is not None:
            left -= written
