"""Many messages at once, for tables: what a format may have beside its Stream.

A Stream names the module as its `columns_module`. The module needs NumPy (the extra `arrow`) and
has one function:

    columns(stream) -> Columns | None    what reads the messages of the stream; None: nothing does

Formats without columns, and irregular messages, are read by the Stream alone. The values are the
same as those of the Stream's `decode`: the offsets come from the same schemas, and what cannot be
computed with NumPy comes from `decode` itself, once for all messages that agree in the bytes that
determine it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from pylog.formats import Message, Stream
from pylog.record import PacketRecord, Record

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
else:
    Array = Any


class NumberColumn(NamedTuple):
    """A number in each row; `valid` is False where the record has None (None: nowhere)."""

    values: Array
    valid: Array | None = None


class Repeated(NamedTuple):
    """In each row one of a few values: `values[code]`, as the record's field has it.

    codes   intp, one a row
    """

    codes: Array
    values: Sequence[Any]


class Addresses(NamedTuple):
    """An address in each row: the next of `six` where `is_six`, else the next of `four`.

    four, six   uint8 in (rows, 4) and (rows, 16)
    valid       False where the record has None (None: nowhere); the address there is noise
    """

    four: Array
    six: Array
    is_six: Array
    valid: Array | None = None


class Blobs(NamedTuple):
    """Bytes in each row, of any size: data[start : start + size], one behind the other.

    valid   False where the record has None (None: nowhere); the size there is 0
    """

    data: Array
    starts: Array
    sizes: Array
    valid: Array | None = None


class Numbered(NamedTuple):
    """In each row one of a few mappings, `values[code]`, with a number of its own.

    key       of the number, which all mappings that have one have at its place already
    numbers   one a row
    valid     False where the mapping has no such key
    """

    codes: Array
    values: Sequence[Any]
    key: str
    numbers: Array
    valid: Array


class Numbers(NamedTuple):
    """In each row a mapping of names to numbers, in the order of `columns`; none is empty.

    columns   the number of each name; a row has no such name where it is not valid
    """

    columns: Mapping[str, NumberColumn]


Column = NumberColumn | Repeated | Addresses | Blobs | Numbered | Numbers


class DecodedOnce(dict[bytes, Record]):
    """The records that `decode` made of messages, by a key of the bytes that matter.

    All are forgotten when there are MAXIMUM, since whoever sends packets may choose the keys.
    Payloads are not kept: they are in the data, and may be long.
    """

    def record(self, key: bytes, stream: Stream, data: bytes, message: Message) -> Record:
        """The record of a message, or of an earlier one with the same key."""
        record = self.get(key)
        if record is None:
            if len(self) >= MAXIMUM:
                self.clear()
            record = stream.decode(data, message)
            if isinstance(record, PacketRecord) and record.payload is not None:
                record = msgspec.structs.replace(record, payload=None)
            self[key] = record
        return record


MAXIMUM = 4096


class Rows(ABC):
    """Messages that follow each other in the data, and the columns of the regular ones.

    starts, ends   of each message in the data, int64
    irregular      the indices of the messages that the Stream must decode, ascending
    after          where in the data the next message begins
    other          how many messages without a record lie between them
    """

    starts: Array
    ends: Array
    irregular: Array
    after: int
    other: int

    def message(self, i: int) -> Message:
        """A message as the Stream decodes it."""
        return Message(int(self.starts[i]), int(self.ends[i]))

    @abstractmethod
    def logs(self) -> Repeated:
        """The logs that number the regular messages, as (interface of a capture, record.log);
        without a capture the interface is None.
        """

    def on_request(self) -> Mapping[str, NumberColumn] | None:
        """The columns of the fields on request, where the log says them itself, those that have any
        value; None: the payloads say them.
        """
        return None

    @abstractmethod
    def column(self, name: str) -> Column | None:
        """The column of a record's field for the regular messages, in order; None: all are None."""


class Columns(Protocol):
    """Reads the messages of one stream."""

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """The messages from `pos` on that begin before `stop`, as far as they follow each other.

        It may end earlier, wherever a message ends. None: the Stream must read even the first.
        """


def of(stream: Stream) -> Columns | None:
    """What reads many messages of a stream at once; None: nothing does."""
    if not stream.columns_module:
        return None
    columns: Columns | None = importlib.import_module(stream.columns_module).columns(stream)
    return columns
