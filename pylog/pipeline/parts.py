"""Writes a data set: files that are each complete when they appear, with their position.

Records go to the part of their day or hour, under a hidden name. When a part is large or old
enough, all that are open are completed together: they are closed and synced, then a manifest is
replaced that names them and has the position, then they get their names. The replaced manifest is
the commit: what it names is renamed at the next start if that did not happen, and what it does not
name is removed. So each record is in the data set exactly once, whatever ends the process.

Folders have the names that Hive, DuckDB, pyarrow and Spark read: date=2026-11-21/hour=14, in UTC.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError, as_backend_error
from pylog.notes import notes
from pylog.record import Record, rfc3339
from pylog.transports.files import create
from pylog.transports.packing import packed

MANIFESTS = ".pylog"
"""The folder of the manifests in a data set; readers pass over names that begin with a dot."""
MOST_OPEN = 32
"""How many parts are open at most; more are closed, and completed with the others."""
UNDATED = "__HIVE_DEFAULT_PARTITION__"
"""The value in place of a time that a record does not have."""

Make = Callable[[BinaryIO, str], outputs.Output]
"""Makes the output of a file with a path."""


class Manifest(msgspec.Struct):
    """What a commit completed: the position, and the parts by their hidden and their final names,
    as paths in the data set.
    """

    position: str
    parts: dict[str, str] = {}


class _Part:
    """A part that is being written."""

    def __init__(self, path: Path, make: Make, suffix: str) -> None:
        self.path, self.records = path, 0
        create(str(path))
        self.raw: BinaryIO = open(path, "r+b")  # noqa: SIM115 - `finish` closes it
        self.stream: Any = packed(self.raw, suffix)
        try:
            self.output = make(self.stream, str(path))
        except BaseException:
            self.raw.close()
            raise

    def finish(self) -> None:
        """Complete the file, and have the system write it to the disk."""
        try:
            self.output.close()
            if self.stream is not self.raw:
                self.stream.close()
            self.raw.flush()
            os.fsync(self.raw.fileno())
        except BaseException:
            self.drop()
            raise
        self.raw.close()

    def drop(self) -> None:
        """Close it without completing it. What its output still writes, as pyarrow's do even when
        they are forgotten, goes nowhere.
        """
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.raw.fileno())
            os.close(null)
        for close in (self.output.close, self.raw.close):
            with contextlib.suppress(Exception):
                close()


class Parts(outputs.Output):
    """A data set that one stack writes."""

    def __init__(
        self,
        folder: str,
        make: Make,
        *,
        partition: str,
        ending: str,
        suffix: str,
        stream: str,
        size: int,
        age_s: float,
        durable: bool,
    ) -> None:
        """Completes or removes what an earlier process left.

        make        makes the output of a part
        partition   "day", "hour" or "none"
        ending      of the names: ".parquet"; `suffix` of their compression
        stream      the name under which the position is kept: other streams may write beside it
        size, age_s   when the parts are complete
        durable     whether what is not complete can be read again; else commits count at once

        Raises BackendError.
        """
        self._folder, self._make, self._partition = Path(folder), make, partition
        self._ending, self._suffix, self._name = ending, suffix, stream
        self._size, self._age_s, self._durable = size, age_s, durable
        self._open: OrderedDict[str, _Part] = OrderedDict()
        self._closed: list[tuple[Path, str]] = []
        """Parts that are complete and have no name yet, with their partitions."""
        self._begun: float | None = None
        self._written: str | None = None
        """The position of the last commit."""
        self._is_dirty = False
        """Whether there are records after the last commit."""
        self._confirmed: str | None = None
        self._is_broken = False
        """Whether something could not be written, so that what is open may lack it."""
        self._number = 0
        with as_backend_error("write", folder):
            (self._folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
            self._manifest = self._folder / MANIFESTS / f"{stream}.json"
            self._recover()

    def _recover(self) -> None:
        try:
            manifest = msgspec.json.decode(self._manifest.read_bytes(), type=Manifest)
        except FileNotFoundError:
            manifest = Manifest("")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BackendError(f"{self._manifest} is damaged: {error}") from error
        self._stored = manifest.position or None
        self._name_parts(manifest)
        for part in self._folder.rglob(f".{self._name}-*.part"):
            part.unlink(missing_ok=True)

    def _name_parts(self, manifest: Manifest) -> None:
        for hidden, final in manifest.parts.items():
            if (self._folder / hidden).exists():
                os.replace(self._folder / hidden, self._folder / final)

    # As an Output

    def write(self, batch: Batch) -> None:
        self._is_dirty = True
        groups: dict[str, list[Record]] = {}
        for record in batch.records():
            groups.setdefault(self._partition_of(record), []).append(record)
        for partition, records in groups.items():
            with self._writing():
                part = self._part(partition)
                part.output.write(Batch(records))
                part.records += len(records)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Wraps what writes: OSError becomes BackendError, and then no open part is completed."""
        try:
            with as_backend_error("write", str(self._folder)):
                yield
        except BaseException:
            self._is_broken = True
            raise

    def _partition_of(self, record: Record) -> str:
        if self._partition == "none":
            return ""
        time_ns = record.timestamp_ns
        time_ns = record.observed_ns if time_ns is None else time_ns
        text = UNDATED if time_ns is None else rfc3339(time_ns)
        date = text if time_ns is None else text[:10]
        if self._partition == "day":
            return f"date={date}"
        return f"date={date}/hour={text if time_ns is None else text[11:13]}"

    def _part(self, partition: str) -> _Part:
        part = self._open.get(partition)
        if part is not None:
            self._open.move_to_end(partition)
            return part
        if len(self._open) >= MOST_OPEN:
            oldest = next(iter(self._open))
            self._close_part(oldest, self._open.pop(oldest))
        self._number += 1
        folder = self._folder / partition
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".{self._name}-{os.getpid()}-{self._number}.part"
        part = self._open[partition] = _Part(path, self._make, self._suffix)
        if self._begun is None:
            self._begun = time.monotonic()
        return part

    def _close_part(self, partition: str, part: _Part) -> None:
        part.finish()
        self._closed.append((part.path, partition))

    def flush(self) -> None:
        """Nothing: nobody reads a part before it is complete."""

    def commit(self, position: str) -> None:
        self._written, self._is_dirty = position, False
        if self._is_full():
            self.complete()

    def _is_full(self) -> bool:
        if self._begun is None:
            return False
        if time.monotonic() - self._begun >= self._age_s:
            return True
        with self._writing():
            for part in self._open.values():
                part.output.flush()
                part.raw.flush()
            size = sum(os.fstat(part.raw.fileno()).st_size for part in self._open.values())
        return size >= self._size

    def complete(self) -> None:
        """Complete all parts with the position of the last commit."""
        if self._written is None or self._is_dirty or self._is_broken:
            return
        position = self._written
        with self._writing():
            while self._open:
                partition, part = self._open.popitem(last=False)
                self._close_part(partition, part)
            names: dict[str, str] = {}
            for path, partition in self._closed:
                hidden = str(path.relative_to(self._folder))
                names[hidden] = str(Path(partition) / self._final_name(partition, len(names)))
            manifest = Manifest(position, names)
            self._replace_manifest(manifest)
            self._name_parts(manifest)
        self._closed, self._begun = [], None
        self._confirmed = self._stored = position

    def _final_name(self, partition: str, number: int) -> str:
        """A name that no file has: of the stream, the time, and a number."""
        now = rfc3339(time.time_ns())[:19].replace("-", "").replace(":", "")
        while True:
            name = f"{self._name}-{now}Z-{number:04}{self._ending}{self._suffix}"
            if not (self._folder / partition / name).exists():
                return name
            number += 1

    def _replace_manifest(self, manifest: Manifest) -> None:
        new = self._manifest.with_suffix(".new")
        with open(new, "wb") as file:
            file.write(msgspec.json.encode(manifest))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._manifest)

    def position(self) -> str | None:
        return self._stored

    def confirmed(self) -> str | None:
        if self._durable:
            if self._begun is not None and not self._is_dirty and self._is_full():
                self.complete()
            return self._confirmed
        return self._written

    def close(self) -> None:
        """Complete the parts, if all records in them are committed; else remove them."""
        try:
            self.complete()
        finally:
            for part in self._open.values():
                part.drop()
            paths: Sequence[Path] = [path for path, _ in self._closed]
            for path in (*paths, *(part.path for part in self._open.values())):
                with contextlib.suppress(OSError):
                    path.unlink()
            self._open.clear()
            self._closed = []
        if self._is_dirty:
            notes.info("an incomplete part of %s was removed", self._folder)
