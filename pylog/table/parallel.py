"""Several processes of this machine, each decoding one split at a time.

A process writes its results to files in the folder of its split, and the caller takes the folders
in the order of the splits. So memory does not grow with the size of a split, and no process waits
for another. At most two splits for each process are submitted ahead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from typing import Self

import pyarrow as pa

from pylog.backends.files import Paths, files, size
from pylog.errors import BackendError
from pylog.open_log import OnError
from pylog.table.bulk import ROWS
from pylog.table.select import Selection
from pylog.table.splits import End, Split, SplitReader, in_order, plan

SIZE = 1 << 24
"""Bytes of a split: enough for several batches, and done soon."""

Work = Callable[[Split, str], End]
"""Writes the results of a split into a folder, which may hold those of a wrong split."""


class Pool:
    """Processes for the splits of dumps. At the end of the context all of them are ended."""

    def __init__(
        self, jobs: int, folder: str | None = None, begin: Callable[[], None] | None = None
    ) -> None:
        """
        folder   for the files of the processes; None: that of temporary files
        begin    is called first in each process

        ValueError for fewer than one job.
        """
        if jobs < 1:
            raise ValueError(f"{jobs} jobs, but there must be at least 1")
        self._jobs = jobs
        self._left = contextlib.ExitStack()
        self._folder = self._left.enter_context(
            tempfile.TemporaryDirectory(
                prefix=".pylog-",
                dir=None if folder is None else folder or ".",
                ignore_cleanup_errors=True,
            )
        )
        context = multiprocessing.get_context("spawn")  # inherits no threads and files
        theirs, self._lifeline = context.Pipe(duplex=False)
        self._processes = ProcessPoolExecutor(
            jobs, context, initializer=_begin, initargs=(theirs, begin)
        )
        self._left.callback(self._processes.shutdown, cancel_futures=True)
        self._left.callback(self._lifeline.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def folders(self, splits: list[Split], work: Work) -> Iterator[tuple[Split, str, End]]:
        """The splits in their order, with the folders that `work` fills, which are then deleted."""
        folders = [os.path.join(self._folder, str(number)) for number in range(len(splits))]

        def submit(number: int, split: Split) -> Future[End]:
            os.makedirs(folders[number], exist_ok=True)
            with _interrupts_blocked():  # it may start a process
                return self._processes.submit(work, split, folders[number])

        try:
            for number, split, end in in_order(splits, submit, 2 * self._jobs):
                yield split, folders[number], end
                shutil.rmtree(folders[number])
        except BrokenProcessPool as error:  # perhaps out of memory
            raise BackendError(
                "a process that decoded a part ended: it was killed, or could not begin, as in a"
                ' program that reads with jobs outside of: if __name__ == "__main__":'
            ) from error


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Delays Ctrl-C; processes started meanwhile never receive it: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(lifeline: Connection, begin: Callable[[], None] | None) -> None:
    """Prepare a process: it ends when its parent closes the lifeline, or dies."""
    if begin is not None:
        begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def planned(
    paths: Paths,
    jobs: int,
    layout: str | None,
    on_error: OnError,
    origin: bool | None,
    labels: Mapping[str, str] | None,
    log_tz: str | None = None,
    year: int | None = None,
    split_size: int = SIZE,
) -> list[Split]:
    """The splits of dumps for so many processes, of `split_size` bytes at most or nearly so."""
    names = files(paths)
    n = max(jobs, sum(map(size, names)) // split_size)
    return plan(
        names, n, layout=layout, on_error=on_error, origin=origin, labels=labels, log_tz=log_tz,
        year=year,
    )  # fmt: skip


def batches(
    paths: Paths,
    jobs: int,
    selection: Selection,
    layout: str | None,
    on_error: OnError,
    rows: int,
    origin: bool | None,
    labels: Mapping[str, str] | None,
    log_tz: str | None = None,
    year: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """The record batches of dumps, in the order of the records."""
    selections = {selection.kind: selection}
    with Pool(jobs) as pool:
        splits = planned(paths, jobs, layout, on_error, origin, labels, log_tz, year)
        work = partial(write_batches, selections=selections, rows=rows)
        for _, folder, _ in pool.folders(splits, work):
            for _, batch in read_batches(folder, selections):
                yield batch


def write_batches(
    split: Split, folder: str, *, selections: Mapping[str, Selection], rows: int = ROWS
) -> End:
    """Write the batches of a split into a folder, as an Arrow stream for each kind of record."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(SplitReader(split))
        writers = {}
        for kind, selection in selections.items():
            file = stack.enter_context(pa.OSFile(os.path.join(folder, kind), "wb"))
            writers[kind] = stack.enter_context(pa.ipc.new_stream(file, selection.result))
        for kind, batch in reader.batches(selections, rows):
            writers[kind].write_batch(batch)
        end = reader.ended()
        end.tally.left_out = sum(selection.left_out for selection in selections.values())
        end.tally.untimed = max(selection.untimed for selection in selections.values())
        return end


def read_batches(folder: str, kinds: Iterable[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The batches that `write_batches` wrote, one kind after the other."""
    for kind in kinds:
        with pa.OSFile(os.path.join(folder, kind)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield kind, batch
