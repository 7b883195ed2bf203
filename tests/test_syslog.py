"""Syslogs that stall, vanish and come back: every line is delivered or counted."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from netlab import until

from pylog.transports import connection, sender
from pylog.transports.syslog import Syslog

INFO = 6
KINDS = ("datagram", "stream", "udp", "tcp")

WAITING = ("datagram", "stream", "tcp")
"""Those whose sender waits while nobody reads: UDP never does."""
NOTICE = re.compile(r"(\d+) lines before this one were not delivered, (\d+) so far")
LINE = re.compile(r"(?:<\d+>.*?(?:ipmon\[\d+\]:|ipmon \d+ - -)) (.*)", re.S)


class Receiver:
    """A syslog of one of the kinds, that reads on request."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind, self._place = kind, place
        self._port = 0
        self._listener: socket.socket | None = None
        self._peers: list[tuple[socket.socket, bytearray]] = []
        self.lines: list[str] = []
        self.begin()

    @property
    def where(self) -> str:
        inet = self.kind in ("udp", "tcp")
        return f"{self.kind}:127.0.0.1:{self._port}" if inet else self._place

    def begin(self) -> None:
        inet = self.kind in ("udp", "tcp")
        stream = self.kind in ("stream", "tcp")
        made = socket.socket(socket.AF_INET if inet else socket.AF_UNIX,
                             socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)  # fmt: skip
        if inet:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("127.0.0.1", self._port))
            self._port = made.getsockname()[1]
        else:
            made.bind(self._place)
        if stream:
            made.listen()
        made.setblocking(False)
        self._listener = made

    def read(self) -> None:
        """Read all that has come."""
        if self._listener is None:
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                if self.kind in ("datagram", "udp"):
                    self._take(self._listener.recv(1 << 16))
                else:
                    peer, _ = self._listener.accept()
                    peer.setblocking(False)
                    self._peers.append((peer, bytearray()))
        for peer, data in self._peers:
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                while part := peer.recv(1 << 16):
                    data += part
            self._take_all(data)

    def _take_all(self, data: bytearray) -> None:
        if self.kind == "stream":
            while b"\0" in data:
                message, _, rest = bytes(data).partition(b"\0")
                self._take(message)
                data[:] = rest
            return
        while match := re.match(rb"(\d+) ", data):
            end = match.end() + int(match[1])
            if len(data) < end:
                return
            self._take(bytes(data[match.end() : end]))
            del data[:end]

    def _take(self, message: bytes) -> None:
        match = LINE.fullmatch(message.decode())
        assert match is not None, message
        self.lines.append(match[1])

    def end(self) -> None:
        """Read what has come, and vanish."""
        self.read()
        for peer, _ in self._peers:
            peer.close()
        self._peers = []
        if self._listener is not None:
            self._listener.close()
        self._listener = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._place)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In the `with`, it reads at once what comes."""
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                self.read()
                polled = [s for s in (self._listener, *[p for p, _ in self._peers]) if s]
                select.select(polled, [], [], 0.01)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
            self.read()

    def numbers(self) -> list[int]:
        """The lines that are numbers, and so no reports."""
        return [int(line) for line in self.lines if line.isdigit()]

    def reported(self) -> list[tuple[int, int]]:
        return [(int(m[1]), int(m[2])) for line in self.lines if (m := NOTICE.fullmatch(line))]


@pytest.fixture(params=KINDS)
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(request.param, str(tmp_path / "log"))
    yield made
    made.end()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience, so that the tests take little time."""
    monkeypatch.setattr(sender, "PATIENCE_S", 0.2)
    monkeypatch.setattr(sender, "DRAIN_S", 2.0)
    monkeypatch.setattr(sender, "RETRY_S", (0.01, 0.05))
    monkeypatch.setattr(sender, "QUEUE_LINES", 50)


def test_a_syslog_that_reads_gets_every_line_in_order(receiver: Receiver) -> None:
    to = Syslog(receiver.where)
    with receiver.reading():
        for number in range(2000):
            to.send(f"{number}", INFO)
            if receiver.kind == "udp" and number % 50 == 0:
                until(lambda n=number: len(receiver.lines) > n, "the datagrams")  # type: ignore[misc]
        to.close()
    assert receiver.numbers() == list(range(2000))
    assert (to.made, to.dropped, to.doubtful) == (2000, 0, False)


