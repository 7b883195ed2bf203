"""What the kernel logs right now is what was sent, what ulogd2 writes and what tcpdump captures.

Three groups get every packet, each from a rule of its own: pylog, ulogd2 and tcpdump read one each.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import netlab
import pytest
import ulogd

import pylog
from pylog import LossRecord, PacketRecord, Reader, Vlan
from pylog.formats.packet_dissect import dissect

REASON = netlab.missing("nft", "iptables-legacy-restore", "tcpdump", "ulogd")
if not REASON and netlab.ulogd_plugin("output_JSON") is None:
    REASON = "needs ulogd2's JSON output"
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

PYLOG, ULOGD, TCPDUMP, OTHER = 5, 6, 7, 65535

# Where what was sent is found again: destination ports, and identifiers of pings
ROUTED, EMPTY, MARKED, RULE_MARKED, USED, FRAGMENTED = 7000, 7001, 7002, 7003, 7004, 7005
HOP_BY_HOP, DESTINATION, REFUSED_UDP, BRIDGED, CALLED = 7006, 7007, 7008, 7009, 7010
TAGGED, TWICE_TAGGED, TCP, REFUSED_TCP = 7011, 7012, 7013, 7014
ECHO = 0x7020

LONG = "<" + "x" * 117 + " \N{GREEK SMALL LETTER OMEGA}=%s\\ >"
XT_LONG = "xt " + "x" * 60
assert len(LONG.encode()) == 127 and len(XT_LONG) == 63  # the longest there can be
UID, GID = 3000000000, 4000000000
DATA = bytes(range(256)) * 16
STREAM = DATA * 15

HOOKS = {
    "inet": ("prerouting", "input", "forward", "output", "postrouting"),
    "arp": ("input", "output"),
    "bridge": ("prerouting", "input", "forward", "output", "postrouting"),
}
TABLES = (*(f"{family} t" for family in HOOKS), "netdev t")


def logged(prefix: str) -> str:
    """Rules of nft that log a packet to every group, at once; pylog's is counted."""
    return "".join(
        f'{"counter" if group == PYLOG else ""} log prefix "{prefix}" group {group}'
        " queue-threshold 1\n"
        for group in (PYLOG, ULOGD, TCPDUMP)
    )


def rules() -> str:
    """A log rule in every hook of every family, named FAMILY HOOK, or netdev HOOK DEVICE."""
    chains: dict[str, list[str]] = {}
    for family, hooks in HOOKS.items():
        for hook in hooks:
            priority = -310 if (family, hook) == ("inet", "prerouting") else 0
            before = ""
            if (family, hook) == ("inet", "forward"):
                before = f"udp dport {RULE_MARKED} meta mark set 0xfedcba98\n"
            chains.setdefault(family, []).append(
                f"chain {hook} {{ type filter hook {hook} priority {priority};\n"
                + before + logged(LONG if (family, hook) == ("inet", "input")
                                  else f"{family} {hook} ") + "}\n"
            )  # fmt: skip
    for hook, device in (("ingress", "f0"), ("ingress", "p1"), ("egress", "f1"), ("egress", "p2")):
        chains.setdefault("netdev", []).append(
            f"chain {hook}{device} {{ type filter hook {hook} device {device} priority 0;\n"
            + logged(f"netdev {hook} {device}") + "}\n"
        )  # fmt: skip
    return "".join(f"table {family} t {{\n{''.join(each)}}}\n" for family, each in chains.items())


def legacy_rules() -> str:
    """The same for pings in a rule of iptables, as iptables-restore reads it."""
    return "*raw\n" + "".join(
        f'-A PREROUTING -i f0 -p icmp -j NFLOG --nflog-prefix "{XT_LONG}"'
        f" --nflog-group {group} --nflog-threshold 1\n"
        for group in (PYLOG, ULOGD, TCPDUMP)
    ) + "COMMIT\n"  # fmt: skip


class Seen(NamedTuple):
    """What came of the traffic: pylog's records, ulogd's objects, tcpdump's file."""

    records: list[PacketRecord]
    objects: list[dict[str, Any]]
    capture: Path
    ports: dict[tuple[int, str], int]
    names: dict[int, str]
    counted: int
    begun_ns: int
    ended_ns: int
    reader: Reader
    bridge_calls: bool

    def of(self, **fields: object) -> list[PacketRecord]:
        """The records that have these values."""
        return [r for r in self.records if all(getattr(r, k) == v for k, v in fields.items())]


