"""A double of NFLOG: the kernel's side of netlink, in memory.

It follows nfnetlink_log.c. A reader opens a netlink socket, binds groups with config messages and
gets acknowledgements, all by pylog's own NFLOG backend. Packets are numbered by group (NFULA_SEQ),
cut to the copy range, and sent as datagrams. A datagram for which the receive buffer has no room is
dropped and counted, so the reader sees an overrun and a gap in the numbers. A packet for a group
without a listener is dropped, as in the kernel.

Unlike the kernel, the double sends each packet at once, so qthresh, timeout_s and nlbufsiz have no
effect. It needs no privilege and no Linux.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Unpack, cast

from pylog.backends import nflog as backend
from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_socket import SK_MEMINFO_DROPS, SO_MEMINFO, SO_RCVBUFFORCE
from pylog.backends.netlink_source import System
from pylog.backends.nflog_binding import MAXIMUM_RANGE
from pylog.backends.nflog_proc import Instance
from pylog.errors import DecodeError
from pylog.formats import Message
from pylog.formats import nfulnl_attributes as nfulnl
from pylog.formats.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLMSG_ERROR,
    OCTETS,
    Table,
    build,
    nlmsgerr,
    nlmsghdr,
    scan,
)
from pylog.formats.nfulnl import NfulnlStream
from pylog.formats.packet_schemas import FAMILIES
from pylog.open_log import OnError
from pylog.options import resolve
from pylog.reader import Reader
from pylog.record import PacketRecord, Record, kind_of
from pylog.source_options import SourceOptions
from pylog.testing.descriptor import Descriptor

GROUP = 5
"""The group of a record that does not name one."""
FIRST_PORTID = 0xF0000000
"""Port ids of the double's sockets begin here; those of processes are process ids."""

_NUMBERS = {name: number for number, (name, _) in nfulnl.ATTRIBUTES.items()}
_OCTETS: Table = {number: (name, OCTETS) for number, (name, _) in nfulnl.ATTRIBUTES.items()}
_SEQ, _SEQ_GLOBAL = _NUMBERS["NFULA_SEQ"], _NUMBERS["NFULA_SEQ_GLOBAL"]
_PAYLOAD = _NUMBERS["NFULA_PAYLOAD"]
_CFG = {name: number for number, (name, _) in nfulnl.CONFIG.items()}
_NFPROTO = {"ipv4": 2, "ipv6": 10, "arp": 3}
_ETHERTYPES = {name: number for number, name in FAMILIES.items()}
_HOOKS = {"in": "input", "out": "output", "forward": "forward"}
"""The hook of a record that has only a direction."""


class _Socket:
    """A netlink socket as NetlinkSocket uses it."""

    def __init__(self, kernel: Nflog, protocol: int, portid: int) -> None:
        self.protocol, self.portid = protocol, portid
        self.drops = 0
        self._kernel = kernel
        self._descriptor = Descriptor(os.O_RDONLY)
        self._queue: deque[bytes] = deque()
        self._used, self._limit = 0, 212992

    def put(self, datagram: bytes, always: bool = False) -> bool:
        """Send it to the program; False if the receive buffer has no room for it."""
        if not always and self._used + len(datagram) > self._limit:
            self.drops += 1
            return False
        self._queue.append(datagram)
        self._used += len(datagram)
        self._descriptor.show(True)
        return True

    # As socket.socket

    def send(self, message: bytes) -> int:
        self._kernel._request(self, message)
        return len(message)

    def recvfrom_into(
        self, view: memoryview, size: int = 0, flags: int = 0
    ) -> tuple[int, tuple[int, int]]:
        with self._kernel._lock:
            if not self._queue:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            datagram = self._queue.popleft()
            self._used -= len(datagram)
            self._descriptor.show(bool(self._queue))
        kept = datagram[: len(view)]
        view[: len(kept)] = kept
        return len(datagram), (0, 0)  # MSG_TRUNC; from the kernel

    def getsockname(self) -> tuple[int, int]:
        return self.portid, 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.SOL_SOCKET, SO_RCVBUFFORCE):
            self._limit = 2 * value

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        if option == SO_MEMINFO:
            counts = [0] * 9
            counts[SK_MEMINFO_DROPS] = self.drops
            return struct.pack("9I", *counts)
        return self._limit

    def fileno(self) -> int:
        return self._descriptor.number

    def close(self) -> None:
        self._kernel._forget(self)
        self._descriptor.close()


