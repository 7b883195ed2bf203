"""What an entry of conntrack says, as the values of a FlowRecord.

`flow` takes the attributes of a message as `netlink.to_dict` gives them, under the kernel's names,
and moves what a field of the record holds into it. The rest stays in `extra` under its name, so
nothing that the kernel sent is lost. `expectation` does the same for an expected flow.

Translation is read from the two tuples: the reply goes back to where the flow came out, so its
destination is the source after translation. A reply that mirrors the original says nothing new.

Sources: net/netfilter/nf_conntrack_netlink.c, nf_conntrack_proto_icmp.c (invmap).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pylog.formats.netlink import NLM_F_CREATE, NLM_F_MULTI
from pylog.formats.nfct_attributes import CT_DELETE, EXP_DELETE, EXPECT_FLAGS, STATES, names_of
from pylog.record import FlowRecord, places_of

Values = list[Any]
"""The values of a FlowRecord in the places of its fields."""

FIELDS = FlowRecord.__struct_fields__
(
    AT_SOURCE, AT_LAYOUT, AT_OFFSET, AT_TIMESTAMP, AT_OBSERVED, AT_EVENT, AT_FLOW_TYPE, AT_FAMILY,
    AT_PROTOCOL, AT_SADDR, AT_DADDR, AT_SPORT, AT_DPORT, AT_ICMP_TYPE, AT_ICMP_CODE, AT_NAT_SADDR,
    AT_NAT_DADDR, AT_NAT_SPORT, AT_NAT_DPORT, AT_PACKETS, AT_BYTES, AT_ID, AT_STATE, AT_STATUS,
    AT_TIMEOUT, AT_MARK, AT_ZONE, AT_START, AT_STOP, AT_END_REASON, AT_EXTRA, AT_RAW,
) = places_of(FlowRecord, (
    "source", "layout", "offset", "timestamp_ns", "observed_ns", "event", "flow_type", "family",
    "protocol", "saddr", "daddr", "sport", "dport", "icmp_type", "icmp_code", "nat_saddr",
    "nat_daddr", "nat_sport", "nat_dport", "packets", "bytes", "id", "state", "status",
    "timeout", "mark", "zone", "start_ns", "stop_ns", "end_reason", "extra", "raw",
))  # fmt: skip

FAMILIES = {2: "ipv4", 10: "ipv6"}
"""By nfgen_family (NFPROTO_)."""
INVERSE = {
    "ipv4": {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17},
    "ipv6": {128: 129, 129: 128, 139: 140, 140: 139},
}
"""The ICMP type of a reply, by the type of the request."""
TRANSLATED = {(False, False): "state", (True, False): "map", (False, True): "rdr",
          (True, True): "rwr_map"}  # fmt: skip
"""IPFilter's word by whether the source and the destination are translated."""


class Ends(NamedTuple):
    """A tuple: addresses and what the transport protocol has instead of or beside ports.

    sport   of ICMP the identifier
    """

    family: str | None
    protocol: int | None
    saddr: str | None
    daddr: str | None
    sport: int | None
    dport: int | None
    icmp_type: int | None
    icmp_code: int | None


def flow(values: Values, fields: dict[str, Any], family: int) -> None:
    """Put the attributes of an entry (nfct_attributes.entry), which are used up, into the values
    of a record that has its event.
    """
    extra: dict[str, Any] = {}
    orig, zone_orig = _taken(fields, "CTA_TUPLE_ORIG")
    reply_fields = copied(fields.get("CTA_TUPLE_REPLY"))
    reply, zone_reply = _taken(fields, "CTA_TUPLE_REPLY")
    if zone_orig is not None:
        extra["zone_orig"] = zone_orig
    if zone_reply is not None:
        extra["zone_reply"] = zone_reply
    _put_ends(values, orig, family, extra)
    status = fields.pop("CTA_STATUS", None)
    kind = translation(orig, reply) if orig is not None and reply is not None else None
    if kind is not None and reply is not None:
        values[AT_FLOW_TYPE] = TRANSLATED[kind]
        if kind != (False, False):
            values[AT_NAT_SADDR], values[AT_NAT_DADDR] = reply.daddr, reply.saddr
            values[AT_NAT_SPORT], values[AT_NAT_DPORT] = reply.dport, reply.sport
            if reply.dport is None:  # an ICMP identifier
                values[AT_NAT_SPORT], values[AT_NAT_DPORT] = reply.sport, None
    else:
        if reply_fields:
            reply_fields.pop("CTA_TUPLE_ZONE", None)
            fields["CTA_TUPLE_REPLY"] = reply_fields
        if status is not None:
            values[AT_FLOW_TYPE] = TRANSLATED["SRC_NAT" in status, "DST_NAT" in status]
    values[AT_STATUS] = status
    for name, at in _NUMBERS:
        if name in fields:
            values[at] = fields.pop(name)
    for name, at in (("PACKETS", AT_PACKETS), ("BYTES", AT_BYTES)):
        values[at] = _counted(fields, name)
    _put_times(values, fields)
    values[AT_STATE] = state_of(fields)
    extra |= pruned(fields)
    values[AT_EXTRA] = extra or None


