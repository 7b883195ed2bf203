"""An input that is cut anywhere gives the first records of the full one, and invents none."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builders
import effort
import pytest
import samples

import pylog
from pylog import LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.errors import DecodeError
from pylog.formats import pcap_blocks

CUTS = 4
"""How many cuts of an input are tried at effort 1."""
MOST = 20_000
"""Of longer fixtures only so many bytes are cut."""

_seq = samples.FIXTURES / "nflog/seq.bin"


def read(data: bytes, layout: str | None) -> list[pylog.Record]:
    with pylog.open(io.BytesIO(data), layout=layout) as reader:
        return list(reader)


def rows(data: bytes, layout: str | None) -> dict[str, list[Any]]:
    """The records of the tables, by kind."""
    from pylog.table.bulk import opened
    from pylog.table.select import Selection

    found: dict[str, list[Any]] = {"packet": [], "flow": []}
    wanted = {kind: Selection(kind, None) for kind in found}
    with opened(io.BytesIO(data), layout=layout) as bulk:
        for kind, batch in bulk.batches(wanted):
            found[kind] += batch.to_pylist()
    return found


def records(found: list[pylog.Record]) -> list[pylog.Record]:
    """What is neither a loss nor of a commit that was cut."""
    return [
        record for record in found
        if not isinstance(record, LossRecord) and not getattr(record, "incomplete", None)
    ]  # fmt: skip


def cuts(data: bytes, count: int, seed: int) -> Iterator[int]:
    """Where to cut: anywhere, and in a part of the cases near the end."""
    choose = effort.chance("cuts", seed)
    for i in range(effort.number(count, least=2)):
        yield choose.randrange(len(data) * 9 // 10 if i % 4 == 0 else 1, len(data))


def check(data: bytes, layout: str | None, count: int = CUTS, tables: bool = True) -> int:
    """Hold `count` cuts of an input against the full one; how many could be read."""
    known, tried = records(read(data, layout)), 0
    assert known
    by_kind = rows(data, layout) if tables else {}
    for at in cuts(data, count, len(data)):
        try:
            found = records(read(data[:at], layout))
        except DecodeError:  # cut before the first record
            continue
        assert found == known[: len(found)], f"cut after {at} bytes"
        tried += 1
        if tables:
            for kind, some in rows(data[:at], layout).items():
                assert some == by_kind[kind][: len(some)], f"table, cut after {at} bytes"
    return tried


def raw(dump: Path) -> tuple[bytes, str | None]:
    """A fixture's first bytes, to a record's end, and its layout."""
    data = dump.read_bytes()
    with pylog.open(dump) as reader:
        layout = reader.layout
        device = "" if reader.detection.container != "raw" else reader.decoder.stream.name
    if dump.suffix != ".bin":
        return data[:MOST], None
    return data[:MOST], device or layout


def as_pcap(order: str, nanoseconds: bool) -> bytes:
    """Messages of NFLOG as a pcap file of one byte order, theirs and the file's."""
    attributes: list[tuple[int, Any]]
    out = builders.pcap_header(239, order=order, nanoseconds=nanoseconds)
    for i, record in enumerate(read(_seq.read_bytes()[:20_000], None)):
        if isinstance(record, PacketRecord):
            attributes = [(1, {"hw_protocol": 0x800, "hook": 1}), (10, b"p" * (i % 9) + b"\0")]
            attributes += [(9, record.payload or b""), (12, i)]
            message = builders.log(order, i % 3, attributes, family=2)[16:]
            out += builders.pcap_packet(message, 1_700_000_000 * 10**9 + i * 10**6 + i,
                                           order=order, nanoseconds=nanoseconds)  # fmt: skip
    return out


def as_pcapng(dump: Path) -> bytes:
    stream = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(stream))
    with pylog.open(io.BytesIO(raw(dump)[0]), raw=True, layout=raw(dump)[1]) as reader:
        output.write(Batch(list(reader)))
    output.close()
    return stream.getvalue()