class _Bound:
    """A group that has a listener; its settings are those of the kernel at first."""

    def __init__(self, listener: _Socket) -> None:
        self.listener = listener
        self.copy_mode, self.copy_range = nfulnl.NFULNL_COPY_PACKET, MAXIMUM_RANGE
        self.timeout, self.flags, self.seq = 100, 0, 0


class Nflog:
    """The NFLOG of a kernel: `log` plays its rules, `open` gives a reader of groups.

    All methods may be called by several threads.
    """

    def __init__(self, interfaces: Iterable[str] = ("lo", "eth0")) -> None:
        """No group has a listener yet.

        interfaces   names of the network interfaces, numbered from 1; `log` adds those of records
        """
        self._lock = threading.RLock()
        self._names = dict(enumerate(interfaces, 1))
        self._bound: dict[int, _Bound] = {}
        self._readers: list[Reader] = []
        self._opened = self._counted = 0

    # The kernel's side

    def log(self, record: bytes | Record, *, group: int | None = None) -> bool:
        """Log a packet; False if the group has no listener, or its receive buffer no room.

        record   a packet record of any source, of which the fields are sent that NFLOG has; or the
                 bytes of a log message in this machine's byte order, such as `record.raw`
        group    default: that of the record, if it is of NFLOG, or else GROUP

        Numbers (NFULA_SEQ, NFULA_SEQ_GLOBAL) are the double's own. The payload is cut to the copy
        range of the group.
        Raises DecodeError for bytes that are not a log message, ValueError for a record that is
        not a packet.
        """
        with self._lock:
            message = record if isinstance(record, bytes) else self._message(record)
            end = _end(message)
            own = int.from_bytes(message[18:20])
            bound = self._bound.get(own if group is None else group)
            if bound is None:
                return False
            attrs = []
            for number, at, stop in scan(message, 20, end, HOST_ORDER, 0):
                if number == _PAYLOAD:
                    stop = min(stop, at + bound.copy_range)
                    if bound.copy_mode != nfulnl.NFULNL_COPY_PACKET:
                        continue
                if number not in (_SEQ, _SEQ_GLOBAL):
                    attrs.append((number, message[at:stop]))
            numbers = [(number, value.to_bytes(4)) for number, value in self._counts(bound)]
            last = [attr for attr in attrs if attr[0] == _PAYLOAD]
            attrs = [attr for attr in attrs if attr[0] != _PAYLOAD] + numbers + last
            sent = build(_OCTETS, HOST_ORDER, nfulnl.NFULNL_MSG_PACKET,
                         own if group is None else group, attrs, family=message[16])  # fmt: skip
            return bound.listener.put(sent)

    def lose(self, count: int = 1, *, group: int = GROUP) -> None:
        """Log `count` packets that the receive buffer of the group's listener had no room for.

        The reader learns of it with the next packet, or at its end: as a LossRecord of `count`
        records if the group is numbered (seq=True), of an unknown number if not.
        ValueError for a count below 1, and for a group without a listener.
        """
        if count < 1:
            raise ValueError(f"count is {count}, but must be 1 or more")
        with self._lock:
            if group not in self._bound:
                raise ValueError(f"group {group} has no listener that could lose packets")
            bound = self._bound[group]
            for _ in range(count):
                self._counts(bound)
            bound.listener.drops += count

    def groups(self) -> list[int]:
        """The groups that have a listener."""
        with self._lock:
            return sorted(self._bound)

    def _counts(self, bound: _Bound) -> list[tuple[int, int]]:
        """The numbers of the next packet of a group, as attributes."""
        numbers = []
        if bound.flags & nfulnl.NFULNL_CFG_F_SEQ:
            numbers.append((_SEQ, bound.seq))
            bound.seq = bound.seq + 1 & 0xFFFFFFFF
        if bound.flags & nfulnl.NFULNL_CFG_F_SEQ_GLOBAL:
            numbers.append((_SEQ_GLOBAL, self._counted))
            self._counted = self._counted + 1 & 0xFFFFFFFF
        return numbers

    def _message(self, record: Record) -> bytes:
        """A record as a log message, with its attributes in the kernel's order."""
        if not isinstance(record, PacketRecord):
            hint = "; lose() makes losses" if kind_of(record) == "loss" else ""
            raise ValueError(f"NFLOG logs packets, not {kind_of(record)} records{hint}")
        family = (record.extra or {}).get("nfgen_family") if record.source == "nflog" else None
        family = family or _NFPROTO.get(str(record.family), 0)
        hook = record.hook or _HOOKS.get(record.direction or "", "input")
        hooks = nfulnl.HOOKS.get(family, ())
        if not isinstance(hook, int):
            hook = hooks.index(hook) if hook in hooks else 1
        ethertype = _ETHERTYPES.get(str(record.family), record.family or 0)
        fields: dict[str, Any] = {
            "NFULA_PACKET_HDR": {"hw_protocol": ethertype, "hook": hook},
            "NFULA_PREFIX": None if record.prefix is None else record.prefix.encode(),
            "NFULA_IFINDEX_INDEV": self._index(record.indev),
            "NFULA_IFINDEX_PHYSINDEV": self._index(record.physindev),
            "NFULA_IFINDEX_OUTDEV": self._index(record.outdev),
            "NFULA_IFINDEX_PHYSOUTDEV": self._index(record.physoutdev),
            "NFULA_MARK": record.mark,
            "NFULA_HWADDR": _hwaddr(record.hwaddr),
            "NFULA_HWTYPE": record.hwtype,
            "NFULA_HWLEN": None if record.hwheader is None else len(record.hwheader) // 2,
            "NFULA_HWHEADER": None if record.hwheader is None else bytes.fromhex(record.hwheader),
            "NFULA_TIMESTAMP": _time(record.timestamp_ns),
            "NFULA_UID": record.uid,
            "NFULA_GID": record.gid,
            "NFULA_VLAN": _vlan(record),
            "NFULA_PAYLOAD": record.payload,
        }
        attrs = [(_NUMBERS[name], value) for name, value in fields.items() if value is not None]
        own = record.source == "nflog" and (record.group or "").isdecimal()
        group = int(record.group or 0) if own else GROUP
        return build(nfulnl.ATTRIBUTES, HOST_ORDER, nfulnl.NFULNL_MSG_PACKET, group, attrs,
                     family=family)  # fmt: skip

    def _index(self, name: str | int | None) -> int | None:
        """The number of an interface, which is added if there is none of that name."""
        if name is None or isinstance(name, int):
            return name
        numbers = {other: index for index, other in self._names.items()}
        if name not in numbers:
            numbers[name] = max(self._names, default=0) + 1
            self._names[numbers[name]] = name
        return numbers[name]

    # The programs' side

    @property
    def system(self) -> System:
        """The calls of the backend, which reach only this double."""
        return System(self._open_socket, self._interfaces, self._instances)

    def open(
        self,
        groups: str = str(GROUP),
        *,
        on_error: OnError = "resync",
        raw: bool = False,
        **options: Unpack[SourceOptions],
    ) -> Reader:
        """A Reader of groups, "5" or "5,6"; options and errors are those of pylog.open.

        A small rcvbuf with an equal rcvbuf_max makes a receive buffer that overruns soon.
        The reader keeps its groups until it is closed, or the double.
        BackendError for a group that has a listener; ValueError also for netns.
        """
        if options.get("netns") is not None:
            raise ValueError("the double has no network namespaces: leave out netns")
        values = resolve(backend.NAME, backend.OPTIONS, options)
        source = backend.Nflog(backend.groups_of(groups), values, self.system)
        try:
            reader = Reader(source, on_error=on_error, raw=raw)
        except BaseException:
            source.close()
            raise
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        """Close all readers; a second call does nothing."""
        for reader in self._readers:
            reader.close()

    def __enter__(self) -> Nflog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_socket(self, protocol: int) -> socket.socket:
        with self._lock:
            self._opened += 1
            made = _Socket(self, protocol, FIRST_PORTID + self._opened)
        return cast(socket.socket, made)

    def _interfaces(self) -> dict[int, str]:
        with self._lock:
            return dict(self._names)

    def _instances(self) -> list[Instance]:
        with self._lock:
            return [
                Instance(group, b.listener.portid, 0, b.copy_mode, b.copy_range, b.timeout, 1)
                for group, b in self._bound.items()
            ]

    def _forget(self, listener: _Socket) -> None:
        """A socket is closed: its groups have no listener any more (nfulnl_rcv_nl_event)."""
        with self._lock:
            self._bound = {g: b for g, b in self._bound.items() if b.listener is not listener}

    def _request(self, sender: _Socket, message: bytes) -> None:
        """Carry out a message of a program, and acknowledge it if it asks for that."""
        with self._lock:
            head = nlmsghdr(HOST_ORDER).parse(message)
            problem = self._configure(sender, head.nlmsg_type, message)
            if head.nlmsg_flags & NLM_F_ACK:
                body = nlmsgerr(HOST_ORDER).build({"error": -problem, "msg": head})
                answer = {"nlmsg_len": 16 + len(body), "nlmsg_type": NLMSG_ERROR,
                          "nlmsg_seq": head.nlmsg_seq, "nlmsg_pid": sender.portid}  # fmt: skip
                sender.put(nlmsghdr(HOST_ORDER).build(answer) + body, always=True)

    def _configure(self, sender: _Socket, kind: int, message: bytes) -> int:
        """nfulnl_recv_config(): the errno, 0 for success."""
        if sender.protocol != NETLINK_NETFILTER or kind != nfulnl.NFULNL_MSG_CONFIG:
            return errno.EINVAL
        group = int.from_bytes(message[18:20])
        parts = scan(message, 20, len(message), HOST_ORDER, 0)
        attrs = {number: message[at:stop] for number, at, stop in parts}
        command = attrs.get(_CFG["NFULA_CFG_CMD"], b"\0")[0]
        if command in (nfulnl.NFULNL_CFG_CMD_PF_BIND, nfulnl.NFULNL_CFG_CMD_PF_UNBIND):
            return 0
        bound = self._bound.get(group)
        if bound is not None and bound.listener is not sender:
            return errno.EPERM
        if command == nfulnl.NFULNL_CFG_CMD_UNBIND:
            return errno.ENODEV if self._bound.pop(group, None) is None else 0
        if command == nfulnl.NFULNL_CFG_CMD_BIND:
            if bound is not None:
                return errno.EBUSY
            bound = self._bound[group] = _Bound(sender)
        if bound is None:
            return errno.ENODEV
        if (mode := attrs.get(_CFG["NFULA_CFG_MODE"])) is not None:
            bound.copy_mode = mode[4]
            asked = int.from_bytes(mode[:4]) or MAXIMUM_RANGE
            copies = bound.copy_mode == nfulnl.NFULNL_COPY_PACKET
            bound.copy_range = min(asked, MAXIMUM_RANGE) if copies else 0
        if (timeout := attrs.get(_CFG["NFULA_CFG_TIMEOUT"])) is not None:
            bound.timeout = int.from_bytes(timeout)
        if (flags := attrs.get(_CFG["NFULA_CFG_FLAGS"])) is not None:
            bound.flags = int.from_bytes(flags)
        return 0


def _end(message: bytes) -> int:
    """Where a log message ends, before its padding; DecodeError if it is not one."""
    items = list(NfulnlStream(HOST_ORDER).split(message, True))
    if len(items) != 1 or not isinstance(items[0], Message):
        raise DecodeError("message", f"{len(message)} bytes", "one log message of NFLOG", 0)
    return items[0].end


def _hwaddr(text: str | None) -> dict[str, Any] | None:
    address = bytes.fromhex((text or "").replace(":", ""))
    return {"hw_addrlen": len(address), "hw_addr": address.ljust(8, b"\0")} if address else None


def _time(timestamp_ns: int | None) -> dict[str, int] | None:
    if timestamp_ns is None:
        return None
    sec, rest = divmod(timestamp_ns, 10**9)
    return {"sec": sec, "usec": rest // 1000}


def _vlan(record: PacketRecord) -> list[dict[str, Any]] | None:
    """The outermost VLAN tag, as a bridge has it."""
    if not record.vlan:
        return None
    tag = record.vlan[0]
    tci = tag.priority << 13 | tag.dei << 12 | tag.id
    values = [(1, tag.protocol), (2, tci)]
    return [{"nla_type": number, "value": value} for number, value in values if value is not None]
