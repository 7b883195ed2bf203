"""The double of NFLOG keeps the kernel's rules; the factory makes records that agree with it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import netlab
import pytest
import samples

import pylog
from pylog import BackendError, DecodeError, LossRecord, PacketRecord
from pylog.formats.packet_dissect import dissect
from pylog.record import fields_of
from pylog.testing import Device, Nflog, packet

SMALL = 4608
"""The smallest receive buffer."""


def without(record: PacketRecord, *names: str) -> dict[str, Any]:
    """The fields of a record but for those that the reading adds, and these."""
    left_out = {"layout", "offset", "observed_ns", "seq", "raw", "origin", "host", *names}
    return {name: getattr(record, name) for name in fields_of(PacketRecord) if name not in left_out}


def test_a_logged_packet_is_read_as_it_was_made() -> None:
    made = packet(prefix="drop ", mark=7, uid=1000, gid=100, outdev="wan0", hwtype=1,
                  hwaddr="02:00:00:00:00:01", hwheader="00" * 14)  # fmt: skip
    with Nflog() as nflog, nflog.open("5") as reader:
        assert nflog.log(made)
        record = reader.read(timeout=5)
        assert isinstance(record, PacketRecord) and without(record) == without(made)
        assert record.seq == 0 and record.observed_ns is not None


@pytest.mark.parametrize("dump", ["batch.bin", "seq.bin", "tcpdump.pcap", "overrun.bin"])
def test_real_records_come_back_as_they_were(dump: str) -> None:
    """As records and as their bytes, which keep all that is in `extra`."""
    with pylog.open(samples.FIXTURES / "nflog" / dump, raw=True) as reader:
        records = [record for record in reader.packets() if record.layout == "nfulnl-le"][:100]
    assert records
    groups = ",".join({record.group or "" for record in records})
    for octets in (False, True):
        with Nflog(interfaces=()) as nflog, nflog.open(groups) as live:
            for record in records:
                assert nflog.log(record.raw or b"" if octets else record)
                again = live.read(timeout=5)
                assert isinstance(again, PacketRecord)
                assert without(again, "extra") == without(record, "extra")
                extra = dict(record.extra or {})
                extra.pop("NFULA_SEQ_GLOBAL", None)
                assert not octets or again.extra == extra


def test_packets_are_numbered_by_group_from_0() -> None:
    with Nflog() as nflog, nflog.open("5,6", seq_global=True) as reader:
        for group in (5, 6, 6, 5):
            assert nflog.log(packet(), group=group)
        records = [reader.read(timeout=5) for _ in range(4)]
    assert [(r.group, r.seq, (r.extra or {})["NFULA_SEQ_GLOBAL"]) for r in records
            if isinstance(r, PacketRecord)] == [
        ("5", 0, 0), ("6", 0, 1), ("6", 1, 2), ("5", 1, 3)]  # fmt: skip


def test_a_group_without_a_listener_loses_its_packets_without_a_trace() -> None:
    with Nflog() as nflog:
        assert not nflog.log(packet())
        with nflog.open("6,7") as reader:
            assert nflog.groups() == [6, 7]
            assert not nflog.log(packet()) and nflog.log(packet(group="6"))
            assert reader.pending() > 0
        assert nflog.groups() == [] and not nflog.log(packet(group="6"))


def test_a_group_has_one_listener() -> None:
    with Nflog() as nflog, nflog.open("5"):
        with pytest.raises(BackendError, match=r"cannot bind NFLOG group 5: .* listens to it"):
            nflog.open("4,5")
        assert nflog.groups() == [5]


@pytest.mark.parametrize(("options", "problem"), [
    ({"qthresh": 0}, "qthresh is 0"),
    ({"copy_mode": "all"}, "copy_mode is 'all'"),
    ({"latency": True, "throughput": True}, "exclude each other"),
    ({"netns": "fw"}, "no network namespaces"),
    ({"follow": True}, "nflog has no option follow"),
])  # fmt: skip
def test_options_are_checked_as_those_of_the_kernel(options: Any, problem: str) -> None:
    with Nflog() as nflog, pytest.raises(ValueError, match=problem):
        nflog.open("5", **options)


def test_a_loss_is_a_gap_in_the_numbers() -> None:
    with Nflog() as nflog, nflog.open("5") as reader:
        nflog.log(packet())
        nflog.lose(3)
        nflog.log(packet(dport=22))
        first, loss, last = (reader.read(timeout=5) for _ in range(3))
        assert isinstance(first, PacketRecord) and isinstance(last, PacketRecord)
        assert isinstance(loss, LossRecord) and loss.count == 3 and last.dport == 22
        assert (reader.received, reader.dropped, reader.uncounted) == (2, 3, 0)


def test_a_loss_without_numbers_or_at_the_end_is_of_unknown_size() -> None:
    with Nflog() as nflog, nflog.open("5", seq=False) as reader:
        nflog.lose(3)
        nflog.log(packet())
        kinds = [type(reader.read(timeout=5)) for _ in range(2)]
        assert LossRecord in kinds and reader.uncounted == 1
    with Nflog() as nflog, nflog.open("5") as reader:
        nflog.lose()
        reader.stop()
        (loss,) = reader
        assert isinstance(loss, LossRecord) and loss.count is None


def test_a_full_receive_buffer_drops_packets_and_grows(caplog: pytest.LogCaptureFixture) -> None:
    with Nflog() as nflog, nflog.open("5", rcvbuf=SMALL, rcvbuf_max=SMALL) as reader:
        kept = [nflog.log(packet(data=bytes(100))) for _ in range(40)]
        assert kept[0] and not kept[-1]
        for _ in range(kept.count(True)):
            assert isinstance(reader.read(timeout=5), PacketRecord)
        assert nflog.log(packet())
        loss = reader.read(timeout=5)
        assert isinstance(loss, LossRecord) and loss.count == kept.count(False)
        assert f"the receive buffer of {SMALL} bytes overran" in caplog.text
    with Nflog() as nflog, nflog.open("5", rcvbuf=SMALL, rcvbuf_max=4 * SMALL) as reader:
        while nflog.log(packet()):
            pass
        assert isinstance(reader.read(timeout=5), PacketRecord)
        assert f"it has {2 * SMALL} now" in caplog.text


def test_the_payload_is_cut_to_the_copy_range() -> None:
    with Nflog() as nflog:
        for options, caplen in (({"copy_range": 28}, 28), ({"copy_mode": "meta"}, None)):
            with nflog.open("5", **options) as reader:
                nflog.log(packet(data=bytes(50)))
                record = reader.read(timeout=5)
                assert isinstance(record, PacketRecord)
                assert record.caplen == caplen and record.indev == "eth0"
                assert record.cut == ("tcp" if caplen else None)


def test_what_is_not_a_packet_is_refused() -> None:
    with Nflog() as nflog, nflog.open("5"):
        with pytest.raises(ValueError, match=r"not loss records; lose\(\) makes losses"):
            nflog.log(LossRecord("nflog", "nfulnl-le", count=1))
        with pytest.raises(DecodeError, match="one log message"):
            nflog.log(b"no message at all, but long enough")
        with pytest.raises(ValueError, match="count is 0"):
            nflog.lose(0)
        with pytest.raises(ValueError, match="group 9 has no listener"):
            nflog.lose(group=9)


def test_packets_logged_by_another_thread_wake_the_reader() -> None:
    with Nflog() as nflog, nflog.open("5") as reader:
        timer = threading.Timer(0.05, nflog.log, [packet(indev="ppp0")])
        timer.start()
        record = reader.read(timeout=5)
        timer.join()
        assert isinstance(record, PacketRecord) and record.indev == "ppp0"


def test_asyncio_reads_the_double() -> None:
    async def first(nflog: Nflog) -> PacketRecord:
        async with nflog.open("5") as reader:
            asyncio.get_running_loop().call_later(0.05, nflog.log, packet(dport=443))
            return await asyncio.wait_for(anext(reader.packets()), 5)

    with Nflog() as nflog:
        assert asyncio.run(first(nflog)).dport == 443


def test_closing_the_double_closes_its_readers() -> None:
    nflog = Nflog()
    reader = nflog.open("5")
    nflog.close()
    nflog.close()
    assert reader.read() is None and nflog.groups() == []


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
def test_the_kernel_and_the_double_give_the_same_record() -> None:
    """One packet: logged by the kernel, and its record by the double."""
    with netlab.Namespace() as namespace:
        namespace.log_udp(9, 5)
        with pylog.open("nflog:5", netns=namespace.name, latency=True) as reader:
            namespace.udp("127.0.0.1", 9, b"the same")
            real = reader.read(timeout=5)
    assert isinstance(real, PacketRecord)
    with Nflog() as nflog, nflog.open("5", latency=True) as reader:
        nflog.log(real)
        double = reader.read(timeout=5)
    assert isinstance(double, PacketRecord)
    assert (double.layout, double.seq) == (real.layout, real.seq)
    assert without(double) == without(real)


# The factory


@pytest.mark.parametrize("fields", [
    {}, {"dport": 22, "tcp_flags": "AS"}, {"tcp_flags": "-"},
    {"protocol": "udp", "dport": 53, "data": b"x"}, {"protocol": 132, "sport": 1},
    {"protocol": "icmp"}, {"protocol": "icmp", "icmp_type": 3, "icmp_code": 1},
    {"protocol": "icmpv6", "daddr": "ff02::1"}, {"protocol": "icmpv6"},
    {"saddr": "2001:db8::7", "dport": 443},
    {"protocol": "esp", "data": bytes(8)},
])  # fmt: skip
def test_the_payload_says_what_the_fields_say(fields: dict[str, Any]) -> None:
    record = packet(**fields)
    assert record.payload is not None
    for name in fields.keys() & {"saddr", "daddr", "sport", "dport", "tcp_flags", "icmp_code"}:
        assert getattr(record, name) == fields[name]
    headers = dissect(record.payload)
    assert headers[0][0] == record.family == ("ipv6" if ":" in str(record.saddr) else "ipv4")
    assert record.length == record.caplen == len(record.payload) and record.cut is None
    assert record.payload.endswith(fields.get("data", b""))


def test_the_default_packet_is_the_same_every_time() -> None:
    assert packet() == packet() and hash(packet()) == hash(packet())
    record = packet()
    assert (record.saddr, record.daddr, record.sport, record.dport, record.tcp_flags) == (
        "192.0.2.1", "198.51.100.2", 40000, 80, "S"
    )  # fmt: skip
    assert str(record.timestamp) == "2023-11-14 22:13:20+00:00"
    assert record.payload is not None
    total = sum(int.from_bytes(record.payload[i : i + 2]) for i in range(0, 20, 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF  # RFC 1071


@pytest.mark.parametrize(("fields", "direction", "hook", "indev", "outdev"), [
    ({}, "in", "input", "eth0", None),
    ({"direction": "out"}, "out", "output", None, "eth0"),
    ({"hook": "postrouting", "outdev": "wan0"}, "out", "postrouting", None, "wan0"),
    ({"direction": "forward", "outdev": "wan0"}, "forward", "forward", "eth0", "wan0"),
])  # fmt: skip
def test_a_direction_has_its_hook_and_interface(
    fields: dict[str, Any], direction: str, hook: str, indev: str | None, outdev: str | None
) -> None:
    record = packet(**fields)
    assert (record.direction, record.hook) == (direction, hook)
    assert (record.indev, record.outdev) == (indev, outdev)


def test_any_field_can_be_given() -> None:
    record = packet(prefix="drop ", indev="wan0", timestamp_ns=1, length=1500, extra={"a": 1})
    assert (record.prefix, record.indev, record.timestamp_ns) == ("drop ", "wan0", 1)
    assert record.length == 1500 and record.extra == {"a": 1}
    other = packet(payload=packet(dport=22, saddr="2001:db8::9").payload)
    assert (other.dport, other.saddr, other.family) == (22, "2001:db8::9", "ipv6")
    assert packet(payload=None).saddr is None


@pytest.mark.parametrize(("fields", "error", "problem"), [
    ({"dest": 1}, TypeError, "no field dest"),
    ({"saddr": "10.0.0.256"}, ValueError, "10.0.0.256"),
    ({"saddr": "::1", "daddr": "10.0.0.1"}, ValueError, "same IP version"),
    ({"protocol": "tpc"}, ValueError, "no protocol 'tpc'"),
    ({"dport": 65536}, ValueError, "out of range"),
    ({"tcp_flags": "SA"}, ValueError, "tcp_flags is 'SA'"),
])  # fmt: skip
def test_a_field_that_makes_no_sense_is_refused(
    fields: dict[str, Any], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        packet(**fields)


@pytest.mark.parametrize("fields", [
    {}, {"action": "block", "rule": 3, "dport": 22}, {"action": "nomatch", "direction": "out"},
    {"action": "log", "protocol": "udp", "data": b"x"}, {"saddr": "2001:db8::9"},
    {"action": "block", "protocol": "icmp", "group": "200"},
])  # fmt: skip
def test_a_device_logs_packets_of_the_factory(fields: dict[str, Any]) -> None:
    made = packet(source="ipl", **fields)
    with Device() as device, device.open(layout="ipl-5.1.2-lp64le") as reader:
        assert device.log(made)
        record = reader.read(timeout=5)
    assert isinstance(record, PacketRecord)
    assert without(record, "extra") == without(made, "extra")
    flags = [set((r.extra or {})["fl_flags"]) for r in (record, made)]
    assert flags[0] == flags[1]


def test_a_device_logs_packets_of_linux() -> None:
    with Device() as device, device.open(layout="ipl-5.1.2-lp64le") as reader:
        assert device.log(packet(prefix="from Linux", dport=23))
        record = reader.read(timeout=5)
    assert isinstance(record, PacketRecord)
    assert (record.source, record.action, record.dport) == ("ipl", "log", 23)
