"""A double of IPFilter's log device, /dev/ipl.

It follows ip_log.c: a ring of bytes that drops the newest record when it is full, equal packets
counted in one record, only complete records, EINVAL for a buffer of the wrong size, and readers
that sleep until there is a record. Its descriptors are real, so poll() and select() work on them.
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
from pylog.testing.descriptor import Descriptor


class Device:
    """A log device of IPFilter: `log` plays its kernel, `system` has the calls of programs.

    enabled   whether the filter is enabled: if not, read and ioctl give EIO (from 4.1 on)
    dropped   events so far for which the ring had no room

    All methods may be called by several threads.
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
        """An empty log. Defaults are those of the kernel of that version.

        log          ipf, nat or state
        size         of the ring in bytes: 8192, from 5.0.6 on 32768
        read_limit   the largest buffer that read takes: `size`; 3.4.29 to 3.4.35 take any
        fold         whether equal packets are counted in one record: ipl_suppress
        poll         whether poll waits for a record: from 4.1 on; before, it never waits
        path         the only path that can be opened
        platform     the system whose ioctl numbers are understood, named as in sys.platform
        Raises ValueError for a layout, log or platform that does not exist.
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
        self._descriptors: dict[int, Descriptor] = {}
        self._removed = self._closed = False
        self._ring: deque[bytearray] = deque()
        self._used = 0
        self._counter = 0
        self._newest = b""
        """The packet with which the next one is compared."""
        self.enabled = True
        self.dropped = 0

    # The kernel's side

    def log(self, record: bytes | Record) -> bool:
        """Log one event; False when there was no room for it, and it was dropped.

        record   the bytes of a record, or a Record of any source, which is encoded in the device's
                 layout; its ipl_count becomes 1, and its ipl_seqnum the number of the event, which
                 counts folded and dropped events too

        A packet equal to the one before it is counted in the newest record, while that is unread.
        The kernel compares the first FI_LCSIZE bytes of fr_info, which a record does not have; here
        ipflog and the logged bytes are compared. So two packets that differ only in their IP id
        fold in the kernel and not here, and a few that do not fold in 3.4 do here. From 4.1 on,
        only the first fragment folds. NAT and state records never fold, nor do records of 2.x.

        Raises DecodeError for bytes that are not a record of this log, ValueError for a record that
        the layout cannot hold.
        """
        event = self._record(record if isinstance(record, bytes) else self._encoded(record))
        packet = self._comparable(event) if self._folds else b""
        with self._changed:
            self._counter += 1
            if self._counts:
                self._plan.set(event, "ipl_count", 1)
            if self._numbered:
                self._plan.set(event, "ipl_seqnum", self._counter & 0xFFFFFFFF)
                if not self._fits(event):  # ipf_log_items() checks for room first,
                    return self._append(event, 1)
            if packet and packet == self._newest and self._ring:
                newest = self._ring[-1]
                self._plan.set(newest, "ipl_count", self._plan.get(newest, "ipl_count") + 1)
                return True
            self._newest = packet  # ipllog() before 5.0.6 last, after it has set this
            return self._append(event, 1)

    def _encoded(self, record: Record) -> bytes:
        data = self._encoder.encode(record)
        if not data:
            reasons = ", ".join(self._encoder.refused) or "a loss"
            self._encoder.refused.clear()
            raise ValueError(f"{self._layout.name} has no room for {reasons}")
        return data

    def keep(self, record: bytes) -> bool:
        """Log a record with its own ipl_seqnum and ipl_count; False when it was dropped.

        It does not fold; the next event is numbered after it. Raises DecodeError as `log`.
        """
        event = self._record(record)
        with self._changed:
            events = self._plan.get(event, "ipl_count") if self._counts else 1
            if self._numbered:
                self._counter = self._plan.get(event, "ipl_seqnum") + events - 1
            self._newest = self._comparable(event) if self._folds else b""
            return self._append(event, events)

    def replay(self, dump: bytes) -> int:
        """Keep the records of this log in a dump: how many of them were not dropped.

        Raises DecodeError when the dump is damaged.
        """
        return sum([self.keep(record) for record in self._records(dump)])

    def remove(self) -> None:
        """Remove the device: readers wake up, and all calls give ENXIO from now on."""
        with self._changed:
            self._removed = True
            self._wake()

    def _records(self, data: bytes) -> list[bytes]:
        """The records of this log in the bytes."""
        stream = IplStream(self._layout, self._log)
        records = []
        for item in stream.split(data, True):
            if isinstance(item, Damage):
                raise item.error.copy_for_raising()
            if isinstance(item, Message) and stream.message_log(data, item) == self._log:
                records.append(data[item.start : item.end])
        return records

    def _record(self, data: bytes) -> bytearray:
        records = self._records(data)
        if records != [data]:
            raise DecodeError("record", f"{len(records)} of the {self._log} log", "just one", 0)
        return bytearray(data)

    def _comparable(self, record: bytearray) -> bytes:
        """The bytes that equal packets have in common; b"" for one that does not fold."""
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
        self._wake()
        return True

    def _wake(self) -> None:
        """Show poll whether there is something to read, and wake the readers that sleep."""
        ready = bool(self._ring) or self._removed or not self._polls
        for descriptor in self._descriptors.values():
            descriptor.show(ready)
        if ready:
            self._changed.notify_all()

    # The programs' side

    @property
    def system(self) -> System:
        """The system calls, which reach only this device."""
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
        """The result of read(2) on the descriptor; None where it would sleep. Raises OSError."""
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
            self._wake()
            return bytes(taken)  # empty if the first record is larger: not an end of file

    def _take_bytes(self, size: int) -> bytes:
        """As iplread() of 2.x, whose ring has bytes without the limits of records."""
        queued = b"".join(self._ring)
        self._ring.clear()
        if queued[size:]:
            self._ring.append(bytearray(queued[size:]))
        self._used = len(queued[size:])
        self._wake()
        return queued[:size]

    def _read(self, number: int, size: int) -> bytes:
        with self._changed:  # an exception of a signal handler ends the wait
            while (data := self.read_now(number, size)) is None:
                self._changed.wait()
            return data

    def _open(self, path: str, flags: int) -> int:
        with self._changed:
            if path != self._path or self._removed:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            descriptor = Descriptor(flags)
            self._descriptors[descriptor.number] = descriptor
            self._wake()
            return descriptor.number

    def _ioctl(self, number: int, request: int, buffer: bytearray) -> int:
        """FIONREAD and SIOCIPFFB; the integer is in the byte order of this machine."""
        with self._changed:
            self._check_there()
            descriptor = self._descriptor(number)
            used, size = self._used, 4
            if request == self._requests.fionread:
                if self._wide:  # these kernels copy a size_t to the int
                    size = 8
            elif request == self._requests.siocipffb:
                if not descriptor.writable:
                    raise _error(errno.EPERM)
                self._ring.clear()
                self._used, self._newest = 0, b""
                self._wake()
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

    def _descriptor(self, number: int) -> Descriptor:
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
