"""Flows of the running kernel against what was sent: packets, bytes and times."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import netlab
import pytest

import pylog
from pylog.flows.reader import Flowed
from pylog.record import FlowRecord

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))

RULES = """
add table inet t
add chain inet t in { type filter hook input priority 0; }
add rule inet t in ct state new counter
"""
TIMEOUTS = ("udp_timeout", "tcp_timeout_time_wait", "tcp_timeout_close")
NEAR_NS = 20_000_000
"""Right within a tick of the kernel's clock, and what this test needs for a system call."""


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        made.nft(RULES)
        settings = [f"nf_conntrack_{name}=1" for name in (*TIMEOUTS, "acct", "timestamp")]
        made.run("sysctl", "-qw", *(f"net.netfilter.{setting}" for setting in settings))
        yield made


def test_flows_have_the_packets_and_the_times_of_what_was_sent(
    namespace: netlab.Namespace,
) -> None:
    # the listings of a poll make the kernel collect entries that have expired
    reader = Flowed(pylog.open("nfct:", netns=namespace.name, poll_s=1))
    flows: list[Any] = []
    reading = threading.Thread(target=lambda: flows.extend(reader))
    sent: dict[int, tuple[int, int, int, int]] = {}
    with reader:
        reading.start()
        time.sleep(0.2)
        server = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        for number in range(12):
            client = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.connect(("127.0.0.1", 53))
            first_ns = time.time_ns()
            for packet in range(number % 3 + 1):
                time.sleep(0.02 * (packet and number % 2))
                last_ns = time.time_ns()
                client.send(b"x" * 72)
                address = server.recvfrom(100)[1]
                if number % 4:
                    server.sendto(b"y" * 172, address)
            replies = number % 3 + 1 if number % 4 else 0
            sent[client.getsockname()[1]] = number % 3 + 1, replies, first_ns, last_ns
            client.close()
        server.close()
        end_by = time.monotonic() + 20
        while len([flow for flow in flows if flow.end_reason == "expired"]) < len(sent):
            assert time.monotonic() < end_by
            time.sleep(0.05)
        reader.stop()
        reading.join(10)
    far = []
    ended = {flow.sport: flow for flow in flows if isinstance(flow, FlowRecord)}
    for port, (packets, replies, first_ns, last_ns) in sent.items():
        flow = ended[port]
        assert flow.packets == {"orig": packets, "reply": replies}
        assert flow.bytes == {"orig": packets * 100, "reply": replies * 200}
        assert flow.start_ns is not None
        assert flow.last_ns is not None
        assert abs(flow.start_ns - first_ns) < NEAR_NS
        far.append(abs(flow.last_ns - last_ns))
    # a tick between a packet and its event costs a second
    assert sorted(far)[-2] < NEAR_NS
    assert max(far) < NEAR_NS + 1_000_000_000
