"""What ulogd 2.0.8 made of recordings and configurations, and pylog's answer to the same.

`fixtures/ulogd/cases.tar.xz` has recordings, the configurations of cases and the hashes of what
ulogd wrote; `blanked` hides what no program can repeat. `conf.json.xz` has configurations with
how ulogd ended.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import lzma
import os
import re
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from samples import FIXTURES

import pylog
from pylog.record import LossRecord
from pylog.ulogd.conffile import Conffile
from pylog.ulogd.daemon import Daemon
from pylog.ulogd.log import DaemonLog
from pylog.ulogd.worker import Surroundings

_RULES = (
    (rb"SRC=\S+ DST=\S+ (?=PROTO=ARP)", b"SRC=? DST=? "),
    (rb"(arp\.[sd]addr(?:\.str)?)=[^,\n]*", rb"\1=?"),
    (rb'("arp\.[sd]addr(?:\.str)?": )"[^"]*"', rb'\1"?"'),
    (rb"(<\d+>)\w{3} [ \d]\d \d\d:\d\d:\d\d ulogd\[\d+\]", rb"\1DATE ulogd[PID]"),
)


def blanked(octets: bytes) -> bytes:
    """An output without addresses of ARP packets and ip.hsaddr of IPv6, which ulogd prints as
    pointers, and without dates and process ids of syslog.
    """
    for rule, text in _RULES:
        octets = re.sub(rule, text, octets)
    mark = b"===>PACKET BOUNDARY\n"
    split = mark if mark in octets else b"\n"
    parts = octets.split(split)
    six = re.compile(rb"(ip\.h[sd]addr)=[^,\n]*")
    signs = (b"ip6.payloadlen=", b"oob.family=10\n" if split == mark else b"ip6.payloadlen=")
    return split.join(
        six.sub(rb"\1=?", part) if any(sign in part for sign in signs) else part for part in parts
    )


@functools.cache
def archive() -> dict[str, bytes]:
    """The files of cases.tar.xz."""
    with tarfile.open(FIXTURES / "ulogd/cases.tar.xz") as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


@functools.cache
def cases() -> dict[str, dict[str, Any]]:
    """The cases by name: input, tz, host, conf, outputs (length and SHA-256), schema."""
    found: dict[str, dict[str, Any]] = json.loads(archive()["cases.json"])
    return found


@functools.cache
def configurations() -> dict[str, dict[str, Any]]:
    """The configurations by name: conf, outcome, groups, files, and strict of 2.0.9."""
    found: dict[str, dict[str, Any]] = json.loads(
        lzma.decompress((FIXTURES / "ulogd/conf.json.xz").read_bytes())
    )
    return found


def pcapng(recording: bytes) -> bytes:
    """A recording (u64 clock in ns, u32 length, datagram) as pcapng of netlink datagrams."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + size + body + size

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHIHHB3xI", 253, 0, 0, 9, 1, 9, 0))
    at = 0
    while at < len(recording):
        ns, size = struct.unpack_from("<QI", recording, at)
        packet = struct.pack(">HH10xH", 4, 824, 12) + recording[at + 12 : at + 12 + size]
        at += 12 + size
        head = struct.pack("<5I", 0, ns >> 32, ns & 0xFFFFFFFF, len(packet), len(packet))
        out += block(6, head + packet)
    return out


@functools.cache
def records(name: str, pace_s: int = 0) -> list[pylog.Record]:
    """The records of a recording.

    pace_s   the clock is that of 2023-11-14, and goes on by so much from datagram to datagram;
             0: it is the recording's
    """
    recording = archive()[name]
    if pace_s:
        paced, at = b"", 0
        for clock_s in itertools.count(1_700_000_000, pace_s):
            if at == len(recording):
                break
            end = at + 12 + int.from_bytes(recording[at + 8 : at + 12], "little")
            paced += struct.pack("<Q", clock_s * 10**9) + recording[at + 8 : end]
            at = end
        recording = paced
    with pylog.open(io.BytesIO(pcapng(recording)), raw=True) as reader:
        return list(reader)


@contextmanager
def zone(name: str) -> Iterator[None]:
    """The context in which that is the local time zone."""
    with mock.patch.dict(os.environ, TZ=name):
        time.tzset()
        try:
            yield
        finally:
            pass
    time.tzset()


def interfaces() -> dict[int, bytes]:
    """The names of the recordings' interfaces."""
    pairs = (line.split(b"\t") for line in archive()["ifindex.tsv"].splitlines())
    return {int(number): name for number, name in pairs}


def daemon(conf: bytes, log: Callable[[str], None] = print, **surroundings: Any) -> Daemon:
    """A daemon that is not started."""
    own = DaemonLog(log, None, verbose=False)
    given: dict[str, Any] = {
        "hostname": "fw1.example.net",
        "interfaces": interfaces(),
        "replayed": True,
    }
    return Daemon(Conffile(conf), Surroundings(log=own.write, **(given | surroundings)), own)


def replay(
    made: Daemon, name: str, after: Callable[[int], None] = lambda number: None, pace_s: int = 0,
    skip: int = 0,
) -> None:  # fmt: skip
    """Run a recording through a daemon, from its start to its end.

    after   is called after each datagram with its number
    pace_s  as of `records`
    skip    how many records came before the daemon of the case listened
    """
    number, last = 0, None
    found = [record for record in records(name, pace_s) if not isinstance(record, LossRecord)]
    found = found[skip:]
    made.surroundings.replay_us = (found[0].observed_ns or 0) // 1000
    made.start()
    for record in found:
        if record.observed_ns != last:
            if last is not None:
                number += 1
                after(number)
            last = record.observed_ns
        made.surroundings.replay_us = (record.observed_ns or 0) // 1000
        made.feed(record)
    made.stop()


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


def with_port(conf: bytes, receiver: Receiver) -> bytes:
    """A configuration of one output JSON whose host and port are those of a receiver."""
    if not isinstance(receiver.address, tuple):
        return conf
    lines = [line for line in conf.split(b"\n") if not line.startswith((b"port", b"host"))]
    return b"\n".join([*lines, b"port=%d" % receiver.address[1], b""])
