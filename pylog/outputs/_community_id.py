"""Community ID: a text that names a flow, the same for both directions and on every machine.

It is version 1 of Corelight's specification, which Zeek, Suricata and Elastic use: a hash of the
addresses, the protocol and the ports, the smaller end first. Of ICMP the type stands for the source
port, and the type of the answer for the destination port.
"""

from __future__ import annotations

import base64
import hashlib

from pylog.formats.addresses import octets
from pylog.memo import Memo
from pylog.record import FlowRecord, PacketRecord, Record, TraceRecord

_SEED = b"\0\0"
_WITH_PORTS = frozenset((6, 17, 132))
"""TCP, UDP, SCTP."""
_ICMP, _ICMPV6 = 1, 58
_ANSWERS = {
    _ICMP: {0: 8, 8: 0, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    _ICMPV6: {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130,
              144: 145, 145: 144, 139: 140, 140: 139},
}  # fmt: skip
"""The type of the message that answers each type, and is answered by it."""

_Ends = tuple[str, str, int, int | None, int | None]


def community_id(record: Record) -> str | None:
    """The Community ID of a packet, a flow (before translation) or a step of a packet; None for a
    record without addresses and protocol.
    """
    if not isinstance(record, PacketRecord | FlowRecord | TraceRecord):
        return None
    if record.saddr is None or record.daddr is None or record.protocol is None:
        return None
    if record.protocol in _ANSWERS:
        ends = record.icmp_type, record.icmp_code
    elif record.protocol in _WITH_PORTS:
        ends = record.sport, record.dport
    else:
        ends = None, None
    try:
        return _ids[record.saddr, record.daddr, record.protocol, *ends]
    except (ValueError, OverflowError):
        return None


def _id(key: _Ends) -> str:
    saddr, daddr, protocol, sport, dport = key
    one_way = False
    if protocol in _ANSWERS and sport is not None:
        answer = _ANSWERS[protocol].get(sport)
        one_way = answer is None
        dport = (dport or 0) if answer is None else answer
    ends = (octets[saddr], sport or 0), (octets[daddr], dport or 0)
    if not one_way and ends[1] < ends[0]:
        ends = ends[1], ends[0]
    (first, first_port), (second, second_port) = ends
    data = _SEED + first + second + bytes((protocol, 0))
    if sport is not None and dport is not None:
        data += first_port.to_bytes(2) + second_port.to_bytes(2)
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()


_ids = Memo(_id, 65536, 1 << 24)
