"""What becomes of bytes that cannot be decoded.

A message is tried again, the cheapest way first: in another layout that fits all bytes so far, then
without the value that makes no sense (a flaw). If both fail, its bytes are damage, which the
decoder reports as a loss record. Damages counts flaws and damage, and ends strict decoding at the
first of either.
"""

from __future__ import annotations

from collections import Counter

from pylog.errors import DecodeError
from pylog.formats import Damage, Message, Stream
from pylog.notes import notes
from pylog.record import LossRecord, Record


class Damages:
    """The damage of one input.

    malformed   damaged places so far: stretches of bytes that no record could be made of, and
                values that records were decoded without
    flaws       how many of them are values, by field
    cut_off     where the last record begins, if the input ended within it or within its compression
    error       the DecodeError that ended strict decoding
    """

    def __init__(self, name: str, *, strict: bool, raw: bool, live: bool, placed: bool) -> None:
        """As of a Decoder.

        name     what notes and errors call the input
        strict   damage and flaws raise DecodeError
        """
        self.malformed = 0
        self.flaws: Counter[str] = Counter()
        self.cut_off: int | None = None
        self.error: DecodeError | None = None
        self.strict = strict
        self._name, self._raw, self._live, self._placed = name, raw, live, placed

    def add(self, error: DecodeError) -> None:
        """Count a damaged place; raise the error when decoding strictly."""
        self.malformed += 1
        if self.strict:
            self.error = error.copy_for_raising(self._name)
            raise self.error

    def add_flaw(self, error: DecodeError) -> None:
        """As `add`, for a value that a record is decoded without; the first of each is noted."""
        self.add(error)
        self.flaws[error.field] += 1
        if self.flaws[error.field] == 1:
            notes.warning("%s: %s: the record is read without it (others like it are only counted)",
                         self._name, error)  # fmt: skip

    def loss(
        self, damage: Damage, stream: Stream, layout: str, data: bytes, base: int
    ) -> LossRecord:
        """The loss that stands for damage, which is counted.

        stream   of the messages that the damaged bytes lie among
        layout   what to call it, where the stream has none
        data     the bytes at hand, of which the first has the offset `base` in the input
        """
        self.add(damage.error)
        origin, start, octets = damage.origin, damage.offset - base, None
        if self._raw and damage.size and start >= 0:
            octets = data[start : start + damage.size]
            if origin is not None:
                octets = stream.raw(data, Message(start, start + damage.size, origin))
        loss = LossRecord(
            source=stream.source,
            layout=stream.layout or layout,
            offset=damage.offset if self._placed else None,
            observed_ns=stream.observed_ns if origin is None else origin.observed_ns,
            size=damage.size or None,
            reason=damage.error.reason,
            raw=octets,
        )
        if loss.cut_off and self.cut_off is None and not self._live:
            self.cut_off = damage.offset
        return loss


def in_another_layout(
    stream: Stream, others: list[Stream], data: bytes, message: Message, raw: bool
) -> tuple[Record, list[Stream]] | None:
    """The record as another layout reads it that agreed on everything so far, and the streams of
    that layout and of those that still agree; None: no layout can read it.

    others   streams of the layouts that agreed with `stream` so far
    """
    for i, other in enumerate(others):
        other.base, other.used, other.final = stream.base, stream.used, stream.final
        other.observed_ns = stream.observed_ns
        try:
            record = other.decode(data, message, raw)
        except DecodeError:
            continue
        other.damage, other.other = stream.damage, stream.other
        other.in_step = stream.in_step
        return record, others[i:]
    return None


def without_flaws(stream: Stream, data: bytes, message: Message, raw: bool) -> Record | None:
    """The record without what makes no sense in it; None: no record is left."""
    stream.lenient = True
    try:
        return stream.decode(data, message, raw)
    except DecodeError:
        return None
    finally:
        stream.lenient = False
