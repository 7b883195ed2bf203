"""IPFIX over the network: nfcapd and nfacctd store what was sent; TCP confirms; losses show."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inprocess
import ipfix
import pytest
import samples

import pylog
from pylog import FlowRecord, outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.flows import Flows
from pylog.outputs import _ipfix_senders
from pylog.testing import packet

LOG = samples.FIXTURES / "nfct/kinds.bin"
LONGEST_S = 10


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(*command: object, ending: int = signal.SIGTERM) -> Iterator[subprocess.Popen[str]]:
    """A program that is ended by a signal at the end of the context."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(ending)
        try:
            process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_until(true: Callable[[], Any]) -> None:
    """Wait until something is true, for some seconds even where many tests run."""
    deadline = time.monotonic() + 3 * LONGEST_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_bound(port: int) -> None:
    """Wait until a program has a UDP port."""
    entry = f":{port:04X} "
    wait_until(lambda: entry in Path("/proc/net/udp").read_text())


def flows() -> list[FlowRecord]:
    """One record for each flow of a log."""
    with pylog.open(str(LOG)) as reader:
        made = Flows()
        records = made.feed(reader) + made.end()
    return [r for r in records if isinstance(r, FlowRecord) and r.flow_type != "expect"]


class Capture:
    """A running nfcapd.

    port   that it listens to
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str], port: int) -> None:
        self._folder, self._process, self.port = folder, process, port

    def counts(self) -> tuple[int, int]:
        """End it: how many flows it stored, and how many gaps in sequence numbers it counted."""
        self._process.terminate()
        output, _ = self._process.communicate(timeout=LONGEST_S)
        (line,) = (line for line in output.splitlines() if "Sequence Errors" in line)
        words = dict(part.split(": ") for part in line.removeprefix("Ident: 'none' ").split(", "))
        return int(words["Flows"]), int(words["Sequence Errors"])

    def flows(self) -> list[dict[str, Any]]:
        """What it stored, as nfdump writes it."""
        command = ["nfdump", "-R", str(self._folder), "-o", "json"]
        done = subprocess.run(command, capture_output=True, check=True, timeout=LONGEST_S)
        stored: list[dict[str, Any]] = json.loads(done.stdout)
        return stored


@pytest.fixture
def nfcapd(tmp_path: Path) -> Iterator[Capture]:
    if not shutil.which("nfcapd"):
        pytest.skip("needs the program nfcapd (package nfdump)")
    folder, port = tmp_path / "flows", free_port()
    folder.mkdir()
    command = ("nfcapd", "-b", "127.0.0.1", "-p", port, "-w", folder, "-t", "3600")
    with running(*command) as process:
        wait_until_bound(port)
        yield Capture(folder, process, port)


def test_nfcapd_stores_the_flows_that_were_sent(nfcapd: Capture) -> None:
    done = inprocess.text("read", "--to", "ipfix", "--target", f"udp://127.0.0.1:{nfcapd.port}",
                          "--flows", LOG)  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = flows()
    time.sleep(0.5)
    assert nfcapd.counts() == (len(sent), 0)
    for record, stored in zip(sent, nfcapd.flows(), strict=True):
        six = ":" in (record.saddr or "")
        assert stored["src6_addr" if six else "src4_addr"] == record.saddr
        assert stored["dst6_addr" if six else "dst4_addr"] == record.daddr
        assert stored["proto"] == record.protocol
        if record.protocol in (6, 17):
            assert (stored["src_port"], stored["dst_port"]) == (record.sport, record.dport)
        counters = record.packets, record.bytes
        for way, prefix in (("orig", "in"), ("reply", "out")):
            counts = [c[way] if c else 0 for c in counters]
            names = (f"{prefix}_packets", f"{prefix}_bytes")
            assert [stored.get(name, 0) for name in names] == counts
        if record.nat_saddr is not None and not six:
            assert stored["src4_xlt_ip"] == record.nat_saddr
            assert stored["dst4_xlt_ip"] == record.nat_daddr
            if record.nat_sport is not None:
                ports = record.nat_sport, record.nat_dport
                assert (int(stored["src_xlt_port"]), int(stored["dst_xlt_port"])) == ports


def test_nfcapd_counts_a_gap_where_a_datagram_is_missing(nfcapd: Capture) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(LONGEST_S)
        place = outputs.Place(f"udp://127.0.0.1:{relay.getsockname()[1]}")
        output = outputs.open("ipfix", place, {"message_size": 512})
        output.write(Batch([packet(sport=n, indev="wan0") for n in range(40)]))
        output.commit("40")
        assert output.confirmed() == "40"
        output.close()
        datagrams = []
        relay.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                datagrams.append(relay.recv(65536))
        assert max(map(len, datagrams)) <= 512
        data = [d for d in datagrams if ipfix.messages(d)[0].domain]
        (begin,), (end,) = (
            [message.sequence for message in ipfix.messages(datagram)] for datagram in data[2:4]
        )
        for datagram in datagrams:
            if datagram is not data[2]:
                sender.sendto(datagram, ("127.0.0.1", nfcapd.port))
                time.sleep(0.005)
    time.sleep(0.5)
    assert nfcapd.counts() == (40 - (end - begin), 1)


@pytest.mark.skipif(
    not shutil.which("nfacctd"), reason="needs the program nfacctd (package pmacct)"
)
def test_nfacctd_stores_the_flows_that_were_sent(tmp_path: Path) -> None:
    port, stored, log = free_port(), tmp_path / "flows.json", tmp_path / "log"
    columns = ("src_host, dst_host, src_port, dst_port, proto, timestamp_start, post_nat_src_host,"
               " post_nat_dst_host, post_nat_src_port, post_nat_dst_port, nat_event")  # fmt: skip
    (tmp_path / "nfacctd.conf").write_text(
        f"nfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\nnfacctd_time_new: true\nplugins: print[x]\n"
        f"aggregate[x]: {columns}\nprint_output[x]: json\nprint_output_file[x]: {stored}\n"
        "print_refresh_time[x]: 1\nprint_output_file_append[x]: true\n"
        f"logfile: {log}\n"
    )
    sent = [record for record in flows() if record.packets]
    with running("nfacctd", "-f", tmp_path / "nfacctd.conf", ending=signal.SIGINT):
        wait_until_bound(port)
        wait_until(lambda: log.exists() and "Purging cache - END" in log.read_text())
        output = outputs.open("ipfix", outputs.Place(f"udp://127.0.0.1:{port}"))
        output.write(Batch(sent))
        output.close()
        wait_until(lambda: stored.exists() and stored.read_text().count("\n") >= len(sent))
    names = ("ip_src", "ip_dst", "port_src", "port_dst", "packets", "bytes", "post_nat_ip_src",
             "post_nat_ip_dst", "post_nat_port_src", "post_nat_port_dst", "nat_event")  # fmt: skip
    rows = Counter(
        tuple(row.get(name) for name in names)
        for row in map(json.loads, stored.read_text().splitlines())
    )
    expected: Counter[Any] = Counter()
    for record in sent:
        six = record.family == "ipv6"
        nat = (None, None, None, None) if six else (
            record.nat_saddr, record.nat_daddr, record.nat_sport, record.nat_dport)  # fmt: skip
        event = 5 if record.nat_saddr and not six and record.event == "end" else 0
        counts = (record.packets or {})["orig"], (record.bytes or {})["orig"]
        expected[(
            record.saddr, record.daddr, record.sport or 0, record.dport or 0,
            *((None, None) if event else counts),  # it takes an event of NAT for no flow
            nat[0] or "", nat[1] or "", nat[2] or 0, nat[3] or 0, event,
        )] += 1  # fmt: skip
    assert rows == expected


# TCP


class Collector:
    """A TCP collector in a thread.

    received   what each connection brought
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.reads = threading.Event()
        self.reads.set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            self.received.append(b"")
            while self.reads.wait():
                try:
                    octets = connection.recv(65536)
                except OSError:
                    break
                if not octets:
                    break
                self.received[-1] += octets

    def end_connection(self) -> None:
        """Reset the newest connection."""
        connection = self._connections[-1]
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def _records(octets: bytes) -> int:
    """How many data records complete messages have, by the last sequence number."""
    return max((m.sequence for m in ipfix.messages(octets) if m.domain), default=0)


