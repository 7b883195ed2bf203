"""The kinds of record: packet, flow and loss, with all their fields.

Each kind is declared once, as a generic base class, and has two types: a record, with integer times
and packet bytes, and a row, the same record as JSON and CSV show it, with times and bytes as text.
The `Field` of a field has what outputs, tables and documentation need. Formats of other
distributions declare kinds as subclasses of BaseRecord, see pylog.record.registry.

Records are immutable. None means that the source did not say; it is never 0 and never "".
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import msgspec

from pylog.record.base import (
    OBSERVED,
    OFFSET,
    RAW,
    TIMESTAMP,
    Count,
    Extra,
    Host,
    Layout,
    Octets,
    Origin,
    Seq,
    Source,
)
from pylog.record.counter import CounterRecord
from pylog.record.fields import Field, json_name
from pylog.record.methods import Methods
from pylog.record.ruleset import RulesetRecord, TraceRecord

MAX_SECONDS = 253402300799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can write."""

UNNUMBERED = frozenset(("pflog", "filterlog", "tcpdump"))
"""Sources whose records have a group of rules, and no number of their own."""

Time = TypeVar("Time", int, str)
"""Nanoseconds since 1970 UTC in a record, RFC 3339 text in a row."""
Payload = TypeVar("Payload", bytes, str)
"""The bytes in a record, their hex in a row."""
Number = TypeVar("Number", int, int | str)
"""A number that JSON may have to hold as text, see json.EXACT."""


class Fragment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An IP fragment: the `id` of its datagram, its `offset` in bytes, `more` if others follow.

    `dont` is the don't-fragment bit, which a fragment of a tunnel may carry.
    """

    id: int | None = None
    offset: int | None = None
    more: bool = False
    dont: bool = False


class Vlan(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A VLAN tag: `id` 0..4095, `priority` (PCP), `dei`, `protocol` (the tag's EtherType)."""

    id: int
    priority: int = 0
    dei: bool = False
    protocol: int | None = None


# Fields of several kinds

_Rule = Annotated[
    int | None,
    Field(
        "the rule's number: of IPFilter as ipmon shows it (the stored one + 1), of pf as pfctl does"
        " (from 0), of ipfw its own",
        "i64",
    ),
]
_Group = Annotated[
    str | None,
    Field(
        "IPFilter: the rule's group as ipmon shows it; NFLOG: the group's number, as text; pf: the"
        " anchor",
        "word",
    ),
]
_Indev = Annotated[
    str | int | None,
    Field("the interface it came in by: a name, or a number where the log has only that", "name"),
]
_Outdev = Annotated[str | int | None, Field("the interface it goes out by, as `indev`", "name")]
_Family = Annotated[str | int | None, Field("ipv4, ipv6, arp, or the EtherType's number", "name")]
_Protocol = Annotated[
    int | None, Field("the IP protocol's number, after IPv6 extension headers", "u8")
]
_Saddr = Annotated[str | None, Field("source address; of a flow before translation", "address")]
_Daddr = Annotated[
    str | None, Field("destination address; of a flow before translation", "address")
]
_Sport = Annotated[int | None, Field("source port; of a flow before translation", "u16")]
_Local = Annotated[
    str | None,
    Field(
        "of a text log: the time as it is written there, if it lacks the year or the zone, or"
        " counts from the start of the machine",
        "word",
        since=5,
    ),
]
_Dport = Annotated[int | None, Field("destination port; of a flow before translation", "u16")]


