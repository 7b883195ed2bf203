"""A living flow: what its events have said so far, and the records that are made of that.

The helper, the labels, the parent, the first state and the kind of translation are in the first
events only; counters are in the last one and in listings. So a flow keeps its last record and
beside it what later ones lack. Counters of a flow that was reported before count from that report.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pylog.flows.counters import Counters, by_direction, since
from pylog.flows.times import Announced, last_packet, time_of
from pylog.record import FlowRecord

ENDS = {
    "expire": "expired", "flush": "removed", "remove": "removed", "unload": "removed",
    "purge": "removed", "killed": "killed", "orphan": "killed", "destroy": "killed",
}  # fmt: skip
"""The events that end a flow, and why IPFilter's did (ISL_* in ip_state.h, NL_* in ip_nat.h):
orphan and destroy are the kernel's own doing, the others that come early were asked for.
"""
_OF_A_MESSAGE = frozenset(("nlmsg_pid", "CTA_USE", "CTA_PROTOINFO"))
"""What `extra` has of one message only, not of the flow."""
_EXTRA_SIZE = 4096
"""So many bytes of `extra`, as JSON, are remembered of a flow at most."""

Reported = tuple[Counters | None, Counters | None]
"""The packets and bytes that reports of a flow have given."""


class Living(msgspec.Struct, gc=False):
    """A flow that lives.

    record      the last record of it, without `extra` and `raw`
    since_ns    when it was first seen, or reported last, by the clock of the records
    announced   what its events have announced
    flow_type   as its first record has it
    new         whether its first event was seen
    begun_ns    the kernel's time of that event
    start_ns    when it began, as far as records have it
    packets     the last counters, by direction; as `bytes`
    counted     whether they came after the last report
    reported    the packets and bytes of all reports
    """

    record: FlowRecord
    since_ns: int | None
    announced: Announced
    flow_type: str | int | None = None
    new: bool = False
    begun_ns: int | None = None
    start_ns: int | None = None
    first_state: str | int | None = None
    extra: dict[str, Any] | None = None
    packets: Counters | None = None
    bytes: Counters | None = None
    counted: bool = False
    reported: Reported | None = None

    def begin(self, record: FlowRecord) -> None:
        """Take the event that begins the flow, which may come after later ones."""
        self.new = True
        self.first_state, self.flow_type = record.state, record.flow_type
        self.begun_ns = record.timestamp_ns
        if self.start_ns is None:
            self.start_ns = time_of(record)
        if self.announced.heard_ns is None:
            self.announced.hear(record)
        self.take(record)

    def go_on(self, record: FlowRecord) -> None:
        """Take an event of the flow, or an entry of a listing."""
        if record.start_ns is not None:
            self.start_ns = record.start_ns
        if record.event != "dump":
            self.announced.hear(record)
        self.take(record)

    def take(self, record: FlowRecord) -> None:
        """Keep a record, and what later ones lack."""
        if record.packets is not None or record.bytes is not None:
            self.packets, self.bytes = by_direction(record, self._kind(record))
            self.counted = True
        if record.extra is not None:
            own = record.extra
            if not _OF_A_MESSAGE.isdisjoint(own):
                own = {name: value for name, value in own.items() if name not in _OF_A_MESSAGE}
            extra = own if self.extra is None else self.extra | own
            if len(msgspec.json.encode(extra)) <= _EXTRA_SIZE:
                self.extra = extra or None
        if record.extra is not None or record.raw is not None:
            record = msgspec.structs.replace(record, extra=None, raw=None)
        self.record = record

    def ended(self, record: FlowRecord, reason: str | None = None) -> FlowRecord:
        """The record of the flow, which ended with an event that it has taken.

        reason   why, where the event does not say
        """
        reason = reason or record.end_reason or _reason(record)
        start_ns = self.start_ns if record.start_ns is None else record.start_ns
        stop_ns = last_ns = None
        if reason in ("expired", "removed", "killed"):
            stop_ns = time_of(record) if record.stop_ns is None else record.stop_ns
            last_ns = last_packet(record, reason, self.announced)
        extra = dict(self.extra or ())
        if record.extra is not None and "nlmsg_pid" in record.extra:
            extra["nlmsg_pid"] = record.extra["nlmsg_pid"]  # who removed it
        if record.source == "ipl" and record.event != "expire":
            extra["event"] = record.event
        return self._made(record, "end", reason, extra, start_ns, stop_ns, last_ns)

    def replaced(self, after: FlowRecord) -> FlowRecord:
        """The record of the flow, whose end was unseen: another one has its place."""
        record = msgspec.structs.replace(
            self.record, offset=after.offset, timestamp_ns=after.timestamp_ns,
            observed_ns=after.observed_ns,
        )  # fmt: skip
        return self._made(record, "end", "unseen", dict(self.extra or ()), self.start_ns)

    def report(self, reason: str, timestamp_ns: int | None, observed_ns: int | None) -> FlowRecord:
        """The record of the flow, which goes on, at a time."""
        record = msgspec.structs.replace(
            self.record, offset=None, timestamp_ns=timestamp_ns, observed_ns=observed_ns, via=None
        )
        made = self._made(record, "active", reason, dict(self.extra or ()), self.start_ns)
        if self.counted:
            self.reported, self.counted = (self.packets, self.bytes), False
        return made

    def _made(
        self, r: FlowRecord, event: str, end_reason: str, extra: dict[str, Any],
        start_ns: int | None, stop_ns: int | None = None, last_ns: int | None = None,
    ) -> FlowRecord:  # fmt: skip
        packets = octets = duration_us = None
        if self.counted:
            packets, octets = self.packets, self.bytes
            if self.reported is not None:
                packets = since(packets, self.reported[0])
                octets = since(octets, self.reported[1])
            for name, own, given in (("packets", r.packets, packets), ("bytes", r.bytes, octets)):
                if own is not None and own != given:
                    extra[name] = own
        if start_ns is not None and last_ns is not None and last_ns >= start_ns:
            duration_us = (last_ns - start_ns) // 1000
        return FlowRecord(
            source=r.source, layout=r.layout, offset=r.offset, timestamp_ns=r.timestamp_ns,
            observed_ns=r.observed_ns, event=event, flow_type=self._kind(r), rule=r.rule,
            group=r.group, indev=r.indev, outdev=r.outdev, family=r.family, protocol=r.protocol,
            saddr=r.saddr, daddr=r.daddr, sport=r.sport, dport=r.dport, icmp_type=r.icmp_type,
            nat_saddr=r.nat_saddr, nat_daddr=r.nat_daddr, nat_sport=r.nat_sport,
            nat_dport=r.nat_dport, packets=packets, bytes=octets, icmp_code=r.icmp_code, id=r.id,
            state=self.announced.state if r.state is None else r.state, status=r.status,
            timeout=r.timeout, mark=r.mark, zone=r.zone, netns=r.netns, start_ns=start_ns,
            stop_ns=stop_ns, via=r.via, end_reason=end_reason, last_ns=last_ns,
            duration_us=duration_us, first_state=self.first_state, extra=extra or None,
            origin=r.origin, host=r.host,
        )  # fmt: skip

    def _kind(self, record: FlowRecord) -> str | int | None:
        """The flow type. The event that ends a flow of IPFilter before 5.0 says only `nat`."""
        return self.flow_type if record.flow_type == "nat" else record.flow_type


def _reason(record: FlowRecord) -> str:
    """Why a flow ended, where the decoder does not say.

    Of conntrack a request has the asker's portid, and an entry that ran out has no timeout.
    """
    if record.source == "ipl":
        return ENDS[str(record.event)]
    if record.extra is not None and record.extra.get("nlmsg_pid"):
        return "removed"
    return "expired" if record.timeout is None else "killed"