def test_tcp_confirms_what_the_peer_has_acknowledged(collector: Collector) -> None:
    output = outputs.open("ipfix", outputs.Place(collector.address, "a stack"))
    assert output.confirmed() is None and output.position() is None
    output.write(Batch([packet(sport=n) for n in range(1000)]))
    output.commit("1000")
    wait_until(lambda: output.confirmed() == "1000")
    wait_until(lambda: len(collector.received[0]) > 60_000)
    collector.end_connection()
    with pytest.raises(BackendError, match=r"cannot send to tcp://127\.0\.0\.1"):
        for n in range(100):
            output.write(Batch([packet(sport=n)]))
            output.commit("more")
            output.confirmed()
            time.sleep(0.01)
    with contextlib.suppress(BackendError):
        output.close()
    again = outputs.open("ipfix", outputs.Place(collector.address, "a stack"))
    again.write(Batch([packet(), packet()]))
    again.commit("1002")
    again.close()
    wait_until(lambda: len(collector.received) == 2 and len(collector.received[1]) > 200)
    data = [m for m in ipfix.messages(collector.received[1]) if m.domain]
    assert data[0].sequence == 0 and data[0].sets[0][0] == 2  # a new session has its templates


def test_a_collector_that_takes_nothing_is_an_error(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LONGEST_S", 0.3)
    monkeypatch.setattr(_ipfix_senders, "ROOM", 100_000)
    collector.reads.clear()
    output = outputs.open("ipfix", outputs.Place(collector.address))
    batch = Batch([packet(sport=n, payload=bytes(1400)) for n in range(400)])
    begun = time.monotonic()
    with pytest.raises(BackendError, match="the collector takes nothing"):
        for _ in range(1000):
            output.write(batch)
    assert time.monotonic() - begun < 20
    assert output.confirmed() is None
    collector.reads.set()
    with contextlib.suppress(BackendError):
        output.close()


def test_read_writes_to_a_collector(collector: Collector) -> None:
    done = inprocess.text("read", "--to", "ipfix", "--target", collector.address, "-n", "50",
                          samples.FIXTURES / "nflog/seq.bin")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: collector.received and _records(collector.received[0]) > 0)


def test_where_nobody_listens_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = inprocess.text("read", "--to", "ipfix", "--target", f"tcp://127.0.0.1:{port}", LOG)
    assert done.returncode == 1
    assert done.stderr == f"pylog: cannot send to tcp://127.0.0.1:{port}: Connection refused\n"
    output = outputs.open("ipfix", outputs.Place(f"udp://127.0.0.1:{free_port()}"))
    with pytest.raises(BackendError, match="Connection refused"):
        for _ in range(50):
            output.write(Batch([packet()]))
            output.flush()
            time.sleep(0.01)
