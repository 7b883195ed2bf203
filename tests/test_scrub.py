"""Scrubbed records tell as much as before, but not of whom."""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import builders
import effort
import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, FlowRecord, LossRecord, PacketRecord, Record
from pylog.cli import main
from pylog.formats import Message, ipl, ipl_layouts, netlink, nfct_attributes, nfulnl, scrub
from pylog.formats.plan import Plan
from pylog.formats.scrub import Scrubber
from pylog.scrub import Scrubbing

DUMPS = [*samples.dumps("ipl/*"), *samples.dumps("nflog/*"), *samples.dumps("nfct/*")]
each_dump = pytest.mark.parametrize("dump", effort.sample(DUMPS, least=20), ids=samples.name)
FIELDS_OF_HOSTS = {"saddr", "daddr", "nat_saddr", "nat_daddr", "hwaddr", "hwheader", "extra",
                   "payload", "raw"}  # fmt: skip
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+")
PUT_IN_PLACE = [ip_network(n) for n in ("198.18.0.0/15", "2001:db8::/96", "fe80::/96")]
"""Where the other addresses come from: an address of there may be another one's."""


@cache
def read(path: Path | str) -> list[PacketRecord | FlowRecord]:
    """The records of a fixture, with their bytes."""
    with pylog.open(samples.FIXTURES / path, raw=True) as reader:
        return [record for record in reader if isinstance(record, PacketRecord | FlowRecord)]


@cache
def scrubbed(path: Path | str) -> list[PacketRecord | FlowRecord]:
    scrubbing = Scrubbing()
    found = map(scrubbing.record, read(path))
    return [record for record in found if isinstance(record, PacketRecord | FlowRecord)]


def pairs(path: Path | str) -> list[tuple[Any, Any]]:
    """The records of a fixture as they were and as they are."""
    return list(zip(read(path), scrubbed(path), strict=True))


def raw_of(record: Record) -> bytes:
    assert record.raw is not None
    return record.raw


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON-ready value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def address(text: str) -> Any:
    """The address that a text is, or None."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def masked(value: Any) -> Any:
    """A JSON-ready value without its addresses, and without bytes that nobody explains."""
    if isinstance(value, dict):
        return {name: len(str(inner)) if name in ("unknown", "NFULA_L2HDR") else masked(inner)
                for name, inner in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    if isinstance(value, str) and (found := address(value)):
        return found.version
    return "mac" if isinstance(value, str) and MAC.fullmatch(value) else value


def told(host: Any) -> bool:
    """Whether an address tells a host; and is none that stands for another."""
    bare = getattr(host, "ipv4_mapped", None) or host
    if bare.version == 4:
        stays = bare.packed[0] in (0, 127) or bare.is_multicast or bare.packed == b"\xff" * 4
    else:
        stays = bare.is_unspecified or bare.is_loopback or bare.is_multicast
    return not stays and not any(bare in net for net in PUT_IN_PLACE if net.version == bare.version)


# Whole fixtures


@each_dump
def test_a_scrubbed_record_is_as_long_and_says_the_same_but_for_hosts(dump: Path) -> None:
    assert read(dump)
    for before, after in pairs(dump):
        assert len(raw_of(after)) == len(raw_of(before))
        for name in before.__struct_fields__:
            if name not in FIELDS_OF_HOSTS:
                assert getattr(after, name) == getattr(before, name), (before.offset, name)
        for name in ("payload", "hwheader", "hwaddr"):
            old, new = getattr(before, name, None), getattr(after, name, None)
            assert (old is None) == (new is None) and len(old or "") == len(new or "")
        assert masked(after.extra or {}) == masked(before.extra or {}), before.offset


@each_dump
def test_a_scrubbed_dump_is_found_to_be_of_the_same_layout(dump: Path) -> None:
    data = b"".join(raw_of(record) for record in scrubbed(dump))
    with pylog.open(io.BytesIO(data)) as reader:
        found = [record for record in reader if isinstance(record, PacketRecord | FlowRecord)]
        if reader.detection.layouts:  # padding may have told two of them apart
            names = {name.partition(":")[0] for name in reader.detection.layouts}
            names |= {record.layout for record in found}  # a dump may have several
            assert {record.layout for record in read(dump)} <= names
    assert len(found) == len(scrubbed(dump))
    for one, other in zip(found, scrubbed(dump), strict=True):
        for name in ("saddr", "daddr", "timestamp_ns", "extra"):
            assert getattr(one, name) == getattr(other, name)


def hosts(record: PacketRecord | FlowRecord) -> set[Any]:
    """The addresses that a record tells."""
    said = (getattr(record, name, None) for name in ("saddr", "daddr", "nat_saddr", "nat_daddr"))
    found = {address(text) for text in [*said, *texts(record.extra or {})] if text}
    return {host for host in found if host is not None and told(host)}


@each_dump
def test_no_address_is_left_anywhere(dump: Path) -> None:
    every = set().union(*(hosts(record) for record in read(dump)))
    fours = {host.packed for host in every if host.version == 4}
    sixes = {host.packed for host in every if host.version == 6}
    for before, after in pairs(dump):
        assert not hosts(after) & every, before.offset
        data = raw_of(after)
        own = {host.packed for host in hosts(before)}
        for packed in (fours & own) | sixes:
            assert packed not in data, (before.offset, packed.hex())


def link_addresses(record: PacketRecord) -> set[bytes]:
    """The MACs that a record tells, but for broadcast and multicast."""
    found = {bytes.fromhex(text.replace(":", ""))
             for text in [record.hwaddr or "", *texts(record.extra or {})]
             if MAC.fullmatch(text)}  # fmt: skip
    header = bytes.fromhex(record.hwheader or "")
    if len(header) >= 14 and record.hwtype in (None, 1, 772):
        found |= {header[:6], header[6:12]}
    return {mac for mac in found if any(mac) and not mac[0] & 1}


@pytest.mark.parametrize("dump", samples.dumps("nflog/*"), ids=samples.name)
def test_no_mac_is_left_anywhere(dump: Path) -> None:
    both = [pair for pair in pairs(dump) if isinstance(pair[0], PacketRecord)]
    every = set[bytes]().union(*(link_addresses(before) for before, _ in both))
    every = {mac for mac in every if not mac.startswith(b"\x02\0\0\0\0")}
    for before, after in both:
        assert not link_addresses(after) & every
        assert not any(mac in raw_of(after) for mac in every), before.offset
        assert len(link_addresses(after)) == len(link_addresses(before))


def headers(packet: bytes) -> tuple[int, int, bool]:
    """Where layer 4 begins, its protocol, and whether this is a later fragment."""
    if packet[0] >> 4 == 4:
        return (packet[0] & 15) * 4, packet[9], bool(int.from_bytes(packet[6:8]) & 0x1FFF)
    at, protocol, later = 40, packet[6], False
    while protocol in (0, 43, 44, 60, 135, 139, 140) and at + 8 <= len(packet):
        if protocol == 44:
            later, size = later or bool(int.from_bytes(packet[at + 2 : at + 4]) & 0xFFF8), 8
        else:
            size = 8 + 8 * packet[at + 1]
        protocol, at = packet[at], at + size
    return at, protocol, later


def body(packet: bytes) -> bytes:
    """What a packet carries after the headers that pylog shows."""
    at, protocol, later = headers(packet)
    rest = packet[at:]
    if later or not rest:
        return rest
    if protocol in (1, 58) and rest[0] in ((3, 4, 5, 9, 11, 12) if protocol == 1 else
                                           (1, 2, 3, 4, *range(130, 138))):  # fmt: skip
        return b""  # addresses, and packets
    if protocol in (4, 41):
        return b""
    if protocol == 6 and len(rest) > 12:
        return rest[max(20, (rest[12] >> 4) * 4) :]
    return rest[
        {6: 20, 17: 8, 136: 8, 1: 8, 58: 8, 47: 4, 50: 8, 51: 12, 132: 12}.get(protocol, 0) :
    ]


def windows(data: bytes) -> set[bytes]:
    """The runs of 8 bytes, but for those that say next to nothing."""
    found = (data[i : i + 8] for i in range(len(data) - 7))
    return {run for run in found if len(set(run)) > 3}


@each_dump
def test_no_run_of_8_bytes_of_a_body_is_left(dump: Path) -> None:
    checked = 0
    for before, after in pairs(dump):
        packet = getattr(before, "payload", None)
        if packet and before.family in ("ipv4", "ipv6") and len(packet) >= 20:
            runs = windows(body(packet)) - windows((before.prefix or "").encode())
            assert not runs & windows(raw_of(after)), before.offset
            checked += len(runs)
        elif packet and before.family != "arp":
            assert not windows(packet) & windows(raw_of(after)), before.offset
    assert checked or "filter" not in dump.name


def right(data: bytes) -> bool:
    """Whether the ones' complement sum of the 16-bit words is all ones (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def checksums(packet: bytes) -> tuple[bool | None, bool | None]:
    """Whether the checksums of the IPv4 header and of layer 4 are right; None: it has none."""
    four = packet[0] >> 4 == 4
    head = right(packet[: (packet[0] & 15) * 4]) if four else None
    at, protocol, _ = headers(packet)
    stated = int.from_bytes(packet[2:4]) if four else 40 + int.from_bytes(packet[4:6])
    part = bool(int.from_bytes(packet[6:8]) & 0x3FFF) if four else packet[6] == 44
    segment = packet[at:]
    if part or stated != len(packet) or protocol not in (1, 6, 17, 58) or len(segment) < 8:
        return head, None
    if protocol == 17 and segment[6:8] == b"\0\0":
        return head, None
    pseudo = packet[12:20] if four else packet[8:40]
    pseudo += len(segment).to_bytes(4) + protocol.to_bytes(4)
    return head, right((b"" if protocol == 1 else pseudo) + segment)


