"""LOG rules of nft and iptables beside NFLOG of the same packets: record by record the same."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest

import pylog
from pylog import PacketRecord

ALL_NETNS = Path("/proc/sys/net/netfilter/nf_log_all_netns")
KMSG = "/dev/kmsg"


def missing() -> str:
    """Why lines of LOG from a namespace cannot be read here, "" if they can."""
    problem = netlab.missing("nft", "iptables-legacy")
    if problem or not ALL_NETNS.exists():
        return problem or "needs net.netfilter.nf_log_all_netns"
    try:
        os.close(os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return f"needs {KMSG}: {error}"
    return "" if os.access(ALL_NETNS, os.W_OK) else f"needs to write {ALL_NETNS}"


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

RULES = """
table inet t {
  chain c {
    type filter hook input priority 0;
    log prefix "PYL nft " flags all
    log group 5 prefix "PYL nft "
  }
}
"""
SAME = ("prefix", "indev", "outdev", "direction", "family", "protocol", "saddr", "daddr", "sport",
        "dport", "tcp_flags", "icmp_type", "icmp_code", "length", "fragment", "mark", "hwaddr",
        "hwheader")  # fmt: skip


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    before = ALL_NETNS.read_text()
    ALL_NETNS.write_text("1")  # the kernel keeps LOG of namespaces silent otherwise
    try:
        with netlab.Namespace("log") as made:
            yield made
    finally:
        ALL_NETNS.write_text(before)


def send(namespace: netlab.Namespace) -> None:
    namespace.udp("127.0.0.1", 9, b"one", mark=7)
    namespace.udp("127.0.0.1", 9, bytes(20000))  # in fragments
    namespace.udp("::1", 9, b"three")
    namespace.echo("127.0.0.1", 77, b"four")
    namespace.echo("::1", 78, b"five")
    refused = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(ConnectionRefusedError):
        refused.connect(("127.0.0.1", 9))


def lines(descriptor: int) -> bytes:
    """What came to /dev/kmsg, a line a record."""
    found = []
    while True:
        try:
            found.append(os.read(descriptor, 8192).split(b"\n")[0] + b"\n")
        except BlockingIOError:
            return b"".join(found)


@pytest.mark.parametrize("program", ["nft", "iptables"])
def test_lines_of_log_are_the_records_of_nflog(namespace: netlab.Namespace, program: str) -> None:
    if program == "nft":
        namespace.nft(RULES)
    else:
        log = "--log-prefix", "PYL ipt ", "--log-uid"
        nflog_options = "--nflog-group", "5", "--nflog-prefix", "PYL ipt "
        for command, options in (("LOG", log), ("NFLOG", nflog_options)):
            for family in ("iptables-legacy", "ip6tables-legacy"):
                try:
                    namespace.run(family, "-A", "INPUT", "-j", command, *options)
                except (AssertionError, subprocess.SubprocessError) as error:
                    pytest.skip(f"{family} does not work here: {error}")
    descriptor = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
        with pylog.open("nflog:5", netns=namespace.name, latency=True) as reader:
            send(namespace)
            reader.stop()
            nflog = [record for record in reader if isinstance(record, PacketRecord)]
        text = lines(descriptor)
    finally:
        os.close(descriptor)
    with pylog.open(io.BytesIO(text)) as reader:
        found = [record for record in reader if isinstance(record, PacketRecord)]
    logged = [record for record in found if (record.prefix or "").startswith("PYL ")]
    assert len(nflog) == len(logged) > 10
    for wanted, record in zip(nflog, logged, strict=True):
        assert record.layout == "kernel-kmsg"
        for name in SAME:
            assert getattr(record, name) == getattr(wanted, name), (name, record)
        assert (record.extra or {}).get("inner", {}).get("dport") == (
            (wanted.extra or {}).get("inner", {}).get("dport")
        )
