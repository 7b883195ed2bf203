"""Packets with their flow, on the running kernel: what the kernel names, the join finds as well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import netlab
import pytest

import pylog
from pylog.flows.join import FlowJoin
from pylog.joined import Joined
from pylog.record import FlowRecord, Record
from pylog.record.joined import JoinedRecord

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))

RULES = """
add table ip t
add chain ip t out { type nat hook output priority -100; }
add rule ip t out tcp dport 9000 redirect to :7000
add chain ip t after { type nat hook postrouting priority 100; }
add rule ip t after udp dport 7001 snat to 127.0.0.9
add chain ip t first { type filter hook output priority -250; }
add rule ip t first log prefix "first " group 5
add chain ip t last { type filter hook postrouting priority 50; }
add rule ip t last log prefix "last " group 5
add chain ip t in { type filter hook input priority 300; }
add rule ip t in log prefix "in " group 5
"""
TRAFFIC = """
import socket
listener = socket.create_server(("127.0.0.1", 7000))
with socket.create_connection(("127.0.0.1", 9000)) as client:
    server, _ = listener.accept()
    client.sendall(b"x" * 3000)
    while len(server.recv(4096)) == 4096: pass
    server.sendall(b"y")
    client.recv(1)
    server.close()
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 7001))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3):
    sender.sendto(b"x", ("127.0.0.1", 7001))
    _, peer = receiver.recvfrom(10)
    receiver.sendto(b"y", peer)
    sender.recv(10)
"""


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        subprocess.run(["ip", "netns", "exec", made.name, "nft", "-f", "-"], input=RULES.encode(),
                       check=True, timeout=30)  # fmt: skip
        yield made


@pytest.mark.parametrize("stamps", [True, False])
def test_every_packet_has_its_flow_on_either_side_of_the_translation(
    namespace: netlab.Namespace, stamps: bool
) -> None:
    records: list[Record] = []
    namespace.run("sysctl", "-w", f"net.netfilter.nf_conntrack_timestamp={int(stamps)}")
    with Joined(pylog.merge("nfct:", "nflog:5", netns=namespace.name), FlowJoin()) as joined:
        namespace.run("python3", "-c", TRAFFIC)
        namespace.run("ping", "-c", "1", "127.0.0.1")
        joined.stop()
        records += joined
    flows = {record.id: record for record in records if isinstance(record, FlowRecord)}
    packets = [record for record in records if isinstance(record, JoinedRecord)]
    assert {flow.flow_type for flow in flows.values()} == {"state", "rdr", "map"}
    assert {packet.protocol for packet in packets} == {1, 6, 17}
    for packet in packets:
        assert packet.flow_match == "ends" and packet.flow_id is not None
        flow = flows[packet.flow_id]
        assert (flow.protocol, flow.flow_type) == (packet.protocol, TYPES[packet.protocol or 0])
        assert packet.flow_age is not None and packet.flow_age < 5
        if packet.protocol == 1:
            echo = "original" if packet.icmp_type == 8 else "reply"
            assert (packet.flow_direction, packet.nat_saddr) == (echo, None)
        elif packet.protocol == 6:
            sent = packet.dport in (7000, 9000)
            assert packet.flow_direction == ("original" if sent else "reply")
            port, other = ("dport", "nat_dport") if sent else ("sport", "nat_sport")
            assert {getattr(packet, port), getattr(packet, other)} == {7000, 9000}
        else:
            sent = packet.dport == 7001
            assert packet.flow_direction == ("original" if sent else "reply")
            address, other = ("saddr", "nat_saddr") if sent else ("daddr", "nat_daddr")
            ends = {getattr(packet, address), getattr(packet, other)}
            assert ends == {"127.0.0.1", "127.0.0.9"}
    states = {packet.flow_state for packet in packets if packet.protocol == 6}
    assert states == {None} if not stamps else {"SYN_SENT", "ESTABLISHED"} <= states


def test_the_command_reads_the_flows_beside_the_group(namespace: netlab.Namespace) -> None:
    command = ("-P", "-m", "pylog", "read", "--with-flows", "--to", "json", "--netns",
               namespace.name, "-n", "3", "nflog:5")  # fmt: skip
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE) as process:
        netlab.until(lambda: 5 in namespace.groups(), "the group is bound")
        namespace.run("ping", "-c", "1", "127.0.0.1")
        lines = (process.communicate(timeout=20)[0]).splitlines()
    packets = [json.loads(line) for line in lines]
    assert [packet["kind"] for packet in packets] == ["packet"] * 3
    assert all(packet["flow_match"] == "ends" for packet in packets)


TYPES = {1: "state", 6: "rdr", 17: "map"}
