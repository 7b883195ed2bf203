"""Write the messages of live sources, exactly as received, to pcapng files.

NFLOG messages are packets of link type NFLOG (239), which Wireshark and tcpdump open; IPFilter's
records are of link type IPFILTER (116). Names of interfaces, losses and layouts are kept with them,
so that pylog read and pylog replay give the same records as reading live.

With --rotate-size or --rotate-time, FILE gets a number: fw.pcapng becomes fw-00001.pcapng,
fw-00002.pcapng and so on, after those that are there. A file that exists is not overwritten. What
has been received is in the file with the next write, so that even kill -9 leaves a file that lacks
at most its last block.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from pylog import outputs
from pylog.cli._sources import (
    Stopping,
    add_live_arguments,
    add_source_arguments,
    opened,
)
from pylog.cli.read import count
from pylog.errors import BackendError
from pylog.reader import Records
from pylog.record import LossRecord, Record

HELP = "write live messages to pcapng files"

LOT = 256
"""After so many records they are written, whether more are at hand or not."""

COMPRESSIONS = {"gzip": ".gz", "zstd": ".zst"}
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
        "--compress", nargs="?", choices=tuple(COMPRESSIONS), const="gzip",
        help="compress the files, with gzip if nothing else is said",
    )  # fmt: skip
    add_source_arguments(parser)
    add_live_arguments(parser)


def _scaled(text: str, units: dict[str, int], what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]?)", text)
    if not match or match[2] not in units or float(match[1]) == 0:
        known = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}: a number above 0, and {known}")
    return float(match[1]) * units[match[2]]


def _size(text: str) -> int:
    return int(_scaled(text, SIZES, "size"))


def _seconds(text: str) -> float:
    return _scaled(text, TIMES, "time")


class Files:
    """The file that is being written, and those after it.

    written   the paths so far
    """

    def __init__(self, path: str, size: int | None, age_s: float | None, packed: str | None):
        """`size` in bytes and `age_s` in seconds begin a new file; None: never."""
        self._size, self._age_s, self._packed = size, age_s, packed
        self._numbered = size is not None or age_s is not None
        if path == "-" and self._numbered:
            raise ValueError("standard output cannot be rotated: name a file with -w")
        suffix = COMPRESSIONS[packed] if packed else ""
        self._path = path if path == "-" or path.endswith(suffix) else path + suffix
        self._number = 0
        self._raw: BinaryIO | None = None
        self._stream: Any = None
        self._output: outputs.Output | None = None
        self._begun = 0.0
        self.written: list[str] = []
        self._open()

    def write(self, record: Record) -> None:
        """Write a record; a new file is begun for it if it is time."""
        if self._output is None:
            self._open()
        assert self._output is not None
        self._output.write(record)

    def flush(self) -> None:
        """Bring what was written to the file, and end the file if it is large or old enough."""
        if self._output is not None and self._raw is not None:
            self._output.flush()
            full = self._size is not None and self._raw.tell() >= self._size
            if full or self.left_s() == 0.0:
                self.close()

    def left_s(self) -> float | None:
        """How long the file may still be written to; None: for ever."""
        if self._age_s is None or self._output is None:
            return None
        return max(0.0, self._begun + self._age_s - time.monotonic())

    def close(self) -> None:
        """End the file, if there is one."""
        output, stream, raw = self._output, self._stream, self._raw
        self._output = self._stream = self._raw = None
        if output is not None and raw is not None:
            output.close()
            if stream is not raw:
                stream.close()
            if raw is not sys.stdout.buffer:
                raw.close()

    def _open(self) -> None:
        if self._path == "-":
            if sys.stdout.isatty():
                raise ValueError("pcapng is not for a terminal: name a file with -w")
            self._raw = sys.stdout.buffer
        else:
            self._raw = self._create()
        self._stream = self._raw
        if self._packed == "gzip":
            self._stream = gzip.GzipFile(fileobj=self._raw, mode="wb", filename="")
        elif self._packed == "zstd":
            from pylog.backends.capture import zstd

            self._stream = zstd().ZstdFile(self._raw, mode="wb")
        self._begun = time.monotonic()
        self._output = outputs.output("pcapng", self._stream)
        self._output.flush()

    def _create(self) -> BinaryIO:
        """The next file; one that exists is never overwritten, but for a device or FIFO."""
        while True:
            path = self._next_path()
            try:
                mode = "wb" if os.path.exists(path) and not os.path.isfile(path) else "xb"
                stream = open(path, mode, buffering=0)  # noqa: SIM115 - closed by close()
            except FileExistsError as error:
                if self._numbered:
                    continue
                raise BackendError(f"cannot write {path}: it exists; remove it first, or name"
                                   " another file") from error  # fmt: skip
            except OSError as error:
                raise BackendError(f"cannot write {path}: {error.strerror}") from error
            self.written.append(path)
            return stream  # type: ignore[return-value]

    def _next_path(self) -> str:
        if not self._numbered:
            return self._path
        path = Path(self._path)
        stem, dot, suffixes = path.name.partition(".")
        if not self._number:
            pattern = re.compile(re.escape(stem) + r"-(\d{5,})" + re.escape(dot + suffixes))
            there = [int(m[1]) for p in path.parent.glob("*") if (m := pattern.fullmatch(p.name))]
            self._number = max(there, default=0)
        self._number += 1
        return str(path.with_name(f"{stem}-{self._number:05}{dot}{suffixes}"))


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog capture`."""
    deadline = None if arguments.duration is None else time.monotonic() + arguments.duration
    with Stopping() as stopping, opened(arguments, arguments.source, raw=True) as records:
        stopping.records = records
        files = Files(arguments.write, arguments.rotate_size, arguments.rotate_time,
                      arguments.compress)  # fmt: skip
        try:
            _copy(records, files, arguments.count, deadline)
        finally:
            files.close()
            for reader in records.readers():
                dropped = "cannot be known" if reader.dropped is None else reader.dropped
                print(f"pylog: {reader.backend.name}: {reader.received} records captured, lost"
                      f" records: {dropped}", file=sys.stderr)  # fmt: skip
    return stopping.status


def _copy(records: Records, files: Files, left: int | None, deadline: float | None) -> None:
    """Write records to files, `left` of them at most, and none that come after the deadline."""
    unwritten = 0
    while left is None or left > 0:
        if not records.ready or unwritten == LOT:
            files.flush()
            unwritten = 0
        due = [t for t in (files.left_s(), _left_s(deadline)) if t is not None]
        try:
            record = records.read(timeout=min(due, default=None))
        except TimeoutError:
            if _left_s(deadline) == 0.0:
                deadline = None
                records.stop()
            continue
        if record is None:
            return
        files.write(record)
        unwritten += 1
        if left is not None and not isinstance(record, LossRecord):
            left -= 1


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