@each_dump
def test_checksums_are_as_right_as_they_were(dump: Path) -> None:
    for before, after in pairs(dump):
        packet = getattr(before, "payload", None)
        if packet and before.family in ("ipv4", "ipv6") and len(packet) >= 40:
            assert checksums(after.payload) == checksums(packet), before.offset


def test_the_fixtures_have_right_and_wrong_checksums_of_every_kind() -> None:
    seen = set()
    for dump in DUMPS:
        for record in read(dump):
            packet = getattr(record, "payload", None)
            if packet and record.family in ("ipv4", "ipv6") and len(packet) >= 40:
                head, rest = checksums(packet)
                seen |= {(record.family, head), (record.family, headers(packet)[1], rest)}
    assert {("ipv4", True), ("ipv4", False)} <= seen
    assert {(f, p, True) for f, p in (("ipv4", 1), ("ipv4", 6), ("ipv4", 17), ("ipv6", 58))} <= seen
    assert any(ok is False for *_, ok in seen)


@pytest.mark.parametrize("pattern", ["ipl/*", "nflog/*"])
def test_the_same_host_is_the_same_and_another_another(pattern: str) -> None:
    scrubbing, known = Scrubbing(), dict[str, str]()
    for dump in samples.dumps(pattern):
        for before in read(dump):
            after = scrubbing.record(before)
            assert not isinstance(after, LossRecord)
            fields = ("saddr", "daddr", "nat_saddr", "nat_daddr", "hwaddr")
            old = [getattr(before, name, None) for name in fields]
            new = [getattr(after, name, None) for name in fields]
            old += [t for t in texts(before.extra or {}) if address(t) or MAC.fullmatch(t)]
            new += [t for t in texts(after.extra or {}) if address(t) or MAC.fullmatch(t)]
            for one, other in zip(old, new, strict=True):
                assert (one is None) == (other is None)
                if one is not None and other is not None:
                    assert known.setdefault(one, other) == other, one
    assert len(set(known.values())) == len(known) > 5


def test_scrubbing_twice_from_the_start_gives_the_same_bytes() -> None:
    for name in ("nflog/seq.bin", "ipl/v5-1-2-lp64le-nat.all.bin"):
        one, other = Scrubbing(), Scrubbing()
        for record in read(name):
            assert raw_of(one.record(record)) == raw_of(other.record(record))


def test_damaged_bytes_are_left_out() -> None:
    with pylog.open(samples.FIXTURES / "ipl/damaged.bin", raw=True) as reader:
        losses = [record for record in reader if isinstance(record, LossRecord)]
    assert any(record.raw for record in losses)
    for record in losses:
        assert Scrubbing().record(record) == msgspec.structs.replace(record, raw=None)


def test_a_record_without_its_bytes_is_refused() -> None:
    record = msgspec.structs.replace(read("nflog/conntrack.bin")[0], raw=None)
    with pytest.raises(ValueError, match="read with raw=True"):
        Scrubbing().record(record)


# IPFilter's records


def schema_of(record: Record) -> Any:
    return ipl_layouts.named(record.layout).schema(record.log)


TEXTS = ("fl_ifname", "fl_group", "fl_nattag", "isl_group")


