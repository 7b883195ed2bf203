"""Write the messages of live sources, exactly as received, to pcapng files.

NFLOG messages are packets of link type NFLOG (239), which Wireshark and tcpdump open; IPFilter's
records are of link type IPFILTER (116). Names of interfaces, losses and layouts are kept with them,
so that pylog read and pylog replay give the same records as reading live.

With --rotate-size or --rotate-time, FILE gets a number: fw.pcapng becomes fw-00001.pcapng,
fw-00002.pcapng and so on, after existing files. No existing file is overwritten. Messages are
written as soon as no more are at hand, so that even kill -9 leaves a file that lacks at most its
last block.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._outputs import count
from pylog.cli._sources import (
    Stopping,
    add_live_arguments,
    add_source_arguments,
    end,
    greet,
    is_unreadable,
    lost_text,
    opened,
)
from pylog.errors import BackendError
from pylog.formats import RawBatch
from pylog.input import left_s
from pylog.outputs import Target, pcapng
from pylog.reader import Records
from pylog.record import LossRecord, Record
from pylog.transports.files import Numbered, Written

USAGE = "[options] -w FILE SOURCE ..."
EPILOG = """examples:
  pylog capture -w fw.pcapng nflog:5                        until Ctrl-C (as root)
  pylog capture -w fw.pcapng --rotate-size 100M nflog:5,6   fw-00001.pcapng and so on