class Packet(
    msgspec.Struct,
    Generic[Time, Payload],
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    rename=json_name,
):
    """The fields of a packet."""

    source: Source
    layout: Layout
    offset: Annotated[int | None, OFFSET] = None
    timestamp_ns: Annotated[Time | None, TIMESTAMP] = None
    observed_ns: Annotated[Time | None, OBSERVED] = None
    seq: Seq = None
    count: Count = None
    action: Annotated[
        str | int | None,
        Field(
            "pass, block, nomatch, log, or the number of another command; of pf also match, nat,"
            " rdr and others; of NFLOG and the kernel's LOG only with `--action`",
            "name",
        ),
    ] = None
    short: Annotated[
        bool | None, Field("true when the filter found the packet too short", "bool")
    ] = None
    direction: Annotated[str | None, Field("in, out or forward", "word")] = None
    hook: Annotated[
        str | int | None,
        Field(
            "prerouting, input, forward, output, postrouting, ingress, egress, or the number",
            "name",
        ),
    ] = None
    rule: _Rule = None
    group: _Group = None
    prefix: Annotated[str | None, Field("the prefix of the NFLOG or LOG rule", "word")] = None
    reason: Annotated[
        str | int | None,
        Field("why IPFilter blocked, or pf's reason: a word or the number", "name"),
    ] = None
    indev: _Indev = None
    outdev: _Outdev = None
    physindev: Annotated[
        str | int | None, Field("the bridge's port it came in by, as `indev`", "name")
    ] = None
    physoutdev: Annotated[
        str | int | None, Field("the bridge's port it goes out by, as `indev`", "name")
    ] = None
    mark: Annotated[int | None, Field("the packet's mark", "u32")] = None
    uid: Annotated[int | None, Field("the user of the socket it belongs to", "u32")] = None
    gid: Annotated[int | None, Field("the group of the socket it belongs to", "u32")] = None
    hwaddr: Annotated[
        str | None, Field("the source address of the link header, as hex with colons", "word")
    ] = None
    hwtype: Annotated[int | None, Field("the ARPHRD_ type of the link", "u16")] = None
    hwheader: Annotated[str | None, Field("the link header, as hex", "word")] = None
    vlan: Annotated[
        tuple[Vlan, ...] | None,
        Field(
            'the VLAN tags, outermost first: `{"id", "priority", "dei", "protocol"}`, 0 and false'
            " left out",
            "vlan",
        ),
    ] = None
    family: _Family = None
    protocol: _Protocol = None
    saddr: _Saddr = None
    daddr: _Daddr = None
    sport: _Sport = None
    dport: _Dport = None
    tcp_flags: Annotated[
        str | None, Field('letters in ipmon\'s order ARSFUPEC, "-" for none set', "word")
    ] = None
    icmp_type: Annotated[int | None, Field("the type of an ICMP message", "u8")] = None
    icmp_code: Annotated[int | None, Field("the code of an ICMP message", "u8")] = None
    fragment: Annotated[
        Fragment | None,
        Field(
            '`{"id", "offset", "more", "dont"}` of an IP fragment, the offset in bytes, false'
            " left out",
            "fragment",
        ),
    ] = None
    length: Annotated[
        int | None,
        Field(
            "bytes of the packet before any cut, as its IP header says (IPv6: with the 40 bytes"
            " of the header); absent if that is less than was logged: 0 with TSO and BIG TCP, or"
            " padding of the link follows",
            "i64",
        ),
    ] = None
    caplen: Annotated[int | None, Field("how many bytes of it were logged", "u32")] = None
    cut: Annotated[
        str | None,
        Field("the header in which the logged bytes end, so that fields of it are missing", "word"),
    ] = None
    extra: Extra = None
    payload: Annotated[
        Payload | None,
        Field("the logged bytes from the network header on, in network byte order", "octets"),
    ] = None
    raw: Annotated[Octets | None, RAW] = None
    origin: Origin = None
    host: Host = None
    timestamp_local: _Local = None

    @property
    def log(self) -> str:
        """The log within the source that numbers the record: ipf, or an NFLOG group; "" for a
        source that numbers nothing.
        """
        if self.source in ("ipl", "ipmon"):
            return "ipf"
        return "" if self.source in UNNUMBERED else self.group or ""


