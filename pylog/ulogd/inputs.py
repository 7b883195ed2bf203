"""The sources: which records of a log are theirs, and how they see them.

A source is fed with pylog's records, by `pylog.ulogd.daemon`, from the kernel or from a replayed
log. `view` gives the record as ulogd's plugin would give it, None for one that it does not read.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from pylog.record import CounterRecord, FlowRecord, PacketRecord, Record
from pylog.ulogd.views import Counter, Flow, packet_of
from pylog.ulogd.worker import Instance, Surroundings, View, Worker

BUFFERS = (4608, 1 << 30)
"""The smallest and the largest receive buffer of pylog's backends."""


class Input(Worker):
    """A source.

    hidden   names of keys that are never valid, although records have the value
    """

    hidden: frozenset[str] = frozenset()

    def view(self, record: Record) -> View | None:
        """A record as the plugin sees it, None for one of another kind."""
        raise NotImplementedError


class Nflog(Input):
    """The source NFLOG: packets."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self.label = self.options["numeric_label"] & 0xFF
        if not surroundings.replayed and not self.options["seq_local"]:
            self.hidden = frozenset(("oob.seq.local",))  # pylog asks for it, to count losses

    def view(self, record: Record) -> View | None:
        if not isinstance(record, PacketRecord):
            return None
        return packet_of(record, self.surroundings.clock_us(), self.label)

    @property
    def group(self) -> int:
        """The group that is bound: the low 16 bits."""
        return int(self.options["group"]) & 0xFFFF

    @property
    def takes_loggers(self) -> bool:
        """Whether the kernel's loggers of IPv4, IPv6 and bridges are taken over."""
        return self.group == 0 or self.options["bind"] > 0


class Unixsock(Input):
    """The source UNIXSOCK: packets that a program sends."""

    def view(self, record: Record) -> View | None:
        if not isinstance(record, PacketRecord):
            return None
        return packet_of(record, self.surroundings.clock_us())


class Nfct(Input):
    """The source NFCT: flows; with the hash one at the end of each, which knows the start."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self._starts: dict[int, int] = {}
        self._filter = Networks(self.options)

    def view(self, record: Record) -> View | None:
        if not isinstance(record, FlowRecord) or record.flow_type == "expect":
            return None
        clock = self.surroundings.clock_us()
        flow = Flow(record, clock)
        options = self.options
        key = hash((flow.orig.saddr, flow.orig.daddr, flow.orig.protocol, flow.orig.sport,
                    flow.orig.dport, flow.id))  # fmt: skip
        wanted = bool(flow.event & options["event_mask"]) and self._filter.matches(flow)
        if flow.event == 4:
            start = self._starts.pop(key, None)
            if flow.end_us is None:
                flow.end_us = clock
            if flow.start_us is None and options["hash_enable"]:
                flow.start_us = start
            return flow if wanted or options["pollinterval"] else None
        if flow.event == 1 and flow.start_us is None:
            flow.start_us = clock
        if not options["hash_enable"]:
            return flow if flow.event == 1 and wanted else None
        if record.via is None and flow.event != 1:
            return None
        if len(self._starts) < options["hash_max_entries"]:
            self._starts.setdefault(key, clock if flow.start_us is None else flow.start_us)
        return None

    def dumped(self, record: Record) -> View | None:
        """A record of the listing that SIGUSR2 asks for, which is sent on as an update."""
        if not isinstance(record, FlowRecord) or record.flow_type == "expect":
            return None
        flow = Flow(record, self.surroundings.clock_us())
        flow.event = 2
        return flow if self._filter.matches(flow) else None


PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132,
             "dccp": 33, "udplite": 136, "gre": 47, "esp": 50, "ah": 51}  # fmt: skip


class Networks:
    """The filters of NFCT: networks of the source and destination, and protocols.

    Networks of one family say nothing of flows of the other, as in the kernel's filter of ulogd.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        """ValueError for a network or protocol that is not valid."""
        self._source = networks(options["accept_src_filter"], "accept_src_filter")
        self._destination = networks(options["accept_dst_filter"], "accept_dst_filter")
        self._protocols = set()
        for word in words(options["accept_proto_filter"]):
            if word.lower() not in PROTOCOLS:
                known = ", ".join(PROTOCOLS)
                raise ValueError(f"accept_proto_filter: no protocol {word!r}; there are {known}")
            self._protocols.add(PROTOCOLS[word.lower()])

    def matches(self, flow: Flow) -> bool:
        """Whether a flow passes."""
        if self._protocols and flow.orig.protocol not in self._protocols:
            return False
        return _in(flow.orig.saddr, self._source) and _in(flow.orig.daddr, self._destination)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def words(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def networks(text: str, name: str) -> list[Network]:
    """The networks of an option; ValueError."""
    try:
        return [ipaddress.ip_network(word, strict=False) for word in words(text)]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _in(octets: bytes | None, networks: list[Network]) -> bool:
    if octets is None or not networks:
        return True
    address = ipaddress.ip_address(octets)
    same = [network for network in networks if network.version == address.version]
    return not same or any(address in network for network in same)


class Nfacct(Input):
    """The source NFACCT: counters."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        if not self.options["pollinterval"]:
            raise ValueError("pollinterval must be given, in seconds")

    def view(self, record: Record) -> View | None:
        if not isinstance(record, CounterRecord) or record.source == "conntrack":
            return None
        time_us = self.surroundings.clock_us() if self.options["timestamp"] else None
        return Counter(record, time_us)


def buffer(options: dict[str, Any]) -> dict[str, int]:
    """The options of pylog's backends for the receive buffer, where ulogd would set it; otherwise
    it is pylog's, which is larger than the system's. The kernel doubles what ulogd sets.
    """
    sizes = options["netlink_socket_buffer_size"], options["netlink_socket_buffer_maxsize"]
    if not 0 < sizes[0] < sizes[1]:
        return {}
    least, largest = BUFFERS
    size, limit = (min(max(2 * size, least), largest) for size in sizes)
    return {"rcvbuf": size, "rcvbuf_max": limit}