"""
HELP = "write live messages to pcapng files"

LOT = 256
"""After so many records they are written, even if more are at hand."""

SUFFIXES = (".gz", ".zst")
SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog capture`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE",
        help="nflog:GROUP[,GROUP...] or ipl:[DEVICE,...], or a log in a file; several are merged",
    )  # fmt: skip
    parser.add_argument(
        "-w", "--write", metavar="FILE", required=True, help="the pcapng file; - is standard output"
    )
    parser.add_argument(
        "-n", "--count", type=count, metavar="COUNT", help="stop after that many records"
    )
    parser.add_argument(
        "--duration", type=_seconds, metavar="TIME",
        help="stop after that time, in seconds, or with s, m, h, d",
    )  # fmt: skip
    parser.add_argument(
        "--rotate-size", type=_size, metavar="SIZE",
        help="begin a new file when one has that many bytes, also with k, M, G",
    )  # fmt: skip
    parser.add_argument(
        "--rotate-time", type=_seconds, metavar="TIME",
        help="begin a new file when one is that old, in seconds, or with s, m, h, d",
    )  # fmt: skip
    parser.add_argument(
        "--compress", action="store_true",
        help="compress the files: with zstd if FILE ends in .zst, else with gzip (.gz)",
    )  # fmt: skip
    add_source_arguments(parser)
    add_live_arguments(parser)


def _scaled(text: str, units: dict[str, int], what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]?)", text)
    if not match or match[2] not in units or float(match[1]) == 0:
        letters = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}: a number above 0, and {letters}")
    return float(match[1]) * units[match[2]]


def _size(text: str) -> int:
    return int(_scaled(text, SIZES, "size"))


def _seconds(text: str) -> float:
    return _scaled(text, TIMES, "time")


SURE = 128
"""After so many records the output is flushed, and they count as written."""


class Files:
    """The pcapng files, one after the other; BackendError when one cannot be written.

    A file is compressed if its name says so.

    records   how many records were written and flushed
    """

    def __init__(self, path: str, size: int | None, age_s: float | None, compress: bool) -> None:
        """A file of `size` bytes or `age_s` seconds is the end of it; None: no limit."""
        self._size, self._age_s = size, age_s
        self._numbered = size is not None or age_s is not None
        if path == "-" and self._numbered:
            raise ValueError("standard output cannot be rotated: name a file with -w")
        special = path == "-" or (os.path.exists(path) and not os.path.isfile(path))
        if os.path.isdir(path) or path.endswith("/"):
            raise BackendError(f"cannot write {path}: it is a directory; name a file in it")
        suffix = next((s for s in SUFFIXES if path.endswith(s)), "")
        if compress and not suffix:
            suffix = SUFFIXES[0]
            path = path if special else path + suffix
        self._compress = _compressor(suffix)
        self._path = path
        self._files = Numbered(path, SUFFIXES, single=not self._numbered)
        self._raw: BinaryIO | None = None
        self._stream: Any = None
        self._output: pcapng.Output | None = None
        self._written: Written | None = None
        self._opened_s = 0.0
        self._unflushed = 0
        self._names: list[str] = []  # of the first and the last file
        self._count = 0
        self.records = 0
        self._open()

    def write(self, batch: Sequence[Record | RawBatch]) -> int:
        """Write what Reader.read_raw gives, to a new file if there is none; how many records."""
        if self._output is None:
            self._open()
        assert self._output is not None and self._written is not None
        records = counted = 0
        with self._written.as_backend_error():
            for item in batch:
                if isinstance(item, RawBatch):
                    self._output.write_raw(item)
                    records += len(item.packets)
                else:
                    self._output.write(Batch([item]))
                    records += not isinstance(item, LossRecord)
                if records - counted >= SURE:  # a disk that fills up costs no more than these
                    self._unflushed += records - counted
                    counted = records
                    self._output.flush()
                    self._confirm(self._written)
        self._unflushed += records - counted
        return records

    def flush(self) -> None:
        """Flush the file, and close it if it is large or old enough."""
        if self._output is not None and self._raw is not None and self._written is not None:
            with self._written.as_backend_error():
                self._output.flush()
                self._confirm(self._written)
            full = self._size is not None and self._raw.tell() >= self._size
            if full or self.left_s() == 0.0:
                self.close()

    def _confirm(self, written: Written) -> None:
        """Count the records that were flushed; OSError."""
        records, self._unflushed = self._unflushed, 0
        before = written.records
        written.more(records)
        self.records += written.records - before

    def written(self) -> str:
        """The files that were written, for people."""
        if self._path == "-":
            return "written to standard output"
        if self._count == 1:
            return f"wrote {self._name}"
        return f"wrote {self._count} files, {self._names[0]} to {self._names[-1]}"

    def left_s(self) -> float | None:
        """How long the file may still be written to; None: without a limit."""
        if self._age_s is None or self._output is None:
            return None
        return max(0.0, self._opened_s + self._age_s - time.monotonic())

    def close(self) -> None:
        """Close the file, if there is one."""
        output, stream, raw, written = self._output, self._stream, self._raw, self._written
        self._output = self._stream = self._raw = self._written = None
        if output is not None and raw is not None and written is not None:
            try:
                with written.as_backend_error():
                    output.close()
                    if stream is not raw:
                        stream.close()
                    self._confirm(written)
            finally:
                if self._path != "-":
                    raw.close()

    def _open(self) -> None:
        self._name = self._path
        if self._path == "-":
            if sys.stdout.isatty():
                raise ValueError("pcapng is not for a terminal: name a file with -w")
            self._raw = stdout()
        else:
            self._raw, self._name = self._files.create()
        self._names = [*self._names[:1], self._name]
        self._count += 1
        self._stream = self._compress(self._raw)
        self._opened_s = time.monotonic()
        name = "standard output" if self._path == "-" else self._name
        own = self._path != "-"
        self._written = Written(name, self._raw, own, keep_pipe=own)
        self._output = pcapng.Output(Target(self._stream))


def _compressor(suffix: str) -> Callable[[BinaryIO], Any]:
    """Makes a compressing stream, by the suffix of the file; BackendUnavailable."""
    if suffix == ".gz":
        return lambda raw: gzip.GzipFile(fileobj=raw, mode="wb", filename="")
    if suffix == ".zst":
        from pylog.backends.unpack import zstd

        return partial(zstd().ZstdFile, mode="wb")
    return lambda raw: raw


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog capture`."""
    deadline = None if arguments.duration is None else time.monotonic() + arguments.duration
    with Stopping() as stopping, opened(arguments, arguments.source, raw=True) as records:
        stopping.records = records
        greet(records)
        files = Files(arguments.write, arguments.rotate_size, arguments.rotate_time,
                      arguments.compress)  # fmt: skip
        try:
            try:
                _copy(records, files, arguments.count, deadline)
            finally:
                files.close()
        finally:
            readers = records.readers()
            name = readers[0].backend.name if len(readers) == 1 else f"{len(readers)} sources"
            dropped = [reader.dropped for reader in readers if reader.dropped is not None]
            lost = lost_text(sum(dropped) if dropped else None, sum(r.uncounted for r in readers))
            say(
                f"{name}: {files.records} records captured, lost records: {lost}; {files.written()}"
            )
            for reader in readers:
                is_unreadable(reader)
    return stopping.status


def _copy(records: Records, files: Files, left: int | None, deadline: float | None) -> None:
    """Write records to files, at most `left` of them, until the deadline."""
    unwritten = 0
    if any(reader.backend.live for reader in records.readers()):
        files.flush()  # so that the file has its header before anything comes
    while left is None or left > 0:
        if not records.ready or unwritten >= LOT:
            if unwritten or files.left_s() == 0.0:
                files.flush()
            unwritten = 0
            if left_s(deadline) == 0.0:
                deadline = None
                end(records)
        due = [t for t in (files.left_s(), left_s(deadline)) if t is not None]
        try:
            batch = records.read_raw(min(due, default=None), min(left or LOT, LOT))
        except TimeoutError:
            continue
        if not batch:
            return
        written = files.write(batch)
        unwritten += written
        if left is not None:
            left -= written
