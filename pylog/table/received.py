"""Decodes what a live source gave by columns: receipts in, lines and records out, in their order.

Receipts that follow each other are one window of bytes. Its regular packets become lines at once
(pylog.table.ordered); losses, irregular records and what columns do not read come between them. The
records are those that the decoder gives of each receipt, with the time of that receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pylog.actions import Actions
from pylog.decoder import LOT, Decoder
from pylog.filter import Filter
from pylog.formats.columns import Array
from pylog.origins import Origin
from pylog.record import Record
from pylog.table.ordered import Ordered, Piece
from pylog.table.patterns import LineForm
from pylog.table.regular import Regular

AHEAD = bytes(256)
"""What may be read behind the last message."""


class Receipt(NamedTuple):
    """What was received together, complete messages, and when, in nanoseconds since 1970."""

    data: bytes | memoryview
    observed_ns: int


class Window:
    """Receipts as one window of bytes.

    data   their bytes, and AHEAD
    size   how many bytes they have
    """

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self.data = b"".join([*(receipt.data for receipt in receipts), AHEAD])
        self._ends = np.cumsum([len(receipt.data) for receipt in receipts])
        self._times = np.array([receipt.observed_ns for receipt in receipts], np.int64)
        self.size = len(self.data) - len(AHEAD)

    def observed(self, places: Array) -> Array:
        """When the bytes at these places were received."""
        times: Array = self._times[np.searchsorted(self._ends, places, "right")]
        return times

    def decoded(self, decoder: Decoder, base: int, pos: int) -> tuple[int, list[Record]]:
        """Let the decoder decode the rest of the receipt from `pos` on: where it ends, and its
        records. Raises DecodeError, if the decoder is strict.

        base   the decoder's position of the start of the window
        """
        i = int(np.searchsorted(self._ends, pos, "right"))
        end = int(self._ends[i])
        decoder.seek(base + pos)
        decoder.feed(self.data[pos:end], True, int(self._times[i]))
        return end, taken(decoder)


def taken(decoder: Decoder) -> list[Record]:
    """All records of the bytes that a decoder was fed. Raises DecodeError, if it is strict."""
    records: list[Record] = []
    while (record := decoder.next()) is not None:
        records.append(record)
        records += decoder.more(LOT)
    return records


class LineReader:
    """Makes lines of an output of what a decoder's source gave.

    left_out   how many packets the filter did not want
    """

    def __init__(
        self,
        decoder: Decoder,
        origin: Origin,
        form: LineForm,
        where: Filter | None = None,
        actions: Actions | None = None,
        given: Callable[[Record], Any] | None = None,
    ) -> None:
        """
        form    the output
        where   which packets; it is not asked of the records that the decoder gives
        given   what a record becomes if the decoder gives rows; None: it gives records
        """
        self._decoder, self._given = decoder, given
        self._regular = Regular(decoder, origin)
        self._ordered = Ordered(form, where, actions)

    @property
    def left_out(self) -> int:
        return self._ordered.left_out

    def forget(self) -> None:
        """Interfaces have other names from here on."""
        self._regular.forget()

    def read(self, receipts: Sequence[Receipt]) -> Iterator[Piece]:
        """The lines of the receipts, and the records, or rows, that the output must write. What is
        given is to be written before the next is taken.
        """
        decoder, base = self._decoder, self._decoder.position
        window, pos = Window(receipts), 0
        decoder.losses.received()
        while pos < window.size:
            run = self._regular.run(window.data, base, pos, window.size, window.observed)
            if run is None:
                pos, records = window.decoded(decoder, base, pos)
                if records:
                    yield Piece(None, records, len(records))
                continue
            pos += run.used
            self._ordered.add(run)
            for piece in self._ordered.take():
                if piece.lines is None and self._given is not None:
                    piece = piece._replace(records=[*map(self._given, piece.records)])
                yield piece
        decoder.seek(base + window.size)
