"""`packets()` gives the packet records only, and no loss goes unseen; `async with` closes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import pytest
import samples

import pylog
from pylog import LossRecord, PacketRecord
from pylog.testing import Device

OVERRUN = samples.FIXTURES / "nflog/overrun.bin"  # sequence numbers have gaps
DAMAGED = samples.FIXTURES / "ipl/damaged.bin"
NAT = samples.FIXTURES / "ipl/v4-1-35-lp64le-nat.nat.bin"  # flows only
LAYOUT = "ipl-5.1.2-lp64le"

openers: list[Callable[[], pylog.Reader | pylog.Merged]] = [
    lambda: pylog.open(OVERRUN),
    lambda: pylog.open(DAMAGED),
    lambda: pylog.merge(OVERRUN, DAMAGED),
    lambda: pylog.replay(OVERRUN, speed=None),
]
each_reader = pytest.mark.parametrize("opened", openers, ids=["nflog", "ipl", "merged", "replay"])


@each_reader
def test_packets_are_the_records_without_losses(
    opened: Callable[[], pylog.Reader | pylog.Merged], caplog: pytest.LogCaptureFixture
) -> None:
    with opened() as reader:
        records = list(reader)
        counts = reader.received, reader.dropped, reader.uncounted, reader.malformed
    losses = [record for record in records if isinstance(record, LossRecord)]
    assert losses
    caplog.clear()
    with opened() as reader:
        packets = list(reader.packets())
        assert counts == (reader.received, reader.dropped, reader.uncounted, reader.malformed)
    assert packets == [record for record in records if isinstance(record, PacketRecord)]
    (message,) = [text for text in caplog.messages if "packets()" in text]
    assert losses[0].describe() in message


@each_reader
def test_packets_are_the_same_with_asyncio(
    opened: Callable[[], pylog.Reader | pylog.Merged], caplog: pytest.LogCaptureFixture
) -> None:
    async def read() -> list[PacketRecord]:
        async with opened() as reader:
            return [packet async for packet in reader.packets()]

    with opened() as reader:
        packets = list(reader.packets())
    caplog.clear()
    assert asyncio.run(read()) == packets
    assert len([text for text in caplog.messages if "packets()" in text]) == 1


def test_flows_are_passed_over_and_are_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    with pylog.open(NAT) as reader:
        assert list(reader.packets()) == [] and reader.received > 0
    assert caplog.messages == []


def test_packets_go_on_where_the_reader_is() -> None:
    with pylog.open(OVERRUN) as reader:
        everything = [record for record in reader if record.kind == "packet"]
    with pylog.open(OVERRUN) as reader:
        first = reader.read()
        packets = reader.packets()
        second = next(packets)
        assert [first, second, *packets, *reader] == everything
        assert list(packets) == []


def test_strict_reading_raises_through_packets() -> None:
    with pylog.open(DAMAGED, on_error="strict") as reader, pytest.raises(pylog.DecodeError):
        list(reader.packets())


# async with


def test_async_with_closes_a_reader() -> None:
    async def read() -> pylog.Reader:
        async with pylog.open(OVERRUN) as reader:
            assert await anext(reader.packets())
        return reader

    reader = asyncio.run(read())
    assert reader.backend.closed and reader.read() is None


def test_async_with_closes_after_an_error_and_does_not_hide_it() -> None:
    readers: list[pylog.Merged] = []

    async def fail() -> None:
        async with pylog.merge(OVERRUN, io.BytesIO(NAT.read_bytes())) as reader:
            readers.append(reader)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(fail())
    assert all(reader.backend.closed for reader in readers[0].readers())


def test_async_with_is_left_while_another_task_waits() -> None:
    async def leave(device: Device) -> int:
        async with device.open(layout=LAYOUT) as reader:
            waiting = asyncio.create_task(count(reader))
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(waiting, 5)

    async def count(reader: pylog.Reader) -> int:
        return len([packet async for packet in reader.packets()])

    with Device(LAYOUT) as device:
        assert asyncio.run(leave(device)) == 0
