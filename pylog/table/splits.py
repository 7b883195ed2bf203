"""Dumps in splits, which any number of processes or machines decode, with the result of one.

`plan` cuts plain dumps into parts of equal size. Each cut is moved forward to the first place where
messages follow each other; only a few KiB are read at each. A file that must be read from its start
(compressed, pcap or pcapng, a pipe) is one split. `decode` gives the record batches of a split.

A cut is a guess: a logged packet may hold bytes that look like records. Also, a split lacks what a
reader has learned from the bytes before it: the expected sequence numbers, and the layouts that
still fit. So `decode` reports where reading stands after a split (`End`). A split is right if it
began where the one before it ended, and in the same state; if not, it is decoded again from there.
`in_order` does so while the splits are decoded, `confirm` before. The rows are then those of a
single process, including losses at the cuts, whatever the bytes.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol, Self

import pyarrow as pa

from pylog.backends import capture
from pylog.backends.files import Paths, files, is_url, opened, size
from pylog.backends.unpack import compression
from pylog.detect import Detection, detect, stream_for
from pylog.errors import DecodeError
from pylog.formats import HEAD, Damage, Message, Stream
from pylog.formats.nfct_requests import is_marked
from pylog.formats.stream import IN_STEP
from pylog.losses import Losses
from pylog.open_log import OnError
from pylog.origins import NOWHERE, Origin, origins_of
from pylog.record import Record
from pylog.table.bulk import ROWS, Bulk
from pylog.table.select import Selection

CHAIN = 4
"""How many consecutive messages make a place to cut."""

WINDOW = 1 << 14
"""How many bytes are read at a cut at first."""

FARTHEST = 1 << 22
"""The most bytes that are read at a cut; without a place in them there is no cut."""

SIZE = 1 << 26
"""The default size of a split for other machines, in bytes."""


@dataclass
class Tally:
    """What was read, damaged and lost, as a Reader counts it; `counts` by kind of record."""

    container: str
    layout: str
    received: int = 0
    malformed: int = 0
    dropped: int | None = None
    uncounted: int = 0
    ending: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    """Records that a filter did not want."""
    prefixes: Counter[str] = field(default_factory=Counter)
    """As Actions.prefixes."""
    untimed: int = 0
    """Records without a time among those, see Filter.untimed."""

    def add(self, other: Tally) -> None:
        """Add the counts of the next split of the same file."""
        self.layout = other.layout
        self.received += other.received
        self.malformed += other.malformed
        if other.dropped is not None:
            self.dropped = (self.dropped or 0) + other.dropped
        self.uncounted += other.uncounted
        self.ending = other.ending
        self.counts += other.counts
        self.left_out += other.left_out
        self.untimed += other.untimed
        self.prefixes += other.prefixes


@dataclass(frozen=True)
class End:
    """Where reading stands after a split.

    offset    where the first message after the split begins, in bytes
    layouts   those that explain all bytes before it, the one in use first
    losses    the expected sequence numbers
    tally     the counts of the split
    in_step   how many messages follow each other since the last damage, up to IN_STEP
    """

    offset: int
    layouts: tuple[str, ...]
    losses: Losses
    tally: Tally
    in_step: int = IN_STEP


@dataclass(frozen=True)
class Split:
    """A part of a dump: the messages that begin in [start, stop), both in bytes.

    path      a file or an fsspec URL
    stop      of a file's last split the size of the file; bytes added since are read too
    last      whether it is the file's last split
    layouts   those that explain the bytes before, the first is used; none: the layout is
              detected, and the file is read from its start
    layout    the layout that the user named
    losses    the sequence numbers expected after the records before; None: unknown
    origin    the origin and host of its records
    in_step   as of an End, of what is before
    log_tz    of a text log, and `year`: as options of `pylog.open`
    """

    path: str
    start: int = 0
    stop: int = 0
    last: bool = True
    layouts: tuple[str, ...] = ()
    layout: str | None = None
    on_error: OnError = "resync"
    losses: Losses | None = None
    origin: Origin = NOWHERE
    in_step: int = IN_STEP
    log_tz: str | None = None
    year: int | None = None

    def after(self, end: End) -> Split:
        """The same split, but begun where the one before it ended."""
        return replace(self, start=end.offset, layouts=end.layouts, losses=end.losses,
                       in_step=end.in_step)  # fmt: skip

    def begins_as(self, other: Split) -> bool:
        """Whether both begin at the same place with the same knowledge of what is before."""
        mine = self.start, self.layouts, self.in_step
        return mine == (other.start, other.layouts, other.in_step)


def plan(
    paths: Paths,
    n: int,
    *,
    layout: str | None = None,
    on_error: OnError = "resync",
    origin: bool | None = None,
    labels: Mapping[str, str] | None = None,
    log_tz: str | None = None,
    year: int | None = None,
) -> list[Split]:
    """About `n` splits of dumps, at least one a file, in the order of the records.

    paths    files, directories, globs, and fsspec URLs of any of them, see `files`
    origin   whether records get their file as their origin; None: if there are several files, or
             labels
    labels   names of origins in place of the file's, by its name in the list of `files`

    Everything else is as for `pylog.open`, and so are the errors; ValueError for an `n` below 1.
    """
    if n < 1:
        raise ValueError(f"{n} splits, but there must be at least 1")
    capture.check_times(log_tz, year)
    names = files(paths)
    sizes = [size(name) for name in names]
    total = sum(sizes)
    splits: list[Split] = []
    where = origins_of(names, origin, labels)
    for name, length, own in zip(names, sizes, where, strict=True):
        split = Split(name, 0, length, layout=layout, on_error=on_error, origin=own,
                      log_tz=log_tz, year=year)  # fmt: skip
        share = round(n * length / total) if total else 0
        splits += _cut(split, share) if share > 1 else [split]
    return splits


def planned(
    paths: Paths,
    n: int | None,
    layout: str | None,
    on_error: OnError,
    log_tz: str | None = None,
    year: int | None = None,
) -> list[Split]:
    """The splits of dumps for other machines: their paths are absolute.

    n   as for `plan`; None: one split for every 64 MiB
    """
    given = files(paths)
    names = [name if is_url(name) else os.path.abspath(name) for name in given]
    wanted = max(1, sum(map(size, names)) // SIZE) if n is None else n
    where = dict(zip(names, origins_of(given), strict=True))
    splits = plan(names, wanted, layout=layout, on_error=on_error, log_tz=log_tz, year=year)
    return [replace(split, origin=where[split.path]) for split in splits]


def _cut(split: Split, n: int) -> list[Split]:
    """The splits of a file, of about equal size; only one if it cannot be cut."""
    with opened(split.path) as file:
        head = file.read(HEAD)
        if compression(head) is not None:
            return [split]
        try:
            detection = detect(head, len(head) < HEAD, split.layout)  # as a Reader does
        except DecodeError as error:
            raise error.copy_for_raising(split.path) from None
        if detection.container not in ("raw", "netlink"):
            return [split]
        if detection.stream().grouped or is_marked(head):
            return [split]  # a commit may be of any size, and a listing shows what it lacks
        length = split.stop
        layouts = tuple(make().name for make in (detection.stream, *detection.alternatives))
        near = [_boundary(file, length * i // n, length, detection.stream()) for i in range(1, n)]
    starts = sorted({0, *(cut for cut in near if cut is not None)})
    return [
        replace(split, start=start, stop=stop, last=stop == length, layouts=layouts)
        for start, stop in zip(starts, [*starts[1:], length], strict=True)
    ]


def _boundary(file: BinaryIO, at: int, length: int, stream: Stream) -> int | None:
    """The first offset from `at` on with CHAIN consecutive messages; None without one near."""
    window = WINDOW
    while window <= FARTHEST:
        file.seek(at)
        data = file.read(window)
        stream.base, stream.used, stream.damage = at, 0, None
        chain: list[int] = []
        for item in stream.split(data, at + len(data) >= length):
            if isinstance(item, Message):
                chain.append(at + item.start)
                if len(chain) == CHAIN:
                    return chain[0]
            elif isinstance(item, Damage):
                chain = []
        if at + len(data) >= length:
            return None
        window *= 4
    return None


def decode(
    split: Split,
    *,
    kind: str = "packet",
    columns: Sequence[str] | None = None,
    where: Any = None,
    rows: int = ROWS,
) -> Decoded:
    """The record batches of a split, as `pylog.iter_batches` gives them.

    A message or damage that begins before `stop` is read to its end.
    """
    return Decoded(split, Selection(kind, columns, where), rows)


class Decoded(Iterator[pa.RecordBatch]):
    """The record batches of a split.

    end   where reading stands after it; set when the last batch was taken
    """

    end: End

    def __init__(self, split: Split, selection: Selection, rows: int) -> None:
        self._batches = self._decode(split, selection, rows)

    def __next__(self) -> pa.RecordBatch:
        return next(self._batches)

    def _decode(self, split: Split, selection: Selection, rows: int) -> Iterator[pa.RecordBatch]:
        with SplitReader(split) as part:
            for _, batch in part.batches({selection.kind: selection}, rows):
                yield batch
            self.end = part.ended()


def scan(split: Split) -> End:
    """Where reading stands after a split, which is read without making columns."""
    with SplitReader(split) as part:
        for _ in part.batches({}):
            pass
        return part.ended()


class SplitReader:
    """Reads a split, by `records`, by `batches`, or by `bulk.lines`."""

    def __init__(self, split: Split) -> None:
        with ExitStack() as stack:
            path = split.path
            file = stack.enter_context(opened(path)) if is_url(path) else path
            backend = capture.Part(file, split.start) if split.layouts else capture.Capture(file)
            stack.callback(backend.close)
            backend.name = path
            backend.log_tz, backend.year = split.log_tz, split.year
            self.bulk = Bulk(
                backend,
                layout=split.layout,
                on_error=split.on_error,
                start=split.start,
                stop=None if split.last else split.stop,
                losses=None if split.losses is None else split.losses.resumed(),
                detection=_detection(split.layouts) if split.layouts else None,
                origin=split.origin,
            )
            if split.layouts:
                decoder = self.bulk.decoder
                for stream in (decoder.stream, *decoder.alternatives):
                    stream.in_step = split.in_step
            self._files = stack.pop_all()

    def records(self) -> Iterator[Record]:
        """As `Bulk.records`."""
        return self.bulk.records()

    def batches(
        self, wanted: Mapping[str, Selection], rows: int = ROWS
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """As `Bulk.batches`."""
        return self.bulk.batches(wanted, rows)

    def ended(self) -> End:
        """Where reading stands, after the last record."""
        bulk, decoder = self.bulk, self.bulk.decoder
        layouts = tuple(stream.name for stream in (decoder.stream, *decoder.alternatives))
        tally = Tally(bulk.detection.container, bulk.layout, bulk.received, bulk.malformed,
                      bulk.dropped, bulk.uncounted, bulk.ending, bulk.counts)  # fmt: skip
        in_step = min(decoder.stream.in_step, IN_STEP)
        return End(bulk.end, layouts, decoder.losses, tally, in_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def _detection(layouts: Sequence[str]) -> Detection:
    """The Detection of bytes that all these layouts explain."""
    first, *others = (stream_for(name) for name in layouts)
    return replace(first, layouts=list(layouts), alternatives=[other.stream for other in others])


# Splits in their order


class Future(Protocol):
    """A future of concurrent.futures or of Dask, whose result is an End."""

    def result(self) -> End:
        """Waits for the result, or raises the exception."""
        ...


def in_order(
    splits: Iterable[Split], submit: Callable[[int, Split], Future], ahead: int
) -> Iterator[tuple[int, Split, End]]:
    """The splits in their order as they are done: number, the split as it is right, and its End.

    submit   begins to decode a split; called again with the same number if the split was wrong:
             the second result replaces the first
    ahead    how many splits are submitted before the first of them is waited for
    """
    todo = enumerate(splits)
    submitted: deque[tuple[int, Split, Future]] = deque()
    before: tuple[Split, End] | None = None
    while True:
        while len(submitted) < ahead and (following := next(todo, None)):
            submitted.append((*following, submit(*following)))
        if not submitted:
            return
        number, split, future = submitted.popleft()
        right = split
        if before is not None and not before[0].last:
            right = split.after(before[1])
        try:
            end = future.result()
        except DecodeError:  # reading strictly
            if right.begins_as(split):
                raise
            end = submit(number, right).result()
        else:
            if right is not split:
                end = _joined(number, split, right, end, submit)
        yield number, right, end
        before = right, end


def _joined(
    number: int, guess: Split, right: Split, end: End, submit: Callable[[int, Split], Future]
) -> End:
    """The end of a split that began by a guess; if that was wrong, it is decoded again."""
    assert right.losses is not None
    same = right.begins_as(guess)
    same &= set(end.layouts) <= set(right.layouts)  # another layout has its own numbers
    if same and right.losses.agrees(end.losses):
        return replace(end, losses=right.losses.then(end.losses))
    return submit(number, right).result()


def confirm(
    splits: Sequence[Split], submit: Callable[[int, Split], Future] | None = None
) -> list[Split]:
    """The right splits, each of which can be decoded by itself and in any order.

    submit   begins to `scan` a split; None: threads of this process scan
    """
    if submit is not None:
        return [split for _, split, _ in in_order(splits, submit, len(splits))]
    with ThreadPoolExecutor() as threads:
        return confirm(splits, lambda _, split: threads.submit(scan, split))
