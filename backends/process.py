"""Who a process is: its user, command line and cgroup, from /proc.

The kernel names a process by its number in the initial pid namespace and by its name (comm). Both
can be out of date when pylog reads them: the process may have ended, and its number may belong to
another one. So everything is read through one open directory, which stays that of the same process,
and counts only if the name agrees.

Sources: proc(5), fs/proc/base.c, include/linux/proc_ns.h.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from functools import cache
from typing import NamedTuple

PROC_PID_INIT_INO = 0xEFFFFFFC
"""The inode of the initial pid namespace."""
LONGEST = 4096
"""Bytes of a command line that are kept."""


class Process(NamedTuple):
    """A process; None for what could not be read."""

    uid: int | None = None
    cmdline: str | None = None
    cgroup: str | None = None


def process(pid: int, comm: str) -> Process | None:
    """The process, or thread, that has that number and name; None if it is gone, or if pylog is in
    another pid namespace, where numbers mean other processes.
    """
    if not _in_initial_namespace():
        return None
    try:
        folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        name = _read(folder, "comm")
        if name is None or _text(name.removesuffix(b"\n")) != comm:
            return None
        words = (_read(folder, "cmdline") or b"").removesuffix(b"\0").split(b"\0")
        cmdline = shlex.join(map(_text, words)) if words != [b""] else None
        return Process(_uid(_read(folder, "status")), cmdline, _cgroup(_read(folder, "cgroup")))
    finally:
        os.close(folder)


@cache
def _in_initial_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == PROC_PID_INIT_INO
    except OSError:
        return False


def _read(folder: int, name: str) -> bytes | None:
    with contextlib.suppress(OSError):  # ESRCH when the process has ended
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            return os.read(file, LONGEST)
        finally:
            os.close(file)
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _uid(status: bytes | None) -> int | None:
    """The real user, of the line "Uid:	real	effective	saved	file system"."""
    for line in (status or b"").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def _cgroup(lines: bytes | None) -> str | None:
    """The path in the hierarchy of version 2, or else of systemd, or else of the first."""
    paths = [line.split(b":", 2) for line in (lines or b"").splitlines()]
    paths = [path for path in paths if len(path) == 3]
    for wanted in (b"", b"name=systemd"):
        for _number, controllers, path in paths:
            if controllers == wanted:
                return _text(path)
    return _text(paths[0][2]) if paths else None
