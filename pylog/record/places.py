"""The places of a packet record's fields: `values[AT_SEQ] = 7`, then `PacketRecord(*values)`.

Decoders fill a list of values instead of naming keywords, which takes a quarter of the time:
msgspec looks for each keyword among all fields. Every place is taken from the class, so a new field
moves the others along and no decoder depends on the order. A wrong name is an error for type
checkers.
"""

from __future__ import annotations

from typing import Any, Final

from pylog.record.fields import place
from pylog.record.kinds import PacketRecord

Values = list[Any]
"""The values of a packet record, or of its row, in the places of its fields."""

AT_SOURCE: Final[int] = place(PacketRecord.source)
AT_LAYOUT: Final[int] = place(PacketRecord.layout)
AT_OFFSET: Final[int] = place(PacketRecord.offset)
AT_TIMESTAMP: Final[int] = place(PacketRecord.timestamp_ns)
AT_OBSERVED: Final[int] = place(PacketRecord.observed_ns)
AT_SEQ: Final[int] = place(PacketRecord.seq)
AT_COUNT: Final[int] = place(PacketRecord.count)
AT_ACTION: Final[int] = place(PacketRecord.action)
AT_SHORT: Final[int] = place(PacketRecord.short)
AT_DIRECTION: Final[int] = place(PacketRecord.direction)
AT_HOOK: Final[int] = place(PacketRecord.hook)
AT_RULE: Final[int] = place(PacketRecord.rule)
AT_GROUP: Final[int] = place(PacketRecord.group)
AT_PREFIX: Final[int] = place(PacketRecord.prefix)
AT_REASON: Final[int] = place(PacketRecord.reason)
AT_INDEV: Final[int] = place(PacketRecord.indev)
AT_OUTDEV: Final[int] = place(PacketRecord.outdev)
AT_PHYSINDEV: Final[int] = place(PacketRecord.physindev)
AT_PHYSOUTDEV: Final[int] = place(PacketRecord.physoutdev)
AT_MARK: Final[int] = place(PacketRecord.mark)
AT_UID: Final[int] = place(PacketRecord.uid)
AT_GID: Final[int] = place(PacketRecord.gid)
AT_HWADDR: Final[int] = place(PacketRecord.hwaddr)
AT_HWTYPE: Final[int] = place(PacketRecord.hwtype)
AT_HWHEADER: Final[int] = place(PacketRecord.hwheader)
AT_VLAN: Final[int] = place(PacketRecord.vlan)
AT_FAMILY: Final[int] = place(PacketRecord.family)
AT_PROTOCOL: Final[int] = place(PacketRecord.protocol)
AT_SADDR: Final[int] = place(PacketRecord.saddr)
AT_DADDR: Final[int] = place(PacketRecord.daddr)
AT_SPORT: Final[int] = place(PacketRecord.sport)
AT_DPORT: Final[int] = place(PacketRecord.dport)
AT_TCP_FLAGS: Final[int] = place(PacketRecord.tcp_flags)
AT_ICMP_TYPE: Final[int] = place(PacketRecord.icmp_type)
AT_ICMP_CODE: Final[int] = place(PacketRecord.icmp_code)
AT_FRAGMENT: Final[int] = place(PacketRecord.fragment)
AT_LENGTH: Final[int] = place(PacketRecord.length)
AT_CAPLEN: Final[int] = place(PacketRecord.caplen)
AT_CUT: Final[int] = place(PacketRecord.cut)
AT_EXTRA: Final[int] = place(PacketRecord.extra)
AT_PAYLOAD: Final[int] = place(PacketRecord.payload)
AT_RAW: Final[int] = place(PacketRecord.raw)


def no_values() -> Values:
    """The values of an empty record, up to `raw`.

    The fields after `raw` are not decoded from a message and keep their default None: each value
    less makes a record faster.
    """
    return [None] * (AT_RAW + 1)
