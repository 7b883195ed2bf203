"""NFLOG: log messages of the running Linux kernel, over a netlink socket.

One socket carries all groups of a source. Everything is asked for in one acknowledged message a
group, and what can be read back is read back: the kernel takes much that makes no sense without a
word. `_recv` owns recv and its errors; `_collect` takes what is there, many datagrams at a time,
into one buffer. Data and acks share the socket, so what comes while an ack is awaited is kept.

NETLINK_NO_ENOBUFS is set: with it a full buffer costs the datagrams that do not fit and no more,
without it everything until the buffer is empty. The loss is seen in the sequence numbers of the
messages (exact, by group) and in the socket's own count of datagrams, which also lets the buffer
grow.

Sources: net/netfilter/nfnetlink_log.c, net/netlink/af_netlink.c, netlink(7), socket(7), and runs
on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pylog.backends import HOST_ORDER, Backend, Check, Found
from pylog.backends.links import Links
from pylog.backends.netns import NEEDED, Namespace
from pylog.backends.nflog_proc import (
    STATE_FILE,
    has_capability,
    instances,
    logger_of,
    loggers_file,
    owner_text,
)
from pylog.errors import BackendError, BackendUnavailable
from pylog.formats import nfulnl
from pylog.formats.netlink import NLM_F_ACK, NLM_F_REQUEST, verdict
from pylog.notes import notes
from pylog.options import Option

HELP = "groups of the Linux kernel's NFLOG, 0 to 65535: nflog:GROUP[,GROUP...]"

COPY_MODES = {
    "none": nfulnl.NFULNL_COPY_NONE,
    "meta": nfulnl.NFULNL_COPY_META,
    "packet": nfulnl.NFULNL_COPY_PACKET,
}
FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3, "netdev": 5, "bridge": 7}
"""NFPROTO_*."""

MAXIMUM_RANGE = 0xFFFF - 4
"""NFULNL_COPY_RANGE_MAX: what fits in an attribute."""

MAXIMUM_BUFFER = 64 << 20

OPTIONS = (
    Option("netns", str, None, "network namespace: a name of ip-netns, a path or a process id",
           absent="that of pylog"),
    Option("copy_mode", tuple(COPY_MODES), "packet",
           "what to copy of each packet: none and meta leave out the payload"),
    Option("copy_range", int, MAXIMUM_RANGE, "bytes to copy of each packet at most",
           1, MAXIMUM_RANGE),
    Option("qthresh", int, 1000, "records that the kernel gathers, if they fit, before it sends"
           " them", 1, 0xFFFFFFFF),
    Option("timeout_s", float, 0.2, "seconds after which it sends them in any case, in steps of"
           " 0.01, 0 being the next timer tick", 0, 3600, "--timeout"),
    Option("nlbufsiz", int, 65536, "bytes of the kernel's buffer to gather in", 8192, 131072),
    Option("rcvbuf", int, 8 << 20, "bytes of the socket's receive buffer, as the kernel counts"
           " them, with its own overhead", 4608, 1 << 30),
    Option("rcvbuf_max", int, MAXIMUM_BUFFER,
           "bytes up to which the receive buffer grows when it overruns", 4608, 1 << 30),
    Option("seq", bool, True, "number the records of each group, to count losses"),
    Option("seq_global", bool, False, "number the records of all groups"),
    Option("conntrack", bool, False, "add the conntrack entry to each record"),
    Option("pf_bind", str, None, "families whose kernel-made logs (invalid packets, TRACE) are to"
           f" come to group 0, until closed: a list of {', '.join(FAMILIES)}"),
    Option("latency", bool, False, "preset, each record at once",
           sets={"qthresh": 1, "timeout_s": 0.0}),
    Option("throughput", bool, False, "preset, many at a time",
           sets={"nlbufsiz": 131072, "timeout_s": 1.0, "rcvbuf": MAXIMUM_BUFFER}),
)  # fmt: skip

LARGEST = 1 << 18
"""A datagram has up to 261,652 bytes: an nlbufsiz of 131072 and what its allocation has left."""
BUFFER = 4 * LARGEST

SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5
SO_RCVBUFFORCE, SO_MEMINFO = 33, 55
SK_MEMINFO_DROPS = 8
ENOTSUPP = 524
"""The kernel's own, which it was not to show: no such command."""