class Flow(
    msgspec.Struct,
    Generic[Time, Number],
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    rename=json_name,
):
    """The fields of a flow."""

    source: Source
    layout: Layout
    offset: Annotated[int | None, OFFSET] = None
    timestamp_ns: Annotated[Time | None, TIMESTAMP] = None
    observed_ns: Annotated[Time | None, OBSERVED] = None
    seq: Seq = None
    count: Count = None
    event: Annotated[
        str | int | None,
        Field(
            "new, update, clone, expire, flush, destroy, remove... in the kernel's words, or the"
            " number; dump for an entry of a listing; with `--flows` end, and active for a report"
            " of a flow that goes on",
            "name",
        ),
    ] = None
    flow_type: Annotated[
        str | int | None,
        Field(
            "state; map, rdr, bimap, mapblock, rwr_map...; nat where the record does not say;"
            " expect for an expected flow",
            "name",
        ),
    ] = None
    rule: _Rule = None
    group: _Group = None
    indev: _Indev = None
    outdev: _Outdev = None
    family: _Family = None
    protocol: _Protocol = None
    saddr: _Saddr = None
    daddr: _Daddr = None
    sport: _Sport = None
    dport: _Dport = None
    icmp_type: Annotated[int | None, Field("the type of an ICMP message", "u16")] = None
    nat_saddr: Annotated[str | None, Field("source address after translation", "address")] = None
    nat_daddr: Annotated[str | None, Field("destination address after translation", "address")] = (
        None
    )
    nat_sport: Annotated[int | None, Field("source port after translation", "u16")] = None
    nat_dport: Annotated[int | None, Field("destination port after translation", "u16")] = None
    packets: Annotated[
        dict[str, Number] | None,
        Field(
            "packets by direction: `total`, or `in` and `out`, or `forward_in`, `forward_out`,"
            " `backward_in`, `backward_out`; of conntrack and with `--flows` `orig` and `reply`;"
            " absent if they were not counted",
            "counters",
        ),
    ] = None
    bytes: Annotated[
        dict[str, Number] | None, Field("bytes by direction, as `packets`", "counters")
    ] = None
    icmp_code: Annotated[int | None, Field("the code of an ICMP message", "u8", since=4)] = None
    id: Annotated[
        int | None,
        Field("the kernel's number of the entry, which may be used again", "u32", since=4),
    ] = None
    state: Annotated[
        str | int | None,
        Field("the state of TCP or SCTP, a name or the number", "name", since=4),
    ] = None
    status: Annotated[
        list[str | int] | None,
        Field("the bits that are set in the status of a conntrack entry (IPS_*)", "json", since=4),
    ] = None
    timeout: Annotated[
        int | None,
        Field("seconds until the entry expires if no packet comes", "u32", since=4),
    ] = None
    mark: Annotated[int | None, Field("the mark of the entry", "u32", since=4)] = None
    zone: Annotated[int | None, Field("the conntrack zone, absent for zone 0", "u16", since=4)] = (
        None
    )
    netns: Annotated[
        str | int | None,
        Field(
            "the network namespace that has the flow, where several are read: its name, or the"
            " number (nsid) that this one has for it",
            "name",
            since=4,
        ),
    ] = None
    start_ns: Annotated[
        Time | None, Field("when the flow began, by the kernel's clock", "time", since=4)
    ] = None
    stop_ns: Annotated[
        Time | None,
        Field("when the entry ended; if it expired, its idle timeout is included", "time", since=4),
    ] = None
    via: Annotated[
        str | None,
        Field(
            "how pylog learned of it, where no event says it: snapshot (it was there when reading"
            " began), repair (a listing after a loss) or poll (a listing for its counters)",
            "word",
            since=4,
        ),
    ] = None
    end_reason: Annotated[
        str | None,
        Field(
            "why the flow ended: expired (no packet came), removed (on request), killed (by the"
            " kernel before its time), lost (it ended in a loss), unseen (no event reported it, it"
            " is in no listing any more); with `--flows` also of one that goes on: active, evicted"
            " and open",
            "word",
            since=4,
        ),
    ] = None
    last_ns: Annotated[
        Time | None, Field("with `--flows`: when its last packet passed", "time", since=4)
    ] = None
    duration_us: Annotated[
        int | None,
        Field("with `--flows`: microseconds from the first to the last packet", "i64", since=4),
    ] = None
    first_state: Annotated[
        str | int | None,
        Field("with `--flows`: its first state; `state` is the last", "name", since=4),
    ] = None
    extra: Extra = None
    raw: Annotated[Octets | None, RAW] = None
    origin: Origin = None
    host: Host = None
    timestamp_local: _Local = None

    @property
    def log(self) -> str:
        """The log within the source that numbers the record: state, nat or nfct."""
        if self.source == "nfct":
            return "nfct"
        return "state" if self.flow_type == "state" else "nat"


