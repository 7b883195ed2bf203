"""The outputs of `pylog ulogd --compat=exact` are the bytes of ulogd 2.0.8 for the same datagrams.

The complete oracle runs at effort 1, a random sample of its cases otherwise.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import syslog
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import effort
import pytest
import ulogd_cases
from inprocess import run
from ulogd_cases import blanked, cases, daemon, replay, zone

from pylog.record import CounterRecord, PacketRecord
from pylog.ulogd.log import NOTICE

NAMES = sorted(cases())
FILES = [name for name in NAMES
         if name.startswith(("fanout", "gprint", "json", "logemu", "mark", "oprint", "pcap", "xml",
                             "sqlite3"))
         and "-hup" not in name and name not in ("json-tcp", "json-udp", "json-unix",
                                                 "json-tcp-drop", "xml-stdout")]  # fmt: skip


def configuration(case: dict[str, Any], folder: Path) -> bytes:
    text: str = case["conf"]
    return text.replace("@D@", str(folder)).encode()


def check(case: dict[str, Any], name: str, octets: bytes) -> None:
    size, digest = case["outputs"][name]
    mine = blanked(octets)
    assert (len(mine), hashlib.sha256(mine).hexdigest()) == (size, digest), name


def written(folder: Path, name: str) -> bytes:
    """An output; an XML file by its kind, as its name has the time of the start."""
    path = folder / name
    if name.startswith("ulogd-"):
        (path,) = folder.glob("ulogd-*.xml")
    if name == "out.sql":
        return b"".join(rows_of(folder / "out.db"))
    return path.read_bytes()


def rows_of(path: Path) -> Iterator[bytes]:
    """The rows of the only table, as sqlite3 prints them in the mode insert."""
    with closing(sqlite3.connect(path)) as database:
        database.text_factory = bytes
        ((table,),) = database.execute("select name from sqlite_master where type = 'table'")
        cursor = database.execute(f"select * from {table.decode()}")
        for row in cursor:
            cells = [_cell(value) for value in row]
            yield b'INSERT INTO "table" VALUES(' + b",".join(cells) + b");\n"


def _cell(value: int | bytes | None) -> bytes:
    if value is None or isinstance(value, int):
        return b"NULL" if value is None else b"%d" % value
    text = b"'" + value.replace(b"'", b"''") + b"'"
    for octet, mark in ((b"\r", b"\\r"), (b"\n", b"\\n")):
        if octet in value:
            text = b"replace(%s,'%s',char(%d))" % (text.replace(octet, mark), mark, octet[0])
    return text


@pytest.mark.parametrize("name", effort.sample(FILES, 4))
def test_files_are_those_of_ulogd(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    if "schema" in case:
        with sqlite3.connect(tmp_path / "out.db") as database:
            database.executescript(case["schema"])
    with zone(case["tz"]):
        replay(daemon(configuration(case, tmp_path), hostname=case["host"]), case["input"])
    for output in case["outputs"]:
        check(case, output, written(tmp_path, output))


@pytest.mark.parametrize("name", ["logemu-hup", "pcap-hup", "xml-hup"])
def test_files_are_reopened_as_ulogd_does(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    made = daemon(configuration(case, tmp_path), hostname=case["host"])

    def hang_up(number: int) -> None:
        if number == 100:
            for path in [*tmp_path.glob("out.*"), *tmp_path.glob("*.xml")]:
                path.rename(f"{path}.1")
            for stack in made.stacks:
                made.reopen(stack)

    with zone(case["tz"]):
        replay(made, case["input"], hang_up)
    found = sorted(path.name for path in tmp_path.iterdir() if path.name != "ulogd.log")
    for output, mine in zip(sorted(case["outputs"]), found, strict=True):
        check(case, output, (tmp_path / mine).read_bytes())


class Receiver:
    """A socket that collects what comes."""

    def __init__(self, kind: socket.SocketKind, address: Any) -> None:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self._socket = socket.socket(family, kind)
        self._socket.bind(address)
        self.address = self._socket.getsockname()
        self._stream = kind == socket.SOCK_STREAM
        self.parts: list[bytes] = []
        if self._stream:
            self._socket.listen()
        else:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        source = self._socket.accept()[0] if self._stream else self._socket
        while part := source.recv(1 << 16):
            self.parts.append(part)

    def end(self) -> list[bytes]:
        """What came, up to an empty datagram or the end of the stream."""
        if not self._stream:
            kind = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
            with socket.socket(kind, socket.SOCK_DGRAM) as own:
                own.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()
        return self.parts


@pytest.mark.parametrize("name", ["json-tcp", "json-udp", "json-unix"])
def test_json_reaches_sockets_as_of_ulogd(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    mode = name.removeprefix("json-")
    kind = socket.SOCK_DGRAM if mode == "udp" else socket.SOCK_STREAM
    conf = configuration(case, tmp_path)
    receiver = Receiver(kind, str(tmp_path / "s") if mode == "unix" else ("127.0.0.1", 0))
    if mode != "unix":
        lines = [line for line in conf.split(b"\n") if not line.startswith((b"port", b"host"))]
        conf = b"\n".join([*lines, b"port=%d" % receiver.address[1], b""])
    with zone(case["tz"]):
        replay(daemon(conf, hostname=case["host"]), case["input"])
    parts = receiver.end()
    check(case, f"out.{mode}", b"".join(part + b"\0" * (mode == "udp") for part in parts))


@pytest.mark.parametrize("name", ["syslog", "syslog-local2-info"])
def test_datagrams_to_syslog_are_those_of_ulogd(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    receiver = Receiver(socket.SOCK_DGRAM, str(tmp_path / "log"))
    conf = configuration(case, tmp_path)
    replay(daemon(conf, syslog=str(tmp_path / "log")), case["input"])
    check(case, "out.devlog", b"".join(part + b"\0" for part in receiver.end()))


@pytest.mark.parametrize(("proto", "oid", "mtu", "template"), [
    ("tcp", "42", 200, "once"), ("udp", "0x10", 120, "always"),
])  # fmt: skip
def test_ipfix_messages_are_those_of_ulogd(
    proto: str, oid: str, mtu: int, template: str, tmp_path: Path
) -> None:
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    receiver = Receiver(kind, ("127.0.0.1", 0))
    conf = (f"[global]\nlogfile={tmp_path}/l\nstack=c:NFCT,i:IPFIX\n[c]\n[i]\noid={oid}\n"
            f"host=127.0.0.1\nport={receiver.address[1]}\nproto={proto}\nmtu={mtu}\n"
            f"send_template={template}\n")  # fmt: skip
    replay(daemon(conf.encode()), "conntrack.rec")
    found = b"".join(part + b"\0" * (proto == "udp") for part in receiver.end())
    assert found == ulogd_cases.archive()[f"nfct-hash/out.ipfix.{proto}"]


def test_ipfix_without_the_hash_and_without_a_template_is_that_of_ulogd(tmp_path: Path) -> None:
    receiver = Receiver(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    conf = ulogd_cases.archive()["nfct-nohash/ulogd.conf"].replace(b"@D@", bytes(tmp_path))
    replay(daemon(conf.replace(b"4741", b"%d" % receiver.address[1])), "conntrack.rec")
    found = b"".join(part + b"\0" for part in receiver.end())
    assert found == ulogd_cases.archive()["nfct-nohash/out.ipfix.udp"]


def test_counters_reach_carbon(tmp_path: Path) -> None:
    for exact, name in ((True, b"a b"), (False, b"a_b")):
        receiver = Receiver(socket.SOCK_STREAM, ("127.0.0.1", 0))
        conf = (f"[global]\nlogfile={tmp_path}/l\nstack=a:NFACCT,g:GRAPHITE\n[a]\n"
                "pollinterval=1\ntimestamp=1\n[g]\nhost=127.0.0.1\nprefix=fw.acct\n"
                f"port={receiver.address[1]}\n")  # fmt: skip
        made = daemon(conf.encode(), exact=exact)
        made.start()
        made.surroundings.replay_us = 7_000_005
        for number in (6, (1 << 64) - 1):
            made.feed(CounterRecord(source="nfct", layout="ctnetlink-le", name="a b",
                                    packets=number, bytes=504))  # fmt: skip
        made.stop()
        assert not made.failed
        lines = [b"fw.acct.%s.pkts %d 7\nfw.acct.%s.bytes 504 7\n" % (name, number, name)
                 for number in (6, (1 << 64) - 1)]  # fmt: skip
        assert b"".join(receiver.end()) == b"".join(lines)


def test_json_over_tcp_loses_nothing_where_ulogd_does_when_the_receiver_goes_away(
    tmp_path: Path,
) -> None:
    """The receiver closes the connection when it has the first three lines, and takes another."""
    case = cases()["json-tcp-drop"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        conf = configuration(case, tmp_path).replace(b"12345", b"%d" % server.getsockname()[1])
        parts: list[bytes] = []
        first, again = threading.Event(), threading.Event()

        def receive() -> None:
            for event in (first, again):
                connection = server.accept()[0]
                with connection:
                    while part := connection.recv(1 << 16):
                        parts.append(part)
                        if event is first and b"".join(parts).count(b"\n") >= 3:
                            break
                event.set()

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        with zone(case["tz"]):
            replay(daemon(conf, hostname=case["host"]), case["input"],
                   lambda number: assert_set(first) if number == 3 else None)  # fmt: skip
        assert_set(again)
        thread.join(10)
    found = b"".join(parts).splitlines(keepends=True)
    assert len(found) == len(set(found)) == 282
    kept = [line for number, line in enumerate(found) if number not in case["lost"]]
    check(case, "out.tcp", b"".join(kept))


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_own_messages_to_syslog_are_those_of_ulogd(tmp_path: Path) -> None:
    """But for the plugins that ulogd loads, which pylog has itself."""
    case = cases()["syslog-daemonlog"]
    receiver = Receiver(socket.SOCK_DGRAM, str(tmp_path / "log"))
    made = daemon(configuration(case, tmp_path), syslog=str(tmp_path / "log"))
    with mock.patch("syslog.syslog") as own, mock.patch("syslog.openlog") as opened:
        replay(made, case["input"])
        made.log.write(NOTICE, "Terminal signal received, exiting")
    assert all(call.args[2] == syslog.LOG_DAEMON for call in opened.call_args_list)
    said = [f"<{syslog.LOG_DAEMON | level}>{text}" for level, text in
            (call.args for call in own.call_args_list)]  # fmt: skip
    assert said == case["own"]
    check(case, "out.devlog", b"".join(part + b"\0" for part in receiver.end()))


def test_the_command_replays_a_capture(tmp_path: Path) -> None:
    case = cases()["xml-stdout"]
    (tmp_path / "ulogd.conf").write_bytes(configuration(case, tmp_path))
    capture = tmp_path / "fw.pcapng"
    capture.write_bytes(ulogd_cases.pcapng(ulogd_cases.archive()[case["input"]]))
    (tmp_path / "names").write_bytes(ulogd_cases.archive()["ifindex.tsv"])
    with zone(case["tz"]):
        done = run("ulogd", "--compat=exact", "-c", tmp_path / "ulogd.conf", "--replay", capture,
                   "--hostname", "fw1", "--interfaces", tmp_path / "names")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    check(case, "stdout", done.stdout)


def test_ip2hbin_loses_a_record_without_addresses_only_where_ulogd_is_copied(
    tmp_path: Path,
) -> None:
    made, lost = [], []
    for exact, name in ((False, "safe"), (True, "exact")):
        conf = (f"[global]\nlogfile={tmp_path}/l\nstack=l:NFLOG,b:BASE,h:IP2HBIN,g:GPRINT\n"
                f"[l]\n[g]\nfile={tmp_path}/{name}\n")  # fmt: skip
        own = daemon(conf.encode(), exact=exact)
        replay(own, "g10.rec")
        made.append((tmp_path / name).read_bytes().splitlines())
        lost.append(own.stacks[0].lost)
    safe, copied = made
    without = [line for line in safe if b"arp.operation=" in line]
    assert without and not any(b"ip.hsaddr=" in line for line in without)
    packets = [r for r in ulogd_cases.records("g10.rec") if isinstance(r, PacketRecord)]
    assert len(safe) == len(packets) > len(copied)
    assert lost == [0, len(safe) - len(copied)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is of Linux")
def test_a_full_disk_is_reported_and_fails(tmp_path: Path) -> None:
    conf = b"[global]\nlogfile=stdout\nstack=l:NFLOG,b:BASE,j:JSON\n[l]\n[j]\nfile=/dev/full\n"
    made = daemon(conf, lambda text: None)
    replay(made, "g14.rec")
    assert made.failed
