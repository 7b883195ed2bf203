"""NAT and state entries of any version of IPFilter as records of another version.

5.x logs both ends of a flow before and after translation. Older versions log the inside, the
outside and the peer, so only a flow with one translated end fits in there. A value that the layout
has no room for is counted by Fields; a record without a counterpart raises Impossible.

Sources: ip_nat.c and ip_state.c of IPFilter 3.4 to 5.1.
"""

from __future__ import annotations

from pylog.formats import ipl_names as names
from pylog.formats.ipl_fields import Fields, Impossible
from pylog.formats.ipl_layouts import Layout
from pylog.formats.plan import BYTEORDER
from pylog.record import FlowRecord


def put_nat(layout: Layout, fields: Fields, record: FlowRecord) -> None:
    """Put struct natlog into the fields; Impossible if the layout cannot hold it."""
    extra = record.extra or {}
    modern = layout.version.major >= 5
    if record.family == "ipv6" and fields.size_of("nl_osrcip" if modern else "nl_inip") == 4:
        raise Impossible(f"IPv6 NAT, which {layout.version.name} does not log")
    (_put_nat_5 if modern else _put_nat_4)(fields, record)
    fields.put("nl_rule", -1 if record.rule is None else record.rule - 1)
    for name, value, absent in (
        ("nl_p", record.protocol or 0, 0),
        ("nl_v", 6 if record.family == "ipv6" else 4, 4),
    ):
        logged = extra.get(name, value)
        pair = bytes(logged) if isinstance(logged, list) else bytes((logged, logged))
        single = logged if isinstance(logged, int) else value
        fields.put(name, pair if fields.size_of(name) == 2 else single, absent=absent)
    _put_counters(fields, record, "nl", names.NAT_DIRECTIONS)
    devices = [str(device or "").encode() for device in (record.indev, record.outdev)]
    fields.lost["nl_ifnames"] += any(len(device) > 16 for device in devices)
    both = b"".join(device[:16].ljust(16, b"\0") for device in devices)
    fields.put("nl_ifnames", both, absent=bytes(32))


def _put_nat_5(fields: Fields, record: FlowRecord) -> None:
    """Four ends: source and destination before and after translation."""
    source, peer = (record.saddr, record.sport), (record.daddr, record.dport)
    mapped = record.nat_saddr, record.nat_sport
    new_peer = record.nat_daddr, record.nat_dport
    if record.nat_daddr is None:  # logged before 5.0: inside, outside and peer
        new_peer = peer
        if record.flow_type == "rdr":
            source, peer, mapped, new_peer = peer, mapped, peer, source
    for name, end in (("osrc", source), ("odst", peer), ("nsrc", mapped), ("ndst", new_peer)):
        fields.put_end(end, f"nl_{name}ip", f"nl_{name}port")
    action = names.number(names.NAT_EVENTS_5, record.event)
    kind = names.number(names.NAT_KINDS_5, record.flow_type)
    if action is None:
        raise Impossible(f"NAT events {record.event!r}")
    if kind is None:  # an event of 4.x does not say what kind of entry it is of
        fields.lost["nl_type"] += 1
    fields.put("nl_action", action)
    fields.put("nl_type", kind or 0)


def _put_nat_4(fields: Fields, record: FlowRecord) -> None:
    """Three ends: the inside, the outside and the peer."""
    inside, outside = (record.saddr, record.sport), (record.nat_saddr, record.nat_sport)
    peer = record.daddr, record.dport
    if record.nat_daddr is not None:  # logged by 5.x: four ends, of which one or two differ
        new_peer = record.nat_daddr, record.nat_dport
        if inside == outside:
            inside, outside, peer = new_peer, peer, inside
        elif peer != new_peer:
            raise Impossible("NAT of both ends, which is new in 5.0")
    for name, end in (("in", inside), ("out", outside), ("orig", peer)):
        fields.put_end(end, f"nl_{name}ip", f"nl_{name}port")
    if record.event == "new":
        kinds = {word: number for number, word in names.NAT_KINDS.items()}
        number = kinds.get(str(record.flow_type))
    else:
        number = names.number(names.NAT_EVENTS_4, record.event)
        fields.lost["nl_type"] += record.flow_type != "nat"  # the event takes its place
    if number is None:
        what = record.flow_type if record.event == "new" else record.event
        raise Impossible(f"NAT {what!r}, which is new in 5.0")
    fields.put("nl_type", number)


def put_state(layout: Layout, fields: Fields, record: FlowRecord) -> None:
    """Put struct ipslog into the fields; Impossible if the layout cannot hold it."""
    extra = record.extra or {}
    if record.family == "ipv6" and fields.size_of("isl_src") == 4:
        raise Impossible(f"IPv6 states, which {layout.version.name} does not log")
    number = names.number(names.STATE_EVENTS, record.event)
    if number is None:
        raise Impossible(f"state events {record.event!r}")
    fields.put("isl_type", number)
    fields.put_end((record.saddr, None), "isl_src", "")
    fields.put_end((record.daddr, None), "isl_dst", "")
    fields.put("isl_p", record.protocol or 0)
    fields.put("isl_v", extra.get("isl_v", 6 if record.family == "ipv6" else 4), absent=4)
    if record.icmp_type is not None:
        fields.put("isl_ps", record.icmp_type.to_bytes(2, BYTEORDER[layout.abi.order]))
    elif "isl_ps" in extra:
        fields.put("isl_ps", bytes.fromhex(extra["isl_ps"]))
    else:
        fields.put("isl_ps", b"".join((port or 0).to_bytes(2)
                                      for port in (record.sport, record.dport)))  # fmt: skip
    states: list[str | int] | None = extra.get("isl_state")
    if states is not None:
        table = dict(enumerate(names.words(layout.version).tcp_states))
        numbers = [names.number(table, state) for state in states]
        fields.lost["isl_state"] += None in numbers
        fields.put("isl_state", bytes(number or 0 for number in numbers))
    fields.put("isl_flags", extra.get("isl_flags", 0), absent=0)
    fields.put("isl_tag", extra.get("isl_tag", 0), absent=0)
    fields.put_rule("isl_rulen", record.rule)
    fields.put_group("isl_group", record.group)
    _put_counters(fields, record, "isl", names.STATE_DIRECTIONS)


def _put_counters(fields: Fields, record: FlowRecord, prefix: str, ways: tuple[str, ...]) -> None:
    """Packets and bytes, and the second time stamp that 3.1 has beside them."""
    fields.put_counters(f"{prefix}_pkts", record.packets or {}, ways)
    fields.put_counters(f"{prefix}_bytes", record.bytes or {}, ways)
    second, microsecond = divmod((record.timestamp_ns or 0) // 1000, 1_000_000)
    for name, value in ((f"{prefix}_sec", second), (f"{prefix}_usec", microsecond)):
        fields.put(name, int((record.extra or {}).get(name, value)), absent=value)