@pytest.mark.parametrize("receiver", WAITING, indirect=True)
def test_what_a_stalled_syslog_does_not_take_waits_for_it(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    line = "x" * 4000
    to = Syslog(receiver.where)
    sent = 0
    while to.waiting < 100:
        to.send(f"{sent} {line}", INFO)
        sent += 1
    with receiver.reading():
        to.close()
    assert [int(text.split()[0]) for text in receiver.lines] == list(range(sent))
    assert (to.dropped, caplog.messages) == (0, [])


@pytest.mark.parametrize("receiver", WAITING, indirect=True)
@pytest.mark.usefixtures("hasty")
def test_a_stalled_syslog_costs_lines_which_are_counted_and_reported(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REPORT_S", 0.0)
    if receiver.kind in ("stream", "tcp"):  # their buffers are large
        numbers = (f"{n} {'x' * 60_000}" for n in itertools.count())
    else:
        numbers = (f"{n}" for n in itertools.count())
    to = Syslog(receiver.where)
    start = time.monotonic()
    while to.dropped < 200:
        to.send(next(numbers), INFO)
    assert time.monotonic() - start < 5  # 40 s if each were waited for
    messages = [m for m in caplog.messages if "so far" in m]
    assert len(messages) == 200 and " 1 of " in messages[0] and " 200 of " in messages[-1], messages
    assert (
        f"syslog at {receiver.where}: 200 of {to.made} lines not delivered so far" in messages[-1]
    )
    assert "(it does not read)" in messages[-1]
    with receiver.reading():
        until(lambda: to.waiting == 0, "the queue")
        to.send("999999", INFO)
        to.close()
    found = [int(line.split()[0]) for line in receiver.lines if not NOTICE.fullmatch(line)]
    assert len(found) == len(set(found)) and found == sorted(found)
    assert len(found) + to.dropped == to.made and to.dropped == 200
    reported = receiver.reported()
    assert sum(lost for lost, _ in reported) == 200 == reported[-1][1]
    assert NOTICE.fullmatch(receiver.lines[-2]), "the report stands where the lines are missing"
    assert caplog.messages[-1].startswith(f"syslog at {receiver.where}: 200 of {to.made} lines not")


@pytest.mark.usefixtures("hasty")
def test_a_syslog_that_vanishes_and_comes_back_gets_what_waits(receiver: Receiver) -> None:
    to = Syslog(receiver.where)
    with receiver.reading():
        for number in range(9):
            to.send(f"{number}", INFO)
        until(lambda: len(receiver.lines) == 9, "the lines")
        to.send("9", INFO)  # when there is nothing that it has not read
        until(lambda: len(receiver.lines) == 10, "the line")
    receiver.end()
    for number in range(10, 40):
        to.send(f"{number}", INFO)
    receiver.begin()
    with receiver.reading():
        until(lambda: len(receiver.lines) == 40, "the lines")
        for number in range(40, 50):
            to.send(f"{number}", INFO)
        to.close()
        until(lambda: len(receiver.lines) >= 50, "the last lines")
    assert receiver.numbers() == list(range(50))
    assert (to.made, to.dropped, to.doubtful) == (50, 0, False)


@pytest.mark.usefixtures("hasty")
def test_a_syslog_that_vanishes_for_long_costs_lines_which_are_counted(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    to = Syslog(receiver.where)
    receiver.read()
    receiver.end()
    start = time.monotonic()
    for number in range(500):
        to.send(f"{number}", INFO)
    assert time.monotonic() - start < 3
    assert to.dropped + to.waiting == 500 and to.dropped > 400
    dropped = to.dropped
    receiver.begin()
    with receiver.reading():
        until(lambda: to.waiting == 0, "the queue")
        to.send("500", INFO)
        to.close()
        until(lambda: 500 in receiver.numbers(), "the last line")
    assert len(receiver.numbers()) + to.dropped == to.made == 501
    assert to.dropped == dropped and receiver.reported() == [(dropped, dropped)]
    first = f" 1 of {500 - dropped + 1} lines not delivered so far"
    assert any(first in message for message in caplog.messages)


@pytest.mark.usefixtures("hasty")
def test_that_lines_wait_is_reported_once_before_any_is_lost(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    to = Syslog(receiver.where)
    receiver.read()
    receiver.end()
    for number in range(3):
        to.send(f"{number}", INFO)
    until(lambda: bool(caplog.messages), "the report")
    receiver.begin()
    with receiver.reading():
        until(lambda: len(receiver.lines) == 3, "the lines")
        to.close()
    (message,) = caplog.messages
    assert re.fullmatch(
        rf"syslog at {receiver.where} takes no lines \(.+\): 3 wait, and 50 can", message
    )
    assert to.dropped == 0


@pytest.mark.usefixtures("hasty")
def test_every_line_is_delivered_or_counted_whatever_the_syslog_does(receiver: Receiver) -> None:
    to = Syslog(receiver.where)
    number = itertools.count()
    for _ in range(4):
        with receiver.reading():
            for _ in range(40):
                to.send(f"{next(number)}", INFO)
            if receiver.kind == "udp":
                until(lambda: to.waiting == 0, "the queue")
        for _ in range(40):  # it stalls
            to.send(f"{next(number)}", INFO)
        with receiver.reading():
            until(lambda: to.waiting == 0, "the queue")
        time.sleep(0.01)
        receiver.end()
        for _ in range(80):  # it is gone
            to.send(f"{next(number)}", INFO)
        receiver.begin()
    with receiver.reading():
        to.close()
        time.sleep(0.05)
    made = next(number)
    found = receiver.numbers()
    assert len(found) == len(set(found)) and found == sorted(found)
    assert to.made == made == len(found) + to.dropped
    assert not to.doubtful or receiver.kind == "datagram"


def test_the_queue_is_bounded_in_lines_and_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "PATIENCE_S", 0.05)
    monkeypatch.setattr(sender, "QUEUE_SIZE", 100_000)
    receiver = Receiver("datagram", str(tmp_path / "log"))
    to = Syslog(receiver.where)
    while to.dropped < 10:
        to.send("x" * 10_000, INFO)
    assert to.waiting < 11
    monkeypatch.setattr(sender, "QUEUE_SIZE", 1 << 30)
    monkeypatch.setattr(sender, "QUEUE_LINES", 30)
    while to.dropped < 20:
        to.send("x", INFO)
    assert 25 < to.waiting <= 30
    to.close()
    receiver.end()
    assert len(receiver.lines) + to.dropped == to.made


def test_a_slow_syslog_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PATIENCE_S", 0.5)
    monkeypatch.setattr(sender, "QUEUE_LINES", 10)
    receiver = Receiver("datagram", str(tmp_path / "log"))
    to = Syslog(receiver.where)
    stop = threading.Event()

    def run() -> None:
        listener = receiver._listener
        assert listener is not None
        while not stop.wait(0.001):
            with contextlib.suppress(BlockingIOError):
                receiver._take(listener.recv(1 << 16))

    thread = threading.Thread(target=run)
    thread.start()
    for number in range(400):
        to.send(f"{number}", INFO)
    to.close()
    stop.set()
    thread.join(10)
    receiver.end()
    assert receiver.numbers() == list(range(400)) and to.dropped == 0


@pytest.mark.parametrize(
    ("kind", "how"), [*((kind, "stalled") for kind in WAITING), *((kind, "gone") for kind in KINDS)]
)
@pytest.mark.usefixtures("hasty")
def test_close_ends_soon_and_counts_what_it_left(
    tmp_path: Path, kind: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(kind, str(tmp_path / "log"))
    to = Syslog(receiver.where)
    if how == "gone":
        receiver.end()
        for number in range(20):
            to.send(f"{number}", INFO)
    else:
        while to.waiting < 20:
            to.send("x" * 60_000, INFO)
    start = time.monotonic()
    to.close()
    assert 0.1 < time.monotonic() - start < 2
    left = to.dropped
    assert to.waiting == 0 and left > (10 if kind == "tcp" else 19)  # whose buffers may grow
    assert f"{left} of {to.made} lines not delivered" in caplog.messages[-1]
    to.send("late", INFO)
    assert to.dropped == left + 1
    receiver.read()
    assert how == "gone" or len(receiver.lines) == to.made - to.dropped
    receiver.end()


@pytest.mark.usefixtures("hasty")
def test_close_is_bounded_with_a_syslog_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "DRAIN_S", 0.5)
    receiver = Receiver("datagram", str(tmp_path / "log"))
    to = Syslog(receiver.where)
    while to.waiting < 50:
        to.send("1", INFO)
    stop = threading.Event()

    def run() -> None:
        listener = receiver._listener
        assert listener is not None
        while not stop.wait(0.05):
            receiver._take(listener.recv(1 << 16))

    thread = threading.Thread(target=run)
    thread.start()
    start = time.monotonic()
    to.close()
    assert 0.3 < time.monotonic() - start < 1.5
    stop.set()
    thread.join(10)
    receiver.end()
    assert to.dropped > 0 and len(receiver.numbers()) + to.dropped == to.made


def test_a_connection_that_is_reset_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "RETRY_S", (0.01, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = Syslog(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        to.send("unread", INFO)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        time.sleep(0.01)
        to.send("again", INFO)
        peer, _ = server.accept()
        with peer:
            to.close()
            assert b"again" in peer.recv(1 << 16)
    assert to.doubtful and to.dropped == 0
    assert "lines that it had taken and not read are lost" in caplog.messages[0]


def test_a_connection_that_is_reset_while_close_waits_loses_what_is_not_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "unconfirmed_size", lambda _: 1 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = Syslog(f"tcp:127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        to.send("unread", INFO)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        to.close()
    assert to.doubtful and to.dropped == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell what is unread")
def test_a_local_syslog_that_ends_with_lines_unread_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver("datagram", str(tmp_path / "log"))
    to = Syslog(receiver.where)
    to.send("read", INFO)
    receiver.read()
    for _ in range(5):
        to.send("unread", INFO)
    assert receiver._listener is not None
    receiver._listener.close()
    receiver._listener = None
    os.unlink(receiver.where)
    receiver.begin()
    to.send("next", INFO)
    receiver.read()
    to.close()
    receiver.end()
    assert receiver.lines == ["read", "next"]
    match = re.search(r"up to (\d+) lines that it had taken may be lost unread", caplog.text)
    assert to.doubtful and match is not None and 5 <= int(match[1]) < 10


def test_a_line_that_is_too_long_costs_itself_only(tmp_path: Path) -> None:
    receiver = Receiver("udp", "")
    to = Syslog(receiver.where)
    to.send("x" * 70_000, INFO)
    to.send("1", INFO)
    to.close()
    until(lambda: receiver.read() or receiver.numbers() == [1], "the line")  # type: ignore[func-returns-value]
    receiver.end()
    assert (to.made, to.dropped) == (2, 1) and receiver.reported() == [(1, 1)]


def test_no_thread_is_left(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PATIENCE_S", 0.05)
    monkeypatch.setattr(sender, "RETRY_S", (0.01, 0.05))
    before = threading.active_count()
    to = Syslog(receiver.where)
    to.send("1", INFO)
    receiver.end()
    for _ in range(3):
        to.send("2", INFO)
    to.close()
    until(lambda: threading.active_count() == before, "the end of the thread")


def test_the_reports_reach_a_person_escaped(tmp_path: Path) -> None:
    place = str(tmp_path / "l\x1b[2Jo\ng")
    receiver = Receiver("datagram", place)
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("pylog")
    logger.addHandler(handler)
    try:
        to = Syslog(place)
        to._closing = True
        to.send("1", INFO)
    finally:
        logger.removeHandler(handler)
        receiver.end()
    text = handler.stream.getvalue()
    assert r"l\x1b[2Jo\ng" in text and text.count("\n") == 1
