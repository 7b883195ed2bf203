"""pflog of every system, and ipfw0: read as the truth says, told apart, written back."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import effort
import msgspec
import oracles
import pytest
from builders import pcap_header, pcap_packet
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, PacketRecord, outputs
from pylog.batch import Batch
from pylog.formats import Message, pflog, pflog_words
from pylog.formats.pflog_encode import Encoder
from pylog.formats.pflog_evidence import examine
from pylog.formats.pflog_layouts import HEADERS, Layout, layouts, named, packet_at, plan
from pylog.scrub import Scrubbing

CAPTURES = "pf/captures.tar.xz"
NAMES = oracles.names(CAPTURES, ".pcap")
SYSTEMS = {
    "openbsd33-be": "pflog-28", "openbsd35-le": "pflog-45-openbsd",
    "openbsd40-le": "pflog-61-openbsd-le", "openbsd78-le": "pflog-100-le",
    "freebsd6-le": "pflog-45-freebsd", "freebsd12-be": "pflog-61-freebsd-be",
    "freebsd14-be": "pflog-69-be", "dragonfly-le": "pflog-45", "netbsd-le": "pflog-61-netbsd-le",
    "npf-le": "pflog-61-npf-le", "macos-le": "pflog-61-darwin-le", "pf-rid49-le": "pflog-49",
    "ipfw0": "ipfw-ethernet",
}  # fmt: skip


def records(name: str, **options: Any) -> list[PacketRecord]:
    with pylog.open(oracles.opened(CAPTURES, f"{name}.pcap"), **options) as reader:
        return [record for record in reader if isinstance(record, PacketRecord)]


def rows(found: list[PacketRecord]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pylog.json_lines(found).splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_as_the_truth_says(name: str) -> None:
    found, truth = records(name), oracles.truth(CAPTURES, name)
    assert len(found) == len(truth)
    for record, row, wanted in zip(found, rows(found), truth, strict=True):
        assert not oracles.differences(wanted, row)
        assert record.timestamp_ns == record.observed_ns == wanted["timestamp_ns"]


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_is_told_by_the_packets_together(name: str) -> None:
    with pylog.open(oracles.opened(CAPTURES, f"{name}.pcap")) as reader:
        assert reader.detection.layouts == [SYSTEMS[name]]
        assert len(reader.detection.evidence) > 1


def test_odd_headers_are_damage_or_a_record() -> None:
    with pylog.open(oracles.opened(CAPTURES, "edge.pcap")) as reader:
        found = list(reader)
    packets = [record for record in found if isinstance(record, PacketRecord)]
    assert [record.offset for record in found if record.kind == "loss"] == [40, 168, 296, 552, 571]
    assert [r.indev for r in packets[-4:]] == ["x" * 16, "em\n0\x1b[31m", "em0", "em0"]
    assert {record.family for record in packets} == {"ipv4", "ipv6"}  # af 0 and 10, too
    assert "\x1b" not in pylog.json_lines(packets).decode()


def header(size: int, **fields: Any) -> bytes:
    """A header with these fields; names are bytes, and so are uid and pid."""
    schema = plan(size)
    zero = {leaf.name: bytes(leaf.size) if leaf.code.endswith("s") else 0 for leaf in schema.leaves}
    names = {n: v.ljust(16, b"\0") if n in ("ifname", "ruleset") else v for n, v in fields.items()}
    return schema.pack(
        {**zero, "length": size, "af": 2, "subrulenr": 0xFFFFFFFF, "dir": 1, **names}
    )


IP = bytes.fromhex(
    "45000028000100004006453b0a510107c63364099c5001bb000000010000000050102000bc330000"
)


def one(packet: bytes, layout: str | None = None, order: str = "<") -> PacketRecord:
    data = pcap_header(117, order=order) + pcap_packet(packet, 10**18, order=order)
    with pylog.open(io.BytesIO(data), layout=layout, on_error="strict") as reader:
        record = reader.read()
    assert isinstance(record, PacketRecord)
    return record


def test_the_order_of_uids_is_that_of_the_machine_and_not_of_the_file() -> None:
    packet = header(69, uid=(1000).to_bytes(4), pid=(812).to_bytes(4), rule_uid=bytes(4),
                    rule_pid=(77).to_bytes(4)).ljust(72, b"\0") + IP  # fmt: skip
    for order in "<>":  # as editcap and mergecap rewrite only the headers of a file
        record = one(packet, None, order)
        assert record.layout == "pflog-69-be" and record.uid == 1000
        assert record.extra == {"pid": 812, "rule_uid": 0, "rule_pid": 77}
    assert one(packet, "pflog-69-le").uid == int.from_bytes((1000).to_bytes(4), "little")


@pytest.mark.parametrize(("af", "action", "system"), [
    (24, 13, "openbsd"), (28, 12, "freebsd"), (30, 0, "darwin"), (2, 0, ""),
])  # fmt: skip
def test_systems_are_told_apart_by_what_only_they_write(af: int, action: int, system: str) -> None:
    packet = header(61, af=af, action=action, pid=(9).to_bytes(4, "little"))
    layout, evidence = examine([packet], "<")
    assert layout == Layout(61, system, "<"), evidence


def test_numbers_without_a_word_survive() -> None:
    record = one(header(61, action=40, reason=41, dir=7).ljust(64, b"\0") + IP)
    assert (record.action, record.reason, record.direction) == (40, 41, None)
    assert record.extra is not None and record.extra["dir"] == 7


def test_a_header_longer_than_any_is_read_if_a_packet_follows() -> None:
    longer = header(100, length=108).ljust(108, b"\0")
    assert one(longer + IP).saddr == "10.81.1.7"
    with pytest.raises(DecodeError, match="length 108, but expected one of"):
        one(longer + b"\xff" * 40)


def test_nat64_of_ipfw_has_addresses_where_pf_has_rules() -> None:
    sub = 40000 << 16 | 6 << 8 | 9
    record = one(header(61, ifname=b"NAT64LSN", action=4, rulenr=0xC0000201, subrulenr=sub)
                 .ljust(64, b"\0") + IP)  # fmt: skip
    assert record.rule is None and record.indev is None and record.action == "nat"
    assert record.extra is not None
    assert record.extra["nat64"] == {
        "kind": "lsn", "address": "192.0.2.1", "port": 40000, "protocol": 6, "last": 9,
    }  # fmt: skip


def test_the_oldest_directions_are_seen_in_the_file() -> None:
    packets = [header(28, dir=number, ifname=b"fxp0", af=2) + IP for number in (0, 1)]
    data = pcap_header(17) + b"".join(pcap_packet(packet, 0) for packet in packets)
    with pylog.open(io.BytesIO(data)) as reader:
        assert reader.layout == "pflog-28-old"
        assert [r.direction for r in reader if isinstance(r, PacketRecord)] == ["in", "out"]


def test_ethernet_without_made_up_addresses_is_not_of_ipfw() -> None:
    frame = bytes(12) + b"\x08\x00" + IP
    data = pcap_header(1) + pcap_packet(frame, 0)
    with pytest.raises(DecodeError, match="ETHERNET, not of ipfw0"):
        pylog.open(io.BytesIO(data))
    data += pcap_packet(b"DDDDDDSSSSSS\x08\x00" + IP, 0)
    with pylog.open(io.BytesIO(data)) as reader:
        hwaddrs = [r.hwaddr for r in reader if isinstance(r, PacketRecord)]
    assert hwaddrs == ["00:00:00:00:00:00", None]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "dragonfly-le"])
def test_a_pcapng_copy_reads_the_same(name: str) -> None:
    raw = records(name, raw=True)
    made = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(made), {})
    output.write(Batch(list(raw)))
    output.close()
    with pylog.open(io.BytesIO(made.getvalue())) as reader:
        copies = [r for r in reader if isinstance(r, PacketRecord)]
    without = [msgspec.structs.replace(record, raw=None, offset=None) for record in raw]
    assert [msgspec.structs.replace(record, offset=None) for record in copies] == without


def written(found: list[PacketRecord], layout: str) -> tuple[list[PacketRecord], bytes]:
    """The records that `--to pflog` writes, read again, and the file."""
    made = io.BytesIO()
    output = outputs.open("pflog", outputs.Target(made), {"layout": layout})
    output.write(Batch(list(found)))
    output.close()
    with pylog.open(io.BytesIO(made.getvalue()), layout=layout) as reader:
        return [r for r in reader if isinstance(r, PacketRecord)], made.getvalue()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("ipfw0", "dragonfly-le")])
def test_the_same_layout_is_written_byte_by_byte(name: str) -> None:
    found = records(name, raw=True)
    _, data = written(found, SYSTEMS[name])
    original = oracles.members(CAPTURES)[f"{name}.pcap"]
    nanoseconds = original[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
    if name != "openbsd33-be" and (not nanoseconds or name == "macos-le"):
        assert data[24:] == original[24:]


@pytest.mark.parametrize("layout", effort.sample(layouts()))
def test_every_layout_keeps_what_it_has_room_for(layout: str) -> None:
    found = records("openbsd78-le", raw=True)
    back, _ = written(found, layout)
    chosen = named(layout)
    words = {*pflog_words.actions(chosen)}
    assert [r.payload for r in back] == [r.payload for r in found]
    for before, after in zip(found, back, strict=True):
        assert after.layout == layout and after.saddr == before.saddr
        assert after.action == (before.action if before.action in words else "pass")
        assert (after.group, after.uid) == (
            before.group if chosen.size > 28 else None, before.uid if chosen.size >= 61 else None
        )  # fmt: skip


def test_what_a_layout_cannot_hold_is_counted() -> None:
    encoder = Encoder(named("pflog-45-freebsd"))
    for record in records("openbsd78-le", raw=True):
        encoder.encode(record)
    assert encoder.lost["rewritten"] > 0 and encoder.lost["direction forward"] > 0
    assert encoder.lost["uid"] > 0 and encoder.lost["action rt"] > 0


@pytest.mark.parametrize("name", ["openbsd78-le", "freebsd14-be", "ipfw0"])
def test_a_scrubbed_record_has_neither_addresses_nor_payload(name: str) -> None:
    scrubbing = Scrubbing()
    scrubbed = pylog.json_lines([scrubbing.record(r) for r in records(name, raw=True)]).decode()
    for address in ("10.81.1.7", "198.51.100.9", "2001:db8:a:", "64:ff9b", "192.0.2.2"):
        assert address not in scrubbed


@pytest.mark.parametrize("name", effort.sample(NAMES, 2))
def test_every_prefix_and_changed_byte_gives_records_or_damage(name: str) -> None:
    data = oracles.members(CAPTURES)[f"{name}.pcap"]
    chance = effort.chance(name)
    for at in effort.sample(range(24, min(len(data), 300))):
        changed = bytearray(data)
        changed[at] = chance.randrange(256)
        for tried in (bytes(changed), data[:at]):
            try:
                with pylog.open(io.BytesIO(tried)) as reader:
                    pylog.json_lines(reader)
            except DecodeError:
                pass


@effort.examples(200)
@given(st.binary(max_size=140))
def test_any_header_gives_a_record_or_an_error(packet: bytes) -> None:
    stream = pflog.stream("pflog-61-le")
    with contextlib.suppress(DecodeError):
        stream.decode(packet, Message(0, len(packet)))


def test_header_schemas_have_the_sizes_of_the_structs() -> None:
    sizes = {size: plan(size).size for size in HEADERS}
    assert sizes == {28: 28, 45: 48, 49: 52, 61: 64, 69: 72, 100: 100}
    assert all(packet_at(size) == struct for size, struct in sizes.items() if size > 28)
