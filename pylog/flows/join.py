"""The join of packets with flows: which conntrack entry a packet belongs to.

The kernel names the entry in NFULA_CT, if the NFLOG group asks for it and the kernel can. Else
records of conntrack lead to it: the flow that had the packet's addresses and ports at that time, on
either side of a translation. A record without exactly one such flow says why: a join never guesses.

The kernel sends the event of a flow after it logged the flow's first packet, and on another socket.
So a packet waits for the records of the next HELD_NS, and a flow that ended is remembered for
KEPT_NS, in which packets of it may still come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from pylog.formats.packet_headers import echo_id
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record, rfc3339
from pylog.record.joined import JoinedRecord, joined

HELD_NS = 100_000_000
KEPT_NS = 10_000_000_000
MAXIMUM_WAITING = 10_000
"""So many records at most wait with a packet."""
MAXIMUM_FLOWS = 262_144
"""So many flows at most are remembered; then the oldest are forgotten, about 1 KB each."""
MAXIMUM_ALIKE = 256
"""Of so many flows with the same ends at most it is looked which one was in force."""
MAXIMUM_STATES = 16
"""So many states of a flow are remembered, the last ones."""
SLACK_NS = 1_000_000
"""How far the kernel's times of a packet and of its flow's event are apart at most: the packet has
the time when it came in."""
OBSERVED_SLACK_NS = 1_000_000_000
"""The same, where an event has only the time when it was received, which a busy reader delays."""
STEP_NS = 60_000_000_000
"""A record that is so much older than the newest one shows that the clock was set back."""
FLUSH_NS = 1_100_000_000
"""How long the kernel holds a packet of NFLOG, with a tenth more: flushtimeout is 1 s (HZ)."""

_ICMP = (1, 58)


class Ends(NamedTuple):
    """Where a packet comes from and goes to. Both ports of an ICMP query are its identifier."""

    protocol: int | None
    saddr: str | None
    sport: int | None
    daddr: str | None
    dport: int | None

    def reverse(self) -> Ends:
        """The ends of an answer."""
        return Ends(self.protocol, self.daddr, self.dport, self.saddr, self.sport)


class _Sides(NamedTuple):
    """The ends of a flow's packets as they are sent, and after the translation."""

    sent: Ends
    translated: Ends

    def all(self) -> Iterator[tuple[Ends, str, Ends]]:
        """The ends that a packet can have, its direction, and its ends on the other side.

        A packet between the translation of its destination and that of its source has a third form.
        """
        sent, translated = self
        between = sent._replace(daddr=translated.daddr, dport=translated.dport)
        yield sent, "original", translated
        yield translated, "original", sent
        yield translated.reverse(), "reply", sent.reverse()
        yield sent.reverse(), "reply", translated.reverse()
        yield between, "original", translated
        yield between.reverse(), "reply", sent.reverse()


class _Times(NamedTuple):
    """When a packet was logged, at the earliest and at the latest."""

    earliest_ns: int
    latest_ns: int


class _Flow:
    """A flow that is or was in force."""

    __slots__ = ("ended_ns", "kernel_time", "sides", "source", "start_ns", "states")

    def __init__(self, record: FlowRecord, sides: _Sides) -> None:
        self.source = record
        """The record that brought the flow."""
        self.sides = sides
        time = _time(record)
        is_new = record.event == "new"
        self.start_ns = record.start_ns or (time if is_new else None)
        """When it began; None: before the log."""
        self.ended_ns: int | None = None
        self.kernel_time = record.timestamp_ns is not None or record.start_ns is not None
        self.states: deque[tuple[int | None, str | int]] = deque(maxlen=MAXIMUM_STATES)
        self.follow(record)

    def follow(self, record: FlowRecord) -> None:
        """Note the state of a later record of the flow."""
        state = _state(record.state, record.status)
        if state is not None and (not self.states or self.states[-1][1] != state):
            self.states.append((_time(record), state))

    def covers(self, times: _Times | None) -> bool:
        """Whether it can have been in force then; without a time, whether it is now."""
        if times is None:
            return self.ended_ns is None
        slack_ns = SLACK_NS if self.kernel_time else OBSERVED_SLACK_NS
        if self.start_ns is not None and times.latest_ns < self.start_ns - slack_ns:
            return False
        return self.ended_ns is None or times.earliest_ns <= self.ended_ns + slack_ns

    def state_at(self, times: _Times | None) -> str | int | None:
        """The last state that was announced by then; if there is none, the first. None: it is not
        certain, because times of receipt do not show what came first.
        """
        delay_ns = 0 if self.kernel_time else OBSERVED_SLACK_NS
        last = None
        for announced_ns, state in self.states:
            if last is not None and times is not None and announced_ns is not None:
                if times.latest_ns < announced_ns - delay_ns:
                    break
                if times.earliest_ns < announced_ns:
                    return None
            last = state
        return last