@pytest.mark.parametrize("dump", effort.sample(samples.dumps("ipl/*"), 15), ids=samples.name)
def test_what_no_kernel_wrote_is_zero(dump: Path) -> None:
    for before, after in pairs(dump):
        fields = schema_of(after).parse(raw_of(after))
        plan = Plan(schema_of(after))
        assert fields.get("ipl_next", 0) == fields.get("fl_nattag_not", 0) == 0
        data, taken = bytearray(raw_of(after)[: plan.size]), 0
        for leaf in plan.leaves:  # what lies between the fields is padding
            assert not any(data[taken : leaf.offset]), leaf.name
            taken = leaf.offset + leaf.size
        assert not any(data[taken:])
        for name in TEXTS:
            if isinstance(fields.get(name), bytes):
                text, _, rest = fields[name].partition(b"\0")
                assert not any(rest), name
                assert text == schema_of(before).parse(raw_of(before))[name].split(b"\0")[0]
        both = fields.get("nl_ifnames", b"")
        assert not any(any(part.partition(b"\0")[2]) for part in (both[:16], both[16:]))
        if after.family == "ipv4":
            sixes = ("isl_src", "isl_dst", "nl_osrcip", "nl_inip", "nl_ndstip")
            assert not any(any(fields[n][4:]) for n in sixes if n in fields)


@pytest.mark.parametrize("dump", effort.sample(samples.dumps("ipl/*"), 15), ids=samples.name)
def test_fields_that_tell_no_host_keep_their_numbers(dump: Path) -> None:
    kept = re.compile(r"(ipl_(?!next)|fl_(?!nattag_not|unit)|nl_|isl_)")
    for before, after in pairs(dump):
        old, new = (schema_of(r).parse(raw_of(r)) for r in (before, after))
        for name, value in old.items():
            if name.endswith("port") or (kept.match(name) and not isinstance(value, bytes)):
                assert new[name] == value, name


def flows(name: str) -> Iterator[tuple[FlowRecord, FlowRecord]]:
    for before, after in pairs(name):
        if isinstance(before, FlowRecord):
            yield before, after


@pytest.mark.parametrize("name", [
    "ipl/v5-1-2-lp64le-nat.all.bin", "ipl/v4-1-35-illumos-lp64le-nat.all.bin",
    "ipl/v3435-ilp32be-nat.nat.bin", "ipl/v5-1-2-lp64le-state.all.bin",
    "ipl/v31-ilp32le-state.bin", "ipl/v5-1-2-lp64le-statebits.state.bin",
])  # fmt: skip
def test_the_ends_of_flows_are_others_and_as_alike_as_before(name: str) -> None:
    checked = 0
    for before, after in flows(name):
        ends = ("saddr", "daddr", "nat_saddr", "nat_daddr")
        old, new = ([getattr(r, n) for n in ends] for r in (before, after))
        assert [one == other for one in old for other in old] == [
            one == other for one in new for other in new
        ]
        for one, other in zip(old, new, strict=True):
            if one is not None and told(address(one)):
                assert one != other and address(one).version == address(other).version
                checked += 1
    assert checked


def test_an_icmp_type_in_a_state_keeps_nothing_beside_it() -> None:
    found = [a for _, a in flows("ipl/v5-1-2-lp64le-state.all.bin") if a.protocol == 1]
    assert found
    for record in found:
        assert schema_of(record).parse(raw_of(record)).isl_ps[2:] == b"\0\0"


# Packets


def checksum(data: bytes) -> bytes:
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2)


A, B = bytes((203, 0, 113, 5)), bytes((192, 0, 2, 80))
A6, B6 = (ip_address(f"2620:0:1:{n}::17").packed for n in (5, 6))
SECRET = b"GET /who HTTP/1.1\r\nHost: example"


