"""Counters of flows: by direction, and since the last report.

Conntrack counts what passed in the flow's own direction (`orig`) and against it (`reply`). IPFilter
counts by interface as well, or counts what came in and went out, so its counters are mapped to the
same two names where the record says which is which. Counters that cannot be mapped keep their
names.
"""

from __future__ import annotations

from pylog.record import FlowRecord

Counters = dict[str, int]


def by_direction(
    record: FlowRecord, flow_type: str | int | None
) -> tuple[Counters | None, Counters | None]:
    """The packets and the bytes of a record: `orig` and `reply`, or as the source names them.

    flow_type   of the flow: IPFilter before 5.0 gives it with the first event only
    """
    packets, octets = record.packets, record.bytes
    names = packets or octets
    if not names or "orig" in names or "reply" in names:
        return packets, octets
    if "forward_in" in names:
        return _of_state(packets), _of_state(octets)
    if "in" in names and "out" in names:
        outwards = _begins_outwards(record, flow_type)
        if outwards is not None:
            orig, reply = ("out", "in") if outwards else ("in", "out")
            return _renamed(packets, orig, reply), _renamed(octets, orig, reply)
    return packets, octets


def _of_state(counters: Counters | None) -> Counters | None:
    """The counters of a state entry (ips_pkts, ips_bytes in ip_state.h) by direction.

    A packet that is forwarded is counted where it comes in and where it goes out; one to or from
    the machine itself only once. So the greater counter is how many packets passed.
    """
    if counters is None:
        return None
    get = counters.get
    return {
        "orig": max(get("forward_in", 0), get("forward_out", 0)),
        "reply": max(get("backward_in", 0), get("backward_out", 0)),
    }


def _renamed(counters: Counters | None, orig: str, reply: str) -> Counters | None:
    if counters is None:
        return None
    return {"orig": counters[orig], "reply": counters[reply]}


def _begins_outwards(record: FlowRecord, flow_type: str | int | None) -> bool | None:
    """Whether the first packet of a NAT entry went out; None where the record does not say.

    nat_pkts[0] counts what ipf_nat_checkin takes, nat_pkts[1] what ipf_nat_checkout does. The
    source is translated on the way out, the destination on the way in. A bimap works both ways;
    of 5.0 and later the record shows which end it translated.
    """
    kind = str(flow_type)
    if (kind.endswith("map") and kind != "bimap") or kind == "mapblock":
        return True
    if kind.endswith("rdr"):
        return False
    if record.nat_saddr is None or record.nat_daddr is None:
        return None
    source = (record.nat_saddr, record.nat_sport) != (record.saddr, record.sport)
    destination = (record.nat_daddr, record.nat_dport) != (record.daddr, record.dport)
    return None if source == destination else source


def since(total: Counters | None, reported: Counters | None) -> Counters | None:
    """What was counted since a report. A counter that has become less was set to 0 by another
    program (IPCTNL_MSG_CT_GET_CTRZERO), and counts from there.
    """
    if total is None or reported is None:
        return total
    return {
        name: count - before if count >= (before := reported.get(name, 0)) else count
        for name, count in total.items()
    }
