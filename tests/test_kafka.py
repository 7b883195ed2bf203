"""Kafka without brokers: keys of flows, addresses, settings."""

from __future__ import annotations

from typing import Any

import pytest

from pylog import FlowRecord, LossRecord, outputs
from pylog.outputs._community_id import community_id
from pylog.outputs._kafka_settings import cluster_of, settings_of
from pylog.record import Record
from pylog.testing import packet

DEFAULTS: dict[str, Any] = {
    "compression": "zstd", "user": None, "password": None, "mechanism": "PLAIN", "ca": None,
    "certificate": None, "private_key": None, "private_key_password": None, "verify": True,
    "settings": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "expected"),
    [  # of the specification's examples, https://github.com/corelight/community-id-spec
        (("128.232.110.120", 34855, "66.35.250.204", 80, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("66.35.250.204", 80, "128.232.110.120", 34855, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("192.168.1.52", 54585, "8.8.8.8", 53, 17), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (("192.168.0.89", 8, "192.168.0.1", 0, 1), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (("192.168.0.1", 0, "192.168.0.89", 0, 1), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (("fe80::200:86ff:fe05:80da", 135, "fe80::260:97ff:fe07:69ea", 0, 58),
         "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
        (("192.168.170.8", 7, "192.168.170.56", 7, 132), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    ],
)  # fmt: skip
def test_community_ids_are_those_of_the_specification(ends: Any, expected: str) -> None:
    saddr, sport, daddr, dport, protocol = ends
    icmp = protocol in (1, 58)
    record = FlowRecord(
        "nfct", "x", saddr=saddr, daddr=daddr, protocol=protocol,
        sport=None if icmp else sport, dport=None if icmp else dport,
        icmp_type=sport if icmp else None, icmp_code=dport if icmp else None,
    )  # fmt: skip
    assert community_id(record) == expected


def test_records_without_a_flow_have_no_key() -> None:
    records: list[Record] = [
        LossRecord("nflog", "x"), FlowRecord("nfct", "x", saddr="10.0.0.1", protocol=6),
        FlowRecord("nfct", "x", saddr="?", daddr="?", protocol=6),
        FlowRecord("nfct", "x", saddr="10.0.0.1", daddr="10.0.0.2", protocol=6, sport=1 << 20,
                   dport=1),
    ]  # fmt: skip
    assert [community_id(record) for record in records] == [None] * 4
    there = packet(saddr="10.0.0.1", daddr="10.0.0.2", sport=7, dport=9)
    back = packet(saddr="10.0.0.2", daddr="10.0.0.1", sport=9, dport=7)
    assert community_id(there) == community_id(back) != community_id(packet())


def test_settings_deliver_at_least_once_with_tls_and_users() -> None:
    cluster = cluster_of("kafkas://a,[2001:db8::1]:9093,b:1/fw.log")
    assert cluster.brokers == "a:9092,[2001:db8::1]:9093,b:1" and cluster.topic == "fw.log"
    made = settings_of(cluster, DEFAULTS | {"user": "me", "password": "geheim", "ca": "/ca"})
    assert made["acks"] == "all" and made["enable.idempotence"] is True
    assert made["security.protocol"] == "sasl_ssl" and made["ssl.ca.location"] == "/ca"
    assert made["enable.ssl.certificate.verification"] is True
    assert "geheim" not in str(cluster)
    plain = settings_of(cluster_of("kafka://a/t"), DEFAULTS | {"settings": {"linger.ms": "50"}})
    assert plain["security.protocol"] == "plaintext" and plain["linger.ms"] == "50"


@pytest.mark.parametrize(
    ("address", "options", "problem"),
    [
        ("http://x/t", {}, "is no topic of Kafka"),
        ("kafka://x", {}, "is no topic of Kafka"),
        ("kafka://me:geheim@x/t", {}, r"'kafka://me:\*\*\*@x/t' is no topic"),
        ("kafka://x:99999/t", {}, "no broker 'x:99999'"),
        ("kafka://x/..", {}, "is no topic of Kafka"),
        ("kafka://x/t", {"ca": "/ca"}, "ca is an option of tls://"),
        ("kafka://x/t", {"user": "me"}, "user and password are given together"),
        ("kafka://x/t", {"settings": {"acks": "0"}}, "acknowledged by all replicas"),
        ("kafka://x/t", {"settings": {"sasl.password": "x"}}, "use the option password"),
        ("kafka://x/t", {"format": "jsn"}, "no format 'jsn'"),
    ],
)
def test_addresses_and_options_are_checked(
    address: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        outputs.check_address("kafka", address, options)
    assert "geheim" not in str(raised.value)