def ipv4(protocol: int, rest: bytes, options: bytes = b"", bits: int = 0) -> bytes:
    size = 20 + len(options)
    head = bytes((0x40 + size // 4, 0)) + (size + len(rest)).to_bytes(2) + b"\x12\x34"
    head += bits.to_bytes(2) + bytes((64, protocol))
    return head + checksum(head + A + B + options) + A + B + options + rest


def ipv6(protocol: int, rest: bytes) -> bytes:
    return b"\x60\0\0\0" + len(rest).to_bytes(2) + bytes((protocol, 64)) + A6 + B6 + rest


def segment(protocol: int, data: bytes, ends: bytes, options: int = 0) -> bytes:
    """TCP, UDP, ICMP or ICMPv6 with a right checksum; with so many bytes of options in the data."""
    offset = bytes(((20 + options) // 4 << 4,))
    head = {
        6: b"\x04\xd2\0\x50" + bytes(8) + offset + b"\x18\x20\0" + bytes(4),
        17: b"\x04\xd2\0\x35" + (8 + len(data)).to_bytes(2) + bytes(2),
        1: b"\x08\0\0\0\x12\x34\0\1", 58: b"\x80\0\0\0\x12\x34\0\1",
    }[protocol]  # fmt: skip
    at = {6: 16, 17: 6}.get(protocol, 2)
    pseudo = ends + len(head + data).to_bytes(4) + protocol.to_bytes(4) if protocol != 1 else b""
    found = checksum(pseudo + head + data)
    if protocol == 17 and found == b"\0\0":
        found = b"\xff\xff"
    return head[:at] + found + head[at + 2 :] + data


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Whole packets with right checksums."""
    data = draw(st.binary(max_size=80))
    if draw(st.booleans()):
        protocol = draw(st.sampled_from([1, 6, 17]))
        options = draw(st.sampled_from([b"", b"\x07\x0b\x08" + A + B + b"\0"]))
        return ipv4(protocol, segment(protocol, data, A + B), options)
    protocol = draw(st.sampled_from([58, 6, 17]))
    return ipv6(protocol, segment(protocol, data, A6 + B6))


@given(packets(), st.integers(0, 200), st.integers(1, 255))
def test_right_checksums_stay_right_and_wrong_ones_wrong(packet: bytes, at: int, flip: int) -> None:
    assert checksums(packet) in ((True, True), (None, True))
    assert checksums(Scrubber().packet(packet)) == checksums(packet)
    bad = bytearray(packet)
    place = headers(packet)[0] + 2 if headers(packet)[1] in (1, 58) else len(packet) - 1
    place = place if headers(packet)[1] in (1, 58) else headers(packet)[0]  # ports
    bad[place] ^= flip
    assert checksums(bytes(bad))[1] is False
    assert checksums(Scrubber().packet(bytes(bad))) == checksums(bytes(bad))


@given(packets(), st.integers(0, 80))
def test_a_checksum_fits_what_was_not_logged_too(packet: bytes, less: int) -> None:
    at, protocol, _ = headers(packet)
    stop = max(len(packet) - less, at + {6: 20}.get(protocol, 8))
    kept, rest = packet[:stop], packet[stop:]
    found = Scrubber().packet(kept)
    assert len(found) == len(kept)
    assert checksums(found + rest) == checksums(packet)


def test_a_udp_checksum_that_was_not_made_stays_so() -> None:
    plain = ipv4(17, b"\x04\xd2\0\x35" + (8 + len(SECRET)).to_bytes(2) + bytes(2) + SECRET)
    found = Scrubber().packet(plain)
    assert found[26:28] == b"\0\0" and found[28:] != SECRET
    for last in range(2**8):  # one that is made is never 0, which would say that there is none
        made = ipv4(17, segment(17, bytes((last, last)), A + B))
        assert Scrubber().packet(made)[26:28] != b"\0\0"


def test_headers_and_ports_stay_and_payloads_go() -> None:
    for packet, at in (
        (ipv4(6, segment(6, SECRET, A + B)), 40), (ipv4(17, segment(17, SECRET, A + B)), 28),
        (ipv4(1, segment(1, SECRET, A + B)), 28), (ipv6(6, segment(6, SECRET, A6 + B6)), 60),
    ):  # fmt: skip
        found = Scrubber().packet(packet)
        assert len(found) == len(packet) and not windows(found) & windows(SECRET)
        start = headers(packet)[0]
        sums = {6: {16, 17}, 17: {6, 7}, 1: {2, 3}}[headers(packet)[1]]
        kept = [i for i in range(start, at) if i - start not in sums]
        assert [found[i] for i in kept] == [packet[i] for i in kept]
        assert found[:8] == packet[:8]


def test_later_fragments_and_unknown_protocols_are_all_payload() -> None:
    for packet, at in (
        (ipv4(17, SECRET, bits=0x2005), 20), (ipv4(253, SECRET), 20), (ipv6(59, SECRET), 40),
        (ipv6(44, bytes((17, 0, 0, 8)) + bytes(4) + SECRET), 48),
        (ipv4(50, bytes(8) + SECRET), 28), (ipv4(47, b"\0\0\x08\0" + SECRET), 24),
    ):  # fmt: skip
        found = Scrubber().packet(packet)
        assert len(found) == len(packet) and not windows(found) & windows(SECRET)
        assert found[at:] != packet[at:]
        assert found[at - 4 : at] == packet[at - 4 : at] or at in (20, 40)


def test_options_of_ipv4_lose_their_addresses_and_nothing_else() -> None:
    scrubber = Scrubber()
    a, b = scrubber.address(A), scrubber.address(B)
    for options, expected in (
        (b"\x07\x0b\x0c" + A + B + b"\0", b"\x07\x0b\x0c" + a + b + b"\0"),
        (b"\x01\x83\x07\x04" + A, b"\x01\x83\x07\x04" + a),
        (b"\x89\x0b\x04" + B + A + b"\0", b"\x89\x0b\x04" + b + a + b"\0"),
        (b"\x44\x08\x09\x00\0\0\0\0", b"\x44\x08\x09\x00\0\0\0\0"),
        (b"\x94\x04\0\0", b"\x94\x04\0\0"),
    ):
        packet = ipv4(17, segment(17, SECRET, A + B), options)
        found = scrubber.packet(packet)
        assert found[20 : 20 + len(options)] == expected
        assert found[12:20] == a + b and checksums(found) == (True, True)


def test_options_that_may_tell_a_host_become_zeros() -> None:
    known, odd = b"\x94\x04\0\0", b"\x1e\x08" + SECRET[:6]
    for options, expected in (
        (known + odd, known + odd[:2] + bytes(6)),
        (known + b"\0" + SECRET[:3], known + bytes(4)),  # what follows the end of them
        (b"\x1e\x01" + SECRET[:2], bytes(4)),
    ):
        found = Scrubber().packet(ipv4(17, segment(17, SECRET, A + B), options))
        assert found[20 : 20 + len(options)] == expected and checksums(found) == (True, True)
    usual = bytes.fromhex("020405b4 0402 080a 00112233 00000000 01 030307")
    # an address of MPTCP, an option for experiments (RFC 4727)
    told = b"\x1e\x0a\x30\x01" + A + b"\x1f\x90" + b"\xfd\x06\xf9\x89ab" + b"\0" * 4
    for options, expected in (
        (usual, usual), (told, b"\x1e\x0a" + bytes(8) + b"\xfd\x06" + bytes(8)),
    ):  # fmt: skip
        data = segment(6, options + SECRET, A + B, len(options))
        found = Scrubber().packet(ipv4(6, data))
        assert found[40 : 40 + len(options)] == expected and checksums(found) == (True, True)


def test_extension_headers_tell_no_host() -> None:
    scrubber, home = Scrubber(), bytes.fromhex("20014860") + bytes(11) + b"\x08"
    harmless = b"\x05\x02\0\0" + b"\1\0"
    for kind, data, expected in (
        (0, harmless, harmless),
        (60, b"\1\2\0\0" + b"\xc9\x10" + home, b"\1\2\0\0" + b"\xc9\x10" + scrubber.address(home)),
        (0, b"\x3e\x04" + SECRET[:4], b"\x3e\x04" + bytes(4)),
        (135, SECRET[:6], SECRET[:2] + bytes(4)),
        (139, SECRET[:14], SECRET[:2] + bytes(12)),
    ):
        header = bytes((17, (len(data) - 6) // 8)) + data
        ends = ipv6(0, b"")[8:40]
        found = scrubber.packet(ipv6(kind, header + segment(17, SECRET, ends)))
        assert found[42 : 40 + len(header)] == expected, kind
        assert checksums(found) == (None, True)


def test_of_an_address_that_was_logged_in_part_nothing_is_left() -> None:
    a6 = bytes.fromhex("2001486012345678") + bytes(range(0xA1, 0xA9))
    route = bytes((59, 2, 3, 1)) + bytes(4) + a6
    for packet, at, size in (
        (ipv4(17, b"", b"\x07\x0b\x0c" + A + B + b"\0"), 27, 4),
        (ipv4(17, b"", b"\x44\x0c\x0d\x01" + A + bytes(4)), 24, 4),
        (ipv4(1, b"\x05\0\0\0" + A), 24, 4),
        (ipv4(1, b"\x09\0\0\0\1\2\0\0" + A + bytes(4)), 28, 4),
        (ipv6(43, route), 48, 16),
        (ipv6(58, b"\x87\0\0\0" + bytes(4) + a6), 48, 16),
        (ipv6(60, b"\x3b\2\1\2\0\0\xc9\x10" + a6), 48, 16),
    ):  # fmt: skip
        for length in {2, 3, size - 1, size}:
            scrubber, part = Scrubber(), packet[at : at + length]
            found = scrubber.packet(packet[: at + length])
            assert found[at:] == (scrubber.address(part) if length == size else bytes(length))
            assert found[at:] != part and len(found) == at + length


def test_a_scrubbed_capture_does_not_name_the_machine_that_made_it(tmp_path: Path) -> None:
    source = samples.FIXTURES / "nflog" / "tshark.pcapng"
    for options, named in (([], True), (["--scrub"], False), (["--scrub", "--machine"], True)):
        target = tmp_path / f"{len(options)}.pcapng"
        assert main(["read", "-w", str(target), *options, str(source)]) == 0
        told = platform.node().encode(), platform.release().encode(), b"monotonic"
        assert [word in target.read_bytes() for word in told] == [named] * 3
        assert len(read(target)) == len(read(source))


def test_time_stamps_of_an_option_are_no_addresses() -> None:
    stamps = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    option = b"\x44\x0c\x0d\x00" + stamps  # flag 0: time stamps only
    found = Scrubber().packet(ipv4(17, segment(17, b"", A + B), option))
    assert found[20:32] == option


def test_the_inner_packet_of_an_icmp_error_is_scrubbed_alike() -> None:
    scrubber = Scrubber()
    a, b = scrubber.address(A), scrubber.address(B)
    inner = ipv4(17, segment(17, SECRET, A + B))
    error = b"\x03\x03" + bytes(6) + inner
    packet = ipv4(1, error[:2] + checksum(error) + error[4:])
    found = scrubber.packet(packet)
    assert found[12:20] == found[28 + 12 : 28 + 20] == a + b
    assert checksums(found) == checksums(found[28:]) == (True, True)
    assert not windows(found) & windows(SECRET)
    inner6 = ipv6(6, segment(6, SECRET, A6 + B6))
    error = b"\x01\x04" + bytes(6) + inner6
    pseudo = A6 + B6 + len(error).to_bytes(4) + bytes((0, 0, 0, 58))
    packet = ipv6(58, error[:2] + checksum(pseudo + error) + error[4:])
    found = scrubber.packet(packet)
    assert found[8:40] == found[48 + 8 : 48 + 40] == scrubber.address(A6) + scrubber.address(B6)
    assert checksums(found) == checksums(found[48:]) == (None, True)


def test_a_redirect_names_another_gateway() -> None:
    scrubber = Scrubber()
    error = b"\x05\x01\0\0" + B + ipv4(17, segment(17, b"", A + B))
    found = scrubber.packet(ipv4(1, error[:2] + checksum(error) + error[4:]))
    assert found[24:28] == scrubber.address(B) and checksums(found) == (True, True)


@pytest.mark.parametrize(("kind", "head"), [(135, 8), (136, 8), (133, 8), (134, 16), (137, 8)])
def test_neighbour_discovery_names_others(kind: int, head: int) -> None:
    scrubber, mac = Scrubber(), bytes.fromhex("00163e112233")
    targets = {135: B6, 136: B6, 137: B6 + A6}.get(kind, b"")
    prefix = b"\x03\x04\x40\xc0" + bytes(12) + A6
    odd = b"\x19\x03\0\0" + bytes(4) + B6  # RFC 8106
    message = bytes((kind, 0)) + bytes(head - 2) + targets + b"\x01\x01" + mac + prefix + odd
    pseudo = A6 + B6 + len(message).to_bytes(4) + bytes((0, 0, 0, 58))
    packet = ipv6(58, message[:2] + checksum(pseudo + message) + message[4:])
    found = scrubber.packet(packet)
    a, b = scrubber.address(A6), scrubber.address(B6)
    at = 40 + head
    expected = {135: b, 136: b, 137: b + a}.get(kind, b"")
    assert found[at : at + len(expected)] == expected
    at += len(expected)
    assert found[at : at + 8] == b"\x01\x01" + scrubber.mac(mac)
    assert found[at + 8 : at + 40] == prefix[:16] + a
    assert found[at + 40 : at + 42] == b"\x19\x03" and not any(found[at + 42 :])
    assert checksums(found) == (None, True)


def test_a_report_of_multicast_listeners_keeps_its_groups_and_its_checksum() -> None:
    group = ip_address("ff02::fb").packed
    for kind in (131, 132):
        message = bytes((kind, 0)) + bytes(6) + group
        pseudo = A6 + B6 + len(message).to_bytes(4) + bytes((0, 0, 0, 58))
        packet = ipv6(58, message[:2] + checksum(pseudo + message) + message[4:])
        found = Scrubber().packet(packet)
        assert found[48:64] == group and checksums(found) == (None, True)


def test_arp_names_others() -> None:
    scrubber, mac = Scrubber(), bytes.fromhex("00163e112233")
    head = b"\0\1\x08\0\x06\x04\0\1"
    found = scrubber.arp(head + mac + A + bytes(6) + B + b"trailing bytes")
    ends = scrubber.mac(mac) + scrubber.address(A) + bytes(6) + scrubber.address(B)
    assert found == head + ends + bytes(14)
    assert scrubber.arp(head[:5]) == head[:5]


@pytest.mark.parametrize("size", [0, 1, 2, 8, 20])
def test_arp_of_any_link_keeps_its_length(size: int) -> None:
    mac = bytes(range(2, 2 + 2 * size, 2))
    packet = b"\0\7\x08\0" + bytes((size, 4)) + b"\0\1" + mac + A + mac + B
    found = Scrubber().arp(packet)
    assert len(found) == len(packet)
    assert found[8 + size : 12 + size] == Scrubber().address(A)


def test_arp_of_a_fixture_has_the_macs_of_its_link_header() -> None:
    checked = 0
    for before, after in pairs("nflog/seq.bin"):
        if before.family != "arp" or not before.extra.get("arp_sha") or not before.hwaddr:
            continue
        assert (before.hwaddr == before.extra["arp_sha"]) == (
            after.hwaddr == after.extra["arp_sha"]
        )
        assert after.extra["arp_oper"] == before.extra["arp_oper"]
        checked += 1
    assert checked


@pytest.mark.parametrize("size", range(20))
def test_a_cut_header_keeps_its_fields(size: int) -> None:
    packet = ipv4(6, segment(6, SECRET, A + B))
    found = Scrubber().packet(packet[:size])
    assert found[: min(size, 10)] == packet[: min(size, 10)]
    assert len(found) == size and A not in found


# Addresses


@pytest.mark.parametrize("text", [
    "0.0.0.0", "127.0.0.1", "127.255.1.2", "224.0.0.1", "239.255.255.250", "255.255.255.255", "::",
    "::1", "ff02::1", "ff02::1:ff00:17", "::ffff:127.0.0.1",
])  # fmt: skip
def test_an_address_that_tells_no_host_stays(text: str) -> None:
    packed = ip_address(text).packed
    assert Scrubber().address(packed) == packed


def test_addresses_come_from_the_ranges_for_examples() -> None:
    scrubber = Scrubber()

    def other(text: str) -> str:
        return str(ip_address(scrubber.address(ip_address(text).packed)))

    assert [other("8.8.8.8"), other("10.0.0.1"), other("8.8.8.8")] == [
        "198.18.0.1", "198.18.0.2", "198.18.0.1",
    ]  # fmt: skip
    assert [other("2a00::1"), other("fe80::1:2")] == ["2001:db8::1", "fe80::2"]
    assert other("::ffff:8.8.8.8") == str(ip_address("::ffff:198.18.0.1"))
    assert scrubber.mac(b"\xff" * 6) == b"\xff" * 6
    assert scrubber.mac(bytes.fromhex("01005e000001")) == bytes.fromhex("01005e000001")
    assert scrubber.mac(bytes.fromhex("00163e000001")) == bytes.fromhex("020000000001")


def test_addresses_beyond_the_first_range_come_from_the_next() -> None:
    scrubber = Scrubber()
    known = [scrubber.address((0x0B000000 + i).to_bytes(4)) for i in range((1 << 17) + 100)]
    found = [ip_address(packed) for packed in known]
    assert len(set(found)) == len(found)
    assert all(host in ip_network("198.18.0.0/15") for host in found[: (1 << 17) - 1])
    assert all(host in ip_network("10.0.0.0/8") for host in found[1 << 17 :])


ADDRESS = st.ip_addresses().map(lambda host: host.packed)


@given(st.lists(ADDRESS, max_size=60))
def test_as_many_addresses_as_before(given_: list[bytes]) -> None:
    scrubber = Scrubber()
    known = [(one, scrubber.address(one)) for one in given_ if told(ip_address(one))]
    assert len({new for _, new in known}) == len({old for old, _ in known})
    assert all(scrubber.address(old) == new and len(old) == len(new) for old, new in known)


@given(st.lists(st.binary(min_size=6, max_size=6) | st.binary(min_size=8, max_size=8)))
def test_as_many_macs_as_before(given_: list[bytes]) -> None:
    scrubber = Scrubber()
    known = [(one, scrubber.mac(one)) for one in given_ if any(one) and not one[0] & 1]
    assert len({new for _, new in known}) == len({old for old, _ in known})
    assert all(scrubber.mac(old) == new and len(old) == len(new) for old, new in known)


@given(st.lists(st.binary(min_size=8, max_size=40)))
def test_as_many_payloads_as_before(given_: list[bytes]) -> None:
    scrubber = Scrubber()
    known = [(one, scrubber.payload(one)) for one in given_ if any(one)]
    assert len({new for _, new in known}) == len({old for old, _ in known})
    assert all(scrubber.payload(old) == new and len(old) == len(new) for old, new in known)
    assert scrubber.payload(bytes(9)) == bytes(9)


def test_more_than_can_be_told_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "LIMIT", 2)
    scrubber = Scrubber()
    for last in (1, 2, 1, 2):
        scrubber.address(bytes((9, 9, 9, last)))
    with pytest.raises(ValueError, match="more than 2 different IPv4 addresses"):
        scrubber.address(bytes((9, 9, 9, 3)))
    assert len(scrubber.payload(b"something else")) == 14


# Messages of Linux


def attributes(message: bytes) -> dict[int, bytes]:
    size = int.from_bytes(message[:4], "little")
    return {kind: message[start:stop] for kind, start, stop in netlink.scan(
        message, 20, size, "<", 0)}  # fmt: skip


def test_attributes_stay_where_they_were() -> None:
    for before, after in pairs("nflog/seq.bin"):
        old, new = attributes(raw_of(before)), attributes(raw_of(after))
        assert list(old) == list(new) and raw_of(before)[:20] == raw_of(after)[:20]
        for kind, value in old.items():
            assert len(new[kind]) == len(value)
            if kind not in (8, 9, 16, 18, 21):
                assert new[kind] == value, kind


def tuples(record: PacketRecord) -> list[Any]:
    """The two directions of a record's conntrack entry."""
    assert record.extra is not None
    entry = record.extra["NFULA_CT"]
    return [entry["CTA_TUPLE_ORIG"], entry["CTA_TUPLE_REPLY"]]


def test_conntrack_entries_name_others_and_say_the_same() -> None:
    assert len(pairs("nflog/conntrack.bin")) == 5
    for before, after in pairs("nflog/conntrack.bin"):
        old, new = before.extra["NFULA_CT"], after.extra["NFULA_CT"]
        assert masked(new) == masked(old)
        assert (new == old) == (not any(told(host) for host in map(address, texts(old)) if host))
        for was, now in zip(tuples(before), tuples(after), strict=True):
            assert was["CTA_TUPLE_PROTO"] == now["CTA_TUPLE_PROTO"]
            for one, other in zip(
                was["CTA_TUPLE_IP"].values(), now["CTA_TUPLE_IP"].values(), strict=True
            ):
                assert one != other or not told(address(one))

        def same(record: PacketRecord) -> list[bool]:
            ends = [end for way in tuples(record) for end in way["CTA_TUPLE_IP"].values()]
            return [one == other for one in ends for other in ends]

        assert same(before) == same(after)


def test_attributes_that_nobody_knows_become_zeros() -> None:
    secret = b"who is it"
    head: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1})]
    message = builders.log("<", 5, [*head, (10, b"drop \0"), (99, secret)], family=2)
    message += bytes(-len(message) % 4)
    found = nfulnl.scrub(message, "nfulnl-le", Scrubber())
    assert len(found) == len(message) and secret not in found
    record = nfulnl.NfulnlStream("<").decode(found, Message(0, len(found)))
    assert isinstance(record, PacketRecord) and record.extra is not None
    assert record.prefix == "drop " and record.extra["unknown"] == [[99, bytes(9).hex()]]


def test_what_a_message_says_twice_is_scrubbed_twice() -> None:
    head: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1})]
    first, second = ipv4(17, segment(17, b"", A + B)), ipv4(17, segment(17, SECRET, A + B))
    message = builders.log("<", 5, [*head, (9, first), (9, second)], family=2)
    message += bytes(-len(message) % 4)
    found = nfulnl.scrub(message, "nfulnl-le", Scrubber())
    assert len(found) == len(message) and not windows(found) & windows(SECRET)
    assert A not in found and B not in found