def converse(lab: netlab.Lab, host: str, data: bytes) -> int:
    """A TCP connection from the client to the server that carries the data; the client's port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = lab.server.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, TCP))
    listener.listen()
    client = lab.client.socket(family, socket.SOCK_STREAM)
    client.connect((host, TCP))
    port = int(client.getsockname()[1])
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(10)
        sent = found = 0
        while found < len(data):
            sent += client.send(data[sent : sent + 16384]) if sent < len(data) else 0
            found += len(accepted.recv(65536))
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
    assert client.recv(1) == b""
    client.close()
    return port


def traffic(lab: netlab.Lab) -> tuple[dict[tuple[int, str], int], bool]:
    """Send one of everything; the source ports by destination port and address."""
    client, firewall = lab.client, lab.firewall
    ports: dict[tuple[int, str], int] = {}

    def udp(sender: netlab.Namespace, host: str, port: int, *more: Any) -> None:
        ports[port, host] = sender.udp(host, port, *more)

    client.ip("neigh flush all")  # so that ARP comes first
    for port in (ROUTED, EMPTY, RULE_MARKED, FRAGMENTED, HOP_BY_HOP, DESTINATION, BRIDGED, CALLED,
                 TAGGED, TWICE_TAGGED):  # fmt: skip
        # somebody is to listen, or there would be an answer
        lab.server.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(("::", port))
    for host in ("10.66.2.2", "fd66:2::2"):
        udp(client, host, ROUTED, DATA[:100])
        udp(client, host, EMPTY)
        udp(client, host, RULE_MARKED, DATA[:7])
        udp(client, host, FRAGMENTED, DATA)
        udp(client, host, REFUSED_UDP, DATA[:50])
        client.echo(host, ECHO, DATA[:56])
        ports[TCP, host] = converse(lab, host, STREAM)
        with pytest.raises(ConnectionRefusedError):
            client.socket(
                socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
            ).connect((host, REFUSED_TCP))
    client.echo("10.66.1.1", ECHO + 1, DATA[:500])
    client.echo("fd66:1::1", ECHO + 1, DATA[:500])
    for port, hop_by_hop in ((HOP_BY_HOP, True), (DESTINATION, False)):
        ports[port, "fd66:2::2"] = client.udp_with_options("fd66:2::2", port, DATA[:9], hop_by_hop)
    for host in ("10.66.2.2", "fd66:2::2"):
        udp(firewall, host, MARKED, DATA[:8], 0xDEADBEEF)
        assert firewall.sender(host, USED, uid=UID, gid=GID).wait(10) == 0
    for host in ("10.66.3.3", "fd66:3::3"):
        udp(client, host, BRIDGED, DATA[:60])
    packet = netlab.ipv4_udp("10.66.3.2", "10.66.3.3", 1, TAGGED, DATA[:20])
    ends = "02:66:03:00:00:02", "02:66:03:00:00:03"
    client.frame("c1", netlab.ethernet(*ends, 0x0800, packet, 0x8100B064))
    packet = netlab.ipv4_udp("10.66.3.2", "10.66.3.3", 1, TWICE_TAGGED, DATA[:20])
    client.frame("c1", netlab.ethernet(*ends, 0x0800, packet, 0x88A80FFF, 0x81006001))
    # a bridged packet in the chains of IP, which has both kinds of devices
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    calls = firewall.inside(switch.exists)
    if calls:
        firewall.inside(lambda: switch.write_text("1"))
    udp(client, "10.66.3.3", CALLED, DATA[:60])
    if calls:
        firewall.inside(lambda: switch.write_text("0"))
    return ports, calls


def lines(path: Path) -> int:
    """How many whole lines a file has."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """The traffic, sent once for all tests."""
    folder = tmp_path_factory.mktemp("traffic")
    started = time.time_ns()
    affinity = os.sched_getaffinity(0)
    with netlab.Lab() as lab:
        firewall = lab.firewall
        # so that the neighbours of the bridge are known, as frames made by hand do not ask
        lab.client.echo("10.66.3.3", 1, b"")
        firewall.ulogd(ULOGD, folder / "ulogd.json")
        tcpdump = firewall.tcpdump(TCPDUMP, folder / "tcpdump.pcap")
        with pylog.open(f"nflog:{PYLOG}", netns=firewall.name, raw=True) as reader:
            firewall.nft(rules())
            firewall.run("iptables-legacy-restore", "--noflush", stdin=legacy_rules())
            try:
                # on one CPU one packet goes all its way before the next: all groups see one order
                os.sched_setaffinity(0, {min(affinity)})
                ports, calls = traffic(lab)
            finally:
                os.sched_setaffinity(0, affinity)
            counted = sum(sum(firewall.counted(table)) for table in TABLES)
            firewall.nft("flush ruleset")
            firewall.run("iptables-legacy", "-t", "raw", "-F")
            reader.stop()
            records = list(reader)
            losses = [record for record in records if isinstance(record, LossRecord)]
            assert not losses
            packets = [record for record in records if isinstance(record, PacketRecord)]
            ended = time.time_ns()
            netlab.until(lambda: lines(folder / "ulogd.json") >= len(packets), "ulogd's objects")
            netlab.until(lambda: captured(folder / "tcpdump.pcap") >= len(packets), "tcpdump")
            netlab.stop(tcpdump)
            yield Seen(packets, ulogd.objects((folder / "ulogd.json").read_bytes()),
                       folder / "tcpdump.pcap", ports, firewall.names(), counted, started, ended,
                       reader, calls)  # fmt: skip


def captured(path: Path) -> int:
    """How many packets are whole in a pcap file of this machine."""
    octets = path.read_bytes() if path.exists() else b""
    at, count = 24, 0
    while at + 16 <= len(octets):
        at += 16 + int.from_bytes(octets[at + 8 : at + 12], "little")
        count += at <= len(octets)
    return count


Way = list[tuple[str | None, str | int | None, str | int | None]]
ROUTE: Way = [
    ("netdev ingress f0", "f0", None),
    ("inet prerouting ", "f0", None),
    ("inet forward ", "f0", "f1"),
    ("inet postrouting ", "f0", "f1"),
    ("netdev egress f1", None, "f1"),
]
OUT: Way = [
    ("inet output ", None, "f1"),
    ("inet postrouting ", None, "f1"),
    ("netdev egress f1", None, "f1"),
]
BRIDGE: Way = [
    ("netdev ingress p1", "p1", None),
    ("bridge prerouting ", "br0", None),
    ("bridge forward ", "br0", "br0"),
    ("bridge postrouting ", None, "br0"),
    ("netdev egress p2", None, "p2"),
]


def way(records: list[PacketRecord]) -> Way:
    return [(record.prefix, record.indev, record.outdev) for record in records]


def datagram(record: PacketRecord, source: str, host: str, sport: int, data: bytes) -> None:
    """The record is of a UDP packet as it was sent."""
    assert (record.saddr, record.daddr) == (source, host)
    assert (record.sport, record.protocol) == (sport, 17)
    head = 20 if record.family == "ipv4" else 40
    assert record.length == record.caplen == len(record.payload or b"") == head + 8 + len(data)
    assert (record.payload or b"")[head:].startswith(sport.to_bytes(2, "big"))
    assert (record.payload or b"")[head + 8 :] == data
    assert record.fragment is None and record.cut is None


@pytest.mark.parametrize("host", ["10.66.2.2", "fd66:2::2"])
@pytest.mark.parametrize(("port", "size"), [(ROUTED, 100), (EMPTY, 0)])
def test_a_routed_packet_is_told_by_every_hook_on_its_way(
    seen: Seen, host: str, port: int, size: int
) -> None:
    records = seen.of(dport=port, daddr=host)
    assert way(records) == ROUTE
    for record in records:
        source = host.replace(":2::", ":1::").replace(".2.2", ".1.2")
        datagram(record, source, host, seen.ports[port, host], DATA[:size])
        assert record.family == ("ipv6" if ":" in host else "ipv4")
        assert record.direction == {"ingress": "in", "prerouting": "in", "forward": "forward"}.get(
            str(record.hook), "out"
        )
        assert (record.mark, record.vlan) == (None, None)
        assert record.group == str(PYLOG)
    assert {r.hwaddr for r in records[:4]} == {"02:66:01:00:00:02"}
    for record in records[2:]:  # no longer of the sender's machine
        assert (record.uid, record.gid) == (None, None)


@pytest.mark.parametrize("host", ["10.66.2.2", "fd66:2::2"])
def test_a_connection_is_told_from_syn_to_fin_with_all_its_bytes(seen: Seen, host: str) -> None:
    sport = seen.ports[TCP, host]
    there = seen.of(daddr=host, sport=sport, dport=TCP, prefix="inet forward ")
    back = seen.of(saddr=host, sport=TCP, dport=sport, prefix="inet forward ")
    assert [r.tcp_flags for r in there[:2]] == ["S", "A"] and back[0].tcp_flags == "AS"
    assert all("F" in {r.tcp_flags[-1:] for r in side if r.tcp_flags} for side in (there, back))
    carried: dict[int, bytes] = {}
    for record in there:
        payload, ethertype = record.payload or b"", 0x86DD if ":" in host else 0x0800
        _, (_, tcp), *_ = dissect(payload, ethertype)
        assert record.length == record.caplen == len(payload)
        start = (40 if ":" in host else 20) + 4 * (payload[32 if ":" not in host else 52] >> 4)
        if data := payload[start:]:
            carried[tcp["seq"]] = data
    assert b"".join(carried[seq] for seq in sorted(carried)) == STREAM
    # larger than any frame, as the sender's kernel leaves the cutting to the device
    assert max(r.length or 0 for r in there) > 1500


@pytest.mark.parametrize("host", ["10.66.2.2", "fd66:2::2"])
def test_a_refused_connection_is_a_syn_and_a_reset(seen: Seen, host: str) -> None:
    there = seen.of(daddr=host, dport=REFUSED_TCP)
    back = seen.of(saddr=host, sport=REFUSED_TCP)
    assert way(there) == ROUTE and {r.tcp_flags for r in there} == {"S"}
    assert [r.prefix for r in back] == ["inet prerouting ", "inet forward ", "inet postrouting "]
    assert {(r.tcp_flags, r.uid, r.dport) for r in back} == {("AR", None, there[0].sport)}


@pytest.mark.parametrize(
    ("host", "protocol", "kind", "code"), [("10.66.2.2", 1, 3, 3), ("fd66:2::2", 58, 1, 4)]
)
def test_an_icmp_error_quotes_the_packet_that_it_is_about(
    seen: Seen, host: str, protocol: int, kind: int, code: int
) -> None:
    assert way(seen.of(daddr=host, dport=REFUSED_UDP)) == ROUTE
    records = seen.of(saddr=host, protocol=protocol, icmp_type=kind, prefix="inet forward ")
    assert [(r.icmp_code, r.indev, r.outdev) for r in records] == [(code, "f1", "f0")]
    inner = (records[0].extra or {})["inner"]
    assert (inner["daddr"], inner["dport"]) == (host, REFUSED_UDP)
    assert inner["sport"] == seen.ports[REFUSED_UDP, host]


@pytest.mark.parametrize(
    ("near", "far", "protocol", "kinds"),
    [("10.66.1.1", "10.66.2.2", 1, (8, 0)), ("fd66:1::1", "fd66:2::2", 58, (128, 129))],
)
def test_pings_are_told_with_type_and_answer(
    seen: Seen, near: str, far: str, protocol: int, kinds: tuple[int, int]
) -> None:
    asked = seen.of(daddr=far, protocol=protocol, icmp_type=kinds[0])
    assert [r for r in way(asked) if r[0] != XT_LONG] == ROUTE
    assert {(r.payload or b"")[-56:] for r in asked} == {DATA[:56]}
    assert seen.of(saddr=far, protocol=protocol, icmp_type=kinds[1], prefix="inet forward ")
    (arrived,) = seen.of(daddr=near, protocol=protocol, icmp_type=kinds[0], prefix=LONG)
    assert (arrived.hook, arrived.indev, arrived.outdev) == ("input", "f0", None)
    (left,) = seen.of(saddr=near, protocol=protocol, icmp_type=kinds[1], prefix="inet output ")
    assert left.caplen == arrived.caplen == (20 if protocol == 1 else 40) + 8 + 500


def test_rules_of_iptables_are_told_with_their_prefix(seen: Seen) -> None:
    records = seen.of(prefix=XT_LONG)
    assert [(r.daddr, r.icmp_type, r.hook, r.indev) for r in records] == [
        ("10.66.2.2", 8, "prerouting", "f0"), ("10.66.1.1", 8, "prerouting", "f0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "head", "offsets"),
    [("10.66.2.2", 20, (0, 1480, 2960)), ("fd66:2::2", 48, (0, 1448, 2896))],
)
def test_fragments_are_told_one_by_one(
    seen: Seen, host: str, head: int, offsets: tuple[int, ...]
) -> None:
    first = seen.of(daddr=host, dport=FRAGMENTED)
    assert way(first) == ROUTE
    assert first[0].fragment
    number = first[0].fragment.id
    for prefix, *_ in ROUTE:
        pieces = [
            (r, r.fragment)
            for r in seen.of(prefix=prefix, daddr=host, protocol=17)
            if r.fragment and r.fragment.id == number
        ]
        assert [fragment.offset for _, fragment in pieces] == list(offsets)
        assert [fragment.more for _, fragment in pieces] == [True, True, False]
        assert [r.dport for r, _ in pieces] == [FRAGMENTED, None, None]
        complete = b"".join((r.payload or b"")[head:] for r, _ in pieces)
        assert complete[8:] == DATA and int.from_bytes(complete[4:6], "big") == 8 + len(DATA)


@pytest.mark.parametrize(("port", "kind"), [(HOP_BY_HOP, 0), (DESTINATION, 60)])
def test_ipv6_extension_headers_are_passed_over(seen: Seen, port: int, kind: int) -> None:
    records = seen.of(dport=port)
    assert way(records) == ROUTE
    for record in records:
        payload = record.payload or b""
        assert payload[6] == kind and payload[40] == record.protocol == 17
        assert record.sport == seen.ports[port, "fd66:2::2"]
        assert record.length == record.caplen == 40 + 8 + 8 + 9 and payload[-9:] == DATA[:9]


def test_arp_is_told_on_both_sides(seen: Seen) -> None:
    (asked,) = seen.of(prefix="arp input ", daddr="10.66.1.1")
    (answered,) = seen.of(prefix="arp output ", saddr="10.66.1.1")
    assert (asked.family, asked.saddr, asked.indev) == ("arp", "10.66.1.2", "f0")
    assert (answered.daddr, answered.outdev) == ("10.66.1.2", "f0")
    assert asked.extra and asked.extra["arp_oper"] == 1
    assert asked.extra["arp_sha"] == asked.hwaddr == "02:66:01:00:00:02"
    assert answered.extra and answered.extra["arp_oper"] == 2
    assert answered.extra["arp_sha"] == "02:66:01:00:00:01"
    assert seen.of(prefix="arp output ", saddr="10.66.2.1", daddr="10.66.2.2")


@pytest.mark.parametrize("host", ["10.66.2.2", "fd66:2::2"])
def test_marks_are_of_the_socket_or_of_a_rule(seen: Seen, host: str) -> None:
    records = seen.of(daddr=host, dport=MARKED)
    assert way(records) == OUT and {r.mark for r in records} == {0xDEADBEEF}
    records = seen.of(daddr=host, dport=RULE_MARKED)
    assert way(records) == ROUTE
    assert [r.mark for r in records] == [None, None, *[0xFEDCBA98] * 3]


@pytest.mark.parametrize("host", ["10.66.2.2", "fd66:2::2"])
def test_uid_and_gid_are_of_the_sending_process(seen: Seen, host: str) -> None:
    records = seen.of(daddr=host, dport=USED)
    assert way(records) == OUT and {(r.uid, r.gid) for r in records} == {(UID, GID)}
    assert {(r.uid, r.gid) for r in seen.of(daddr=host, dport=MARKED)} == {(0, 0)}


@pytest.mark.parametrize("host", ["10.66.3.3", "fd66:3::3"])
def test_a_bridged_packet_is_told_with_bridge_and_port(seen: Seen, host: str) -> None:
    records = seen.of(dport=BRIDGED, daddr=host)
    assert way(records) == BRIDGE
    ports = [(r.physindev, r.physoutdev) for r in records]
    assert ports == [(None, None), ("p1", None), ("p1", "p2"), (None, "p2"), (None, None)]
    for record in records:
        source = host[:-1] + "2"
        datagram(record, source, host, seen.ports[BRIDGED, host], DATA[:60])
        head = "026603000003026603000002" + ("86dd" if ":" in host else "0800")
        assert record.hwheader == head


@pytest.mark.parametrize(
    ("port", "tags"),
    [
        (TAGGED, (Vlan(id=100, priority=5, dei=True, protocol=0x8100),)),
        (TWICE_TAGGED, (Vlan(id=4095, protocol=0x88A8), Vlan(id=1, priority=3, protocol=0x8100))),
    ],
)
def test_vlan_tags_are_told_outermost_first(seen: Seen, port: int, tags: tuple[Vlan, ...]) -> None:
    records = seen.of(dport=port)
    assert way(records) == BRIDGE
    for record in records:
        datagram(record, "10.66.3.2", "10.66.3.3", 1, DATA[:20])
        assert record.vlan == tags


def test_a_bridged_packet_in_the_chains_of_ip_has_both_kinds_of_devices(seen: Seen) -> None:
    records = [r for r in seen.of(dport=CALLED) if str(r.prefix).startswith("inet")]
    assert [(r.prefix, r.indev, r.physindev, r.outdev, r.physoutdev) for r in records] == [
        ("inet prerouting ", "br0", "p1", None, None),
        ("inet forward ", "br0", "p1", "br0", "p2"),
        ("inet postrouting ", None, None, "br0", "p2"),
    ] * seen.bridge_calls


def test_nothing_is_lost_and_nothing_is_added(seen: Seen) -> None:
    assert [record.seq for record in seen.records] == list(range(len(seen.records)))
    assert len(seen.records) == seen.counted + len(seen.of(prefix=XT_LONG))
    reader = seen.reader
    assert (reader.received, reader.dropped, reader.malformed) == (len(seen.records), 0, 0)


def test_times_are_of_now(seen: Seen) -> None:
    stamped = [r for r in seen.records if r.timestamp_ns is not None]
    assert stamped
    assert all(seen.begun_ns <= (r.timestamp_ns or 0) <= seen.ended_ns for r in stamped)
    for record in seen.records:
        assert record.observed_ns is not None
        assert (record.timestamp_ns or seen.begun_ns) <= record.observed_ns <= seen.ended_ns


DEVICES = ("indev", "outdev", "physindev", "physoutdev")


def test_records_are_what_ulogd_writes_of_the_same_packets(seen: Seen) -> None:
    assert len(seen.objects) == len(seen.records)
    for record, wrote in zip(seen.records, seen.objects, strict=True):
        assert not any(isinstance(getattr(record, device), int) for device in DEVICES)
        ours, theirs = ulogd.views(record, wrote)
        assert ours == theirs


def test_records_are_what_tcpdump_captured_of_the_same_packets(seen: Seen) -> None:
    with pylog.open(seen.capture) as reader:
        captured = list(reader)
    assert len(captured) == len(seen.records)
    own = ("group", "observed_ns", "timestamp_ns", "seq", "offset", "raw")
    for record, other in zip(seen.records, captured, strict=True):
        assert isinstance(other, PacketRecord)
        ours, theirs = msgspec.structs.asdict(record), msgspec.structs.asdict(other)
        for device in DEVICES:
            number = theirs[device]
            theirs[device] = None if number is None else seen.names[number]
        assert (other.group, other.seq) == (str(TCPDUMP), None)
        times = record.timestamp_ns, other.timestamp_ns
        # each rule reads the clock, when nobody had the packet stamped at its arrival
        assert times == (None, None) or 0 <= (times[1] or 0) - (times[0] or 0) < 50_000_000
        for name in own:
            del ours[name], theirs[name]
        assert ours == theirs


# Options, with packets to one machine alone

HERE, PORT = "127.0.0.1", 9


@pytest.mark.parametrize(
    ("options", "rule", "size", "caplen"),
    [
        ({}, "", 1000, 1028),
        ({}, "", 65507, 65531),
        ({"copy_range": 40}, "", 1000, 40),
        ({}, "snaplen 60", 1000, 60),
        ({"copy_mode": "meta"}, "", 1000, None),
        ({"copy_mode": "none"}, "", 1000, None),
    ],
)
def test_as_much_of_a_packet_is_copied_as_was_asked(
    options: dict[str, Any], rule: str, size: int, caplen: int | None
) -> None:
    data = STREAM * 2
    with netlab.Namespace() as namespace:
        with pylog.open("nflog:5", netns=namespace.name, qthresh=1, **options) as reader:
            namespace.log_udp(PORT, 5, options=rule)
            sport = namespace.udp(HERE, PORT, data[:size])
            record = reader.read(timeout=5)
        assert isinstance(record, PacketRecord)
        assert (record.caplen, record.indev, record.family) == (caplen, "lo", "ipv4")
        if caplen is None:
            assert (record.payload, record.sport, record.length) == (None, None, None)
        else:
            assert (record.sport, record.dport, record.length) == (sport, PORT, size + 28)
            assert (record.payload or b"")[28:] == data[: caplen - 28]


def test_a_batch_comes_when_it_is_full_and_at_the_end() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=10, timeout_s=60.0) as reader,
    ):
        namespace.log_udp(PORT, 5)
        sports = [namespace.udp(HERE, PORT) for _ in range(25)]
        records = [reader.read(timeout=5) for _ in range(20)]
        with pytest.raises(TimeoutError):
            reader.read(timeout=0.2)
        assert namespace.groups().keys() == {5}
        reader.stop()
        records += list(reader)
        assert [r.sport for r in records if isinstance(r, PacketRecord)] == sports
        assert reader.read() is None and namespace.groups() == {}


def test_a_batch_comes_when_its_time_has_come() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=100, timeout_s=0.5) as reader,
    ):
        namespace.log_udp(PORT, 5)
        started = time.monotonic()
        namespace.udp(HERE, PORT)
        assert isinstance(reader.read(timeout=5), PacketRecord)
        assert 0.4 < time.monotonic() - started < 3


def test_without_netns_the_namespace_is_that_of_the_caller() -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(PORT, 5)
        with namespace.inside(lambda: pylog.open("nflog:5", qthresh=1)) as reader:
            sport = namespace.udp(HERE, PORT)
            record = reader.read(timeout=5)
            assert isinstance(record, PacketRecord)
            assert (record.sport, record.indev, record.seq) == (sport, "lo", 0)


def test_one_reader_may_have_many_groups() -> None:
    groups = (0, 5, OTHER)
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:0,5,65535", netns=namespace.name, qthresh=1, seq_global=True) as reader,
    ):
        namespace.log_udp(PORT, *groups)
        for _ in range(10):
            namespace.udp(HERE, PORT)
        records = [reader.read(timeout=5) for _ in range(30)]
        packets = [record for record in records if isinstance(record, PacketRecord)]
        assert [(r.group, r.seq) for r in packets] == [
            (str(group), seq) for seq in range(10) for group in groups
        ]
        numbers = [(r.extra or {})["NFULA_SEQ_GLOBAL"] for r in packets]
        assert numbers == list(range(numbers[0], numbers[0] + 30))
        assert reader.dropped == 0


def test_without_numbers_losses_cannot_be_known() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1, seq=False) as reader,
    ):
        namespace.log_udp(PORT, 5)
        namespace.udp(HERE, PORT)
        record = reader.read(timeout=5)
        assert record is not None and record.seq is None and reader.dropped is None


def test_what_is_flushed_is_neither_received_nor_lost() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1, raw=True) as reader,
    ):
        namespace.log_udp(PORT, 5)
        namespace.udp(HERE, PORT)
        record = reader.read(timeout=5)
        assert record is not None and record.raw
        for _ in range(10):
            namespace.udp(HERE, PORT)
        assert reader.pending() == reader.flush() == 10 * len(record.raw)
        assert reader.pending() == 0
        sport = namespace.udp(HERE, PORT)
        record = reader.read(timeout=5)
        assert isinstance(record, PacketRecord) and (record.sport, record.seq) == (sport, 11)
        assert (reader.received, reader.dropped) == (2, 0)


def test_raw_records_are_what_a_dump_would_hold(tmp_path: Path) -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1) as reader,
    ):
        namespace.log_udp(PORT, 5)
        sports = [namespace.udp(HERE, PORT, DATA[:n]) for n in range(8)]
        octets = b""
        while reader.received < 8:
            octets += reader.read_bytes(65536)
        (tmp_path / "dump").write_bytes(octets)
    with pylog.open(tmp_path / "dump") as dump:
        assert [r.sport for r in dump if isinstance(r, PacketRecord)] == sports


def test_records_come_in_an_event_loop_too() -> None:
    async def follow(reader: Reader, namespace: netlab.Namespace) -> list[int | None]:
        found: list[int | None] = []
        asyncio.get_running_loop().call_later(0.2, namespace.udp, HERE, PORT)
        async for record in reader:
            assert isinstance(record, PacketRecord)
            found.append(record.sport)
            if len(found) == 5:
                reader.stop()
            elif len(found) < 5:
                namespace.udp(HERE, PORT)
        return found

    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1) as reader,
    ):
        namespace.log_udp(PORT, 5)
        found = asyncio.run(asyncio.wait_for(follow(reader, namespace), 10))
        assert len(set(found)) == 5 and namespace.groups() == {}
