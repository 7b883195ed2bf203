"""The double of /dev/ipl behind real system calls: a FUSE file system with the file `ipl` in it.

`Mount` starts a process that serves it by the kernel's own protocol (linux/fuse.h, /dev/fuse), so
that open, read, poll and ioctl of the kernel can be tried on it. A read that finds nothing is
answered later, when there is a record, or with EINTR when its caller gets a signal.

Linux answers FIONREAD of a regular file by itself: the ioctls have the numbers that _IOR makes of
them on Linux, 'f' 127 and 'r' 66.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import select
import signal
import stat
import struct
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pylog.backends.ipl import IOCTLS
from pylog.testing import Device

FIONREAD, SIOCIPFFB = 0x8004667F, 0x80047242

# enum fuse_opcode
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, INIT, INTERRUPT = 1, 2, 3, 14, 15, 18, 26, 36
DESTROY, IOCTL, POLL, BATCH_FORGET = 38, 39, 40, 42

ROOT, FILE = 1, 2  # inodes; the first is FUSE_ROOT_ID
DIRECT_IO, NONSEEKABLE, STREAM = 1, 4, 16  # FOPEN_
SCHEDULE_NOTIFY = 1  # FUSE_POLL_
NOTIFY_POLL = 1  # FUSE_NOTIFY_
MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2
LIFETIME_S = 60
"""The server ends after so long whatever happens: a test may fail then, but not hang."""

IN_HEADER = struct.Struct("=IIQQIIIHH")  # struct fuse_in_header
OUT_HEADER = struct.Struct("=IiQ")
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")


class Server:
    """Answers the kernel's requests about one mount."""

    def __init__(self, device: Device, fuse: int) -> None:
        self._device, self._fuse = device, fuse
        self._system = device.system
        requests = IOCTLS["freebsd"]  # as Device has it, if it is told no other
        self._requests = {FIONREAD: requests.fionread, SIOCIPFFB: requests.siocipffb}
        self._reads: dict[int, tuple[int, int]] = {}
        """Reads that wait for a record, by the request's number: descriptor and size."""
        self._watched: dict[int, int] = {}
        """Descriptors that are polled, and the handle (kh) of the poll to wake up."""
        self._answers: dict[int, Callable[[int, int, bytes], bytes | None]] = {
            INIT: self._init, LOOKUP: self._lookup, GETATTR: self._getattr, OPEN: self._open,
            READ: self._read, RELEASE: self._release, IOCTL: self._ioctl, POLL: self._poll,
        }  # fmt: skip

    def serve_one(self) -> bool:
        """Take a request and answer it; False when the file system was unmounted."""
        try:
            request = os.read(self._fuse, 1 << 17)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)  # it was taken back
        _, opcode, unique, inode, *_ = IN_HEADER.unpack_from(request)
        body = request[IN_HEADER.size :]
        if opcode == DESTROY:
            return False
        if opcode == INTERRUPT:
            (interrupted,) = struct.unpack_from("=Q", body)
            if self._reads.pop(interrupted, None):
                self._reply(interrupted, error=errno.EINTR)
        elif opcode not in (FORGET, BATCH_FORGET):
            answer = self._answers.get(opcode)
            self._attempt(unique, answer, inode, body)
        return True

    def after_change(self) -> None:
        """Answer the reads and wake the polls that now can be."""
        for unique, (number, size) in list(self._reads.items()):
            del self._reads[unique]
            self._attempt(unique, self._read_now, number, size)
        for number, handle in list(self._watched.items()):
            if self._readable(number):
                del self._watched[number]
                self._reply(0, struct.pack("=Q", handle), -NOTIFY_POLL)

    def _attempt(self, unique: int, answer: Any, *arguments: Any) -> None:
        if answer is None:
            self._reply(unique, error=errno.ENOSYS)
            return
        try:
            data = answer(unique, *arguments)
        except OSError as error:
            self._reply(unique, error=error.errno or errno.EIO)
        else:
            if data is not None:
                self._reply(unique, data)

    def _reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        head = OUT_HEADER.pack(OUT_HEADER.size + len(data), -error, unique)
        try:
            os.write(self._fuse, head + data)
        except OSError as failed:
            if failed.errno != errno.ENOENT:  # nobody waits for it any more
                raise

    def _readable(self, number: int) -> bool:
        return bool(select.select([number], [], [], 0)[0])

    # The answer to each request; None when it comes later

    def _init(self, unique: int, inode: int, body: bytes) -> bytes:
        return INIT_OUT.pack(7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)

    def _attributes(self, inode: int) -> bytes:
        mode = stat.S_IFDIR | 0o700 if inode == ROOT else stat.S_IFREG | 0o600
        return ATTR.pack(inode, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 0, 0)

    def _lookup(self, unique: int, inode: int, body: bytes) -> bytes:
        if body != b"ipl\0":
            raise OSError(errno.ENOENT, "no such file")
        return struct.pack("=QQQQII", FILE, 0, 0, 0, 0, 0) + self._attributes(FILE)

    def _getattr(self, unique: int, inode: int, body: bytes) -> bytes:
        return struct.pack("=QII", 0, 0, 0) + self._attributes(inode)

    def _open(self, unique: int, inode: int, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("=I", body)
        number = self._system.open("/dev/ipl", flags)
        return struct.pack("=QII", number, DIRECT_IO | NONSEEKABLE | STREAM, 0)

    def _read(self, unique: int, inode: int, body: bytes) -> bytes | None:
        number, _, size = struct.unpack_from("=QQI", body)
        return self._read_now(unique, number, size)

    def _read_now(self, unique: int, number: int, size: int) -> bytes | None:
        data = self._device.read_now(number, size)
        if data is None:
            self._reads[unique] = number, size
        return data

    def _release(self, unique: int, inode: int, body: bytes) -> bytes:
        (number,) = struct.unpack_from("=Q", body)
        self._watched.pop(number, None)
        self._system.close(number)
        return b""

    def _ioctl(self, unique: int, inode: int, body: bytes) -> bytes:
        number, _, request, _, _, size = struct.unpack_from("=QIIQII", body)
        buffer = bytearray(size)
        self._system.ioctl(number, self._requests.get(request, request), buffer)
        return struct.pack("=iIII", 0, 0, 0, 0) + buffer

    def _poll(self, unique: int, inode: int, body: bytes) -> bytes:
        number, handle, flags = struct.unpack_from("=QQI", body)
        ready = self._readable(number)
        if flags & SCHEDULE_NOTIFY and not ready:
            self._watched[number] = handle
        return struct.pack("=II", (select.POLLIN | select.POLLRDNORM) * ready, 0)


def _mount(folder: str, fuse: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"pylog", folder.encode(), b"fuse", MS_NOSUID | MS_NODEV, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _unmount(folder: str) -> None:
    """Take the file system away, also from those who use it; it may be gone already."""
    ctypes.CDLL(None).umount2(folder.encode(), MNT_DETACH)


def _serve(control: Connection, folder: str, options: dict[str, Any]) -> None:
    """What the process does: serve the mount, and call the device's methods as it is told."""
    signal.alarm(LIFETIME_S)
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
        _mount(folder, fuse)
    except OSError as error:
        control.send(str(error))
        return
    control.send(None)
    try:
        with Device(**options) as device:
            server = Server(device, fuse)
            while True:
                ready = select.select([fuse, control.fileno()], [], [])[0]
                if control.fileno() in ready:
                    name, arguments = control.recv()
                    control.send(getattr(device, name)(*arguments))
                if fuse in ready and not server.serve_one():
                    return
                server.after_change()
    except EOFError:  # the test is over
        return
    finally:
        _unmount(folder)


class Mount:
    """A Device, made with `options`, in a process of its own; `path` is the file to open.

    problem   why there is none, or None
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = str(folder / "ipl")
        self._folder = str(folder)
        context = multiprocessing.get_context("spawn")
        self._control, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._folder, options), daemon=True
        )
        self._process.start()
        other.close()
        self.problem: str | None = self._receive()

    def _receive(self) -> Any:
        if not self._control.poll(LIFETIME_S):
            raise TimeoutError("the FUSE server says nothing")
        return self._control.recv()

    def call(self, name: str, *arguments: Any) -> Any:
        """What the device's method gives."""
        self._control.send((name, arguments))
        return self._receive()

    def close(self) -> None:
        self._control.close()
        self._process.join(5)
        self._process.kill()  # whoever still waits for the server then gets an error
        self._process.join()
        _unmount(self._folder)

    def __enter__(self) -> Mount:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