@pytest.mark.parametrize("size", [0, 1, 2, 6, 8])
@pytest.mark.parametrize("more", [0, 4])
def test_a_link_address_of_any_size_goes_and_the_rest_stays(size: int, more: int) -> None:
    mac = bytes.fromhex("0e163e1122334455")[:size]
    value = size.to_bytes(2) + bytes(2) + mac + bytes(8 - size + more)
    message = (20 + 4 + len(value) + 12).to_bytes(4, "little") + b"\0\4" + bytes(10)
    message += b"\2\0\0\5" + (4 + len(value)).to_bytes(2, "little") + b"\x08\0" + value
    message += b"\x0c\0\x0a\0" + b"prefix \0"
    before = nfulnl.NfulnlStream("<").decode(message, Message(0, len(message)))
    assert isinstance(before, PacketRecord) and before.prefix == "prefix "
    assert before.hwaddr == (mac.hex(":") or None)
    found = nfulnl.scrub(message, "nfulnl-le", Scrubber())
    assert len(found) == len(message)
    after = nfulnl.NfulnlStream("<").decode(found, Message(0, len(found)))
    assert isinstance(after, PacketRecord) and after.prefix == "prefix "
    assert after.hwaddr != before.hwaddr or not size
    assert len(after.hwaddr or "") == len(before.hwaddr or "")


