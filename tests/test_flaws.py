"""A value that makes no sense costs its field, not its record, and is reported."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import builders
import pytest
from builders import pcap_header

import pylog
from pylog import DecodeError, FlowRecord, LossRecord, PacketRecord, outputs, read_table
from pylog.batch import Batch
from pylog.formats import ipl_layouts
from pylog.formats.ipl_fields import Fields
from pylog.formats.packet_schemas import ETH_P_IP
from pylog.formats.pcap_blocks import interface_block, packet_block, section_block

HDR = (1, {"hw_protocol": ETH_P_IP, "hook": 1})
PACKET = bytes.fromhex(
    "450000280001000040060000c0000201c6336402ac722328000000010000000050180200 00000000"
)
SECONDS = 1_700_000_000


def nflog(attributes: list[tuple[int, object]]) -> bytes:
    return builders.log("<", 5, [HDR, *attributes, (9, PACKET)])


def stamped(sec: int, usec: int) -> bytes:
    return nflog([(3, {"sec": sec % 2**64, "usec": usec % 2**64})])


def raw_attribute(number: int, value: bytes) -> bytes:
    """A message with one attribute more, whatever its value."""
    size = 4 + len(value)
    attribute = struct.pack("<HH", size, number) + value + bytes(-size % 4)
    message = bytearray(nflog([])[:-44] + attribute + nflog([])[-44:])
    message[:4] = len(message).to_bytes(4, "little")
    return bytes(message)


BAD_TIMES = [(SECONDS, 1_000_000), (SECONDS, -1), (-1, 0), (253402300800, 0), (2**63, 2**63)]


def read(data: bytes, **options: object) -> tuple[list[pylog.Record], pylog.Reader]:
    with pylog.open(io.BytesIO(data), **options) as reader:  # type: ignore[arg-type]
        return list(reader), reader


@pytest.mark.parametrize(("sec", "usec"), BAD_TIMES)
def test_a_bad_nfula_timestamp_costs_the_time_of_its_record_alone(sec: int, usec: int) -> None:
    data = stamped(SECONDS, 1) + stamped(sec, usec) + stamped(SECONDS, 2)
    records, reader = read(data)
    times = [record.timestamp_ns for record in records]
    assert times == [SECONDS * 10**9 + 1000, None, SECONDS * 10**9 + 2000]
    assert all(type(r) is PacketRecord and r.saddr == "192.0.2.1" for r in records)
    assert (reader.malformed, reader.flaws) == (1, {"NFULA_TIMESTAMP": 1})
    stamp = (records[1].extra or {})["NFULA_TIMESTAMP"]  # type: ignore[union-attr]
    assert [int(part) % 2**64 for part in stamp] == [sec % 2**64, usec % 2**64]


@pytest.mark.parametrize("message", [
    raw_attribute(2, b"\1\2"),  # NFULA_MARK
    raw_attribute(20 | 0x8000, b"\6\0\2\0\0"),  # NFULA_VLAN
    raw_attribute(18 | 0x8000, b"\6\0\3\0\0\0\0\0"),  # NFULA_CT with a short CTA_STATUS
])  # fmt: skip
def test_a_bad_attribute_is_kept_as_it_is(message: bytes) -> None:
    records, reader = read(stamped(SECONDS, 1) + message + stamped(SECONDS, 2))
    assert [type(record) for record in records] == [PacketRecord] * 3
    assert reader.malformed == 1
    assert "unknown" in repr(records[1].extra)  # type: ignore[union-attr]


def test_a_bad_number_of_a_conntrack_entry_costs_itself_alone() -> None:
    entry = bytes.fromhex("060003000008000008000700 000000090c0001800800018004000100")
    records, reader = read(stamped(SECONDS, 1) + raw_attribute(18 | 0x8000, entry))
    assert reader.malformed == 1
    assert (records[1].extra or {})["NFULA_CT"] == {  # type: ignore[union-attr]
        "unknown": [[3, "0008"]], "CTA_TIMEOUT": 9, "CTA_TUPLE_ORIG": {"CTA_TUPLE_IP": {}},
    }  # fmt: skip


def test_strict_reading_stops_at_the_value() -> None:
    data = stamped(SECONDS, 1) + stamped(SECONDS, 10**6) + stamped(SECONDS, 2)
    with pylog.open(io.BytesIO(data), on_error="strict") as reader:
        assert reader.read() is not None
        with pytest.raises(DecodeError, match="NFULA_TIMESTAMP"):
            reader.read()


def test_the_first_value_of_a_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    read(stamped(SECONDS, 1) + 50 * stamped(SECONDS, 10**6))
    assert len(caplog.messages) == 1
    assert "NFULA_TIMESTAMP 1700000000 s 1000000 us" in caplog.messages[0]


def logs() -> Iterator[tuple[str, str]]:
    for name in ("2.x-lp64be", "3.1-ilp32le", "3.2-lp64le", "3.4.35-lp64be", "4.1-lp64le",
                 "5.0.3-lp64le", "5.1.2-lp64le", "5.1.2-lp64be-time64-nounit"):  # fmt: skip
        for log in ipl_layouts.named(f"ipl-{name}").logs:
            yield name, log


def ipl_record(layout: ipl_layouts.Layout, log: str, **values: int) -> bytes:
    fields = Fields(layout, log)
    size = fields.size + (len(PACKET) if log == "ipf" else 0)
    magic = int.from_bytes(layout.magic(log), "little" if layout.abi.order == "<" else "big")
    good = {"ipl_magic": magic, "ipl_sec": SECONDS, "ipl_usec": 5, "ipl_count": 1,
            "ipl_len": size, "ipl_dsize": size, "fl_hlen": 40}  # fmt: skip
    for name, value in (good | values).items():
        fields.put(name, value, absent=value)
    if log == "ipf":
        fields.put_interface("em0")
    packet = PACKET if log == "ipf" else b""
    return fields.pack() + packet


@pytest.mark.parametrize(("name", "log"), list(logs()))
def test_bad_times_and_counts_of_ipfilter_cost_their_field_alone(name: str, log: str) -> None:
    layout = ipl_layouts.named(f"ipl-{name}")
    good = ipl_record(layout, log)
    wide = Fields(layout, log).size_of("ipl_sec") == 8
    bad = [{"ipl_usec": 10**6}, *([{"ipl_sec": 2**63}] if wide else [])]
    if Fields(layout, log).size_of("ipl_count"):
        bad.append({"ipl_count": 0})
    named = layout.name if layout.version.magic_tells_log else f"{layout.name}:{log}"
    for values in bad:
        records, reader = read(good + ipl_record(layout, log, **values) + good, layout=named)
        assert [type(r) for r in records] == [PacketRecord if log == "ipf" else FlowRecord] * 3
        assert reader.malformed == 1 and set(reader.flaws) == set(values)
        assert (records[1].timestamp_ns is None) == ("ipl_count" not in values)
        (key,) = values
        extra = records[1].extra or {}  # type: ignore[union-attr]
        assert int(extra[key]) == values[key]


def test_a_dump_with_nothing_but_bad_times_is_still_recognised() -> None:
    record = ipl_record(ipl_layouts.named("ipl-5.1.2-lp64le"), "ipf", ipl_usec=10**6)
    records, reader = read(record * 3)
    assert len(records) == 3 and "5.1.2" in reader.layout


def test_a_logged_packet_of_no_ip_version_is_a_record() -> None:
    good = ipl_record(ipl_layouts.named("ipl-5.1.2-lp64le"), "ipf", fl_family=2)
    bad = bytearray(good)
    bad[-len(PACKET)] = 0xF5
    records, reader = read(good + bad + good)
    assert [type(record) for record in records] == [PacketRecord] * 3 and reader.malformed == 1
    assert records[1].family == "ipv4"  # type: ignore[union-attr]
    assert records[1].extra["bad_header"] == "version 15"  # type: ignore[union-attr, index]


def pcap(order: str, nanoseconds: bool, fractions: list[int]) -> bytes:
    body = nflog([])[16:]
    head = pcap_header(239, order=order, nanoseconds=nanoseconds)
    packed = [
        struct.pack(f"{order}4I", SECONDS + i, fraction, len(body), len(body)) + body
        for i, fraction in enumerate(fractions)
    ]
    return head + b"".join(packed)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_a_bad_fraction_of_a_second_costs_the_time_of_capture(
    order: str, nanoseconds: bool
) -> None:
    units = 10**9 if nanoseconds else 10**6
    data = pcap(order, nanoseconds, [1, units, 2**32 - 1, 2])
    records, reader = read(data)
    assert [record.observed_ns is None for record in records] == [False, True, True, False]
    assert reader.malformed == 2 and reader.flaws == {"fraction of a second": 2}
    with pytest.raises(DecodeError, match="fraction of a second"):
        read(data, on_error="strict")


def pcapng(ticks: list[int]) -> bytes:
    """A capture whose clock counts whole seconds, as another program may write it."""
    block = bytearray(interface_block(239))
    block[block.index(b"\x09\0\1\0\x09") + 4] = 0  # if_tsresol: 10^0
    body = nflog([])[16:]
    return section_block() + bytes(block) + b"".join(packet_block(body, t) for t in ticks)


def test_a_time_of_capture_that_no_calendar_has_costs_itself_alone() -> None:
    records, reader = read(pcapng([SECONDS, 2**60, SECONDS]))
    assert [record.observed_ns for record in records] == [SECONDS * 10**9, None, SECONDS * 10**9]
    assert reader.malformed == 1 and reader.flaws == {"time of capture": 1}


INPUTS: dict[str, Callable[[], bytes]] = {
    "nflog": lambda: b"".join(
        stamped(SECONDS + i, 10**6 if i % 50 == 7 else i) for i in range(3000)
    ),
    "ipl": lambda: b"".join(
        ipl_record(ipl_layouts.named("ipl-5.1.2-lp64le"), "ipf", ipl_seqnum=i + 1,
                   ipl_usec=10**6 if i % 50 == 7 else i)
        for i in range(3000)
    ),
    "pcap": lambda: pcap("<", False, [10**6 if i % 50 == 7 else i for i in range(3000)]),
    "pcapng": lambda: pcapng([2**60 if i % 50 == 7 else SECONDS + i for i in range(3000)]),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_tables_and_pcapng_hold_what_a_reader_gives(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(INPUTS[name]())
    with pylog.open(path, raw=True) as reader:
        records = list(reader)
    assert len(records) == 3000 and reader.malformed == 60
    times = "timestamp_ns" if name in ("nflog", "ipl") else "observed_ns"
    wanted = [getattr(record, times) for record in records]
    assert wanted.count(None) == 60
    table = read_table(path)
    assert table.column(times.removesuffix("_ns")).cast("int64").to_pylist() == wanted
    copy = tmp_path / "copy.pcapng"
    with copy.open("wb") as file:
        output = outputs.open("pcapng", outputs.Target(file))
        output.write(Batch(records))
        output.close()
    again, second = read(copy.read_bytes())
    assert [getattr(record, times) for record in again] == wanted
    assert not any(isinstance(record, LossRecord) for record in again)
    assert second.malformed == (60 if times == "timestamp_ns" else 0)