class FlowJoin:
    """Gives packets of NFLOG the flow they belong to; other records pass unchanged.

    Feed records of conntrack and of NFLOG in the order of their times.
    """

    def __init__(self) -> None:
        self._held: deque[Record] = deque()
        self._flows: dict[Any, _Flow] = {}
        """Flows in force, by their key, the oldest first."""
        self._by_ends: dict[Ends, dict[_Flow, None]] = {}
        self._ended: deque[_Flow] = deque()
        self._clock_ns: int | None = None
        self._seen = False
        self._doubt: str | None = None
        """Why flows may be missing."""

    @property
    def waiting(self) -> bool:
        """Whether a packet waits for records of its flow."""
        return bool(self._held)

    def feed(self, records: Iterable[Record]) -> list[Record]:
        """Take records; gives those that do not wait any longer."""
        given: list[Record] = []
        for record in records:
            time_ns = _time(record)
            if time_ns is not None and not 0 <= (self._clock_ns or 0) - time_ns < STEP_NS:
                self._clock_ns = time_ns
            if isinstance(record, FlowRecord) and record.source == "nfct":
                self._follow(record)
            elif isinstance(record, LossRecord) and record.log in ("nfct", None):
                self._doubt = "records of flows were lost"
            if self._held or _joins(record):
                self._held.append(record)
            else:
                given.append(record)
            given += self._due()
        return given

    def end(self) -> list[Record]:
        """Give what waits; also when no record comes for a while."""
        return [self._give(self._held.popleft()) for _ in range(len(self._held))]

    def _due(self) -> Iterator[Record]:
        """What has waited long enough, in order."""
        while self._held:
            time_ns, clock_ns = _time(self._held[0]), self._clock_ns
            late = (
                time_ns is not None
                and clock_ns is not None
                and not -STEP_NS < clock_ns - time_ns <= HELD_NS
            )
            if _joins(self._held[0]) and not late and len(self._held) <= MAXIMUM_WAITING:
                return
            yield self._give(self._held.popleft())

    def _give(self, record: Record) -> Record:
        return self._join(record) if _joins(record) else record  # type: ignore[arg-type]

    # Flows

    def _follow(self, record: FlowRecord) -> None:
        if record.flow_type == "expect":
            return
        self._seen = True
        key = _key(record)
        flow = self._flows.get(key)
        if record.event == "new" and flow is not None and flow.source.event == "new":
            self._end(key, _time(record))  # its end was lost
            flow = None
        if flow is None:
            flow = self._begin(key, record)
        else:
            flow.follow(record)
        if flow is not None and record.event in ("destroy", "end"):
            self._end(key, record.stop_ns or _time(record))

    def _begin(self, key: Any, record: FlowRecord) -> _Flow | None:
        sides = _sides_of_flow(record)
        if sides is None:
            return None
        flow = self._flows[key] = _Flow(record, sides)
        for ends in {form[0] for form in sides.all()}:
            self._by_ends.setdefault(ends, {})[flow] = None
        if len(self._flows) > MAXIMUM_FLOWS:
            self._doubt = f"only {MAXIMUM_FLOWS} flows are remembered"
            self._forget(self._flows.pop(next(iter(self._flows))))
        return flow

    def _end(self, key: Any, time_ns: int | None) -> None:
        flow = self._flows.pop(key)
        flow.ended_ns = self._clock_ns or 0 if time_ns is None else time_ns
        self._ended.append(flow)
        before = (self._clock_ns or 0) - KEPT_NS
        while self._ended and (
            len(self._ended) > MAXIMUM_FLOWS or (self._ended[0].ended_ns or 0) < before
        ):
            self._forget(self._ended.popleft())

    def _forget(self, flow: _Flow) -> None:
        for ends in {form[0] for form in flow.sides.all()}:
            flows = self._by_ends[ends]
            del flows[flow]
            if not flows:
                del self._by_ends[ends]

    # Packets

    def _join(self, packet: PacketRecord) -> JoinedRecord:
        extra = packet.extra or {}
        entry = extra.get("NFULA_CT")
        if isinstance(entry, dict) and "CTA_ID" in entry:
            return joined(packet, **self._by_entry(packet, entry, str(extra.get("NFULA_CT_INFO"))))
        if extra.get("NFULA_CT_INFO") == "UNTRACKED":
            return joined(packet, flow_unknown="the packet is not tracked")
        return joined(packet, **self._by_ends_of(packet))

    def _by_entry(self, packet: PacketRecord, entry: dict[str, Any], info: str) -> dict[str, Any]:
        """The fields, by the entry that the kernel gave with the packet."""
        times = _times(packet)
        ends, reply = _ends_of(entry.get("CTA_TUPLE_ORIG")), _ends_of(entry.get("CTA_TUPLE_REPLY"))
        sides = None if ends is None else _Sides(ends, ends if reply is None else reply.reverse())
        alike = {} if ends is None else self._by_ends.get(ends, {})
        if len(alike) > MAXIMUM_ALIKE:
            alike = {}
        number = entry["CTA_ID"]
        same = [flow for flow in alike if flow.source.id == number and flow.covers(times)]
        flow = same[-1] if len(same) == 1 else None
        start = entry.get("CTA_TIMESTAMP", {}).get("CTA_TIMESTAMP_START")
        start_ns = int(start) if start is not None else flow.start_ns if flow else None
        states = entry.get("CTA_PROTOINFO", {})
        numbers = [value.get(f"{name}_STATE") for name, value in states.items()
                   if isinstance(value, dict)]  # fmt: skip
        state = _state(next(iter(numbers), None), entry.get("CTA_STATUS"))
        # before its first packet leaves, an entry has no translation of the source
        sides = sides if flow is None else flow.sides
        direction = "reply" if info.endswith("_REPLY") else "original"
        fields: dict[str, Any] = (
            {} if sides is None else _other_side(sides, _ends(packet), direction)
        )
        return {
            **fields, "flow_id": number, "flow_state": state, "flow_direction": direction,
            "flow_age": _age(start_ns, times), "flow_match": "kernel",
        }  # fmt: skip

    def _by_ends_of(self, packet: PacketRecord) -> dict[str, Any]:
        """The fields, by the flow that has the packet's ends."""
        ends = _ends(packet)
        if ends is None:
            return {"flow_unknown": "the packet's addresses and ports were not logged"}
        times, alike = _times(packet), self._by_ends.get(ends, {})
        if len(alike) > MAXIMUM_ALIKE:
            return {"flow_unknown": f"{len(alike)} flows have or had these addresses and ports"}
        fits = [
            flow for flow in alike
            if (packet.host is None or flow.source.host in (None, packet.host))
            and flow.covers(times)
        ]  # fmt: skip
        if len(fits) > 1:
            listed = [_candidate(flow) for flow in islice(fits, 16)]
            many = f"{len(fits)} flows have these addresses and ports at that time"
            return {"flow_unknown": many, "flow_candidates": listed}
        if not fits:
            missing = "no flow has these addresses and ports at that time"
            why = self._doubt if self._seen else "the log has no records of flows"
            return {"flow_unknown": f"{missing}; {why}" if why else missing}
        (flow,) = fits
        direction = next(word for form, word, _ in flow.sides.all() if form == ends)
        if flow.source.protocol in _ICMP:  # its ends are the same both ways if it is to itself
            direction = "original" if packet.icmp_type == flow.source.icmp_type else "reply"
        return {
            **_other_side(flow.sides, ends, direction), "flow_id": flow.source.id,
            "flow_state": flow.state_at(times), "flow_direction": direction,
            "flow_age": _age(flow.start_ns, times), "flow_match": "ends",
        }  # fmt: skip


