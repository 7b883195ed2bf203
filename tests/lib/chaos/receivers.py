"""Receivers of a test: TCP servers that stall, reset, answer garbage, or end after the handshake.

What a receiver's system has acknowledged and its program does not read is lost, as the
documentation says. So that nothing of that kind happens, a receiver that ends a connection first
lets nothing more arrive, then reads what did. What is missing then would be a fault of pylog.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import netlab

from chaos.seen import Seen

BLOCKED = "element inet t blocked {{ {} }}"
CALM = ("read",)


class Receiver:
    """A server.

    manners   what happens to connections, one after the other
              read     all is read
              stall    nothing is read for a while
              reset    it is reset after so many bytes; the others are ended in order after so many,
                       unless the manners are CALM
              garbage  it gets bytes that mean nothing
              deaf     nothing is read for longer than pylog waits
              silent   no handshake follows (TLS)
    ended     how often each happened
    """

    def __init__(
        self, alone: netlab.Namespace, chance: random.Random, manners: Sequence[str] = CALM,
        *, octets: bool = False, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """
        octets   messages stand behind their length; else they end with a newline
        """
        self._alone, self._chance, self.manners = alone, chance, tuple(manners)
        self._octets, self._tls = octets, tls
        self._listener = alone.inside(lambda: socket.create_server(("127.0.0.1", 0)))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self.seen = Seen()
        self.ended: dict[str, int] = {}
        self._lock = threading.Lock()
        self._done = False
        self._number = chance.randrange(100)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._done:
            with contextlib.suppress(TimeoutError):
                connected, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connected,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connected: socket.socket) -> None:
        with self._lock:
            self._number += 1
            manner = self.manners[self._number % len(self.manners)]
            self.ended[manner] = self.ended.get(manner, 0) + 1
        connected.settimeout(0.1)
        try:
            if manner == "silent":
                self._sleep(6)
                return
            if self._tls is not None:
                connected.settimeout(10)
                connected = self._tls.wrap_socket(connected, server_side=True)
                connected.settimeout(0.1)
            self._read(connected, manner)
        except (OSError, ssl.SSLError):
            pass
        finally:
            connected.close()

    def _read(self, connected: socket.socket, manner: str) -> None:
        framing = _Framing(self._octets)
        pause = {"stall": self._chance.uniform(0.5, 4), "deaf": 13.0}
        most = self._chance.randrange(1 << self._chance.randrange(8, 19))
        self._sleep(pause.get(manner, 0))
        size = 0
        while not self._done:
            if manner == "garbage" and size:
                with contextlib.suppress(OSError):
                    self._garbage(connected)
                most = size if self._tls is not None else most
                manner = "read"
            if size > most and self.manners != CALM:
                self._end(connected, framing, manner == "reset")
                return
            try:
                data = connected.recv(1 << 16)
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            if not data:
                return
            size += len(data)
            self._take(framing.messages(data))

    def _garbage(self, connected: socket.socket) -> None:
        """Send bytes that mean nothing, past TLS."""
        plain = socket.socket(fileno=os.dup(connected.fileno()))
        with plain:
            plain.settimeout(0.5)
            plain.sendall(self._chance.randbytes(self._chance.randrange(1, 3000)))

    def _end(self, connected: socket.socket, framing: _Framing, reset: bool) -> None:
        """Let nothing more arrive, read what did, and end the connection."""
        self._alone.nft("add " + BLOCKED.format(self.port))
        try:
            connected.settimeout(0)
            with contextlib.suppress(OSError, ssl.SSLError):
                while data := connected.recv(1 << 16):
                    self._take(framing.messages(data))
            if reset:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connected.close()
        finally:
            self._alone.nft("delete " + BLOCKED.format(self.port))

    def _take(self, messages: list[bytes]) -> None:
        with self._lock:
            self.seen.lines(messages)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._done:
            time.sleep(0.05)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


class _Framing:
    """Cuts a stream into messages; what is incomplete when a connection ends is none."""

    def __init__(self, octets: bool) -> None:
        self._octets, self._rest = octets, b""

    def messages(self, data: bytes) -> list[bytes]:
        data = self._rest + data
        if not self._octets:
            *lines, self._rest = data.split(b"\n")
            return lines
        made, at = [], 0
        while (space := data.find(b" ", at, at + 12)) >= 0:
            end = space + 1 + int(data[at:space])
            if end > len(data):
                break
            made.append(data[data.index(b"{", space) : end])
            at = end
        self._rest = data[at:]
        return made


class Brokers:
    """Brokers of Kafka that librdkafka has built in, and a consumer that reads all they get."""

    def __init__(self, alone: netlab.Namespace, topic: str) -> None:
        import confluent_kafka as kafka

        self._kafka, self.topic = kafka, topic
        self.seen = Seen()
        self._done = False
        self._cluster, self.address = alone.inside(self._made)
        self._thread = threading.Thread(target=alone.inside, args=(self._consume,), daemon=True)
        self._thread.start()

    def _made(self) -> tuple[Any, str]:
        cluster = self._kafka.Producer({"test.mock.num.brokers": "1", "log_level": 0})
        brokers = cluster.list_topics(timeout=20).brokers.values()
        return cluster, ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def _consume(self) -> None:
        consumer = self._kafka.Consumer({
            "bootstrap.servers": self.address, "group.id": "test", "log_level": 0,
        })  # fmt: skip
        partitions = netlab.until(lambda: self._partitions(consumer), "a topic", 30)
        begin = self._kafka.OFFSET_BEGINNING
        consumer.assign([self._kafka.TopicPartition(self.topic, n, begin) for n in partitions])
        quiet = 0
        while not self._done or quiet < 3:
            messages = consumer.consume(2000, 0.3)
            quiet = 0 if messages else quiet + 1
            self.seen.lines(m.value() for m in messages if m.error() is None)
        consumer.close()

    def _partitions(self, consumer: Any) -> list[int]:
        """Those of the topic, which asking for them makes."""
        return list(consumer.list_topics(self.topic, 20).topics[self.topic].partitions)

    def __enter__(self) -> Brokers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Seen:
        """Read the rest; what was read."""
        self._done = True
        self._thread.join(60)
        return self.seen


def waiting(received: Callable[[], int], seconds: float = 0.5) -> int:
    """What a count is when it no longer grows."""
    before = -1
    while (now := received()) != before:
        before = now
        time.sleep(seconds)
    return now
