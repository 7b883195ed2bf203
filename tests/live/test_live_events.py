"""What happens to a reader: others want its group, devices and namespaces go, signals come."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netlab
import pytest

import pylog
from pylog import PacketRecord, Reader, Record

REASON = netlab.missing("nft", "tcpdump")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

HERE, PORT = "127.0.0.1", 9


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    """A namespace in which what is sent to PORT is logged to group 5."""
    with netlab.Namespace() as made:
        made.log_udp(PORT, 5)
        yield made


@contextlib.contextmanager
def command(namespace: netlab.Namespace, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`pylog read nflog:5` on the namespace, once it listens."""
    asked = [sys.executable, "-m", "pylog", "read", "nflog:5", "--netns", namespace.name]
    with subprocess.Popen([*asked, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as (
        process
    ):
        try:
            netlab.until(lambda: 5 in namespace.groups() or process.poll() is not None, "pylog")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def object_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next JSON line that the process prints."""
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def packet(record: Record | None) -> PacketRecord:
    assert isinstance(record, PacketRecord)
    return record


class Reading:
    """A thread that reads one record, without a timeout."""

    def __init__(self, reader: Reader) -> None:
        self.result: list[Record | None] = []
        self.thread = threading.Thread(target=lambda: self.result.append(reader.read()))
        self.thread.daemon = True  # a hanging test is to fail, not to hang
        self.thread.start()
        time.sleep(0.2)
        assert self.thread.is_alive()

    def end(self) -> Record | None:
        """What the thread read; it has to end soon."""
        self.thread.join(5)
        assert not self.thread.is_alive() and len(self.result) == 1
        return self.result[0]


# Whose the group is


def refused(namespace: netlab.Namespace, pid: int) -> str:
    """The error of a second reader, which names the first one."""
    portid = namespace.groups()[5]
    with pytest.raises(pylog.BackendError) as caught:
        pylog.open("nflog:5", netns=namespace.name)
    assert str(pid) in str(caught.value) and str(portid) in str(caught.value)
    assert namespace.groups() == {5: portid}  # whose it stays
    return str(caught.value)


def test_a_second_reader_is_told_who_has_the_group(namespace: netlab.Namespace) -> None:
    with pylog.open("nflog:5", netns=namespace.name, qthresh=1) as reader:
        name = Path("/proc/self/comm").read_text().strip()
        assert name in refused(namespace, os.getpid())
        sport = namespace.udp(HERE, PORT)
        assert packet(reader.read(timeout=5)).sport == sport
    assert namespace.groups() == {}
    with pylog.open("nflog:5", netns=namespace.name, qthresh=1) as reader:
        sport = namespace.udp(HERE, PORT)
        assert packet(reader.read(timeout=5)).sport == sport


def test_a_reader_is_told_which_other_program_has_the_group(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    process = namespace.tcpdump(5, tmp_path / "x.pcap")
    assert "tcpdump" in refused(namespace, process.pid)
    netlab.stop(process)
    pylog.open("nflog:5", netns=namespace.name).close()


def test_of_two_groups_one_of_which_is_taken_none_is_kept(namespace: netlab.Namespace) -> None:
    with pylog.open("nflog:5", netns=namespace.name):
        with pytest.raises(pylog.BackendError):
            pylog.open("nflog:6,5", netns=namespace.name)
        assert namespace.groups().keys() == {5}


# Devices and namespaces


def test_a_renamed_interface_has_its_new_name_in_later_records() -> None:
    with netlab.Lab() as lab:
        lab.firewall.log_udp(PORT, 5)
        with pylog.open("nflog:5", netns=lab.firewall.name, qthresh=1) as reader:
            lab.client.udp("10.66.1.1", PORT)
            assert packet(reader.read(timeout=5)).indev == "f0"
            lab.firewall.ip("link set f0 down", "link set f0 name wan0", "link set wan0 up")
            lab.client.udp("10.66.1.1", PORT)
            assert packet(reader.read(timeout=5)).indev == "wan0"
            # while a read waits, too
            reading = Reading(reader)
            lab.firewall.ip("link set wan0 down", "link set wan0 name wan1", "link set wan1 up")
            lab.client.udp("10.66.1.1", PORT)
            assert packet(reading.end()).indev == "wan1"
            # two names exchanged
            lab.firewall.ip(
                "link set wan1 down", "link set f1 down", "link set wan1 name x",
                "link set f1 name wan1", "link set x name f1", "link set f1 up", "link set wan1 up",
            )  # fmt: skip
            lab.client.udp("10.66.1.1", PORT)
            lab.server.udp("10.66.2.1", PORT)
            assert packet(reader.read(timeout=5)).indev == "f1"
            assert packet(reader.read(timeout=5)).indev == "wan1"


def test_a_record_of_an_interface_that_is_gone_is_still_read() -> None:
    with netlab.Lab() as lab:
        lab.firewall.log_udp(PORT, 5)
        with pylog.open("nflog:5", netns=lab.firewall.name, qthresh=1) as reader:
            lab.client.udp("10.66.1.1", PORT)
            assert packet(reader.read(timeout=5)).indev == "f0"
            lab.client.udp("10.66.1.1", PORT)  # not read before f0 is gone
            lab.server.udp("10.66.2.1", PORT)  # nor this, of which no name was asked for
            lab.firewall.ip("link del f0", "link del f1")
            assert packet(reader.read(timeout=5)).indev == "f0"
            assert packet(reader.read(timeout=5)).indev in ("f1", 3)
            lab.firewall.udp(HERE, PORT)
            assert packet(reader.read(timeout=5)).indev == "lo"
            assert reader.dropped == 0


def test_the_last_records_of_an_interface_have_its_name() -> None:
    with netlab.Lab() as lab:
        lab.firewall.log_udp(PORT, 5)
        with pylog.open("nflog:5", netns=lab.firewall.name, timeout_s=0.5) as reader:
            lab.client.udp("10.66.1.1", PORT)
            assert packet(reader.read(timeout=5)).indev == "f0"
            lab.client.udp("10.66.1.1", PORT)  # the kernel keeps it for half a second
            reading = Reading(reader)  # which is woken by each of the changes that follow
            lab.firewall.ip("link set f0 down", "link set f1 down", "link del f0")
            assert packet(reading.end()).indev == "f0"


@pytest.mark.parametrize("end", [Reader.close, Reader.stop])
def test_a_deleted_namespace_lives_on_for_its_reader(
    namespace: netlab.Namespace, end: Callable[[Reader], None]
) -> None:
    sender = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with pylog.open("nflog:5", netns=namespace.name, qthresh=1) as reader:
        reading = Reading(reader)
        namespace.delete()
        time.sleep(0.2)
        assert reading.thread.is_alive()
        sender.sendto(b"", (HERE, PORT))
        assert packet(reading.end()).indev == "lo"
        reading = Reading(reader)
        end(reader)
        assert reading.end() is None


def test_an_exception_in_the_body_gives_the_group_back(namespace: netlab.Namespace) -> None:
    logger = namespace.proc_net("netfilter/nf_log")
    with (
        pytest.raises(ZeroDivisionError),
        pylog.open("nflog:5", netns=namespace.name) as reader,
    ):
        assert namespace.groups().keys() == {5}
        reader.received //= 0
    assert namespace.groups() == {} and namespace.proc_net("netfilter/nf_log") == logger


# The command


def test_after_a_kill_the_group_is_free_again(namespace: netlab.Namespace) -> None:
    for _ in range(3):
        with command(namespace, "--to", "json", "--qthresh", "1") as process:
            sport = namespace.udp(HERE, PORT)
            found = object_of(process)
            assert (found["sport"], found["seq"], found["indev"]) == (sport, 0, "lo")
            process.kill()
            assert process.wait(10) == -signal.SIGKILL
        assert namespace.groups() == {}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_with_what_the_kernel_has(
    namespace: netlab.Namespace, number: signal.Signals, status: int
) -> None:
    logger = namespace.proc_net("netfilter/nf_log")
    with command(namespace, "--to", "json", "--qthresh", "4", "--timeout", "60") as process:
        assert process.stdout is not None and process.stderr is not None
        sports = [namespace.udp(HERE, PORT) for _ in range(6)]
        found = [object_of(process)["sport"] for _ in range(4)]
        process.send_signal(number)
        assert process.wait(10) == status
        found += [json.loads(line)["sport"] for line in process.stdout]
        assert found == sports  # the last two were in a batch begun
        assert process.stderr.read() == b""
    assert namespace.groups() == {} and namespace.proc_net("netfilter/nf_log") == logger


def test_a_closed_pipe_ends_the_command(namespace: netlab.Namespace) -> None:
    with command(namespace, "--qthresh", "1") as process:
        assert process.stdout is not None and process.stderr is not None
        namespace.udp(HERE, PORT)
        head = ["head", "-n", "1"]
        done = subprocess.run(head, stdin=process.stdout, capture_output=True, timeout=10)
        assert b"127.0.0.1" in done.stdout
        process.stdout.close()
        namespace.sender(HERE, PORT, count=0, rate=100)
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
        assert namespace.groups() == {}
