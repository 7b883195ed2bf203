"""Where the records of a stack come from: the journal, a queue, or files that it reads for itself.

A feed gives lots of records with the place after them, and begins after a place. `Feeds` joins
those of a stack: its position has the place in the journal, and how many records of each file were
given. A feed never waits; `Feeds.wait` does.
"""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pylog.backends.base import readable
from pylog.notes import notes
from pylog.pipeline.columns import runs
from pylog.pipeline.decoding import Decoding, Taken
from pylog.pipeline.journal_reader import Gap, JournalReader, Placed
from pylog.pipeline.kept import Lines
from pylog.pipeline.parsing import Parser, Piece
from pylog.pipeline.positions import Beginning, Position
from pylog.pipeline.segments import CHUNK, frames
from pylog.record import Record

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

WARM_SIZE = 64_000_000
"""So many bytes of the journal before a position are decoded, where the rest depends on them."""


class Lot(NamedTuple):
    """Records or rows, when the newest of them was received, how many bytes they had, and how many
    more were left out because the filter does not want them; sources that should list again; and
    packets in columns, which passed the filter. Lines, and records between them, come after the
    other records.
    """

    records: list[Record]
    observed_ns: int | None = None
    size: int = 0
    left_out: int = 0
    stale: frozenset[str] = frozenset()
    columns: Sequence[pa.RecordBatch] = ()
    lines: Sequence[Lines | list[Record]] = ()