def test_every_address_of_a_conntrack_entry_is_known_to_be_one() -> None:
    def addresses(table: netlink.Table, path: str = "") -> Iterator[str]:
        for name, kind in table.values():
            if isinstance(kind, dict):
                yield from addresses(kind, f"{path}/{name}")
            elif kind in (netlink.IPV4_ADDRESS, netlink.IPV6_ADDRESS):
                yield f"{path}/{name}"

    tuples = 3  # original, reply, master; two addresses of each family
    assert len(list(addresses(nfct_attributes.CTA))) == tuples * 4


# Anything at all


@effort.examples(300)
@given(st.binary(max_size=200))
def test_any_bytes_keep_their_length(data: bytes) -> None:
    scrubber = Scrubber()
    for change in (scrubber.packet, scrubber.arp, scrubber.payload, scrubber.link_header,
                   scrubber.mac):  # fmt: skip
        assert len(change(data)) == len(data)


BEGINNINGS = [
    b"\x45\0\0\x54\0\0\0\0\x40\x01" + bytes(10), b"\x45\0\0\x54\0\0\0\0\x40\x06" + bytes(10),
    b"\x4f\0\0\x54\0\0\0\0\x40\x11" + bytes(10), b"\x45\0\0\x54\0\0\0\0\x40\x04" + bytes(10),
    b"\x45\0\0\x54\0\0\0\0\x40\x84" + bytes(10), b"\x60\0\0\0\0\x40\x3a\x40" + bytes(32),
    b"\x60\0\0\0\0\x40\0\x40" + bytes(32), b"\x60\0\0\0\0\x40\x2b\x40" + bytes(32),
    b"\x60\0\0\0\0\x40\x2c\x40" + bytes(32), b"\x60\0\0\0\0\x40\x29\x40" + bytes(32),
]  # fmt: skip