NOTE_INTERVAL_S = 10.0


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """A socket bound to the groups of `address`, e.g. "5" or "5,6"."""
    return [Nflog(groups_of(address), options)]


def groups_of(address: str) -> list[int]:
    """The groups of "5,6", each once; ValueError for what is none."""
    groups = []
    for word in address.split(","):
        if not word.strip().isdecimal() or int(word) > 65535:
            raise ValueError(f"nflog:{address}: {word!r} is no group, a number from 0 to 65535")
        groups.append(int(word))
    return list(dict.fromkeys(groups))


class Nflog(Backend):
    """The log messages of one or more groups.

    portid   the socket's address, by which the kernel knows who owns a group
    foreign  datagrams so far that were not from the kernel, and were thrown away
    """

    live = deferred = True
    whole = True
    layout = "nfulnl-le" if HOST_ORDER == "<" else "nfulnl-be"

    def __init__(self, groups: list[int], options: Mapping[str, Any]) -> None:
        """Binds the groups. Raises ValueError, BackendError, BackendUnavailable."""
        super().__init__("nflog:" + ",".join(map(str, groups)))
        self.groups = groups
        self.logs = {str(group): 0 for group in groups}
        self.foreign = 0
        self._options = _checked(options)
        self.numbered = bool(self._options["seq"])
        self._families = _families(self._options["pf_bind"])
        if self._families and 0 not in groups:
            raise ValueError("pf_bind: kernel-made logs come to group 0, which is not asked for")
        self._namespace = Namespace(self._options["netns"])
        self._seq = self._drops = 0
        self._noted = -NOTE_INTERVAL_S
        self._doubt: str | None = None
        self._bound: list[int] = []
        self._loggers: dict[int, str] = {}  # before pf_bind
        self._backlog: deque[bytes] = deque()
        self._view = memoryview(bytearray(BUFFER))
        with contextlib.ExitStack() as stack:
            stack.callback(self._namespace.close)
            self._socket = self._namespace.run(_socket)
            stack.callback(self._socket.close)
            self._links = Links(self._namespace)
            stack.pop_all()
        try:
            self.portid: int = self._socket.getsockname()[0]
            self._rcvbuf = self._set_buffer(self._options["rcvbuf"], tell=True)
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
        """Bind a group and set all that can be set, in one message."""
        options = self._options
        flags = (
            options["seq"] * nfulnl.NFULNL_CFG_F_SEQ
            | options["seq_global"] * nfulnl.NFULNL_CFG_F_SEQ_GLOBAL
            | options["conntrack"] * nfulnl.NFULNL_CFG_F_CONNTRACK
        )
        mode = {"copy_range": options["copy_range"], "copy_mode": COPY_MODES[options["copy_mode"]]}
        problem = self._ask(
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
        self._bound.append(group)

    def _bind_family(self, family: int) -> None:
        self._loggers[family] = self._namespace.run(lambda: logger_of(family))
        self._ask(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
        problem = self._ask(0, family, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_BIND)
        if problem:
            raise self._refusal(f"bind family {family} to NFLOG", problem, None)

    def _ask(self, group: int, family: int = 0, **attrs: Any) -> int | None:
        """Send a config message; the errno it is acknowledged with, 0 for none.

        The kernel is done with it, and has put its answer behind what is in the receive buffer,
        when sending returns. None: the answer found no room there.
        """
        there = self._collect()  # makes room
        if there is not None:
            self._backlog.append(there)
        problem = self._tell(group, family, NLM_F_ACK, **attrs)
        if problem:
            return problem
        view, left = memoryview(bytearray(LARGEST)), self._rcvbuf
        while left > 0 and (size := self._recv(view)) is not None:
            left -= size
            data = bytes(view[: min(size, LARGEST)])
            answer = verdict(data, HOST_ORDER)
            if answer is None:
                self._backlog.append(data)
            elif answer[0] == self._seq:
                return answer[1]
        return None

    def _tell(self, group: int, family: int, flags: int, **attrs: Any) -> int:
        """Send a config message; the errno of that, 0 for none."""
        self._seq += 1
        message = nfulnl.config(HOST_ORDER, group, attrs, family=family, seq=self._seq,
                                flags=NLM_F_REQUEST | flags)  # fmt: skip
        try:
            self._socket.send(message)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _listens(self, group: int) -> bool:
        """Whether the group is bound to this socket, by the kernel's state file."""
        found = self._namespace.run(instances)
        return any(i.group == group and i.portid == self.portid for i in found or ())

    def _refusal(self, operation: str, problem: int, group: int | None) -> BackendError:
        """The kernel's errno as a sentence that tells what to do."""
        error = OSError(problem, os.strerror(problem))
        if problem in (errno.EPERM, errno.EBUSY):
            owner = self._namespace.run(lambda: self._other_listener(group))
            if owner is not None:
                what = f"{owner} listens to it, and a group has one listener"
            elif group is not None and has_capability() and not self._instances_known():
                what = "another process listens to it (only root can see which); use another group"
            else:
                what = (
                    "it takes CAP_NET_ADMIN over the network namespace: run as root, as a systemd"
                    " service with AmbientCapabilities=CAP_NET_ADMIN, or by sudo setpriv --reuid"
                    " USER --regid GROUP --init-groups --inh-caps +net_admin --ambient-caps"
                    " +net_admin pylog ..."
                )
        elif self._options["conntrack"] and problem in (errno.EOPNOTSUPP, ENOTSUPP):
            name = "EOPNOTSUPP" if problem == errno.EOPNOTSUPP else "ENOTSUPP 524"
            what = (
                f"this kernel cannot add conntrack entries ({name}: it lacks nf_conntrack_netlink"
                " or CONFIG_NETFILTER_NETLINK_GLUE_CT); leave out conntrack"
            )
        elif problem == ENOTSUPP:
            what = "this kernel does not know the command (ENOTSUPP 524)"
        elif problem == errno.EINVAL and not self._instances_known():
            what = "this kernel has no nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)"
        else:
            what = f"{error.strerror} (errno {problem})"
        refusal = BackendError(f"cannot {operation}: {what}")
        refusal.__cause__ = error
        return refusal

    def _other_listener(self, group: int | None) -> str | None:
        """Who else listens to the group, as far as /proc tells."""
        for instance in instances() or ():
            if instance.group == group and instance.portid != self.portid:
                return owner_text(instance.portid)
        return None

    def _instances_known(self) -> bool:
        return self._namespace.run(instances) is not None

    def _compare(self) -> None:
        """Read back what the kernel made of the configuration."""
        found = self._namespace.run(instances)
        if found is None:
            notes.warning("%s: /proc/%s cannot be read, so the settings were not checked",
                         self.name, STATE_FILE)  # fmt: skip
            return
        options = self._options
        mode = COPY_MODES[options["copy_mode"]]
        # without the payload the kernel keeps no range
        length = options["copy_range"] if mode == nfulnl.NFULNL_COPY_PACKET else 0
        wanted = (mode, length, round(options["timeout_s"] * 100))
        for group in self.groups:
            state = next((i for i in found if i.group == group), None)
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
        """Give the groups back; the kernel sends what it has gathered before it acknowledges."""
        bound, self._bound = self._bound, []
        if os.getpid() == self._owner:  # not after fork(): the groups are still the parent's
            for group in bound:
                if self.closed:  # nobody reads the answer
                    self._tell(group, 0, 0, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
                else:
                    self._ask(group, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_UNBIND)
            for family, logger in self._loggers.items():
                with contextlib.suppress(BackendError, OSError):
                    self._give_back(family, logger)
        self._loggers = {}

    def _give_back(self, family: int, logger: str) -> None:
        """Let kernel-made logs go where they went before."""
        if logger == "NONE":
            self._tell(0, family, 0, NFULA_CFG_CMD=nfulnl.NFULNL_CFG_CMD_PF_UNBIND)
        else:
            self._namespace.run(lambda: loggers_file(family).write_text(logger, encoding="ascii"))

    # The receive buffer

    def _set_buffer(self, size: int, tell: bool = False) -> int:
        """Ask for a receive buffer of that size; return the size it has then."""
        try:  # the kernel doubles what it is told
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, (size + 1) // 2)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, (size + 1) // 2)
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if tell and found < size:
            notes.warning(
                "%s: the receive buffer has %d bytes, not %d: without CAP_NET_ADMIN in the first"
                " user namespace net.core.rmem_max is the limit", self.name, found, size,
            )  # fmt: skip
        return found

    def _overran(self, lost: int | None) -> None:
        """Datagrams were lost for want of room: say so, and make more room."""
        before, limit = self._rcvbuf, self._options["rcvbuf_max"]
        if before < limit:
            self._rcvbuf = self._set_buffer(min(2 * before, limit))
        what = "ENOBUFS" if lost is None else f"{lost} datagrams lost"
        self._doubt = f"receive buffer of {before} bytes overran: {what}"
        now = time.monotonic()
        if self._rcvbuf > before or now >= self._noted + NOTE_INTERVAL_S:
            self._noted = now
            grown = f"; it has {self._rcvbuf} now" if self._rcvbuf > before else ""
            notes.warning("%s: the %s%s", self.name, self._doubt, grown)

    def _watch_drops(self) -> None:
        """Compare the socket's count of lost datagrams with what it was."""
        try:
            memory = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        except OSError:  # before Linux 4.12
            return
        drops = struct.unpack("9I", memory)[SK_MEMINFO_DROPS]
        if drops != self._drops:
            lost, self._drops = (drops - self._drops) & 0xFFFFFFFF, drops
            self._overran(lost)

    # Receiving

    def _recv(self, view: memoryview) -> int | None:
        """The size of the next datagram, which lies in `view` then; None when there is none.

        The size may be larger than the view: the rest of the datagram is gone then.
        """
        while True:
            try:
                size, sender = self._socket.recvfrom_into(
                    view, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC
                )
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise BackendError(
                        f"cannot receive from {self.name}: {error.strerror}"
                    ) from error
                self._overran(None)
                continue
            if sender[0] == 0:
                return size
            if not self.foreign:
                notes.warning("%s: a process (netlink port %d) sends messages to it, which are"
                             " thrown away", self.name, sender[0])  # fmt: skip
            self.foreign += 1

    def _collect(self) -> bytes | None:
        """The datagrams that are there, up to BUFFER bytes of them; None when there are none."""
        view, filled, emptied = self._view, 0, False
        while len(view) - filled >= LARGEST:
            size = self._recv(view[filled : filled + LARGEST])
            if size is None:
                emptied = True
                break
            if size > LARGEST:
                notes.warning("%s: a datagram of %d bytes was cut to %d", self.name, size, LARGEST)
                filled += LARGEST
                break  # what follows would seem to continue it
            end = filled + size
            filled = (end + 3) & ~3
            view[end:filled] = bytes(filled - end)
        self._watch_drops()
        self.overrun = self._doubt or self.overrun
        if emptied:  # what comes later was sent after the loss
            self._doubt = None
        return bytes(view[:filled]) if filled else None

    def _receive(self) -> bytes | None:
        self._links.watch()
        if self.stopped and self._bound:
            self._unbind()
        return self._backlog.popleft() if self._backlog else self._collect()

    def _descriptors(self) -> list[int]:
        return [self._socket.fileno(), self._links.fileno()]

    def _pending(self) -> int:
        """Takes the datagrams in to count them; as many as the receive buffer holds at most."""
        held = sum(map(len, self._backlog))
        while held < self._rcvbuf and (data := self._collect()) is not None:
            self._backlog.append(data)
            held += len(data)
        return held

    def fileno(self) -> int:
        return self._socket.fileno()

    def _release(self) -> None:
        if self._bound or self._loggers:
            self._unbind()
        self._socket.close()
        self._links.close()
        self._namespace.close()

    def interface_name(self, index: int) -> str | int:
        """The interface's name in the namespace; the last one known of one that is gone."""
        return self._links.names[index]


def _socket() -> socket.socket:
    """A netfilter socket in the thread's namespace."""
    try:
        from pyroute2.netns import create_socket
    except ImportError as error:
        raise BackendUnavailable(NEEDED) from error
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        made: socket.socket = create_socket(None, socket.AF_NETLINK, kind, nfulnl.NETLINK_NETFILTER)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        text = f"this kernel has no netfilter netlink ({error.strerror})"
        raise BackendUnavailable(text) from error
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        made.bind((0, 0))
        with contextlib.suppress(OSError):  # before Linux 2.6.30
            made.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        stack.pop_all()
    return made


# Options


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if they go together; ValueError."""
    if options["latency"] and options["throughput"]:
        raise ValueError("latency and throughput exclude each other")
    if options["copy_mode"] != "packet" and options["copy_range"] != MAXIMUM_RANGE:
        raise ValueError(f"copy_mode {options['copy_mode']} copies nothing: leave out copy_range")
    steps = options["timeout_s"] * 100
    if abs(steps - round(steps)) > 1e-6:
        raise ValueError(f"timeout_s is {options['timeout_s']}, but the kernel counts in 0.01 s")
    size, limit = options["rcvbuf"], options["rcvbuf_max"]
    if limit < size and limit != MAXIMUM_BUFFER:
        raise ValueError(f"rcvbuf_max is {limit}, but must be rcvbuf, {size}, or more")
    return {**options, "rcvbuf_max": max(size, limit)}


def _families(text: str | None) -> list[int]:
    families = []
    for word in (text or "").split(","):
        if word and word not in FAMILIES:
            raise ValueError(f"pf_bind: no family {word!r}, only {', '.join(FAMILIES)}")
        if word:
            families.append(FAMILIES[word])
    return families


# For `pylog sources` and `pylog doctor`


def sources() -> list[Found]:
    """Whether this kernel has NFLOG."""
    text = "NFLOG of this Linux kernel"
    if sys.platform != "linux":
        return [Found("nflog:GROUP", text, "it needs Linux")]
    bad = next((check.text for check in checks() if check.ok is False), None)
    return [Found("nflog:GROUP", text, bad)]


def checks() -> list[Check]:
    """Privileges, kernel features, groups in use, loggers and limits."""
    if sys.platform != "linux":
        return [Check(False, "NFLOG needs Linux")]
    found: list[Check] = []
    options = {option.name: option.default for option in OPTIONS}
    known = instances()
    taken = {i.group for i in known or ()}
    free = next(group for group in range(65535, 0, -1) if group not in taken)
    try:
        probe = Nflog([free], options)
        probe.close()
        found.append(Check(True, f"NFLOG works: group {free} was bound and given back"))
    except BackendError as error:
        found.append(Check(False, str(error)))
    if known is None:
        why = (
            " (Permission denied): only root can, so groups in use are not listed"
            if Path(f"/proc/{STATE_FILE}").exists()
            else ": no nfnetlink_log?"
        )
        found.append(Check(None, f"/proc/{STATE_FILE} cannot be read{why}"))
    for instance in known or ():
        owner = owner_text(instance.portid)
        queued = f"{instance.queued} records queued"
        found.append(Check(None, f"group {instance.group} is taken by {owner}, {queued}"))
    if found[0].ok:
        try:
            Nflog([free], options | {"conntrack": True}).close()
            found.append(Check(True, "conntrack entries can be added to records"))
        except BackendError as error:
            why = str(error).partition(": ")[2].partition(";")[0]
            found.append(Check(None, f"records cannot carry conntrack entries: {why}"))
    for name, family in FAMILIES.items():
        found.append(Check(None, f"kernel-made logs of {name} go to {logger_of(family)}"))
    with contextlib.suppress(OSError):
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
        found.append(Check(None, f"net.core.rmem_max allows receive buffers of {2 * limit} bytes"
                           " without CAP_NET_ADMIN"))  # fmt: skip
    return found
