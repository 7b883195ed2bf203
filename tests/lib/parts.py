"""Splits decoded one by one in this process, and dumps on which cuts are hard to get right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import builders
import pyarrow as pa
import samples
import tables

import pylog
from pylog.errors import DecodeError
from pylog.formats import Message, Stream, nfulnl
from pylog.record import Record
from pylog.table import schema
from pylog.table.splits import End, Split, SplitReader, decode, in_order

NFULA_PAYLOAD, NFULA_SEQ = 9, 12


def at_once(work: Callable[[Split], End], split: Split) -> Future[End]:
    """What comes of the work, which is done before this returns."""
    future: Future[End] = Future()
    try:
        future.set_result(work(split))
    except DecodeError as error:
        future.set_exception(error)
    return future


@dataclass
class Decoded:
    """What splits give: rows of the kind in their order, and the numbers of splits begun again."""

    rows: list[dict[str, Any]]
    again: list[int]


def decoded(splits: list[Split], kind: str, ahead: int = 3) -> Decoded:
    """The rows of the splits, each decoded by itself, and again where the first time was wrong."""
    batches: dict[int, list[pa.RecordBatch]] = {}
    again = []

    def submit(number: int, split: Split) -> Future[End]:
        if number in batches:
            again.append(number)
        batches[number] = []
        return at_once(partial(fill, number), split)

    def fill(number: int, split: Split) -> End:
        some = decode(split, kind=kind)
        batches[number] += some
        return some.end

    order = [number for number, _, _ in in_order(splits, submit, ahead)]
    assert order == list(range(len(splits)))
    found = [batch for number in order for batch in batches[number]]
    return Decoded(tables.plain(pa.Table.from_batches(found, schema(kind))), again)


def records(splits: list[Split]) -> list[Record]:
    """The records of the splits, each read by itself, and again where the first time was wrong."""
    found: dict[int, list[Record]] = {}

    def read(number: int, split: Split) -> End:
        with SplitReader(split) as reader:
            found[number] = list(reader.records())
            return reader.ended()

    order = in_order(splits, lambda number, split: at_once(partial(read, number), split), 3)
    return [record for number, _, _ in order for record in found[number]]


def alone(splits: list[Split], kind: str) -> list[dict[str, Any]]:
    """The rows of the splits when nobody looks where each of them ended."""
    found = [batch for split in splits for batch in decode(split, kind=kind)]
    return tables.plain(pa.Table.from_batches(found, schema(kind)))


def whole(path: Path | str, kind: str, layout: str | None = None) -> list[dict[str, Any]]:
    """The rows of a dump read by one process, from its start to its end."""
    return tables.plain(pylog.read_table(path, kind=kind, layout=layout))


def messages(data: bytes, stream: Stream) -> list[bytes]:
    """The messages of a dump, one by one."""
    found = [item for item in stream.split(data, True) if isinstance(item, Message)]
    return [data[item.start : item.end] for item in found]


def numbered(numbers: list[int]) -> bytes:
    """NFLOG messages with these sequence numbers."""
    return b"".join(builders.log("<", 5, [(NFULA_SEQ, n), (NFULA_PAYLOAD, b"E")]) for n in numbers)


def carrying(dump: bytes) -> bytes:
    """An NFLOG message of a packet whose payload is a dump."""
    message = builders.log("<", 5, [(NFULA_PAYLOAD, dump)])
    return message + bytes(-len(message) % 4)


def netlink_with_dumps_inside() -> bytes:
    """A dump in which most bytes belong to packets that carry dumps themselves."""
    inner = (samples.FIXTURES / "nflog/seq.bin").read_bytes()[:60_000]
    inner = b"".join(messages(inner, nfulnl.NfulnlStream("<")))
    return b"".join(carrying(inner) + numbered([n]) for n in range(6))


def hard_dumps(folder: Path) -> Path:
    """Fill a folder with dumps on which cuts are hard to get right."""
    data = (samples.FIXTURES / "nflog/seq.bin").read_bytes()
    (folder / "1.bin").write_bytes((samples.FIXTURES / "ipl/damaged.bin").read_bytes() * 9)
    (folder / "2.bin").write_bytes(netlink_with_dumps_inside())
    (folder / "3.bin").write_bytes(numbered(list(range(0, 3000, 3))))
    (folder / "4.bin").write_bytes(data[:90_000] + b"\xff" * 70_000 + data[90_000:])
    return folder


def hard_rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of such a folder, read by one process."""
    return tables.plain(pylog.read_table(sorted(folder.iterdir()), kind=kind))


def until(found: Callable[[], Any]) -> Any:
    """What is found in the end."""
    for _ in range(1200):
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it never came")


def reader_of(fifo: Path) -> int | None:
    """A descriptor to write to a FIFO that somebody has opened for reading."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