def expectation(values: Values, fields: dict[str, Any], family: int) -> None:
    """As `flow`, for the attributes of an expectation."""
    extra: dict[str, Any] = {}
    values[AT_FLOW_TYPE] = "expect"
    ends, zone = _taken(fields, "CTA_EXPECT_TUPLE")
    if zone is not None:
        extra["zone_orig"] = zone
    _put_ends(values, ends, family, extra)
    for name, at in (("TIMEOUT", AT_TIMEOUT), ("ID", AT_ID), ("ZONE", AT_ZONE)):
        values[at] = fields.pop(f"CTA_EXPECT_{name}", None)
    if "CTA_EXPECT_FLAGS" in fields:
        fields["CTA_EXPECT_FLAGS"] = names_of(fields["CTA_EXPECT_FLAGS"], EXPECT_FLAGS)
    values[AT_EXTRA] = extra | pruned(fields) or None


_NUMBERS = (
    ("CTA_ID", AT_ID), ("CTA_TIMEOUT", AT_TIMEOUT), ("CTA_MARK", AT_MARK), ("CTA_ZONE", AT_ZONE),
)  # fmt: skip


def event_of(kind: int, flags: int) -> str:
    """The event by nlmsg_type and nlmsg_flags (ctnetlink_conntrack_event, ctnetlink_fill_info)."""
    if flags & NLM_F_MULTI:
        return "dump"
    if kind in (CT_DELETE, EXP_DELETE):
        return "destroy"
    return "new" if flags & NLM_F_CREATE else "update"


def end_reason(portid: int, timeout: int | None) -> str:
    """Why a flow ended, by its destroy event.

    It was removed by the program with the netlink port `portid`, or killed by the kernel while it
    still had time to live, or it expired. Older kernels state no time to live in
    a destroy event, so that there a killed flow counts as expired.
    """
    if portid:
        return "removed"
    return "killed" if timeout else "expired"


def state_of(fields: dict[str, Any]) -> str | int | None:
    """The state of the transport protocol, taken out of CTA_PROTOINFO."""
    for protocol in STATES:
        info = fields.get("CTA_PROTOINFO", {}).get(f"CTA_PROTOINFO_{protocol}", {})
        state: str | int | None = info.pop(f"CTA_PROTOINFO_{protocol}_STATE", None)
        if state is not None:
            return state
    return None


def translation(orig: Ends, reply: Ends) -> tuple[bool, bool] | None:
    """Whether the source and whether the destination are translated.

    None: the tuples do not say, because a part is missing, or the reply is not of the same kind.
    """
    if (
        None in (orig.family, orig.saddr, orig.daddr, reply.saddr, reply.daddr)
        or (orig.family, orig.protocol, orig.icmp_code)
        != (reply.family, reply.protocol, reply.icmp_code)
        or (orig.sport is None, orig.dport is None) != (reply.sport is None, reply.dport is None)
    ):
        return None
    assert orig.family is not None
    if orig.icmp_type is not None or reply.icmp_type is not None:
        if INVERSE[orig.family].get(orig.icmp_type or 0) != reply.icmp_type:
            return None
        if orig.icmp_type is None:
            return None
    if orig.dport is None:  # ICMP: the identifier belongs to the source
        source = orig.saddr != reply.daddr or orig.sport != reply.sport
        return source, orig.daddr != reply.saddr
    source = (orig.saddr, orig.sport) != (reply.daddr, reply.dport)
    return source, (orig.daddr, orig.dport) != (reply.saddr, reply.sport)