@effort.examples(600)
@given(st.sampled_from(BEGINNINGS), st.integers(1, 200), st.binary(max_size=120))
def test_any_packet_keeps_its_length(head: bytes, kind: int, rest: bytes) -> None:
    for data in (head + rest, head + bytes((kind,)) + rest, (head + rest)[:kind]):
        assert len(Scrubber().packet(data)) == len(data)


def test_packets_in_packets_have_an_end() -> None:
    deep = b"".join(b"\x45\0\0\0\0\0\0\0\x40\x04" + bytes(10) for _ in range(3000))
    assert len(Scrubber().packet(deep)) == len(deep)


CHANGED = ["nflog/conntrack.bin", "nflog/batch.bin", "ipl/v5-1-2-lp64le-nat.all.bin",
           "ipl/v4-1-35-lp64le-filter.ipf.bin", "ipl/v2x-ilp32le-ipf.bin",
           "ipl/v34-ilp32le-state.bin"]  # fmt: skip


@effort.examples(400)
@given(st.data())
def test_any_message_that_decodes_can_be_scrubbed(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(read(data.draw(st.sampled_from(CHANGED)))))
    message = bytearray(raw_of(record))
    for _ in range(data.draw(st.integers(0, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    module = nfulnl if record.source == "nflog" else ipl
    layout = module.described(record.layout, record.log)
    stream = module.stream(layout)
    try:
        (item,) = stream.split(bytes(message), True)
        if not isinstance(item, Message):
            return
        changed = stream.decode(bytes(message), item, True)
    except (DecodeError, ValueError):
        return
    found = Scrubbing().record(changed)
    assert found.raw is not None and changed.raw is not None
    assert len(found.raw) == len(changed.raw)


# Link headers by the type of the link

OUTER = ipv4(47, b"\0\0\x08\0")[:20]
FRAME = bytes.fromhex("02aabbccddee") + bytes.fromhex("02aabbccddef") + b"\x08\0"


@pytest.mark.parametrize(("hwtype", "header", "kept"), [
    (1, FRAME, FRAME[12:]), (772, FRAME, FRAME[12:]), (None, FRAME, FRAME[12:]),
    (65534, OUTER[:14], None), (65534, OUTER, None), (512, b"\xff\3\0\x21" + OUTER[:10], None),
    (801, FRAME, None), (32, FRAME + A + B, None), (0xFFFF, FRAME, None), (None, OUTER[:14], None),
    (1, FRAME[:12], None), (778, OUTER[:14], None), (776, FRAME, None),
])  # fmt: skip
def test_a_link_header_is_scrubbed_by_its_type(
    hwtype: int | None, header: bytes, kept: bytes | None
) -> None:
    attrs: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1})]
    if hwtype is not None:
        attrs.append((15, hwtype))
    for number in (16, 21):
        message = builders.log("<", 5, [*attrs, (number, header)], family=2)
        message += bytes(-len(message) % 4)
        found = attributes(nfulnl.scrub(message, "nfulnl-le", Scrubber()))[number]
        scrubber = Scrubber()
        ends = scrubber.mac(FRAME[:6]) + scrubber.mac(FRAME[6:12])
        assert found == (bytes(len(header)) if kept is None else ends + kept)