class Loss(
    msgspec.Struct,
    Generic[Time, Number],
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    rename=json_name,
):
    """The fields of a loss."""

    source: Source
    layout: Layout
    offset: Annotated[Number | None, OFFSET] = None
    timestamp_ns: Annotated[Time | None, TIMESTAMP] = None
    observed_ns: Annotated[Time | None, OBSERVED] = None
    seq: Annotated[int | None, Field("the number of the first lost record", "u32")] = None
    count: Annotated[
        Number | None, Field("how many records were lost, absent if unknown", "u64")
    ] = None
    size: Annotated[Number | None, Field("how many bytes at `offset` could not be read", "i64")] = (
        None
    )
    log: Annotated[
        str | None,
        Field(
            "the log that lost records: ipf, nat, state, nfct, ruleset, or the NFLOG group", "word"
        ),
    ] = None
    reason: Annotated[str | None, Field("how the loss was seen", "word")] = None
    raw: Annotated[Octets | None, RAW] = None
    origin: Origin = None
    host: Host = None

    @property
    def cut_off(self) -> bool:
        """Whether it stands for an input that ends within a record, or before the end of its
        compression: nothing is lost, the rest is not written yet or was not copied.
        """
        return " cut off" in (self.reason or "").partition(",")[0]

    def describe(self) -> str:
        """What was lost, where and why, as text."""
        if self.cut_off:
            return f"{'' if self.offset is None else f'at offset {self.offset}: '}{self.reason}"
        where = "" if self.offset is None else f" at offset {self.offset}"
        why = "" if self.reason is None else f": {self.reason}"
        return f"lost {self.amount()}{where}{why}"

    def amount(self) -> str:
        """How much was lost, as text."""
        amounts = []
        if self.count is not None:
            amounts.append("1 record" if self.count == 1 else f"{self.count} records")
        if self.size is not None:
            amounts.append(f"{self.size} bytes")
        return ", ".join(amounts) or "an unknown number of records"


class PacketRecord(Methods, Packet[int, bytes], frozen=True, gc=False, tag="packet"):
    """A packet that a firewall rule logged (or `count` equal ones, where the kernel folded them).

    payload   the logged bytes from the network header on, as they were on the wire
    extra     everything else the source says, under the kernel's names; JSON-ready values
    raw       the complete message as the kernel wrote it, if the reader was asked for it
    """

    kind: ClassVar[Literal["packet"]] = "packet"


class FlowRecord(Methods, Flow[int, int], frozen=True, gc=False, tag="flow"):
    """An event of a state, NAT or conntrack entry.

    saddr, daddr, sport, dport      the flow as its first packet had it
    nat_saddr, nat_daddr, ...       the translated ones
    packets, bytes                  counters by direction, under the source's names for them
    """

    kind: ClassVar[Literal["flow"]] = "flow"


class LossRecord(Methods, Loss[int, int], frozen=True, gc=False, tag="loss"):
    """Something was lost here: `count` records (None: unknown), or `size` bytes at `offset`.

    log       the log that lost them: an NFLOG group, or ipf, nat or state of IPFilter
    reason    how the loss was seen
    """

    kind: ClassVar[Literal["loss"]] = "loss"


class PacketRow(Packet[str, str], frozen=True, gc=False, tag="packet"):
    """A packet as JSON and CSV show it."""


class FlowRow(Flow[str, int | str], frozen=True, gc=False, tag="flow"):
    """A flow as JSON and CSV show it."""


class LossRow(Loss[str, int | str], frozen=True, gc=False, tag="loss"):
    """A loss as JSON and CSV show it."""


class PacketHeaders(msgspec.Struct, frozen=True, gc=False):
    """Fields of a packet's headers that are decoded on request only.

    They are columns like those of PacketRecord where they are asked for by name. They have a type
    of their own because nine more fields made every PacketRecord a sixth slower. None: the header
    is cut off, or the packet has none. See formats.packet_headers.requested.
    """

    ttl: Annotated[
        int | None, Field("how many hops are left: the IPv4 TTL or IPv6 hop limit", "u8")
    ] = None
    tos: Annotated[int | None, Field("the IPv4 TOS or IPv6 traffic class: DSCP and ECN", "u8")] = (
        None
    )
    ip_id: Annotated[int | None, Field("the IPv4 identification", "u16")] = None
    flow_label: Annotated[int | None, Field("the IPv6 flow label", "u32")] = None
    tcp_seq: Annotated[int | None, Field("the TCP sequence number", "u32")] = None
    tcp_ack: Annotated[
        int | None, Field("the TCP acknowledgment number, whether ACK is set or not", "u32")
    ] = None
    tcp_window: Annotated[int | None, Field("the TCP window, not scaled", "u16")] = None
    tcp_options: Annotated[
        str | None,
        Field(
            "the TCP options as tcpdump prints them, as far as they were logged and make sense",
            "word",
        ),
    ] = None
    udp_length: Annotated[int | None, Field("the length in the UDP header, in bytes", "u16")] = None


Record = PacketRecord | FlowRecord | LossRecord | RulesetRecord | TraceRecord | CounterRecord
Row = PacketRow | FlowRow | LossRow