def _taken(fields: dict[str, Any], name: str) -> tuple[Ends | None, int | None]:
    """The tuple of that name and its zone, taken out of `fields`; what they do not hold stays."""
    tuple_ = fields.get(name)
    if tuple_ is None:
        return None, None
    ip, proto = tuple_.get("CTA_TUPLE_IP", {}), tuple_.get("CTA_TUPLE_PROTO", {})
    family = next((f for f, v in (("ipv4", "V4"), ("ipv6", "V6")) if f"CTA_IP_{v}_SRC" in ip), None)
    family = family or next(
        (f for f, v in (("ipv4", "V4"), ("ipv6", "V6")) if f"CTA_IP_{v}_DST" in ip), None
    )
    version = "V6" if family == "ipv6" else "V4"
    take = proto.pop
    icmp = (
        "ICMPV6" if "CTA_PROTO_ICMPV6_TYPE" in proto or "CTA_PROTO_ICMPV6_ID" in proto else "ICMP"
    )
    sport = take("CTA_PROTO_SRC_PORT", None)
    if sport is None:
        sport = take(f"CTA_PROTO_{icmp}_ID", None)
    ends = Ends(
        family, take("CTA_PROTO_NUM", None), ip.pop(f"CTA_IP_{version}_SRC", None),
        ip.pop(f"CTA_IP_{version}_DST", None), sport, take("CTA_PROTO_DST_PORT", None),
        take(f"CTA_PROTO_{icmp}_TYPE", None), take(f"CTA_PROTO_{icmp}_CODE", None),
    )  # fmt: skip
    return ends, tuple_.pop("CTA_TUPLE_ZONE", None)


def copied(value: Any) -> Any:
    """A value with copies of all mappings in it."""
    if type(value) is not dict:
        return value
    return {name: copied(part) if type(part) is dict else part for name, part in value.items()}


def _put_ends(values: Values, ends: Ends | None, family: int, extra: dict[str, Any]) -> None:
    """The fields of a tuple, and the family, which is nfgen_family's where the tuple has none."""
    named = FAMILIES.get(family)
    values[AT_FAMILY] = (ends.family if ends is not None else None) or named
    if values[AT_FAMILY] != named or named is None:
        extra["nfgen_family"] = family
    if ends is not None:
        (
            _, values[AT_PROTOCOL], values[AT_SADDR], values[AT_DADDR], values[AT_SPORT],
            values[AT_DPORT], values[AT_ICMP_TYPE], values[AT_ICMP_CODE],
        ) = ends  # fmt: skip


def _counted(fields: dict[str, Any], name: str) -> dict[str, int] | None:
    """The counters by direction, of 64 bits or, of old kernels, of 32 bits; None if not counted."""
    counted = {}
    for direction, nested in (("orig", "CTA_COUNTERS_ORIG"), ("reply", "CTA_COUNTERS_REPLY")):
        counters = fields.get(nested, {})
        for number in (f"CTA_COUNTERS_{name}", f"CTA_COUNTERS32_{name}"):
            if number in counters and direction not in counted:
                counted[direction] = int(counters.pop(number))
    return counted or None


def _put_times(values: Values, fields: dict[str, Any]) -> None:
    """Start, stop and the time of the event, in nanoseconds since 1970: 64 bits end in 2554."""
    times = fields.get("CTA_TIMESTAMP", {})
    for within, name, at in (
        (times, "CTA_TIMESTAMP_START", AT_START),
        (times, "CTA_TIMESTAMP_STOP", AT_STOP),
        (fields, "CTA_TIMESTAMP_EVENT", AT_TIMESTAMP),
    ):
        if name in within:
            values[at] = int(within.pop(name))
    if values[AT_TIMESTAMP] is None and values[AT_EVENT] == "destroy":
        values[AT_TIMESTAMP] = values[AT_STOP]


def pruned(fields: dict[str, Any]) -> dict[str, Any]:
    """The mapping without mappings that are empty, at any depth."""
    left = {}
    for name, value in fields.items():
        kept = pruned(value) if isinstance(value, dict) else value
        if kept != {}:
            left[name] = kept
    return left
