"""Write the messages of live sources, exactly as received, to pcapng files.

NFLOG messages are packets of link type NFLOG (239), which Wireshark and tcpdump open; those of
nftables and conntrack are of link type NETLINK (253), and IPFilter's records of IPFILTER (116). A
capture of nftables begins with a listing of the ruleset, one of nfct with one of all flows. Names
of interfaces, losses and layouts are kept with them, so that pylog read and pylog replay give the
same records as reading live. With --datagrams, datagrams are written as they were received, all of
link type NETLINK (253), which takes two thirds of the CPU time.

With --rotate-size or --rotate-time, or if FILE exists, it gets a number: fw.pcapng becomes
fw-00001.pcapng, fw-00002.pcapng and so on, after existing files. No existing file is overwritten.
At SIGHUP a new file begins. Messages are written as soon as no more are at hand, so that even
kill -9 leaves a file that lacks at most its last block.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from pylog import outputs
from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._copy import LOOK_S
from pylog.cli._datagrams import output_of, record
from pylog.cli._files import add_rotation_arguments, seconds
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._outputs import count
from pylog.cli._runs import RunCopy
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
from pylog.cli._where import add_where_arguments, given_filter, report_filtered, report_untimed
from pylog.formats import RawBatch
from pylog.input import left_s
from pylog.outputs import pcapng
from pylog.outputs._files import OutputFiles
from pylog.pipeline.recording import Recorded
from pylog.reader import Reader, Records
from pylog.record import LossRecord, Record
from pylog.transports.files import is_special
from pylog.transports.packing import SUFFIXES, without_suffix
from pylog.transports.rotation import Files

USAGE = "[options] -w FILE SOURCE ..."
EPILOG = """examples:
  pylog capture -w fw.pcapng nflog:5                        until Ctrl-C (as root)
  pylog capture -w rules.pcapng nftables:+trace             changes of the ruleset, and traces
  pylog capture --datagrams -w fw.pcapng nflog:5            at the highest rates
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
        help="nflog:GROUP[,GROUP...], nftables:[+trace][+nflog:GROUP], nfct: or ipl:[DEVICE,...],"
        " or a log in a file; several are merged",
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
    parser.add_argument(
        "--datagrams", action="store_true",
        help="write each datagram of netlink as it was received, with all its records, and decode"
        " nothing; excludes -n, --where, --since and --until",
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


def _opened(
    arguments: argparse.Namespace, opened_files: Callable[[Files], OutputFiles]
) -> tuple[Files, OutputFiles]:
    """The files to write, of which the first is open.

    opened_files   makes the output of files

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
    output = opened_files(files)
    if output.file.path != path and not files.numbered:
        say(f"{path} exists: writing {output.file.name}")
    return files, output


def _of_messages(files: Files) -> OutputFiles:
    """The files that messages are written to."""
    return OutputFiles(files, lambda file: pcapng.Output(outputs.Target(file.stream)))


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
    if arguments.datagrams and (wanted is not None or arguments.count is not None):
        raise ValueError("--datagrams decodes nothing: leave out -n, --where, --since and --until")
    with Stopping() as stopping, opened(arguments, arguments.source, raw=True) as records:
        stopping.records = records
        readers = records.readers()
        recorded = [Recorded(reader.backend) for reader in readers] if arguments.datagrams else []
        for reader in readers:
            reader.pass_messages()
        greet(records)
        if wanted is not None:
            records = records.where(wanted)
        files, output = _opened(
            arguments, partial(output_of, sources=recorded) if recorded else _of_messages
        )
        stopping.reopens = files.reopens
        try:
            try:
                if recorded:
                    record(records, recorded, output, deadline, stopping)
                else:
                    _copy(records, output, arguments.count, deadline, stopping)
            finally:
                output.close()
        finally:
            _report(recorded or readers, output.records, files)
            report_filtered(wanted, records.left_out)
            report_untimed(arguments, [reader.detection.container for reader in readers])
            for reader in readers if not recorded else ():
                is_unreadable(reader)
    return stopping.status


def _report(sources: Sequence[Reader] | Sequence[Recorded], captured: int, files: Files) -> None:
    """Say how many records were captured, and how many are missing."""
    name = sources[0].backend.title if len(sources) == 1 else f"{len(sources)} sources"
    dropped = [source.dropped for source in sources if source.dropped is not None]
    lost = lost_text(sum(dropped) if dropped else None, sum(s.uncounted for s in sources))
    say(f"{name}: {captured} records captured, lost records: {lost}; {files.text()}")


def _copy(
    records: Records,
    output: OutputFiles,
    left: int | None,
    deadline: float | None,
    stopping: Stopping,
) -> None:
    """Write records to files, at most `left` of them, until the deadline."""
    unwritten = 0
    runs = RunCopy.of(records) if isinstance(records, Reader) and left is None else None
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
            if runs is not None and (count := runs.write(output, timeout)) is not None:
                unwritten += count
                continue
            batch = records.read_raw(timeout, min(left or LOT, LOT))
        except TimeoutError:
            continue
        if not batch:
            return
        written = _write(output, batch)
        unwritten += written
        if left is not None:
            left -= written
