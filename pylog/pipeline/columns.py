"""Decodes what a source gave by column, for outputs that take columns or make lines of them.

A run of pieces is one window of bytes: its regular packets become Arrow columns at once, see
pylog.table.regular. Losses and irregular messages become records as always, so a stack gets both.
A small run is decoded to records, which is as fast. The stage `where` is applied to columns here;
stacks with other stages get records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from pylog.actions import Actions
from pylog.decoder import Decoder
from pylog.filter import Filter
from pylog.origins import Origin
from pylog.pipeline.journal_reader import Gap
from pylog.pipeline.parsing import Piece
from pylog.record import Record

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

    from pylog.table.patterns import LineForm
    from pylog.table.received import Receipt
    from pylog.table.regular import Lot

LONGEST = 1 << 22
"""How many bytes of pieces are a run, at most."""


class Columns(NamedTuple):
    """What a stack takes as columns.

    wanted   by kind, the columns that its output takes
    where    which packets; None: all
    """

    wanted: Mapping[str, Sequence[str]]
    where: Filter | None = None


class LinesWanted(NamedTuple):
    """What a stack takes as lines.

    form    its output
    where   which packets; None: all
    """

    form: LineForm
    where: Filter | None = None


def runs(contents: Iterable[Piece | Gap]) -> Iterator[list[Piece] | Gap]:
    """The pieces, those of one source that follow each other together; a loss is alone. In a run
    only the first piece may have anything but data.
    """
    run: list[Piece] = []
    size = 0
    for content in contents:
        if run and not (
            isinstance(content, Piece)
            and content.info is run[0].info
            and content.names is None
            and content.loss is run[0].loss is None
            and not content.authors
            and size < LONGEST
        ):
            yield run
            run, size = [], 0
        if isinstance(content, Gap):
            yield content
            continue
        run.append(content)
        size += len(content.data)
    if run:
        yield run


def joined(run: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces of a run with the datagrams of one receipt as one, which is faster to decode."""
    for _, group in groupby(run, lambda piece: (piece.observed_ns, piece.loss is None)):
        same = list(group)
        data = b"".join([piece.data for piece in same])
        yield same[0] if len(same) == 1 else same[0]._replace(data=data)


class ColumnReader:
    """Decodes the runs of a source by column."""

    def __init__(
        self, decoder: Decoder, columns: Columns, origin: Origin, actions: Actions | None
    ) -> None:
        from pylog.table.regular import Regular
        from pylog.table.select import Selection

        self._decoder = decoder
        self._selection = Selection("packet", columns.wanted["packet"], columns.where, actions)
        self._regular = Regular(decoder, origin)

    @property
    def left_out(self) -> int:
        """How many packets the filter did not want."""
        return self._selection.left_out

    def forget(self) -> None:
        """Interfaces have other names from here on."""
        self._regular.forget()

    def read(self, run: Sequence[Piece]) -> tuple[list[Record], list[pa.RecordBatch]]:
        """The records of a run that are not in columns, and the columns of the other packets. Each
        piece has a time.
        """
        from pylog.table.received import Window

        decoder, base = self._decoder, self._decoder.position
        window, pos = Window(receipts(run)), 0
        records: list[Record] = []
        batches: list[pa.RecordBatch] = []
        decoder.losses.received()
        while pos < window.size:
            lot: Lot = {}
            used = self._regular.read(
                lot, window.data, base, pos, window.size, self._selection.needed, window.observed
            )
            packets = lot.pop("packet", None)
            if packets is not None:
                selected = self._selection.of(packets)
                if selected.num_rows:
                    batches.append(selected)
            for others in lot.values():
                records += others
            if used:
                pos += used
            else:
                pos, more = window.decoded(decoder, base, pos)
                records += more
        decoder.seek(base + window.size)
        return records, batches


def receipts(run: Iterable[Piece]) -> list[Receipt]:
    """The data of a run, of which each piece has a time."""
    from pylog.table.received import Receipt

    return [Receipt(p.data, p.observed_ns or 0) for p in run if p.data]
