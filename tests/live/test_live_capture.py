"""What is captured live and replayed gives the records that reading live gave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import netlab
import pytest

import pylog
from pylog import LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.ipmon.printer import Printer

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")
PORT = 9


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        made.ip("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up",
                "addr add 10.9.0.1/24 dev v0", "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0",
                "route add 10.8.0.0/24 via 10.9.0.2")  # fmt: skip
        made.nft("table inet t {\nchain o {\ntype filter hook output priority 0;\n"
                 'udp dport 9 counter log prefix "five " group 5\n'
                 'udp dport 9 counter log prefix "six é %s" group 6\n}\n}\n')  # fmt: skip
        yield made


def send(namespace: netlab.Namespace, count: int, host: str = "10.8.0.1") -> None:
    sender = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((host, PORT))
    for i in range(count):
        with contextlib.suppress(ConnectionRefusedError):
            sender.send(i.to_bytes(4) * (i % 50))


def test_replayed_json_is_the_live_json_byte_for_byte(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    """With losses by sequence number, two groups, a rename and a device that goes away."""
    records: list[pylog.Record] = []
    written = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(written))
    with pylog.open("nflog:5,6", netns=namespace.name, raw=True, latency=True, rcvbuf=32768,
                    rcvbuf_max=32768) as reader:  # fmt: skip

        def read() -> None:
            with contextlib.suppress(TimeoutError):
                while (record := reader.read(timeout=0.3)) is not None:
                    records.append(record)
                    output.write(Batch([record]))
            output.flush()

        send(namespace, 5)
        read()
        send(namespace, 400)  # more than there is room for
        read()
        send(namespace, 2)
        read()
        namespace.ip("link set v0 down", "link set v0 name renamed0", "link set renamed0 up",
                     "route add 10.8.0.0/24 via 10.9.0.2")  # fmt: skip
        namespace.ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev renamed0")
        send(namespace, 3)
        send(namespace, 3, "127.0.0.1")
        read()
        send(namespace, 2)
        namespace.ip("link del renamed0")
        read()
    output.close()
    path = tmp_path / "live.pcapng"
    path.write_bytes(written.getvalue())
    devices = {r.outdev for r in records if isinstance(r, PacketRecord)}
    assert {"v0", "renamed0", "lo"} <= devices
    lost = sum(r.count or 0 for r in records if isinstance(r, LossRecord))
    packets = sum(isinstance(r, PacketRecord) for r in records)
    assert lost > 100 and packets + lost == sum(namespace.counted())
    with pylog.replay(path, speed=None, raw=True) as replayed:
        again = list(replayed)
        assert [r.raw for r in again] == [r.raw for r in records]  # as the kernel sent them
        assert pylog.json_lines(again) == pylog.json_lines(records)
        assert replayed.dropped == lost == reader.dropped


def start(namespace: netlab.Namespace, path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`pylog capture` of group 5, once it has begun its file."""
    command = [sys.executable, "-m", "pylog", "capture", "nflog:5", "--netns", namespace.name]
    process = subprocess.Popen([*command, "-w", str(path), *arguments], stderr=subprocess.PIPE)
    netlab.until(lambda: any(path.parent.iterdir()), "pylog capture", 30)
    return process


def records_of(path: Path) -> list[pylog.Record]:
    with pylog.open(path) as reader:
        return list(reader)