@pytest.mark.parametrize(("hwtype", "before"), [
    (768, b""), (776, b""), (776, FRAME), (778, b""), (769, b""), (823, b""),
])  # fmt: skip
def test_the_link_header_of_a_tunnel_names_others(hwtype: int, before: bytes) -> None:
    outer = ipv6(47, b"\0\0\x08\0") if hwtype in (769, 823) else ipv4(47, b"\0\0\x08\0")
    message = builders.log("<", 5, [(15, hwtype), (16, before + outer)], family=2)
    message += bytes(-len(message) % 4)
    scrubber = Scrubber()
    found = attributes(nfulnl.scrub(message, "nfulnl-le", scrubber))[16]
    size = len(outer) - 4
    assert len(found) == len(before + outer) and found[-4:] == outer[-4:]
    assert found[len(before) :][:4] == outer[:4]
    ends = A6 + B6 if hwtype in (769, 823) else A + B
    half = len(ends) // 2
    others = scrubber.address(ends[:half]) + scrubber.address(ends[half:])
    assert found[len(before) :][size - len(ends) : size] == others


@pytest.mark.parametrize(("hwtype", "address", "kind"), [
    (None, FRAME[:6], "mac"), (1, FRAME[:6], "mac"), (772, FRAME[:6], "mac"),
    (778, A, "address"), (768, A, "address"), (65534, A, "zeros"),
    (65534, b"\xcb\0\x71\5\1\1", "zeros"), (24, bytes(range(1, 9)), "zeros"),
    (None, A, "zeros"), (1, A, "zeros"), (512, b"\1\2", "zeros"),
])  # fmt: skip
def test_a_neighbours_address_is_scrubbed_by_its_type(
    hwtype: int | None, address: bytes, kind: str
) -> None:
    value = {"hw_addrlen": len(address), "hw_addr": address.ljust(8, b"\0")}
    attrs: list[tuple[int, Any]] = [(8, value)]
    if hwtype is not None:
        attrs.append((15, hwtype))
    message = builders.log("<", 5, attrs, family=2)
    message += bytes(-len(message) % 4)
    scrubber = Scrubber()
    found = attributes(nfulnl.scrub(message, "nfulnl-le", scrubber))[8]
    new = bytes(len(address)) if kind == "zeros" else getattr(scrubber, kind)(address)
    assert found == len(address).to_bytes(2) + bytes(2) + new.ljust(8, b"\0")


def test_arp_of_tunnels_names_others() -> None:
    scrubber = Scrubber()
    found = scrubber.arp(b"\3\x0a\x08\0\4\4\0\1" + A + A + B + B)
    one, other = scrubber.address(A), scrubber.address(B)
    assert found[8:] == one + one + other + other


# Whatever a record is, it is scrubbed


@pytest.mark.parametrize("header", [
    b"\x40\0\0\x28", b"\x44\0\0\x28", b"\xf5\0\0\x28", b"\0\0\0\0", b"\x55\0\0\x28",
    b"\x4f\0\0\x28",
])  # fmt: skip
@pytest.mark.parametrize("size", [4, 5, 20, 40])
def test_a_packet_with_a_bad_header_is_scrubbed_and_stays_one(header: bytes, size: int) -> None:
    packet = (header + b"\x12\x34\0\0\x40\6\0\0" + A + B + SECRET * 2)[:size]
    found = Scrubber().packet(packet)
    assert len(found) == size and found[0] >> 4 == packet[0] >> 4
    for secret in (A, B, SECRET[:8]):
        assert secret not in found or secret not in packet


def test_a_message_that_was_cut_off_is_scrubbed() -> None:
    packet = ipv4(6, segment(6, SECRET, A + B))
    hwaddr = {"hw_addrlen": 6, "hw_addr": FRAME[:6] + b"\0\0"}
    message = builders.log("<", 5, [
        (1, {"hw_protocol": 0x800, "hook": 1}), (8, hwaddr), (15, 1), (16, FRAME), (9, packet),
    ], family=2)  # fmt: skip
    for size in range(20, len(message)):
        for length in (len(message), size):
            cut = length.to_bytes(4, "little") + message[4:size]
            found = nfulnl.scrub(cut, "nfulnl-le", Scrubber())
            assert len(found) == len(cut) and found[:20] == cut[:20]
            for secret in (A, B, FRAME[:6], FRAME[6:12], SECRET[:4]):
                assert secret not in found


@effort.examples(300)
@given(st.data())
def test_no_damage_keeps_addresses_or_ends_scrubbing(data: st.DataObject) -> None:
    """All records of a damaged dump, as they are read, with their bytes, are scrubbed."""
    dump = samples.FIXTURES / data.draw(
        st.sampled_from([*CHANGED, "nflog/hwheader-ip.bin", "ipl/v5-1-2-lp64le-filter.ipf.bin"])
    )
    octets = bytearray(dump.read_bytes()[: data.draw(st.integers(200, 3000))])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at] = data.draw(st.sampled_from((0, 1, 4, 0x40, 0x45, 0x60, 0xF5, 0xFF)))
    layout = samples.origins()[samples.name(dump)]["layout"]
    scrubbing = Scrubbing()
    with pylog.open(io.BytesIO(bytes(octets)), layout=layout, raw=True) as reader:
        for record in reader:
            found = scrubbing.record(record)
            if isinstance(record, LossRecord):
                assert found.raw is None
                continue
            assert isinstance(found, type(record)) and found.raw and record.raw
            assert len(found.raw) == len(record.raw)
            assert found.timestamp_ns == record.timestamp_ns
            if isinstance(record, PacketRecord) and record.payload:
                assert isinstance(found, PacketRecord) and found.payload
                assert (found.family, found.caplen) == (record.family, record.caplen)
                for text in filter(None, (record.saddr, record.daddr)):
                    packed = ip_address(text).packed
                    if told(ip_address(text)) and min(packed[-4:]) > 8:  # else by chance
                        assert packed not in found.raw