def _joins(record: Record) -> bool:
    return isinstance(record, PacketRecord) and record.source == "nflog"


def _time(record: Record) -> int | None:
    return record.observed_ns if record.timestamp_ns is None else record.timestamp_ns


def _times(packet: PacketRecord) -> _Times | None:
    time_ns = _time(packet)
    if time_ns is None:
        return None
    return _Times(time_ns - FLUSH_NS if packet.timestamp_ns is None else time_ns, time_ns)


def _age(start_ns: int | None, times: _Times | None) -> float | None:
    if start_ns is None or times is None:
        return None
    return max(0, times.latest_ns - start_ns) / 1e9


def _key(record: FlowRecord) -> Any:
    extra = record.extra or {}
    return (record.host, record.netns, record.zone, extra.get("zone_orig"), record.id,
            record.protocol, record.saddr, record.sport, record.daddr, record.dport)  # fmt: skip


def _state(state: str | int | None, status: list[str | int] | None) -> str | int | None:
    """The state of an entry, as one word."""
    if state is not None or status is None:
        return state
    return (
        "ASSURED" if "ASSURED" in status else "REPLIED" if "SEEN_REPLY" in status else "UNREPLIED"
    )


def _sides_of_flow(record: FlowRecord) -> _Sides | None:
    """The ends of a flow; None if the record lacks its addresses."""
    if record.saddr is None or record.daddr is None:
        return None
    is_icmp = record.protocol in _ICMP
    sent = Ends(record.protocol, record.saddr, record.sport, record.daddr,
                record.sport if is_icmp else record.dport)  # fmt: skip
    if record.nat_saddr is None and record.nat_daddr is None:
        return _Sides(sent, sent)
    sport = sent.sport if record.nat_sport is None else record.nat_sport
    dport = sent.dport if record.nat_dport is None else record.nat_dport
    return _Sides(
        sent,
        Ends(record.protocol, record.nat_saddr or record.saddr, sport,
             record.nat_daddr or record.daddr, sport if is_icmp else dport),
    )  # fmt: skip