DUMPS = samples.dumps()
FILES: dict[str, Callable[[], bytes]] = {
    **{f"pcap{order}{'nsec' if nano else 'usec'}": lambda o=order, n=nano: as_pcap(o, n)  # type: ignore[misc]
       for order in "<>" for nano in (False, True)},
    "pcapng of nflog": lambda: as_pcapng(_seq),
    "pcapng of ipl": lambda: as_pcapng(samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"),
    "damaged pcapng": lambda: as_pcapng(samples.FIXTURES / "nflog/damaged.bin"),
}  # fmt: skip


@pytest.mark.parametrize("dump", effort.sample(DUMPS), ids=samples.name)
def test_a_fixture_cut_anywhere_gives_its_first_records(dump: Path) -> None:
    check(*raw(dump), tables=dump.stat().st_size % 16 == 0)


@pytest.mark.parametrize("name", FILES)
def test_a_capture_cut_anywhere_gives_its_first_records(name: str) -> None:
    assert check(FILES[name](), None, 3 * CUTS)


@pytest.mark.parametrize("name", ["pcap<usec", "pcapng of ipl"])
def test_a_compressed_capture_cut_anywhere_gives_its_first_records(name: str) -> None:
    check(gzip.compress(FILES[name](), mtime=0), None)


# A wrong length is no cut: what follows it is read


def after_a_wrong_length(data: bytes, at: int, value: int, layout: str | None = None) -> None:
    """Change the byte that makes a message end beyond the input, and look for those after it."""
    known = records(read(data, layout))
    changed = bytearray(data)
    changed[at] = value
    found = records(read(bytes(changed), layout))
    assert len(found) == len(known) - 1 and found[-1] == known[-1]


def test_records_after_a_wrong_length_of_a_packet_in_pcap_are_read() -> None:
    data = as_pcap("<", True)
    second = 24 + 16 + int.from_bytes(data[32:36], "little")
    after_a_wrong_length(data, second + 10, 1)


@pytest.mark.parametrize("order", "<>")
def test_records_after_a_wrong_length_of_a_netlink_message_are_read(order: str) -> None:
    rows: list[list[tuple[int, Any]]] = [
        [(1, {"hw_protocol": 0x800, "hook": 1}), (10, b"p" * (2 + i % 7) + b"\0"), (12, i)]
        for i in range(9)
    ]
    messages = [builders.log(order, 5, row, family=2) for row in rows]
    at = len(messages[0]) + (2 if order == "<" else 1)
    after_a_wrong_length(b"".join(messages), at, 1, f"nfulnl-{'le' if order == '<' else 'be'}")


def test_records_after_a_wrong_length_of_a_block_in_pcapng_are_read() -> None:
    data = as_pcapng(samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin")
    packet = data.index(pcap_blocks.EPB.to_bytes(4, "little"))
    packet += int.from_bytes(data[packet + 4 : packet + 8], "little")
    assert data[packet : packet + 4] == pcap_blocks.EPB.to_bytes(4, "little")
    after_a_wrong_length(data, packet + 6, 1)


def test_a_packet_within_the_packet_that_is_cut_is_not_read() -> None:
    inner = builders.pcap_packet(builders.log("<", 6, [(12, 3)], family=8)[16:], 5 * 10**9)
    message = builders.log("<", 5, [(1, {"hw_protocol": 0, "hook": 1}), (9, inner * 9)], family=2)
    packets = [builders.pcap_packet(message[16:], 10**18 + i) for i in range(2)]
    data = builders.pcap_header(239) + b"".join(packets)
    for cut in effort.sample(range(1, len(packets[1])), least=30):
        found = read(data[:-cut], None)
        assert len(records(found)) == 1 and isinstance(found[-1], LossRecord)
        assert found[-1].size == len(packets[1]) - cut
