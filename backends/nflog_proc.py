"""NFLOG in /proc, in the network namespace of the thread: who listens, and the kernel's loggers.

The kernel has no message that reads back a group's configuration, so this is the only way to check
what it accepted and to say which process has a group.

Sources: net/netfilter/nfnetlink_log.c (seq_show), net/netlink/af_netlink.c, nf_log.c.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from pylog.formats.netlink import NETLINK_NETFILTER

STATE_FILE = "net/netfilter/nfnetlink_log"

CAP_NET_ADMIN = 12
"""The bit in a set of capabilities, linux/capability.h."""


class Instance(NamedTuple):
    """A line of /proc/net/netfilter/nfnetlink_log: a group that has a listener."""

    group: int
    portid: int
    queued: int
    copy_mode: int
    copy_range: int
    timeout: int
    references: int


def instances() -> list[Instance] | None:
    """The groups in use in the thread's namespace; None when the file cannot be read."""
    try:
        text = Path(f"/proc/thread-self/{STATE_FILE}").read_text()
    except OSError:
        return None
    rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    return [Instance(*row[:7]) for row in rows if len(row) >= 7]


def has_capability() -> bool:
    """Whether CAP_NET_ADMIN is in effect for the process."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return False
    sets = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return bool(int(sets.get("CapEff", "0"), 16) >> CAP_NET_ADMIN & 1)


def owner_text(portid: int) -> str:
    """The process that has the netlink socket of that portid, as far as /proc shows it."""
    whose = [str(NETLINK_NETFILTER), str(portid)]
    inode = next((row[9] for row in _netlink_sockets() if row[1:3] == whose), None)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # gone, or of another user
            if os.readlink(link) == f"socket:[{inode}]":
                process = link.parents[1]
                name = (process / "comm").read_text().strip()
                return f"{name} (process {process.name}, portid {portid})"
    return f"another process (portid {portid})"


def _netlink_sockets() -> list[list[str]]:
    try:
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
    except OSError:
        return []
    return [row for line in lines if len(row := line.split()) >= 10]


def loggers_file(family: int) -> Path:
    """The file that has, and sets, the logger of kernel-made logs of a family."""
    return Path(f"/proc/sys/net/netfilter/nf_log/{family}")


def logger_of(family: int) -> str:
    """The logger of kernel-made logs of a family, in the thread's namespace; NONE without one."""
    try:
        return loggers_file(family).read_text().strip()
    except OSError:
        return "NONE"