class Made:
    """What the runs of a lot have become. Once there are lines, records stay between them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.columns: list[pa.RecordBatch] = []
        self.lines: list[Lines | list[Record]] = []

    def add(self, taken: Taken) -> None:
        """Add what a run has become."""
        if self.lines and taken.records:
            self.lines.append(taken.records)
        else:
            self.records += taken.records
        self.columns += taken.columns
        self.lines += taken.lines


class Feed(ABC):
    """A source of lots.

    place   after the records that were given
    ended   whether nothing more comes
    failure why it could not be read; None: it could
    tick_s  how often to ask again; None: a descriptor shows it
    begins  how the file begins that the place is in, if it grows; set before `seek`
    warm    takes the records before the place, as far as it goes back, when it begins there
    """

    place = 0
    ended = False
    failure: str | None = None
    tick_s: float | None = None
    begins: Beginning | None = None
    warm: Callable[[list[Record]], None] | None = None

    @abstractmethod
    def seek(self, place: int) -> None:
        """Begin after a place."""

    @abstractmethod
    def read(self) -> Lot | None:
        """The records that come next; None: there are none yet. BackendError, DecodeError."""

    def descriptors(self) -> list[int]:
        """What becomes readable when there may be more."""
        return []

    @abstractmethod
    def end(self) -> None:
        """Give what there is, then end."""

    def close(self) -> None:  # noqa: B027 - a queue has nothing to close
        """Close what is open."""


class JournalFeed(Feed):
    """Records of the journal.

    until   the place at which it ends; None: it does not end
    """

    def __init__(self, folder: Path, decoding: Decoding, sources: Sequence[str]) -> None:
        self._reader = JournalReader(folder, sources)
        self._decoding = decoding
        self._pending: list[Placed] = []
        self.until: int | None = None

    @property
    def reader(self) -> JournalReader:
        return self._reader

    def seek(self, place: int) -> None:
        """Begin after a place. What is before it in its segment is decoded, as far as the rest
        depends on it: of most sources the last packet, which shows the numbers that come next.
        """
        last = self._reader.last()
        if place > last:
            notes.warning("the journal ends %d bytes before the position of the stack: it was cut"
                          " off, and the stack goes on at its end", place - last)  # fmt: skip
            place = last
        self._reader.seek(place if self.warm is None else max(0, place - WARM_SIZE))
        self._pending, newest = [], dict[tuple[str, int], Piece]()
        names: dict[tuple[str, int], dict[int, str]] = {}
        while self._reader.place < place and (placed := self._reader.read()) is not None:
            for each in placed:
                if each.end > place:
                    self._pending.append(each)
                elif self.warm is not None:
                    self.warm(self._decoded(each.content))
                elif isinstance(each.content, Piece):
                    self._go_over(each.content, newest, names)
        for piece in newest.values():
            if self._decoding.session(piece.info) == piece.info.session:
                self._decoding.take(piece)
        self.place = place

    def _go_over(
        self,
        piece: Piece,
        newest: dict[tuple[str, int], Piece],
        names: dict[tuple[str, int], dict[int, str]],
    ) -> None:
        key = piece.info.key
        self._decoding.declare(piece.info)
        if self._decoding.groups(piece.info):
            self._decoding.take(piece)
            return
        if piece.names is not None:
            names[key] = piece.names
        if piece.data:
            newest[key] = piece._replace(names=names.get(key), loss=None)

    def read(self) -> Lot | None:
        pending, self._pending = self._pending, []
        placed = pending or self._reader.read(self._decoding.most)
        if placed is None:
            self.ended = self.until is not None and self._reader.place >= self.until
            return None
        made = Made()
        observed_ns, size = None, 0
        for content in runs(content for content, _ in placed):
            if isinstance(content, Gap):
                made.add(Taken(self._decoding.gap(content.size, content.reason)))
                size += content.size
                continue
            made.add(self._decoding.take_run(content))
            observed_ns = content[-1].observed_ns or observed_ns
            size += sum(len(piece.data) for piece in content)
        self.place = self._reader.place
        if self.until is not None and self.place >= self.until:
            self.ended = True
        news = self._decoding.news()
        return Lot(made.records, observed_ns, size, *news, made.columns, made.lines)

    def _decoded(self, content: Piece | Gap) -> list[Record]:
        if isinstance(content, Gap):
            return self._decoding.gap(content.size, content.reason)
        return self._decoding.take(content)

    def end(self) -> None:
        self.until = self._reader.last() if self.until is None else self.until

    def close(self) -> None:
        self._reader.close()


class QueueFeed(Feed):
    """Records of the blocks that the receiver sends through a socket.

    It cannot go back: what was read and not written is kept by the stack.
    """

    def __init__(self, data: socket.socket, decoding: Decoding, sources: Sequence[str]) -> None:
        self._socket = data
        self._socket.setblocking(False)
        self._decoding = decoding
        self._parser = Parser(sources)
        self._rest = b""
        self.until: int | None = None

    def seek(self, place: int) -> None:
        """Nothing: a queue begins where it is."""

    def read(self) -> Lot | None:
        try:
            more = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            self._check_end()
            return None
        except OSError:  # the receiver is gone
            more = b""
        if not more:
            self.ended = True
            return None
        data = self._rest + more
        made = Made()
        observed_ns, used = None, 0
        pieces = []
        for frame in frames(data):
            piece, used = self._parser.piece(data, frame), frame.end
            if piece is not None:
                pieces.append(piece)
        for run in runs(pieces):
            assert not isinstance(run, Gap)
            made.add(self._decoding.take_run(run))
            observed_ns = run[-1].observed_ns or observed_ns
        self._rest = data[used:]
        self.place += used
        self._check_end()
        news = self._decoding.news()
        return Lot(made.records, observed_ns, used, *news, made.columns, made.lines)

    def _check_end(self) -> None:
        if self.until is not None and self.place >= self.until:
            self.ended = True

    def descriptors(self) -> list[int]:
        return [] if self.ended else [self._socket.fileno()]

    def end(self) -> None:
        """Nothing: the receiver says until which place it goes."""

    def close(self) -> None:
        """Nothing: the socket is that of the process."""


class Feeds:
    """The feeds of a stack, as one.

    live        of the journal or queue; None: all its sources are files
    goes_back   whether reading can begin anew after a position
    """

    def __init__(self, live: Feed | None, files: Mapping[str, Feed], journal: str = "") -> None:
        """
        files     by the name of the source
        journal   its identity; "" without one
        """
        self.live, self._files, self._journal = live, files, journal
        self.goes_back = not isinstance(live, QueueFeed)
        self._turn = 0

    @property
    def all(self) -> list[Feed]:
        return [*([] if self.live is None else [self.live]), *self._files.values()]

    @property
    def ended(self) -> bool:
        return all(feed.ended for feed in self.all)

    def position(self) -> Position:
        """How far all of them came."""
        place = 0 if self.live is None else self.live.place
        begins = {n: f.begins for n, f in self._files.items() if f.begins is not None}
        return Position(self._journal, place, {n: f.place for n, f in self._files.items()}, begins)

    def seek(self, position: Position) -> None:
        """Begin after a position. Raises BackendError, DecodeError, ValueError."""
        if self.live is not None:
            self.live.seek(position.place)
        for name, feed in self._files.items():
            feed.begins = position.begins.get(name)
            feed.seek(position.files.get(name, 0))

    def read(self) -> Lot | None:
        """The records that come next, of one feed after the other; None: there are none yet."""
        every = self.all
        for _ in every:
            self._turn = (self._turn + 1) % len(every)
            feed = every[self._turn]
            lot = None if feed.ended else feed.read()
            if lot is not None:
                return lot
        return None

    def wait(self, descriptors: Sequence[int], timeout_s: float) -> None:
        """Wait until one of the descriptors, or of a feed, is readable, or it is time."""
        ticks = [feed.tick_s for feed in self.all if not feed.ended and feed.tick_s is not None]
        own = [descriptor for feed in self.all for descriptor in feed.descriptors()]
        readable([*descriptors, *own], min([timeout_s, *ticks]))

    def end(self) -> None:
        """Give what there is, then end."""
        for feed in self.all:
            feed.end()

    def close(self) -> None:
        """Close all of them."""
        for feed in self.all:
            with contextlib.suppress(OSError):
                feed.close()
