"""What tests of programs that read firewall logs need where there is no such firewall.

`Device` is one of IPFilter's log devices without its kernel. It keeps the rules of ip_log.c: a ring
of bytes that drops the newest record when it is full, equal packets counted in one record, whole
records only, EINVAL for a buffer of the wrong size, and readers that sleep until there is a record.
Its descriptors are real ones, of which poll() and select() tell the truth.

    with Device() as device:
        device.replay(dump)
        with device.open() as reader:
            print(reader.read())
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque

from pylog.backends import ipl as backend
from pylog.backends.ipl import System
from pylog.errors import DecodeError
from pylog.formats import Damage, Message, ipl_layouts
from pylog.formats.ipl_encode import LAYOUT, Encoder
from pylog.formats.ipl_stream import IplStream
from pylog.open_log import OnError
from pylog.reader import Reader
from pylog.record import PacketRecord, Record


class _Descriptor:
    """One open of the device: the end of a pipe, with a byte in it while poll is to say so."""

    def __init__(self, flags: int) -> None:
        access = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        self.readable, self.writable = access != os.O_WRONLY, access != os.O_RDONLY
        self.number, self._other = os.pipe()
        self._shown = False

    def show(self, ready: bool) -> None:
        if ready and not self._shown:
            os.write(self._other, b"\0")
        elif self._shown and not ready:
            os.read(self.number, 1)
        self._shown = ready

    def close(self) -> None:
        os.close(self.number)
        os.close(self._other)


class Device:
    """A log device of IPFilter: `log` is what its kernel does, `system` what programs can do.

    enabled   whether the filter is: while it is not, read and ioctl give EIO (from 4.1 on)
    dropped   events so far that found no room in the ring

    All of it may be used by several threads.
    """

    def __init__(
        self,
        layout: str = LAYOUT,
        log: str = "ipf",
        *,
        size: int | None = None,
        read_limit: int | None = None,
        fold: bool = True,
        poll: bool | None = None,
        path: str = "/dev/ipl",
        platform: str = "freebsd14",
    ) -> None:
        """An empty log. What is not said is as the kernel of that version has it.

        log          ipf, nat or state
        size         of the ring in bytes: 8192, from 5.0.6 on 32768
        read_limit   the largest buffer that read takes: `size`; 3.4.29 to 3.4.35 take any
        fold         whether equal packets are counted in one record: ipl_suppress
        poll         whether poll tells if there is a record: from 4.1 on; before it says so always
        path         the only one that can be opened
        platform     whose ioctl numbers are understood, named as in sys.platform
        Raises ValueError for a layout, log or platform that there is not.
        """
        self._layout = ipl_layouts.named(layout)
        if log not in self._layout.logs:
            raise ValueError(f"{layout} has no {log} log")
        version = self._layout.version
        self._log, self._path, self._platform = log, path, platform
        rows = [row for name, row in backend.IOCTLS.items() if platform.startswith(name)]
        if not rows:
            raise ValueError(f"no platform {platform!r}; there are {', '.join(backend.IOCTLS)}")
        self._requests = rows[0]
        self._plan = self._layout.plan(log)
        self._encoder = Encoder(self._layout)
        self._counts = "ipl_count" in self._plan.places
        self._numbered = "ipl_seqnum" in self._plan.places
        self._bytewise = version.iplog == "2.x"
        lp64 = self._layout.abi.base.startswith("lp64")
        self._wide = lp64 and version.major == 3 and log == "ipf"
        self._folds = fold and log == "ipf" and self._counts
        self._polls = version.major >= 4 if poll is None else poll
        self._size = size or (32768 if self._numbered else 8192)
        unlimited = version.name == "3.4.35"
        self._read_limit = read_limit or (sys.maxsize if unlimited else self._size)
        last = self._plan.places.get("ipl_next")
        self._head = last.offset + last.size if last else 1  # sizeof(iplog_t)
        self._changed = threading.Condition()
        self._descriptors: dict[int, _Descriptor] = {}
        self._removed = self._closed = False
        self._ring: deque[bytearray] = deque()
        self._used = 0
        self._counter = 0
        self._newest = b""
        """What the next packet is compared with."""
        self.enabled = True
        self.dropped = 0

    # What the kernel does

    def log(self, record: bytes | Record) -> bool:
        """Log one event; False when there was no room for it, and it was dropped.

        record   a whole record, or one of pylog's, of any source, which is encoded in the device's
                 layout; its ipl_count becomes 1, and its ipl_seqnum the number of the event, which
                 counts folded and dropped ones too

        A packet equal to the one before it is counted in the newest record, while that is unread.
        The kernel compares what it knows of the two packets (the first FI_LCSIZE bytes of fr_info),
        which is not in a record; here ipflog and the logged bytes are compared, so two packets that
        differ in their IP id alone fold in the kernel and not here, and a few that do not fold in
        3.4 do here. From 4.1 on, fragments but the first do not fold. NAT and state records never
        do, nor do the records of 2.x.

        Raises DecodeError for what is no record of this log, ValueError for a record that the
        layout cannot hold.
        """
        event = self._record(record if isinstance(record, bytes) else self._encoded(record))
        packet = self._comparable(event) if self._folds else b""
        with self._changed:
            self._counter += 1
            if self._counts:
                self._plan.set(event, "ipl_count", 1)
            if self._numbered:
                self._plan.set(event, "ipl_seqnum", self._counter & 0xFFFFFFFF)
                if not self._fits(event):  # ipf_log_items() looks for room first,
                    return self._append(event, 1)
            if packet and packet == self._newest and self._ring:
                newest = self._ring[-1]
                self._plan.set(newest, "ipl_count", self._plan.get(newest, "ipl_count") + 1)
                return True
            self._newest = packet  # and ipllog() before it last, when this stays although dropped
            return self._append(event, 1)

    def _encoded(self, record: Record) -> bytes:
        data = self._encoder.encode(record)
        if not data:
            reasons = ", ".join(self._encoder.refused) or "a loss"
            self._encoder.refused.clear()
            raise ValueError(f"{self._layout.name} has no room for {reasons}")
        return data

    def keep(self, record: bytes) -> bool:
        """Log a record with the ipl_seqnum and ipl_count that it has; False when it was dropped.

        It folds into none; the next event is numbered after it. Raises DecodeError as `log`.
        """
        event = self._record(record)
        with self._changed:
            events = self._plan.get(event, "ipl_count") if self._counts else 1
            if self._numbered:
                self._counter = self._plan.get(event, "ipl_seqnum") + events - 1
            self._newest = self._comparable(event) if self._folds else b""
            return self._append(event, events)

    def replay(self, dump: bytes) -> int:
        """Keep the records of a dump that are of this log: how many of them found room.

        Raises DecodeError when the dump is damaged.
        """
        return sum([self.keep(record) for record in self._records(dump)])

    def remove(self) -> None:
        """Take the device away: whoever reads wakes up, and all get ENXIO from now on."""
        with self._changed:
            self._removed = True
            self._tell()

    def _records(self, data: bytes) -> list[bytes]:
        """The records of this log in the bytes."""
        stream = IplStream(self._layout, self._log)
        found = []
        for item in stream.split(data, True):
            if isinstance(item, Damage):
                raise item.error.copy_for_raising()
            if isinstance(item, Message) and stream.message_log(data, item) == self._log:
                found.append(data[item.start : item.end])
        return found

    def _record(self, data: bytes) -> bytearray:
        found = self._records(data)
        if found != [data]:
            raise DecodeError("record", f"{len(found)} of the {self._log} log", "just one", 0)
        return bytearray(data)

    def _comparable(self, record: bytearray) -> bytes:
        """What must be equal for a packet to fold; b"" when it does not."""
        stream = IplStream(self._layout)
        decoded = stream.decode(bytes(record), Message(0, len(record)))
        fragment = decoded.fragment if isinstance(decoded, PacketRecord) else None
        if self._layout.version.major >= 4 and fragment is not None and fragment.offset:
            return b""  # fin_off
        return bytes(record[self._head :])

    def _fits(self, record: bytearray) -> bool:
        return self._used + len(record) <= self._size

    def _append(self, record: bytearray, events: int) -> bool:
        if not self._fits(record):
            self.dropped += events
            return False
        self._ring.append(record)
        self._used += len(record)
        self._tell()
        return True

    def _tell(self) -> None:
        """Say to poll whether there is something to read, and wake up whoever sleeps."""
        ready = bool(self._ring) or self._removed or not self._polls
        for descriptor in self._descriptors.values():
            descriptor.show(ready)
        if ready:
            self._changed.notify_all()

    # What its users call

    @property
    def system(self) -> System:
        """The system calls by which programs reach the device, and no other file."""
        return System(self._platform, self._open, self._read, self._ioctl, self._close)

    def open(
        self, *, layout: str | None = None, on_error: OnError = "resync", raw: bool = False
    ) -> Reader:
        """A Reader of the device; the options and errors are those of pylog.open."""
        source = backend.Device(self._path, system=self.system)
        try:
            return Reader(source, layout=layout, on_error=on_error, raw=raw)
        except BaseException:
            source.close()
            raise

    def read_now(self, number: int, size: int) -> bytes | None:
        """What read(2) of the descriptor gives; None where it would sleep. Raises OSError."""
        with self._changed:
            self._check_there()
            if not self._descriptor(number).readable:
                raise _error(errno.EBADF)
            if size == 0:
                return b""
            if not self._head <= size <= self._read_limit:
                raise _error(errno.EINVAL)
            if not self._ring:
                return None
            if self._bytewise:
                return self._take_bytes(size)
            taken = bytearray()
            while self._ring and len(taken) + len(self._ring[0]) <= size:
                taken += self._ring.popleft()
            self._used -= len(taken)
            self._tell()
            return bytes(taken)  # nothing, when the first record is larger: no end of file

    def _take_bytes(self, size: int) -> bytes:
        """As iplread() of 2.x: a ring of bytes, which knows no records."""
        queued = b"".join(self._ring)
        self._ring.clear()
        if queued[size:]:
            self._ring.append(bytearray(queued[size:]))
        self._used = len(queued[size:])
        self._tell()
        return queued[:size]

    def _read(self, number: int, size: int) -> bytes:
        with self._changed:  # which a signal handler that raises ends
            while (data := self.read_now(number, size)) is None:
                self._changed.wait()
            return data

    def _open(self, path: str, flags: int) -> int:
        with self._changed:
            if path != self._path or self._removed:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            descriptor = _Descriptor(flags)
            self._descriptors[descriptor.number] = descriptor
            self._tell()
            return descriptor.number

    def _ioctl(self, number: int, request: int, buffer: bytearray) -> int:
        """FIONREAD and SIOCIPFFB; the integer is in the byte order of this machine."""
        with self._changed:
            self._check_there()
            descriptor = self._descriptor(number)
            used, size = self._used, 4
            if request == self._requests.fionread:
                if self._wide:  # a size_t is copied to where an int is asked for
                    size = 8
            elif request == self._requests.siocipffb:
                if not descriptor.writable:
                    raise _error(errno.EPERM)
                self._ring.clear()
                self._used, self._newest = 0, b""
                self._tell()
            else:
                raise _error(errno.EINVAL)
            answer = used.to_bytes(size, sys.byteorder)[: len(buffer)]
            buffer[: len(answer)] = answer
            return 0

    def _close(self, number: int) -> None:
        with self._changed:
            if self._closed and number not in self._descriptors:
                return  # by close(), before its reader
            self._descriptor(number).close()
            del self._descriptors[number]

    def _descriptor(self, number: int) -> _Descriptor:
        try:
            return self._descriptors[number]
        except KeyError:
            raise _error(errno.EBADF) from None

    def _check_there(self) -> None:
        if self._removed:
            raise _error(errno.ENXIO)
        if not self.enabled and self._layout.version.major >= 4:  # fr_running
            raise _error(errno.EIO)

    def close(self) -> None:
        """Remove the device and close its descriptors; a second call does nothing."""
        self.remove()
        with self._changed:
            self._closed = True
            for number in list(self._descriptors):
                self._close(number)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
