"""The sources: which records of a log are theirs, and how they see them.

A source is fed with pylog's records, by `pylog.ulogd.daemon`, from the kernel or from a replayed
log. `view` gives the record as ulogd's plugin would give it, None for one that it does not read.
"""

from __future__ import annotations

from pylog.record import CounterRecord, FlowRecord, PacketRecord, Record
from pylog.ulogd.views import Counter, Flow, packet_of
from pylog.ulogd.worker import Instance, Surroundings, View, Worker


class Input(Worker):
    """A source."""

    def view(self, record: Record) -> View | None:
        """A record as the plugin sees it, None for one of another kind."""
        raise NotImplementedError


class Nflog(Input):
    """The source NFLOG: packets."""

    def view(self, record: Record) -> View | None:
        if not isinstance(record, PacketRecord):
            return None
        label = self.options["numeric_label"] & 0xFF
        return packet_of(record, self.surroundings.clock_us(), label)

    @property
    def group(self) -> int:
        """The group that is bound: the low 16 bits."""
        return int(self.options["group"]) & 0xFFFF

    @property
    def takes_loggers(self) -> bool:
        """Whether the kernel's loggers of IPv4, IPv6 and bridges are taken over."""
        return self.group == 0 or self.options["bind"] > 0


class Unixsock(Nflog):
    """The source UNIXSOCK: packets that a program sends."""


class Nfct(Input):
    """The source NFCT: flows; with the hash one at the end of each, which knows the start."""

    _starts: dict[int, int]

    def start(self) -> None:
        self._starts = {}

    def view(self, record: Record) -> View | None:
        if not isinstance(record, FlowRecord) or record.flow_type == "expect":
            return None
        clock = self.surroundings.clock_us()
        flow = Flow(record, clock)
        options = self.options
        if not options["pollinterval"] and not flow.event & options["event_mask"]:
            return None
        key = hash((flow.orig.saddr, flow.orig.daddr, flow.orig.protocol, flow.orig.sport,
                    flow.orig.dport, flow.id))  # fmt: skip
        if flow.event == 4:
            if flow.end_us is None:
                flow.end_us = clock
            if options["hash_enable"]:
                start = self._starts.pop(key, None)
                if flow.start_us is None:
                    flow.start_us = start
            return flow
        if flow.event == 1 and flow.start_us is None:
            flow.start_us = clock
        if not options["hash_enable"]:
            return flow if flow.event == 1 else None
        if flow.start_us is not None and len(self._starts) < options["hash_max_entries"]:
            self._starts.setdefault(key, flow.start_us)
        return None


class Nfacct(Input):
    """The source NFACCT: counters."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        if not self.options["pollinterval"]:
            raise ValueError("pollinterval must be given, in seconds")

    def view(self, record: Record) -> View | None:
        if not isinstance(record, CounterRecord) or record.source == "conntrack":
            return None
        time_us = self.surroundings.clock_us() if self.options["timestamp"] else 0
        return Counter(record, time_us)
