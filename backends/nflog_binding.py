"""NFLOG groups, bound to a netlink socket: their settings are sent, acknowledged and read back.

All settings of a group are sent in one message. The kernel silently accepts settings that make no
sense, so they are checked before, and those that /proc shows are read back and compared. Every
source that has NFLOG groups on its socket binds them with a Binding.

Sources: net/netfilter/nfnetlink_log.c and runs on Linux 6.18.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_socket import NEEDS_CAPABILITY, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.backends.nflog_proc import (
    STATE_FILE,
    Instance,
    has_capability,
    instances,
    owner_text,
)
from pylog.errors import BackendError
from pylog.formats import nfulnl_attributes as nfulnl
from pylog.notes import notes

COPY_MODES = {
    "none": nfulnl.NFULNL_COPY_NONE,
    "meta": nfulnl.NFULNL_COPY_META,
    "packet": nfulnl.NFULNL_COPY_PACKET,
}

MAXIMUM_RANGE = 0xFFFF - 4
"""NFULNL_COPY_RANGE_MAX: the largest payload that fits in an attribute."""

ENOTSUPP = 524
"""No such command: an errno for use within the kernel only, which it returns all the same."""


def groups_of(text: str, address: str) -> list[int]:
    """The groups of "5,6", each once; ValueError for anything that is not a group.

    address   what the error calls the source
    """
    groups = []
    for word in text.split(","):
        if not word.strip().isdecimal() or int(word) > 65535:
            raise ValueError(f"{address}: {word!r} is no group, a number from 0 to 65535")
        groups.append(int(word))
    return list(dict.fromkeys(groups))


class Binding:
    """The groups of a socket.

    groups   those bound so far
    """

    def __init__(
        self,
        name: str,
        netlink: NetlinkSocket,
        namespace: Namespace,
        options: Mapping[str, Any],
        instances: Callable[[], list[Instance] | None] = instances,
    ) -> None:
        """No group is bound yet.

        name        of the source, for messages
        options     copy_mode, copy_range, conntrack, qthresh, timeout_s, nlbufsiz, seq, seq_global
        instances   as netlink_source.System
        """
        self.groups: list[int] = []
        self._name, self._socket, self._namespace = name, netlink, namespace
        self._options, self._states = options, instances

    def bind(self, group: int) -> None:
        """Bind a group and set all its options, in one message; BackendError."""
        options = self._options
        flags = (
            options["seq"] * nfulnl.NFULNL_CFG_F_SEQ
            | options["seq_global"] * nfulnl.NFULNL_CFG_F_SEQ_GLOBAL
            | options["conntrack"] * nfulnl.NFULNL_CFG_F_CONNTRACK
        )
        mode = {"copy_range": options["copy_range"], "copy_mode": COPY_MODES[options["copy_mode"]]}
        problem = self.request(
            group,
            NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_BIND,
            NFULA_CFG_MODE=mode,
            NFULA_CFG_NLBUFSIZ=options["nlbufsiz"],
            NFULA_CFG_TIMEOUT=round(options["timeout_s"] * 100),
            NFULA_CFG_QTHRESH=options["qthresh"],
            NFULA_CFG_FLAGS=flags,
        )
        if problem is None and not self._listens(group):
            raise BackendError(f"{self._name}: the kernel did not answer to binding group {group}")
        if problem:
            raise self.refusal(f"bind NFLOG group {group}", problem, group)
        self.groups.append(group)

    def request(self, group: int, family: int = 0, **attrs: Any) -> int | None:
        """Send a config message; the errno of the answer, 0 for success, None without an answer."""
        return self._socket.request(nfulnl.config(HOST_ORDER, group, attrs, family=family))

    def send(self, group: int, family: int = 0, **attrs: Any) -> None:
        """Send a config message and read no answer."""
        self._socket.send(nfulnl.config(HOST_ORDER, group, attrs, family=family))

    def _listens(self, group: int) -> bool:
        """Whether the group is bound to this socket, by the kernel's state file."""
        states = self._instances()
        return any(i.group == group and i.portid == self._socket.portid for i in states or ())

    def refusal(self, operation: str, problem: int, group: int | None) -> BackendError:
        """The kernel's errno as an error that says what to do."""
        error = OSError(problem, os.strerror(problem))
        if problem in (errno.EPERM, errno.EBUSY):
            owner = self._other_listener(group)
            if owner is not None:
                what = f"{owner} listens to it, and a group has one listener; use another group"
            elif group is not None and has_capability() and not self._can_read_state():
                what = "another process listens to it (only root can see which); use another group"
            else:
                what = NEEDS_CAPABILITY
        elif self._options["conntrack"] and problem in (errno.EOPNOTSUPP, ENOTSUPP):
            name = "EOPNOTSUPP" if problem == errno.EOPNOTSUPP else "ENOTSUPP 524"
            what = (
                f"this kernel cannot add conntrack entries ({name}: it lacks nf_conntrack_netlink"
                " or CONFIG_NETFILTER_NETLINK_GLUE_CT); leave out conntrack"
            )
        elif problem == ENOTSUPP:
            what = "this kernel does not know the command (ENOTSUPP 524)"
        elif problem == errno.EINVAL and not self._can_read_state():
            what = "this kernel has no nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)"
        else:
            what = f"{error.strerror} (errno {problem})"
        refusal = BackendError(f"cannot {operation}: {what}")
        refusal.__cause__ = error
        return refusal

    def _other_listener(self, group: int | None) -> str | None:
        """The process that listens to the group, if it is another and /proc shows it."""
        bound = self._instances() or ()
        others = [i.portid for i in bound if i.group == group and i.portid != self._socket.portid]
        return self._namespace.run(lambda: owner_text(others[0])) if others else None

    def _instances(self) -> list[Instance] | None:
        """The groups in use in the namespace; None when that cannot be read."""
        return self._namespace.run(self._states)

    def _can_read_state(self) -> bool:
        return self._instances() is not None

    def compare(self, groups: list[int]) -> None:
        """Read the settings back and compare them; BackendError when they differ."""
        states = self._instances()
        if states is None:
            # only root may read it, so for others this is as it should be
            level = logging.WARNING if os.geteuid() == 0 else logging.INFO
            notes.log(level, "%s: /proc/%s cannot be read, so the settings were not checked",
                      self._name, STATE_FILE)  # fmt: skip
            return
        options = self._options
        mode = COPY_MODES[options["copy_mode"]]
        # without the payload the kernel keeps no range
        length = options["copy_range"] if mode == nfulnl.NFULNL_COPY_PACKET else 0
        wanted = (mode, length, round(options["timeout_s"] * 100))
        for group in groups:
            state = next((i for i in states if i.group == group), None)
            if state is None or state.portid != self._socket.portid:
                raise BackendError(
                    f"NFLOG group {group} was acknowledged, but is not bound to this socket"
                    f" (portid {self._socket.portid}) in /proc/{STATE_FILE}"
                )
            got = (state.copy_mode, state.copy_range, state.timeout)
            if got != wanted:
                raise BackendError(
                    f"NFLOG group {group} was acknowledged, but copy mode, copy range and timeout"
                    f" are {got}, not {wanted}, in /proc/{STATE_FILE}"
                )

    def unbind(self, acknowledged: bool) -> None:
        """Unbind the groups. The kernel sends what it has gathered before it acknowledges.

        acknowledged   whether to wait for that
        """
        for group in self.groups:
            if acknowledged:
                self.request(group, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
            else:
                self.send(group, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
