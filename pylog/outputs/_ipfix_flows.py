"""The values that the record of a flow has in IPFIX.

A flow of both directions is one record: the counters of the reply are the reverse elements of RFC
5103. What was counted since the last report (`--flows`) is a delta, what the kernel counted since
the flow began a total.
"""

from __future__ import annotations

from typing import Any

from pylog.flows.counters import by_direction
from pylog.flows.living import ENDS
from pylog.outputs import _ipfix_elements as ie
from pylog.outputs._ipfix_parts import (
    ADDRESSES,
    FAMILY,
    ICMP,
    TRANSLATED,
    Number,
    Octets,
    Part,
    fitting,
    interface_part,
    number_part,
    range_parts,
    rule_name,
    text_part,
    texts,
    time_of,
    time_parts,
)

_CREATED, _DELETED, _UPDATED = 1, 2, 5
_EVENTS = {
    "new": _CREATED, "clone": _CREATED, "update": _UPDATED, "statechange": _UPDATED,
    "intermediate": _UPDATED, "active": _UPDATED, "end": _DELETED, **dict.fromkeys(ENDS, _DELETED),
}  # fmt: skip
"""firewallEvent of each event; a listing is none."""

_NAT44 = {_CREATED: b"\4", _DELETED: b"\5"}
"""natEvent: NAT44 session create and delete (RFC 8158)."""

_IDLE, _ACTIVE, _END, _FORCED, _RESOURCES = 1, 2, 3, 4, 5
_REASONS = {"removed": _FORCED, "open": _FORCED, "active": _ACTIVE, "evicted": _RESOURCES}
_CLOSED = frozenset(("TIME_WAIT", "CLOSE", "CLOSED", "LAST_ACK", "SHUTDOWN_ACK_SENT"))
"""States of TCP and SCTP in which the end of the flow was seen."""


def _reason(record: Any) -> bytes | None:
    """flowEndReason. Of lost and unseen ends nobody knows it."""
    reason = record.end_reason
    if reason is None and record.source == "ipl":
        reason = ENDS.get(record.event)
    if reason in ("expired", "killed"):
        if record.state in _CLOSED:
            return bytes((_END,))
        return bytes((_IDLE if reason == "expired" else _FORCED,))
    number = _REASONS.get(reason)
    return None if number is None else bytes((number,))


def _event(record: Any) -> bytes | None:
    number = _EVENTS.get(record.event)
    return None if number is None else bytes((number,))


def _nat_event(record: Any) -> bytes | None:
    if record.nat_saddr is None or record.family != "ipv4":
        return None
    return _NAT44.get(_EVENTS.get(record.event, 0))


def _start(record: Any) -> int | None:
    """When the flow began; of a new one without kernel's times, the time of the record."""
    if record.start_ns is None and _EVENTS.get(record.event) == _CREATED:
        return time_of(record)
    start_ns: int | None = record.start_ns
    return start_ns


def _end(record: Any) -> int | None:
    """When the last packet passed, as far as the record says."""
    for time_ns in (record.last_ns, record.stop_ns):
        if time_ns is not None:
            return int(time_ns)
    return time_of(record)


class _Counters:
    """The counters of the record that was asked for last, by direction."""

    def __init__(self) -> None:
        self._of: Any = None
        self._counters: tuple[Any, Any] = None, None

    def __getitem__(self, record: Any) -> tuple[Any, Any]:
        if record is not self._of:
            self._of = record
            self._counters = (None, None)
            if record.packets is not None or record.bytes is not None:
                self._counters = by_direction(record, record.flow_type)
        return self._counters


def _is_delta(record: Any) -> bool:
    """Whether its counters count from the last report, as those of --flows do."""
    return record.event in ("end", "active")


def _counter_parts() -> list[Part]:
    counters = _Counters()

    def counted(which: int, name: str, delta: bool) -> Octets:
        def octets(record: Any) -> bytes | None:
            held = counters[record][which]
            if not held or _is_delta(record) is not delta:
                return None
            value = held.get(name)
            if value is None and name == "orig":
                value = held.get("total")
            return None if value is None else fitting(value, 8)

        return octets

    parts = []
    for delta, elements in ((True, (ie.packetDeltaCount, ie.octetDeltaCount)),
                            (False, (ie.packetTotalCount, ie.octetTotalCount))):  # fmt: skip
        for which, (field, element) in enumerate(zip(("packets", "bytes"), elements, strict=True)):
            note = f"{field} of `orig`, or `total`; {'with `--flows`' if delta else 'of events'}"
            parts.append(Part((field,), (element,), counted(which, "orig", delta), note))
            parts.append(Part((field,), (ie.reverse(element),), counted(which, "reply", delta),
                              f"{field} of `reply`"))  # fmt: skip

    def direction(record: Any) -> bytes | None:
        held = counters[record][0] or counters[record][1]
        return b"\1" if held and "reply" in held else None

    note = "1 (initiator) if there are counters of the reply"
    fields = ("packets", "bytes")
    return [*parts, Part(fields, (ie.biflowDirection,), direction, note, always=True)]


def _realm(name: str) -> Octets:
    """A conntrack zone as address realm: of both directions, or of one (in `extra`)."""

    def octets(record: Any) -> bytes | None:
        zone = record.zone
        if zone is None and record.extra:
            zone = record.extra.get(name)
        if not isinstance(zone, int):
            return None
        value = fitting(zone, 2)
        return None if value is None else b"\2" + value

    return octets


def _selector(record: Any) -> bytes | None:
    name = rule_name(record)
    return None if name is None else texts[name]


def flow_parts(interface: Number, times: str) -> list[Part]:
    """The parts of a flow.

    interface   numbers interfaces
    times       milliseconds or nanoseconds
    """
    starts = ("start_ns",), ("last_ns", "stop_ns", "timestamp_ns", "observed_ns")
    notes = ("of a new flow without it, the time of the record", "the first of them that is there")
    return [
        *time_parts(),
        *range_parts(times, starts, _start, _end, notes),
        *FAMILY, *ADDRESSES, *ICMP, *TRANSLATED,
        Part(("nat_saddr", "event"), (ie.natEvent,), _nat_event,
             "4 (NAT44 session create) or 5 (delete) of translated IPv4 flows"),
        Part(("event",), (ie.firewallEvent,), _event, "1 created, 2 deleted, 5 updated"),
        Part(("end_reason", "state", "event"), (ie.flowEndReason,), _reason,
             "1 expired, 2 active, 3 ended by TCP or SCTP, 4 removed, killed or open, 5 evicted",
             always=True),
        *_counter_parts(),
        number_part("id", ie.flowId),
        number_part("mark", ie.mark),
        Part(("zone", "extra"), (ie.internalAddressRealm,), _realm("zone_orig"), "16 bits",
             always=True),
        Part(("zone", "extra"), (ie.externalAddressRealm,), _realm("zone_reply"), "16 bits",
             always=True),
        text_part("netns", ie.VRFname),
        interface_part("indev", ie.ingressInterface, interface),
        interface_part("outdev", ie.egressInterface, interface),
        Part(("rule", "group"), (ie.selectorName,), _selector, "`@GROUP:RULE` of IPFilter"),
    ]  # fmt: skip
