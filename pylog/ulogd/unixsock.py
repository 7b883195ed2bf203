"""The frames that programs send to the source UNIXSOCK, and the socket that takes them.

A frame is the marker, the length of what follows it, four bytes, the length of the packet, the
packet padded to 8 bytes, and options: a number, a length and a value that is padded to 8 bytes. A
frame that does not hold together ends the connection, as with ulogd; ulogd would also read past
the end of some of them. Source: input/packet/ulogd_inppkt_UNIXSOCK.c, measured.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from pylog.errors import BackendError, DecodeError, as_backend_error
from pylog.ulogd.views import Packet

MARKER = 0x41C90FD4
_HEAD = struct.Struct(">IH4xH")
_OPTION = struct.Struct(">II")
LARGEST = 4 + 0xFFFF
"""Bytes of the largest frame."""

PREFIX, INDEV, OUTDEV, TIME, USER, UID, LABEL = 1, 2, 3, 4, 200, 201, 206
WORDS = {USER: "user.name", 202: "os.name", 203: "os.rel", 204: "os.vers", 205: "app.name"}
"""Options that are texts, by the rest of their keys."""


def size_of(data: bytes | bytearray) -> int | None:
    """How many bytes the frame at the start has, None if that cannot be seen yet; DecodeError."""
    if len(data) >= 4 and int.from_bytes(data[:4]) != MARKER:
        raise DecodeError("marker", data[:4].hex(), f"{MARKER:x}", 0)
    return None if len(data) < 6 else 4 + int.from_bytes(data[4:6])


def packet_of_frame(frame: bytes, clock_us: int) -> tuple[Packet, list[int]]:
    """The packet of a frame, and the options that are unknown; DecodeError."""
    if len(frame) < _HEAD.size:
        raise DecodeError("frame", f"{len(frame)} bytes", f"at least {_HEAD.size}", 0)
    size = _HEAD.unpack_from(frame)[2]
    at = _HEAD.size
    if at + size > len(frame):
        raise DecodeError("packet", f"{size} bytes", f"at most {len(frame) - at}", at)
    packet = Packet(clock_us)
    packet.label, packet.message, packet.protocol = None, None, 0
    packet.payload = frame[at : at + size]
    version = packet.payload[0] >> 4 if size else 0
    packet.family = {4: 2, 6: 10}.get(version, 0)
    at += size + 7 & ~7
    unknown = []
    while at + _OPTION.size <= len(frame):
        number, length = _OPTION.unpack_from(frame, at)
        at += _OPTION.size
        if at + length > len(frame):
            raise DecodeError(f"option {number}", f"{length} bytes", f"{len(frame) - at}", at)
        if not _take(packet, number, frame[at : at + length]):
            unknown.append(number)
        at += length + 7 & ~7
    return packet, unknown


def _take(packet: Packet, number: int, value: bytes) -> bool:
    """Put an option into the packet; False if it is unknown or too short."""
    text = value.partition(b"\0")[0]
    if number == PREFIX:
        packet.prefix = text
    elif number == INDEV:
        packet.in_name = text
    elif number == OUTDEV:
        packet.out_name = text
    elif number in WORDS:
        packet.nufw[WORDS[number]] = text
    elif number in (TIME, UID) and len(value) >= 4:
        (word,) = struct.unpack_from("=I", value)
        if number == TIME:
            packet.stamp_us = packet.time_us = word * 1_000_000
        else:
            packet.nufw["user.id"] = word
    elif number == LABEL and value:
        packet.label = value[0]
    else:
        return False
    return True


class Listener:
    """The socket of UNIXSOCK; one client at a time."""

    def __init__(self, path: str, perms: int, owner: str, group: str, bufsize: int) -> None:
        """Listens; BackendError. A socket that nobody listens at is replaced."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with as_backend_error("listen at", path):
                _remove_dead(path)
                self._socket.bind(path)
                os.chmod(path, perms & 0o7777)
                if owner or group:
                    _give(path, owner, group)
                self._socket.listen(1)
            if bufsize:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bufsize)
        except BaseException:
            self._socket.close()
            raise
        self._client: socket.socket | None = None

    def frames(self) -> Iterator[bytes | DecodeError]:
        """The frames of the clients, one client after the other, until `close`; an error for bytes
        that are no frame, after which the client is gone.
        """
        while True:
            try:
                self._client, _ = self._socket.accept()
            except OSError:
                return
            with self._client:
                yield from self._of(self._client)

    def _of(self, client: socket.socket) -> Iterator[bytes | DecodeError]:
        buffer = bytearray()
        while True:
            try:
                data = client.recv(LARGEST)
            except OSError:
                return
            if not data:
                if buffer:
                    yield DecodeError("frame", f"{len(buffer)} bytes", "a complete one", 0)
                return
            buffer += data
            try:
                while (size := size_of(buffer)) is not None and len(buffer) >= size:
                    yield bytes(buffer[:size])
                    del buffer[:size]
            except DecodeError as error:
                yield error
                return

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        for one in (self._client, self._socket):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def _remove_dead(path: str) -> None:
    """Remove a socket that nobody listens at; BackendError if somebody does."""
    if not os.path.exists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        try:
            own.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:  # no socket: binding says so
            return
    raise BackendError(f"cannot listen at {path}: another program does")


def _give(path: str, owner: str, group: str) -> None:
    """Change the owner of a file; BackendError for a name that does not exist."""
    import shutil  # only here: rarely needed

    try:
        shutil.chown(path, owner or None, group or None)  # type: ignore[arg-type]
    except LookupError as error:
        raise BackendError(f"cannot listen at {path}: {error}") from error
