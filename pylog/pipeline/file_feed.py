"""The records of a file that a stack reads for itself: it is not in the journal.

A place is a number of records. A file that grows is followed by its name, so the place is in the
file that has the name now; how that file begins is a part of the position.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from pylog import backends
from pylog.decoder import LOT
from pylog.errors import BackendError, DecodeError
from pylog.notes import notes
from pylog.pipeline.config import Source
from pylog.pipeline.decoding import Wanted
from pylog.pipeline.feeds import Feed, Lot
from pylog.pipeline.positions import MOST_HASHED, Beginning
from pylog.pipeline.tally import Tally
from pylog.reader import Reader

TICK_S = 0.2
"""How often a file that may grow is looked at."""
SKIP_S = 3.0
"""So long a file that grows may give nothing while records are skipped: what it is takes a second
to detect.
"""


class FileFeed(Feed):
    """Records of a file, which the stack reads for itself; a place counts records.

    A file that grows may be rotated. The place is then in the file that has its name now. If that
    begins otherwise than the file of the place, it is another one, and read from its start.
    """

    def __init__(
        self, source: Source, wanted: Wanted, *, raw: bool, rows: bool, payload: bool,
        messages: bool, tally: Tally | None = None,
    ) -> None:  # fmt: skip
        self._tally = tally or Tally([])
        self._source, self._wanted = source, wanted
        self._raw, self._rows, self._payload, self._messages = raw, rows, payload, messages
        self._reader: Reader | None = None
        self._rotations = 0
        """How many rotations the place takes into account."""
        self._offset = -1
        """Of the last record."""
        self._read: Callable[[float | None, int], list[Any]]

    def seek(self, place: int) -> None:
        """Begin after a place. A file that cannot be read has ended."""
        self.close()
        self.ended, self.place, self._rotations, self._offset = False, 0, 0, -1
        try:
            self._open()
        except (BackendError, DecodeError) as error:
            notes.error("%s: %s", self._source.name, error)
            self.ended, self.failure = True, str(error)
            return
        expected, self.begins = self.begins, None
        grows = self.tick_s is not None
        if place and grows and expected and not expected.begins(self._source.address):
            notes.warning("%s begins otherwise than before: it is another file, and is read from"
                          " its start", self._source.name)  # fmt: skip
            place = 0
        self._look()
        while self.place < place and (lot := self._lot(place - self.place, SKIP_S)):
            self.place += len(lot)
            if self.warm is not None:
                self.warm(lot)
        if self.place < place and self.tick_s is not None:
            notes.warning("%s has fewer records than were read before: it is another file, and is"
                          " read from its start", self._source.name)  # fmt: skip
            self.seek(0)

    def _open(self) -> None:
        (backend,) = backends.connect(self._source.address, self._source.options)
        try:
            self._reader = Reader(backend, layout=self._source.layout, raw=self._raw,
                                  origin=self._wanted.origin)  # fmt: skip
        except BaseException:
            backend.close()
            raise
        self.tick_s = None if backend.regular else TICK_S
        if self._messages:
            self._reader.pass_messages()
        self._read = (
            self._reader.rows(self._payload).read_batch if self._rows else self._reader.read_batch
        )

    def _look(self) -> None:
        """See how the file begins, if it grows and was too short so far."""
        if self.tick_s is not None and (self.begins is None or self.begins.size < MOST_HASHED):
            self.begins = Beginning.of(self._source.address)

    def _lot(self, limit: int, timeout_s: float = 0.0) -> list[Any] | None:
        assert self._reader is not None
        try:
            lot = self._read(None if self.tick_s is None else timeout_s, min(limit, LOT))
        except TimeoutError:
            return None
        if not lot:
            self.ended = True
        return lot

    def read(self) -> Lot | None:
        if self._reader is None or self.ended:
            return None
        lot = self._lot(LOT)
        if not lot:
            return None
        self._move(lot)
        if self._wanted.actions is not None:
            lot = [self._wanted.actions.record(record) for record in lot]
        size = self._reader.size * len(lot)
        self._tally.add(self._source.name, lot, size)
        return Lot(lot, getattr(lot[-1], "observed_ns", None), size)

    def _move(self, lot: list[Any]) -> None:
        """Count the records; after a rotation only those of the file that has the name now."""
        assert self._reader is not None
        self.place += len(lot)
        before, self._offset = self._offset, getattr(lot[-1], "offset", None) or 0
        if self._reader.backend.rotations == self._rotations:
            self._look()
            return
        self.begins = None
        self._look()
        self._rotations = self._reader.backend.rotations
        offsets = [before, *(getattr(record, "offset", None) or 0 for record in lot)]
        pairs = enumerate(itertools.pairwise(offsets))
        begins = [i for i, (last, offset) in pairs if offset <= last]
        self.place = len(lot) - begins[-1] if begins else 0  # none: all are of the file before

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
