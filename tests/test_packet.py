"""Packet headers: the fast reader against construct, cut at every byte, and against the system."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

import pylog
from pylog import Fragment, PacketRecord, Vlan
from pylog.formats import packet, packet_schemas
from pylog.formats.addresses import addresses
from pylog.formats.packet import put_headers
from pylog.formats.packet_dissect import dissect
from pylog.formats.packet_schemas import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6
from pylog.record.places import no_values


def headers(data: bytes, start: int, end: int, ethertype: int) -> PacketRecord:
    """What the headers of a packet say."""
    values = no_values()
    put_headers(values, data, start, end, ethertype)
    return PacketRecord(*values)


@given(st.binary(min_size=16, max_size=16) | st.binary(min_size=4, max_size=4))
@example(bytes(16))
@example(bytes(15) + b"\1")
@example(bytes(12) + b"\1\2\3\4")
@example(bytes(10) + b"\xff\xff\1\2\3\4")
@example(bytes.fromhex("20010db8000000010001000000000001"))
@example(bytes.fromhex("20010db8000000000001000000000001"))
@example(bytes.fromhex("0000000000000001000000000000ffff"))
def test_addresses_are_written_as_inet_ntop_does(address: bytes) -> None:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    assert addresses[address] == socket.inet_ntop(family, address)


def ipv4(protocol: int, body: bytes, bits: int = 0, options: bytes = b"", ident: int = 7) -> bytes:
    head = packet_schemas.IPV4.build(
        {"version_ihl": 0x45 + len(options) // 4, "tos": 0, "length": 20 + len(options) + len(body),
         "id": ident, "flags_offset": bits, "ttl": 64, "protocol": protocol, "checksum": 0,
         "src": bytes([192, 0, 2, 1]), "dst": bytes([198, 51, 100, 2])}
    )  # fmt: skip
    return head + options + body


def ipv6(following: int, body: bytes, length: int | None = None) -> bytes:
    head = packet_schemas.IPV6.build(
        {"version_class_flow": 6 << 28, "payload_length": len(body) if length is None else length,
         "next_header": following, "hop_limit": 64,
         "src": bytes.fromhex("20010db8" + "00" * 11 + "01"),
         "dst": bytes.fromhex("fe80" + "00" * 13 + "02")}
    )  # fmt: skip
    return head + body


TCP = packet_schemas.TCP.build({"sport": 1234, "dport": 80, "seq": 1, "ack": 2, "offset": 0x50,
                        "flags": 0x12, "window": 3, "checksum": 0, "urgent": 0})  # fmt: skip
UDP = packet_schemas.UDP.build({"sport": 53, "dport": 5353, "length": 8, "checksum": 0})


def test_tcp_with_ip_options() -> None:
    found = headers(ipv4(6, TCP, options=bytes(8)), 0, 48, ETH_P_IP)
    assert (found.sport, found.dport, found.tcp_flags, found.length) == (1234, 80, "AS", 48)
    assert (found.saddr, found.daddr, found.cut) == ("192.0.2.1", "198.51.100.2", None)


def test_a_later_fragment_has_no_ports() -> None:
    data = ipv4(17, UDP, bits=0x2000 | 185)
    found = headers(data, 0, len(data), ETH_P_IP)
    assert found.fragment == Fragment(7, 1480, True)
    assert found.sport is None and found.protocol == 17


def test_extension_headers_lead_to_the_protocol() -> None:
    hop = bytes([60, 0]) + bytes(6)
    destination = bytes([44, 1]) + bytes(14)
    fragment = bytes([6, 0]) + (0 | 1).to_bytes(2) + (99).to_bytes(4)
    data = ipv6(0, hop + destination + fragment + TCP)
    found = headers(data, 0, len(data), ETH_P_IPV6)
    assert (found.protocol, found.sport, found.tcp_flags) == (6, 1234, "AS")
    assert found.fragment == Fragment(99, 0, True)
    assert (found.saddr, found.daddr) == ("2001:db8::1", "fe80::2")


def test_a_jumbogram_has_the_length_of_its_option() -> None:
    hop = bytes([17, 0, 0xC2, 4]) + (70000).to_bytes(4)
    data = ipv6(0, hop + UDP, length=0)
    assert headers(data, 0, len(data), ETH_P_IPV6).length == 70040


JUMBO = bytes([0xC2, 4]) + (70_000).to_bytes(4)


@pytest.mark.parametrize(("options", "length"), [
    (bytes([17, 1, 1, 0, 1, 0]) + bytes([1, 0]) + JUMBO + bytes([1, 0]), None),  # at 4n
    (bytes([17, 1, 1, 2, 0, 0]) + bytes([1, 2, 0, 0]) + JUMBO, 70_040),
    (bytes([17, 0]) + bytes([0xC2, 3]) + (70_000).to_bytes(4), None),
    (bytes([17, 0]) + bytes([0xC2, 4]) + (65_535).to_bytes(4), None),
    (bytes([17, 0]) + bytes([0xC2, 4]) + (65_536).to_bytes(4), 65_576),
    (bytes([17, 0]) + bytes([0xC2, 4]) + (3_900_000_000).to_bytes(4), 3_900_000_040),
    (bytes([17, 0]) + bytes([0xC2, 200]) + (3_900_000_000).to_bytes(4), None),
    (bytes([17, 0]) + bytes([1, 0, 0, 0, 0xC2, 4]), None),  # goes on after the header
    (bytes([44, 0]) + JUMBO + bytes([17, 0, 0, 1]) + bytes(4), None),  # a fragment
    (bytes([17, 0]) + bytes(6), None),
])  # fmt: skip
def test_a_jumbo_length_needs_a_valid_option(options: bytes, length: int | None) -> None:
    data = ipv6(0, options + UDP, length=0)
    assert headers(data, 0, len(data), ETH_P_IPV6).length == length


def test_a_jumbo_option_counts_only_where_the_header_has_no_length() -> None:
    hop = bytes([17, 0]) + JUMBO
    data = ipv6(0, hop + UDP)
    assert headers(data, 0, len(data), ETH_P_IPV6).length == len(data)
    destination = ipv6(60, hop + UDP, length=0)  # not in a hop-by-hop header
    assert headers(destination, 0, len(destination), ETH_P_IPV6).length is None


@pytest.mark.parametrize("cut", [0, 1, 12, 16, 20])
def test_a_length_below_what_was_captured_is_none(cut: int) -> None:
    four, six = ipv4(6, TCP), ipv6(6, TCP)
    for stated in (0, 1, 19, 20, 39, 40, 41, 60, 61, 65_535):
        data = four[:2] + stated.to_bytes(2) + four[4 : len(four) - cut]
        found = headers(data, 0, len(data), ETH_P_IP).length
        assert found == (stated if stated >= len(data) else None)
        data = six[:4] + stated.to_bytes(2) + six[6 : len(six) - cut]
        found = headers(data, 0, len(data), ETH_P_IPV6).length
        assert found == (40 + stated if stated and 40 + stated >= len(data) else None)


def test_an_empty_packet_of_ipv6_has_the_length_of_its_header() -> None:
    data = ipv6(59, b"")
    assert headers(data, 0, 40, ETH_P_IPV6).length == 40
    assert headers(data + bytes(6), 0, 46, ETH_P_IPV6).length is None  # padding of the link


def test_a_header_that_was_cut_tells_no_length_of_0() -> None:
    for size in range(4, 20):
        assert headers(ipv4(6, TCP)[:2] + bytes(18), 0, size, ETH_P_IP).length is None
    for size in range(6, 40):
        assert headers(ipv6(6, TCP, length=0), 0, size, ETH_P_IPV6).length is None


def test_a_quoted_packet_may_be_padded_but_is_as_long_as_its_headers() -> None:
    quoted = ipv4(17, UDP)
    for stated, length in ((28, 28), (0, None), (19, None), (1500, 1500)):
        inner = quoted[:2] + stated.to_bytes(2) + quoted[4:] + bytes(100)  # RFC 4884
        found = headers(ipv4(1, bytes([3, 1, 0, 0, 0, 32, 0, 0]) + inner), 0, 156, ETH_P_IP)
        assert found.extra is not None and found.extra["inner"].get("length") == length


@pytest.mark.parametrize(
    ("protocol", "body", "extra"),
    [
        (50, (0xDEADBEEF).to_bytes(4) + bytes(4), {"spi": 0xDEADBEEF}),
        (51, bytes([6, 4, 0, 0]) + (7).to_bytes(4) + bytes(4), {"spi": 7, "ah_next_header": 6}),
        (47, bytes([0, 0, 8, 0]), {"gre_protocol": 0x800}),
    ],
)
def test_what_only_some_protocols_have_is_in_extra(
    protocol: int, body: bytes, extra: dict[str, Any]
) -> None:
    data = ipv4(protocol, body)
    assert headers(data, 0, len(data), ETH_P_IP).extra == extra


def test_sctp_and_udplite_have_ports() -> None:
    for protocol in (132, 136):
        data = ipv4(protocol, UDP + bytes(4))
        found = headers(data, 0, len(data), ETH_P_IP)
        assert (found.sport, found.dport, found.cut) == (53, 5353, None)


def test_an_icmp_error_tells_the_packet_it_is_about() -> None:
    quoted = ipv4(6, TCP[:8], bits=0x4000)
    data = ipv4(1, bytes([3, 1, 0, 0, 0, 0, 0, 0]) + quoted)
    found = headers(data, 0, len(data), ETH_P_IP)
    assert (found.icmp_type, found.icmp_code) == (3, 1)
    assert found.extra is not None
    inner = found.extra["inner"]
    assert inner["sport"] == 1234 and inner["saddr"] == "192.0.2.1" and "cut" not in inner


def test_arp_addresses() -> None:
    body = bytes([2] * 6 + [10, 0, 0, 1] + [0] * 6 + [10, 0, 0, 2])
    data = bytes.fromhex("0001080006040001") + body
    found = headers(data, 0, len(data), ETH_P_ARP)
    assert (found.family, found.saddr, found.daddr) == ("arp", "10.0.0.1", "10.0.0.2")
    assert found.extra == {
        "arp_oper": 1, "arp_sha": "02:02:02:02:02:02", "arp_tha": "00:00:00:00:00:00",
    }  # fmt: skip


def test_tags_inside_a_payload_are_found() -> None:
    tags, at, ethertype = packet.inner_tags(bytes.fromhex("606488a8e0078100000908001234"), 0x8100)
    assert [tag.id for tag in tags] == [0x64, 7, 9]
    assert tags[0] == Vlan(100, 3, False, 0x8100) and tags[1].protocol == 0x88A8
    assert (at, ethertype) == (12, 0x800)


WHOLE = {
    "ipv4 tcp": (ETH_P_IP, ipv4(6, TCP), ["ipv4"] * 20 + ["tcp"] * 20),
    "ipv4 options": (ETH_P_IP, ipv4(17, UDP, options=bytes(4)),
                     ["ipv4"] * 20 + ["ipv4 options"] * 4 + ["udp"] * 8),
    "ipv4 icmp": (ETH_P_IP, ipv4(1, bytes([8, 0, 0, 0, 0, 0, 0, 0])), ["ipv4"] * 20 + ["icmp"] * 4),
    "ipv6 udp": (ETH_P_IPV6, ipv6(17, UDP), ["ipv6"] * 40 + ["udp"] * 8),
    "ipv6 chain": (ETH_P_IPV6, ipv6(60, bytes([17, 0]) + bytes(6) + UDP),
                   ["ipv6"] * 40 + ["ipv6 extension"] * 8 + ["udp"] * 8),
    "ipv6 fragment": (ETH_P_IPV6, ipv6(44, bytes([17, 0, 0, 1]) + bytes(4) + UDP),
                      ["ipv6"] * 40 + ["ipv6 fragment"] * 8 + ["udp"] * 8),
    "sctp": (ETH_P_IP, ipv4(132, bytes(12)), ["ipv4"] * 20 + ["sctp"] * 12),
    "esp": (ETH_P_IP, ipv4(50, bytes(8)), ["ipv4"] * 20 + ["esp"] * 8),
    "arp": (ETH_P_ARP, bytes.fromhex("0001080006040001") + bytes(20), ["arp"] * 28),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_cut_header_is_told_and_what_is_there_is_read(name: str) -> None:
    ethertype, data, cuts = WHOLE[name]
    whole = headers(data, 0, len(data), ethertype)
    for end, cut in enumerate(cuts):
        found = headers(data, 0, end, ethertype)
        assert found.cut == cut, end
        for field, value in msgspec.structs.asdict(found).items():
            # a cut packet never says something else than the whole one
            if (
                field not in ("cut", "extra", "protocol", "fragment", "caplen")
                and value is not None
            ):
                assert value == getattr(whole, field), (field, end)
    assert headers(data, 0, len(cuts), ethertype).cut is None


@given(st.binary(max_size=120), st.sampled_from([ETH_P_IP, ETH_P_IPV6, ETH_P_ARP, 0x88B5]))
def test_any_bytes_give_headers(data: bytes, ethertype: int) -> None:
    for first in (data, b"\x45" + data, b"\x60" + data):
        found = headers(first, 0, len(first), ethertype)
        assert found.family in ("ipv4", "ipv6", "arp", ethertype)
        dissect(first, ethertype)


def test_real_packets_read_the_same_through_construct() -> None:
    compared = 0
    for dump in samples.dumps():
        with pylog.open(dump) as reader:
            for record in reader:
                if isinstance(record, PacketRecord) and record.payload:
                    compared += same_as_dissected(record)
    assert compared > 3000


def same_as_dissected(record: PacketRecord) -> bool:
    """Whether a record and construct's dissection of its payload were compared: they agree."""
    numbers = {name: number for number, name in packet_schemas.FAMILIES.items()}
    if record.family not in numbers:
        return False
    layers = dissect(record.payload or b"", numbers[str(record.family)])
    found: dict[str, Any] = {}
    for name, fields in layers:
        found.setdefault(name, fields)
    if "ipv4" in found and record.family == "ipv4":
        ip = found["ipv4"]
        assert record.protocol == ip["protocol"]
        assert record.length == packet.believed(ip["length"], len(record.payload or b""))
        assert record.saddr == addresses[ip["src"]] and record.daddr == addresses[ip["dst"]]
    layer4 = ("tcp", "udp", "sctp", "icmp", "icmpv6", "esp")
    first_layer4 = next((name for name, _ in layers if name in layer4), None)
    if first_layer4 in ("tcp", "udp", "sctp"):
        assert record.sport == found[first_layer4]["sport"]
        assert record.dport == found[first_layer4]["dport"]
    if first_layer4 == "tcp":
        assert record.tcp_flags == packet.TCP_FLAGS[found["tcp"]["flags"]]
    if first_layer4 in ("icmp", "icmpv6"):
        assert record.icmp_type == found[first_layer4]["type"]
    return True
