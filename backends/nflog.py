"""NFLOG: log messages of the running Linux kernel, over a netlink socket.

One socket carries all groups of a source. All settings of a group are sent in one acknowledged
message. The kernel silently accepts settings that make no sense, so they are checked before, and
those that /proc shows are read back and compared. A loss shows in the sequence numbers of the
messages, exactly and by group, and in the socket's count of dropped datagrams (`netlink_socket`).

Sources: net/netfilter/nfnetlink_log.c and runs on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pylog.backends.base import HOST_ORDER, Backend, Check, Source
from pylog.backends.netlink_socket import (
    MAXIMUM_BUFFER,
    NEEDS_CAPABILITY,
    NETNS,
    RCVBUF,
    RCVBUF_MAX,
    buffer_limit,
)
from pylog.backends.netlink_source import NetlinkSource, System
from pylog.backends.nflog_proc import (
    STATE_FILE,
    Instance,
    has_capability,
    instances,
    logger_of,
    loggers_file,
    owner_text,
)
from pylog.errors import BackendError
from pylog.formats import nfulnl_attributes as nfulnl
from pylog.notes import notes
from pylog.options import LIVE_TUNING, Option

NAME = "nflog"
HELP = "groups of the Linux kernel's NFLOG, 0 to 65535: nflog:GROUP[,GROUP...]"

COPY_MODES = {
    "none": nfulnl.NFULNL_COPY_NONE,
    "meta": nfulnl.NFULNL_COPY_META,
    "packet": nfulnl.NFULNL_COPY_PACKET,
}
FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3, "netdev": 5, "bridge": 7}
"""NFPROTO_*."""

MAXIMUM_RANGE = 0xFFFF - 4
"""NFULNL_COPY_RANGE_MAX: the largest payload that fits in an attribute."""

OPTIONS = (
    NETNS,
    Option("copy_mode", tuple(COPY_MODES), "packet",
           "what to copy of each packet: none and meta leave out the payload"),
    Option("copy_range", int, MAXIMUM_RANGE, "bytes to copy of each packet at most",
           1, MAXIMUM_RANGE),
    Option("conntrack", bool, False, "add the conntrack entry to each record"),
    Option("pf_bind", str, None, "families whose kernel-made logs (invalid packets, TRACE) are to"
           f" come to group 0, until closed: a list of {', '.join(FAMILIES)}"),
    Option("latency", bool, False, "preset, each record at once",
           sets={"qthresh": 1, "timeout_s": 0.0}, topic=LIVE_TUNING),
    Option("throughput", bool, False, "preset, many at a time",
           sets={"nlbufsiz": 131072, "timeout_s": 1.0, "rcvbuf": MAXIMUM_BUFFER},
           topic=LIVE_TUNING),
    Option("qthresh", int, 1000, "records that the kernel gathers, if they fit, before it sends"
           " them", 1, 0xFFFFFFFF, topic=LIVE_TUNING),
    Option("timeout_s", float, 0.2, "seconds after which it sends them in any case, in steps of"
           " 0.01, 0 being the next timer tick", 0, 3600, "--timeout", topic=LIVE_TUNING),
    Option("nlbufsiz", int, 65536, "bytes of the kernel's buffer to gather in", 8192, 131072,
           topic=LIVE_TUNING),
    RCVBUF,
    RCVBUF_MAX,
    Option("seq", bool, True, "number the records of each group, to count losses",
           topic=LIVE_TUNING),
    Option("seq_global", bool, False, "number the records of all groups", topic=LIVE_TUNING),
)  # fmt: skip

ENOTSUPP = 524
"""No such command: an errno for use within the kernel only, which it returns all the same."""


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """A socket bound to the groups of `address`, e.g. "5" or "5,6"."""
    return [Nflog(groups_of(address), options)]


def groups_of(address: str) -> list[int]:
    """The groups of "5,6", each once; ValueError for anything that is not a group."""
    groups = []
    for word in address.split(","):
        if not word.strip().isdecimal() or int(word) > 65535:
            raise ValueError(f"nflog:{address}: {word!r} is no group, a number from 0 to 65535")
        groups.append(int(word))
    return list(dict.fromkeys(groups))


class Nflog(NetlinkSource):
    """The log messages of one or more groups."""

    layout = "nfulnl-le" if HOST_ORDER == "<" else "nfulnl-be"

    def __init__(
        self, groups: list[int], options: Mapping[str, Any], system: System | None = None
    ) -> None:
        """Binds the groups. Raises ValueError, BackendError, BackendUnavailable."""
        self.groups = groups
        self.logs = {str(group): 0 for group in groups}
        self._options = _checked(options)
        self.numbered = bool(self._options["seq"])
        self._families = _families(self._options["pf_bind"])
        if self._families and 0 not in groups:
            raise ValueError("pf_bind: kernel-made logs come to group 0, which is not asked for")
        self._groups: list[int] = []  # those bound so far
        self._loggers: dict[int, str] = {}  # the loggers of families before pf_bind
        super().__init__("nflog:" + ",".join(map(str, groups)), self._options, system=system)
        self._bound = True
        try:
            for group in groups:
                self._bind(group)
            for family in self._families:
                self._bind_family(family)
            self._compare()
        except BaseException:
            self.close()
            raise

    # Configuration

    def _bind(self, group: int) -> None:
        """Bind a group and set all its options, in one message."""
        options = self._options
        flags = (
            options["seq"] * nfulnl.NFULNL_CFG_F_SEQ
            | options["seq_global"] * nfulnl.NFULNL_CFG_F_SEQ_GLOBAL
            | options["conntrack"] * nfulnl.NFULNL_CFG_F_CONNTRACK
        )
        mode = {"copy_range": options["copy_range"], "copy_mode": COPY_MODES[options["copy_mode"]]}
        problem = self._request(
            group,
            NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_BIND,
            NFULA_CFG_MODE=mode,
            NFULA_CFG_NLBUFSIZ=options["nlbufsiz"],
            NFULA_CFG_TIMEOUT=round(options["timeout_s"] * 100),
            NFULA_CFG_QTHRESH=options["qthresh"],
            NFULA_CFG_FLAGS=flags,
        )
        if problem is None and not self._listens(group):
            raise BackendError(f"{self.name}: the kernel did not answer to binding group {group}")
        if problem:
            raise self._refusal(f"bind NFLOG group {group}", problem, group)
        self._groups.append(group)

    def _bind_family(self, family: int) -> None:
        self._loggers[family] = self._namespace.run(lambda: logger_of(family))
        self._request(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
        problem = self._request(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_BIND)
        if problem:
            raise self._refusal(f"bind family {family} to NFLOG", problem, None)

    def _request(self, group: int, family: int = 0, **attrs: Any) -> int | None:
        """Send a config message; the errno of the answer, 0 for success, None without an answer."""
        return self._socket.request(nfulnl.config(HOST_ORDER, group, attrs, family=family))

    def _send(self, group: int, family: int = 0, **attrs: Any) -> None:
        """Send a config message and read no answer."""
        self._socket.send(nfulnl.config(HOST_ORDER, group, attrs, family=family))

    def _listens(self, group: int) -> bool:
        """Whether the group is bound to this socket, by the kernel's state file."""
        states = self._instances()
        return any(i.group == group and i.portid == self.portid for i in states or ())

    def _refusal(self, operation: str, problem: int, group: int | None) -> BackendError:
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
        others = [i.portid for i in bound if i.group == group and i.portid != self.portid]
        return self._namespace.run(lambda: owner_text(others[0])) if others else None

    def _instances(self) -> list[Instance] | None:
        """The groups in use in the namespace; None when that cannot be read."""
        return self._namespace.run(instances if self._system is None else self._system.instances)

    def _can_read_state(self) -> bool:
        return self._instances() is not None

    def _compare(self) -> None:
        """Read the settings back and compare them; BackendError when they differ."""
        states = self._instances()
        if states is None:
            notes.warning("%s: /proc/%s cannot be read, so the settings were not checked",
                         self.name, STATE_FILE)  # fmt: skip
            return
        options = self._options
        mode = COPY_MODES[options["copy_mode"]]
        # without the payload the kernel keeps no range
        length = options["copy_range"] if mode == nfulnl.NFULNL_COPY_PACKET else 0
        wanted = (mode, length, round(options["timeout_s"] * 100))
        for group in self.groups:
            state = next((i for i in states if i.group == group), None)
            if state is None or state.portid != self.portid:
                raise BackendError(
                    f"NFLOG group {group} was acknowledged, but is not bound to this socket"
                    f" (portid {self.portid}) in /proc/{STATE_FILE}"
                )
            got = (state.copy_mode, state.copy_range, state.timeout)
            if got != wanted:
                raise BackendError(
                    f"NFLOG group {group} was acknowledged, but copy mode, copy range and timeout"
                    f" are {got}, not {wanted}, in /proc/{STATE_FILE}"
                )

    def _unbind(self) -> None:
        """Unbind the groups; the kernel sends what it has gathered before it acknowledges."""
        if os.getpid() != self._owner:  # after fork(): the groups are still the parent's
            return
        for group in self._groups:
            if self.closed:  # nobody reads the answer
                self._send(group, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
            else:
                self._request(group, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
        for family, logger in self._loggers.items():
            with contextlib.suppress(BackendError, OSError):
                self._restore_logger(family, logger)

    def _restore_logger(self, family: int, logger: str) -> None:
        """Let kernel-made logs of a family go to that logger again."""
        if logger == "NONE":
            self._send(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
        else:
            self._namespace.run(lambda: loggers_file(family).write_text(logger, encoding="ascii"))


# Options


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with the limit of the receive buffer; ValueError for a contradiction."""
    if options["latency"] and options["throughput"]:
        raise ValueError("latency and throughput exclude each other")
    if options["copy_mode"] != "packet" and options["copy_range"] != MAXIMUM_RANGE:
        raise ValueError(f"copy_mode {options['copy_mode']} copies nothing: leave out copy_range")
    steps = options["timeout_s"] * 100
    if abs(steps - round(steps)) > 1e-6:
        raise ValueError(f"timeout_s is {options['timeout_s']}, but the kernel counts in 0.01 s")
    return {**options, "rcvbuf_max": buffer_limit(options)}


def _families(text: str | None) -> list[int]:
    families = []
    for word in (text or "").split(","):
        if word and word not in FAMILIES:
            raise ValueError(f"pf_bind: no family {word!r}, only {', '.join(FAMILIES)}")
        if word:
            families.append(FAMILIES[word])
    return families


# For `pylog sources` and `pylog doctor`


def sources() -> list[Source]:
    """Whether this kernel has NFLOG."""
    text = "NFLOG of this Linux kernel"
    if sys.platform != "linux":
        return [Source("nflog:GROUP", text, "it needs Linux")]
    bad = next((check.text for check in checks() if check.ok is False), None)
    return [Source("nflog:GROUP", text, bad)]


def checks() -> list[Check]:
    """Privileges, kernel features, groups in use, loggers and limits."""
    if sys.platform != "linux":
        return [Check(False, "NFLOG needs Linux")]
    results: list[Check] = []
    options = {option.name: option.default for option in OPTIONS}
    bound = instances()
    taken = {i.group for i in bound or ()}
    free = next(group for group in range(65535, 0, -1) if group not in taken)
    try:
        probe = Nflog([free], options)
        probe.close()
        results.append(Check(True, f"NFLOG works: group {free} was bound and given back"))
    except BackendError as error:
        results.append(Check(False, str(error)))
    if bound is None:
        why = (
            " (Permission denied): only root can, so groups in use are not listed"
            if Path(f"/proc/{STATE_FILE}").exists()
            else ": no nfnetlink_log?"
        )
        results.append(Check(None, f"/proc/{STATE_FILE} cannot be read{why}"))
    for instance in bound or ():
        owner = owner_text(instance.portid)
        queued = f"{instance.queued} records queued"
        results.append(Check(None, f"group {instance.group} is taken by {owner}, {queued}"))
    if results[0].ok:
        try:
            Nflog([free], options | {"conntrack": True}).close()
            results.append(Check(True, "conntrack entries can be added to records"))
        except BackendError as error:
            why = str(error).partition(": ")[2].partition(";")[0]
            results.append(Check(None, f"records cannot carry conntrack entries: {why}"))
    for name, family in FAMILIES.items():
        results.append(Check(None, f"kernel-made logs of {name} go to {logger_of(family)}"))
    with contextlib.suppress(OSError):
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
        results.append(Check(None, f"net.core.rmem_max allows receive buffers of {2 * limit} bytes"
                           " without CAP_NET_ADMIN"))  # fmt: skip
    return results
