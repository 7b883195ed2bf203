"""Several processes of this machine, each decoding one split at a time.

A process writes what it makes of its split into a file of its own, and the caller takes the files
in the order of the splits. So memory stays flat however large a split is, and no process waits for
another; two splits a process are begun ahead, and no more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from typing import Self

import pyarrow as pa

from pylog.errors import BackendError
from pylog.reader import OnError
from pylog.table.select import Selection
from pylog.table.splits import Decoded, End, Paths, Split, files, in_order, plan, size

SIZE = 1 << 24
"""How many bytes of a dump make a split: some batches, and soon done."""

Work = Callable[[Split, str], End]
"""Writes what it makes of a split to a file that it is told."""


class Pool:
    """Processes for the splits of dumps. When it is left, they end, whatever they are doing."""

    def __init__(self, jobs: int, folder: str | None = None) -> None:
        """`folder` is where the processes' files are to be; None: where temporary files are.

        ValueError for fewer jobs than one.
        """
        if jobs < 1:
            raise ValueError(f"{jobs} jobs, but there must be at least 1")
        self._jobs = jobs
        self._left = contextlib.ExitStack()
        self._folder = self._left.enter_context(
            tempfile.TemporaryDirectory(prefix=".pylog-", dir=folder, ignore_cleanup_errors=True)
        )
        context = multiprocessing.get_context("spawn")  # of our threads and files they have none
        theirs, self._lifeline = context.Pipe(duplex=False)
        self._processes = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(theirs,))
        self._left.callback(self._processes.shutdown, cancel_futures=True)
        self._left.callback(self._lifeline.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def files(self, splits: list[Split], work: Work) -> Iterator[tuple[Split, str, End]]:
        """What `work` makes of the splits, in their order, as files that are gone afterwards."""
        paths = [os.path.join(self._folder, str(number)) for number in range(len(splits))]

        def submit(number: int, split: Split) -> Future[End]:
            return self._processes.submit(work, split, paths[number])

        try:
            for number, split, end in in_order(splits, submit, 2 * self._jobs):
                yield split, paths[number], end
                os.unlink(paths[number])
        except BrokenProcessPool as error:  # out of memory, it may be
            raise BackendError("a process that decoded a part was killed") from error


def _begin(lifeline: Connection) -> None:
    """A process begins. Ctrl-C is its parent's affair; it ends when the parent lets go of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def batches(
    paths: Paths, jobs: int, selection: Selection, layout: str | None, on_error: OnError, rows: int
) -> Iterator[pa.RecordBatch]:
    """The record batches of dumps, in the order of the records."""
    work = partial(write_batches, selection=selection, rows=rows)
    with Pool(jobs) as pool:
        names = files(paths)
        n = max(jobs, sum(map(size, names)) // SIZE)
        splits = plan(names, n, layout=layout, on_error=on_error)
        for _, path, _ in pool.files(splits, work):
            with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
                yield from stream


def write_batches(split: Split, path: str, *, selection: Selection, rows: int) -> End:
    """Write the batches of a split to a file, as an Arrow stream."""
    decoded = Decoded(split, selection, rows)
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, selection.result) as writer:
        for batch in decoded:
            writer.write_batch(batch)
    return decoded.end
