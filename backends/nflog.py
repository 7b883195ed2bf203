"""NFLOG: log messages of the running Linux kernel, over a netlink socket.

One socket carries all groups of a source, which `nflog_binding` binds. A loss shows in the
sequence numbers of the messages, exactly and by group, and in the socket's count of dropped
datagrams (`netlink_socket`).

Sources: net/netfilter/nfnetlink_log.c and runs on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pylog.backends import nflog_binding
from pylog.backends.base import HOST_ORDER, Backend, Check, Source
from pylog.backends.netlink_socket import (
    MAXIMUM_BUFFER,
    NETNS,
    RCVBUF,
    RCVBUF_MAX,
    buffer_limit,
)
from pylog.backends.netlink_source import NetlinkSource, System
from pylog.backends.nflog_binding import COPY_MODES, MAXIMUM_RANGE
from pylog.backends.nflog_proc import (
    STATE_FILE,
    instances,
    logger_of,
    loggers_file,
    owner_text,
)
from pylog.errors import BackendError
from pylog.formats import nfulnl_attributes as nfulnl
from pylog.options import LIVE_TUNING, Option

NAME = "nflog"
HELP = "groups of the Linux kernel's NFLOG, 0 to 65535: nflog:GROUP[,GROUP...]"

FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3, "netdev": 5, "bridge": 7}
"""NFPROTO_*."""

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


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """A socket bound to the groups of `address`, e.g. "5" or "5,6"."""
    return [Nflog(groups_of(address), options)]


def check(address: str, options: Mapping[str, Any]) -> None:
    """ValueError for an address or options that cannot be used."""
    groups = groups_of(address)
    checked = _checked(options)
    if _families(checked["pf_bind"]) and 0 not in groups:
        raise ValueError(_NOT_ASKED_FOR)


_NOT_ASKED_FOR = "pf_bind: kernel-made logs come to group 0, which is not asked for"


def groups_of(address: str) -> list[int]:
    """The groups of "5,6", each once; ValueError for anything that is not a group."""
    return nflog_binding.groups_of(address, f"nflog:{address}")


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
        self.holds_s = float(self._options["timeout_s"])
        self._families = _families(self._options["pf_bind"])
        if self._families and 0 not in groups:
            raise ValueError(_NOT_ASKED_FOR)
        self._loggers: dict[int, str] = {}  # the loggers of families before pf_bind
        super().__init__("nflog:" + ",".join(map(str, groups)), self._options, system=system)
        self._binding = nflog_binding.Binding(
            self.name, self._socket, self._namespace, self._options,
            instances if system is None else system.instances,
        )  # fmt: skip
        self._bound = True
        try:
            for group in groups:
                self._binding.bind(group)
            for family in self._families:
                self._bind_family(family)
            self._binding.compare(groups)
        except BaseException:
            self.close()
            raise

    # Configuration

    def _bind_family(self, family: int) -> None:
        self._loggers[family] = self._namespace.run(lambda: logger_of(family))
        self._binding.request(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
        problem = self._binding.request(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_BIND)
        if problem:
            raise self._binding.refusal(f"bind family {family} to NFLOG", problem, None)

    def _unbind(self) -> None:
        if os.getpid() != self._owner:  # after fork(): the groups are still the parent's
            return
        self._binding.unbind(acknowledged=not self.closed)  # else nobody reads the answer
        for family, logger in self._loggers.items():
            with contextlib.suppress(BackendError, OSError):
                self._restore_logger(family, logger)

    def _restore_logger(self, family: int, logger: str) -> None:
        """Let kernel-made logs of a family go to that logger again."""
        if logger == "NONE":
            self._binding.send(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
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