def _ends(packet: PacketRecord) -> Ends | None:
    """The ends of a packet, or of the packet that an ICMP error quotes; None if they are cut off.

    A later fragment has no ports.
    """
    get = (packet.extra or {}).get("inner", {}).get
    if packet.protocol in _ICMP and get("saddr") is not None:
        protocol, sport = get("protocol"), get("sport")
        ends = Ends(protocol, get("saddr"), sport, get("daddr"), get("dport"))
        return ends if protocol not in _ICMP else None
    if packet.saddr is None or packet.daddr is None or packet.cut:
        return None
    if packet.fragment is not None and packet.fragment.offset:
        return None
    if packet.protocol in _ICMP:
        number = echo_id(packet.payload, packet.family)
        return None if number is None else Ends(packet.protocol, packet.saddr, number, packet.daddr,
                                                number)  # fmt: skip
    return Ends(packet.protocol, packet.saddr, packet.sport, packet.daddr, packet.dport)


def _ends_of(entry: Any) -> Ends | None:
    """The ends in a tuple of NFULA_CT."""
    if not isinstance(entry, dict):
        return None
    addresses, protocol = entry.get("CTA_TUPLE_IP", {}), entry.get("CTA_TUPLE_PROTO", {})
    saddr, daddr = (
        addresses.get(f"CTA_IP_V4_{end}") or addresses.get(f"CTA_IP_V6_{end}")
        for end in ("SRC", "DST")
    )
    if saddr is None or daddr is None:
        return None
    number = protocol.get("CTA_PROTO_ICMP_ID", protocol.get("CTA_PROTO_ICMPV6_ID"))
    sport = protocol.get("CTA_PROTO_SRC_PORT", number)
    dport = protocol.get("CTA_PROTO_DST_PORT", number)
    return Ends(protocol.get("CTA_PROTO_NUM"), saddr, sport, daddr, dport)


def _other_side(sides: _Sides, ends: Ends | None, direction: str) -> dict[str, Any]:
    """The fields nat_*, for a packet with these ends and direction."""
    if sides.sent == sides.translated:
        return {}
    other = next(
        (far for form, word, far in sides.all() if (form, word) == (ends, direction)), None
    )
    if other is None:  # the ends were not logged
        return {}
    return {"nat_saddr": other.saddr, "nat_sport": other.sport, "nat_daddr": other.daddr,
            "nat_dport": None if other.protocol in _ICMP else other.dport}  # fmt: skip


def _candidate(flow: _Flow) -> dict[str, Any]:
    start = None if flow.start_ns is None else rfc3339(flow.start_ns)
    shown = {"id": flow.source.id, "zone": flow.source.zone, "netns": flow.source.netns,
             "start": start}  # fmt: skip
    return {name: value for name, value in shown.items() if value is not None}
