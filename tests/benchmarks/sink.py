"""Receive what an output sends, and write a line for each record to a file: a peer of benchmarks.

sink.py syslog PATH FILE    datagrams at a unix socket
sink.py ipfix PORT FILE     ulogd's IPFIX over UDP, records of 33 bytes in sets of template 256
sink.py lines PORT FILE     lines over TCP
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

TEMPLATE, RECORD = 256, 33


def records_of(message: bytes) -> int:
    """How many records a message of IPFIX has."""
    at, found = 16, 0
    while at + 4 <= len(message):
        kind, size = int.from_bytes(message[at : at + 2]), int.from_bytes(message[at + 2 : at + 4])
        if kind == TEMPLATE:
            found += (size - 4) // RECORD
        at += max(size, 4)
    return found


def received(kind: str, where: str) -> Iterator[bytes]:
    """Lines for what comes."""
    if kind == "lines":
        listener = socket.create_server(("127.0.0.1", int(where)))
        while True:
            with listener.accept()[0] as client:
                while data := client.recv(1 << 16):
                    yield data
    family = socket.AF_UNIX if kind == "syslog" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        own.bind(where if kind == "syslog" else ("127.0.0.1", int(where)))
        while True:
            data = own.recv(1 << 16)
            yield b"-\n" if kind == "syslog" else b"-\n" * records_of(data)


def main(kind: str, where: str, path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        for data in received(kind, where):
            file.write(data)


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):
        if sys.argv[1] == "syslog":
            os.unlink(sys.argv[2])
    with contextlib.suppress(KeyboardInterrupt):  # the end
        main(*sys.argv[1:])