def tshark(path: Path, *options: str) -> list[str]:
    """What tshark prints of a capture, which it is to open without an error."""
    done = subprocess.run(["tshark", "-r", str(path), *options], capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_tshark
@pytest.mark.parametrize("packed", [None, "gzip", "zstd"])
def test_a_capture_that_is_killed_opens_and_lacks_a_block_at_most(
    namespace: netlab.Namespace, tmp_path: Path, packed: str | None
) -> None:
    path = tmp_path / {"zstd": "killed.pcapng.zst"}.get(packed or "", "killed.pcapng")
    options = ["--compress"] if packed else []
    process = start(namespace, path, "--latency", *options)
    path = path.with_name(path.name + ".gz") if packed == "gzip" else path
    for _ in range(20):
        send(namespace, 10)
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=30)
    packets = [r for r in records_of(path) if isinstance(r, PacketRecord)]
    assert len(packets) == 200  # all that there was time to write
    assert [r.seq for r in packets] == list(range(200))
    if packed is None:
        prefixes = tshark(path, "-T", "fields", "-e", "nflog.prefix")
        assert prefixes == ["five "] * 200
        data = path.read_bytes()
        path.write_bytes(data[:-7])  # in the middle of the last block
        assert sum(isinstance(r, PacketRecord) for r in records_of(path)) == 199


def test_sigterm_keeps_what_the_kernel_was_gathering(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "term.pcapng"
    process = start(namespace, path, "--qthresh", "1000", "--timeout", "600")
    send(namespace, 25)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 143
    assert (
        message.decode() == f"pylog: nflog:5: 25 records captured, lost records: 0; wrote {path}\n"
    )
    assert len(records_of(path)) == 25 and not namespace.groups()


def test_a_capture_without_packets_says_0(namespace: netlab.Namespace, tmp_path: Path) -> None:
    path = tmp_path / "none.pcapng"
    process = start(namespace, path, "--duration", "0.1")
    _, message = process.communicate(timeout=30)
    assert process.returncode == 0
    assert (
        message.decode() == f"pylog: nflog:5: 0 records captured, lost records: 0; wrote {path}\n"
    )
    assert records_of(path) == []


def test_live_records_begin_without_a_claim_of_missed_ones(namespace: netlab.Namespace) -> None:
    for _ in range(2):  # the group was in use before, the second time
        with pylog.open("nflog:5", netns=namespace.name, timeout_s=0.05, raw=True) as reader:
            send(namespace, 3)
            records = [reader.read(timeout=10) for _ in range(3)]
            assert [record and record.seq for record in records] == [0, 1, 2]
            printer = Printer(zone=UTC)
            entries = [printer.entry(record) for record in records if record is not None]
            assert [entry and entry.missed for entry in entries] == ["", "", ""]


def size(folder: Path) -> int:
    """How many bytes the files of a folder have."""
    return sum(path.stat().st_size for path in folder.iterdir())


def test_rotated_files_have_all_records_and_stand_for_themselves(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    process = start(namespace, tmp_path / "fw.pcapng", "--rotate-size", "3k",
                    "--latency", "-n", "100")  # fmt: skip
    for _ in range(20):
        before = size(tmp_path)
        send(namespace, 5)
        netlab.until(lambda: size(tmp_path) > before, "a write")  # noqa: B023
    process.communicate(timeout=30)
    assert process.returncode == 0
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"fw-{i + 1:05}.pcapng" for i in range(len(paths))]
    assert len(paths) > 3
    each = [records_of(path) for path in paths]
    assert [record.seq for records in each for record in records] == list(range(100))
    assert all(r.outdev == "v0" for records in each for r in records if isinstance(r, PacketRecord))


def test_a_duration_ends_a_capture_that_gets_nothing(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "idle.pcapng"
    started = time.monotonic()
    process = start(namespace, path, "--duration", "1s")
    process.communicate(timeout=30)
    assert process.returncode == 0 and 1 < time.monotonic() - started < 20
    assert records_of(path) == []


def test_a_signal_while_nobody_reads_an_unbuffered_output_loses_nothing(
    namespace: netlab.Namespace,
) -> None:
    process = namespace.start(
        sys.executable, "-m", "pylog", "read", "nflog:5", "--to", "json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    netlab.until(lambda: 5 in namespace.groups(), "pylog read")
    send(namespace, 1500)
    netlab.until(lambda: "write" in Path(f"/proc/{process.pid}/wchan").read_text(), "full pipe")
    process.send_signal(signal.SIGINT)
    lines, reported = process.communicate(timeout=30)
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == list(range(1500)), reported
