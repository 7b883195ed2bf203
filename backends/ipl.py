"""/dev/ipl, /dev/ipnat, /dev/ipstate: the log devices of a running IPFilter.

A read gives complete records, as many as fit. A buffer larger than the kernel's log is EINVAL on
most versions; one too small for the next record gives nothing and keeps the record. `_read` finds
the size that fits by trying. The devices ignore O_NONBLOCK, so nothing is read before FIONREAD
reports bytes. Some kernels do not wake a process that polls: those are asked again every second, as
ipmon does.

The system calls come from a System, so that a double of the device (pylog.testing) can replace it.

Sources: ipl(4), ip_log.c and ip_fil.h of IPFilter 3.4 to 5.1, ip_fil.c of the BSDs, illumos.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pylog.backends.base import Backend, Check, Source
from pylog.backends.capture import Capture
from pylog.errors import BackendError, BackendUnavailable
from pylog.options import Option

NAME = "ipl"
HELP = (
    "log devices of IPFilter on BSD or Solaris: ipl: (the default device) or"
    " ipl:DEVICE[,DEVICE...]; a regular file is read as a dump"
)
OPTIONS: tuple[Option, ...] = ()


class Ioctls(NamedTuple):
    """The log device of a system, and its ioctl requests."""

    device: str  # IPL_NAME
    fionread: int
    siocipffb: int  # _IOR('r', 66, int)


_BSD = Ioctls("/dev/ipl", 0x4004667F, 0x40047242)
IOCTLS = {
    "freebsd": _BSD,
    "netbsd": _BSD,
    "openbsd": _BSD,
    "dragonfly": _BSD,
    "darwin": _BSD,
    "sunos": _BSD._replace(device="/dev/ipf"),
    "linux": Ioctls("/dev/ipl", 0x541B, 0x80047242),
}
"""By the first letters of sys.platform. FIONREAD is _IOR('f', 127, int), except on Linux."""

DEVICES = ("/dev/ipl", "/dev/ipf", "/dev/ipnat", "/dev/ipstate")

LARGEST_LOG = 0x80000
"""The maximum of ipl_logsize (log_size), and so of the bytes of one read."""
SMALLEST_LOG = 256
"""EINVAL for a read of so few bytes has another reason than its size."""
TICK_S = 1.0
"""How often a device is asked again whose kernel does not wake a process that polls."""


class System(NamedTuple):
    """The system calls; `ioctl` changes its buffer as fcntl.ioctl(..., True) does."""

    platform: str
    open: Callable[[str, int], int]
    read: Callable[[int, int], bytes]
    ioctl: Callable[[int, int, bytearray], int]
    close: Callable[[int], None]


def real_system() -> System:
    """The calls of this system; BackendUnavailable where there is no ioctl."""
    try:
        import fcntl
    except ImportError as error:
        raise BackendUnavailable(f"{sys.platform} has no IPFilter devices") from error
    return System(
        sys.platform,
        os.open,
        os.read,
        lambda descriptor, request, buffer: fcntl.ioctl(descriptor, request, buffer, True),
        os.close,
    )


def _ioctls(platform: str) -> Ioctls:
    return next((row for name, row in IOCTLS.items() if platform.startswith(name)), _BSD)


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """The devices of "", "/dev/ipl" or "/dev/ipl,/dev/ipnat"; a regular file is a Capture."""
    default = _ioctls(sys.platform).device
    opened: list[Backend] = []
    try:
        for path in (address or default).split(","):
            opened.append(Device(path) if _is_device(path) else Capture(path))
    except BaseException:
        for backend in opened:
            backend.close()
        raise
    return opened


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except FileNotFoundError as error:
        devices = _existing()
        hint = f"there is {' and '.join(devices)}" if devices else _absence()
        raise BackendUnavailable(f"there is no {path}: {hint}") from error
    except OSError as error:
        raise BackendError(f"cannot open {path}: {error.strerror}") from error


def _existing() -> list[str]:
    return [device for device in DEVICES if os.path.exists(device)]


def _absence() -> str:
    """Why this system has no device of IPFilter."""
    return "Linux has no IPFilter" if sys.platform == "linux" else "IPFilter is not loaded"


class Device(Backend):
    """The records that a log device gives.

    read_size   how many bytes a read asks for: the largest size not refused so far
    """

    live = deferred = True
    message_aligned = True

    def __init__(self, path: str, system: System | None = None) -> None:
        """Opens the device for reading; BackendError, BackendUnavailable."""
        super().__init__(f"ipl:{path}")
        self.path = path
        self._system = system or real_system()
        self._ioctls = _ioctls(self._system.platform)
        self.read_size = LARGEST_LOG
        self._accepted = 0  # the largest size that was accepted
        self._refused = LARGEST_LOG + 1  # the smallest that was refused
        self._descriptor = self._open(os.O_RDONLY)

    def _open(self, flags: int) -> int:
        what = "writing, which flushing takes" if flags == os.O_WRONLY else "reading"
        try:
            return self._system.open(self.path, flags | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            hints = {
                errno.EACCES: "run as its owner, root, or let the group read it",
                errno.EPERM: "run as root",
                errno.ENXIO: "IPFilter is not loaded, or has no log of that kind",
                errno.EBUSY: "another program (ipmon?) has it",
            }
            hint = f"; {hints[error.errno]}" if error.errno in hints else ""
            text = f"cannot open {self.path} for {what}: {error.strerror}{hint}"
            kind = (
                BackendUnavailable if error.errno in (errno.ENOENT, errno.ENXIO) else BackendError
            )
            raise kind(text) from error

    def _failure(self, operation: str, error: OSError) -> BackendError:
        hints = {
            errno.ENXIO: "IPFilter was built without its log, or is being unloaded",
            errno.EIO: "IPFilter is not enabled (ipf -E)",
            errno.ENOTTY: "it is no log device of IPFilter",
        }
        hint = f"; {hints[error.errno]}" if error.errno in hints else ""
        return BackendError(f"cannot {operation} {self.path}: {error.strerror}{hint}")

    def _read(self) -> bytes:
        """One read(2), with the largest size that the device accepts; b"" when it gave nothing.

        The size is halved while it is EINVAL. If it is then too small for a record, a binary search
        between the sizes accepted and refused finds the largest one.
        """
        while True:
            try:
                data = self._system.read(self._descriptor, self.read_size)
            except OSError as error:
                if error.errno != errno.EINVAL or self.read_size <= SMALLEST_LOG:
                    raise self._failure("read", error) from error
                if self.read_size <= self._accepted:  # the log was made smaller meanwhile
                    self._accepted = 0
                self._refused = self.read_size
            else:
                self._accepted = self.read_size
                if data or not self._pending():
                    return data
                if self._refused - self._accepted <= 1:
                    self._refused = LARGEST_LOG + 1  # the limit may be raised before the next call
                    raise BackendError(
                        f"cannot read {self.path}: its next record is larger than the"
                        f" {self.read_size} bytes that may be read at a time; pylog flush"
                        " discards it"
                    )
            self.read_size = max(SMALLEST_LOG, (self._accepted + self._refused) // 2)

    def _receive(self) -> bytes | None:
        if self._pending():
            return self._read() or None
        if self.tick_s is None and self._poll(0) and not self._pending():
            # readable with nothing to read: this kernel's poll is of no use
            self.tick_s = TICK_S
        return None

    def _descriptors(self) -> list[int]:
        return [] if self.tick_s is not None else [self._descriptor]

    def _pending(self) -> int:
        """FIONREAD: how many bytes of records the kernel holds."""
        return self._ask(self._descriptor, self._ioctls.fionread, "ask")

    def _flush(self) -> int:
        """SIOCIPFFB: the kernel discards its records; how many bytes they had."""
        descriptor = self._open(os.O_WRONLY)
        try:
            return self._ask(descriptor, self._ioctls.siocipffb, "flush")
        finally:
            self._system.close(descriptor)

    def _ask(self, descriptor: int, request: int, operation: str) -> int:
        buffer = bytearray(8)  # 3.4 stores a size_t
        try:
            self._system.ioctl(descriptor, request, buffer)
        except OSError as error:
            raise self._failure(operation, error) from error
        # an int, or a size_t: on big-endian machines its low half is the second
        low, high = (int.from_bytes(half, sys.byteorder) for half in (buffer[:4], buffer[4:]))
        return low or high

    def fileno(self) -> int:
        return self._descriptor

    def _release(self) -> None:
        self._system.close(self._descriptor)


def sources() -> list[Source]:
    """The log devices of this machine."""
    devices = _existing()
    if not devices:
        default = _ioctls(sys.platform).device
        return [Source("ipl:", "IPFilter's log", f"there is no {default} on this {sys.platform}")]
    return [
        Source(
            f"ipl:{path}", "IPFilter's log",
            None if os.access(path, os.R_OK) else "not readable: root?",
        )
        for path in devices
    ]  # fmt: skip


def checks() -> list[Check]:
    """Whether the devices exist and answer."""
    results = []
    for device in _existing():
        try:
            backend = Device(device)
            results.append(Check(True, f"{device}: {backend.pending()} bytes pending"))
            backend.close()
        except BackendError as error:
            results.append(Check(False, str(error)))
    default = _ioctls(sys.platform).device
    return results or [Check(False, f"there is no {default}: {_absence()}")]
