"""The regular messages of conntrack, decoded many times as fast as by NfctStream.decode.

The kernel writes the events of alike flows with the same attributes at the same places. What is the
same in their bytes is a shape: length, type and flags of the message, nfgenmsg, and the head of
each attribute. `nfct_shape` learns a shape from the first message that has it. One mask then
compares all heads of a message at once, as one large number, and one struct unpacks its values.
Attributes without a field of their own (state of the protocol, helper, labels...) repeat from
message to message: what the reference makes of them is remembered by their bytes.

Every other message is irregular and left to `decode`. Both memories are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct as CStruct
from typing import Any

from pylog.errors import DecodeError
from pylog.formats import Message, Stream
from pylog.formats.addresses import addresses
from pylog.formats.nfct_attributes import entry, names_of
from pylog.formats.nfct_flow import (
    AT_BYTES,
    AT_DADDR,
    AT_DPORT,
    AT_END_REASON,
    AT_EXTRA,
    AT_FLOW_TYPE,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_ID,
    AT_LAYOUT,
    AT_MARK,
    AT_NAT_DADDR,
    AT_NAT_DPORT,
    AT_NAT_SADDR,
    AT_NAT_SPORT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PACKETS,
    AT_PROTOCOL,
    AT_RAW,
    AT_SADDR,
    AT_SOURCE,
    AT_SPORT,
    AT_START,
    AT_STATE,
    AT_STATUS,
    AT_STOP,
    AT_TIMEOUT,
    AT_TIMESTAMP,
    AT_ZONE,
    TRANSLATED,
    Values,
    copied,
    end_reason,
    pruned,
    state_of,
)
from pylog.formats.nfct_shape import Irregular, Shape
from pylog.memo import Bounded, Memo
from pylog.record import FlowRecord, FlowRow, Record, Row, rfc3339
from pylog.record.json import json_ready

SHAPES = 8
"""At most this many shapes of one length, type and flags are remembered."""

_NO_REST: tuple[str | int | None, dict[str, Any]] = (None, {})


class FastPath:
    """Decodes the messages of one stream, which decodes the irregular ones.

    order   the byte order of lengths and types, < or >
    """

    def __init__(self, stream: Stream, order: str) -> None:
        self._stream, self._order = stream, order
        self._shapes: Bounded[bytes, list[Shape]] = Bounded(limit=256)
        self._portid = CStruct(f"{order}I").unpack_from
        self._status: Memo[int, list[str | int]] = Memo(names_of)
        self._rest: Memo[bytes, tuple[str | int | None, dict[str, Any]] | None] = Memo(
            self._read_rest
        )

    def _read_rest(self, octets: bytes) -> tuple[str | int | None, dict[str, Any]] | None:
        """The state and the extra fields in attributes without a place; None: they are flawed."""
        flaws: list[DecodeError] = []
        try:
            fields = entry(octets, 0, len(octets), self._order, 0, flaws)
        except DecodeError:
            return None
        if flaws:
            return None
        return state_of(fields), pruned(fields)

    def _shape_of(self, data: bytes, start: int, end: int) -> Shape | None:
        """The shape of a message, if it is remembered."""
        alike = self._shapes.get(data[start : start + 8])
        if alike is not None:
            number = int.from_bytes(data[start + 16 : end], "little")
            for shape in alike:
                if number & shape.mask == shape.bits:
                    return shape
        return None

    def _learn(self, data: bytes, start: int, end: int) -> None:
        try:
            shape = Shape(self._order, data[start:end])
        except Irregular:
            return
        key = data[start : start + 8]
        alike = self._shapes.get(key)
        if alike is None:
            alike = self._shapes.keep(key, [])
        if len(alike) == SHAPES:
            alike.clear()
        shape.values[AT_SOURCE], shape.values[AT_LAYOUT] = self._stream.source, self._stream.layout
        alike.append(shape)

    def records(
        self, data: bytes, messages: Iterable[Message], raw: bool, found: list[Record | Row]
    ) -> None:
        """As Stream.records."""
        stream = self._stream
        rows = stream.rows and not stream.grouped
        for message in messages:
            start, end, origin = message.start, message.end, message.origin
            cut = origin is not None and origin.cut > 0
            shape = None if cut else self._shape_of(data, start, end)
            values = None if shape is None else self._values(shape, data, start)
            if values is None:
                found.append(stream.given(stream.decode(data, message, raw)))
                if shape is None and not cut:
                    self._learn(data, start, end)
                continue
            if not stream.live:
                values[AT_OFFSET] = stream.base + start
            values[AT_OBSERVED] = stream.observed_ns if origin is None else origin.observed_ns
            if rows:
                _make_row(values)
                found.append(FlowRow(*values))
            else:
                values[AT_STATUS] = values[AT_STATUS] and [*values[AT_STATUS]]
                values[AT_EXTRA] = copied(values[AT_EXTRA])
                if raw:
                    values[AT_RAW] = stream.raw(data, message)
                found.append(FlowRecord(*values))

    def _values(self, shape: Shape, data: bytes, start: int) -> Values | None:
        """The values of the record, but those of its place; None: its values are irregular.

        The list of the status and the mapping of `extra` are shared.
        """
        (
            saddr, daddr, protocol, sport, dport, icmp_type, icmp_code, zone_orig,
            reply_saddr, reply_daddr, reply_protocol, reply_sport, reply_dport, reply_type,
            reply_code, zone_reply, zone, number, status, timeout, packets, octets, reply_packets,
            reply_octets, began, ended, mark, at,
        ) = shape.unpack(data, start)  # fmt: skip
        rest = self._rest[shape.rest(data, start)] if shape.rest is not None else _NO_REST
        if rest is None or protocol != reply_protocol:
            return None
        values = shape.values.copy()
        values[AT_SADDR], values[AT_DADDR] = addresses[saddr], addresses[daddr]
        values[AT_PROTOCOL] = protocol
        source, destination = saddr != reply_daddr, daddr != reply_saddr
        if shape.ports:
            values[AT_SPORT], values[AT_DPORT] = sport, dport
            source, destination = (
                source or sport != reply_dport,
                destination or dport != reply_sport,
            )
        elif shape.inverse is not None:
            if shape.inverse.get(icmp_type) != reply_type or icmp_code != reply_code:
                return None
            values[AT_SPORT], values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = (
                sport,
                icmp_type,
                icmp_code,
            )
            source = source or sport != reply_sport
        values[AT_FLOW_TYPE] = TRANSLATED[source, destination]
        if source or destination:
            values[AT_NAT_SADDR] = addresses[reply_daddr]
            values[AT_NAT_DADDR] = addresses[reply_saddr]
            if shape.ports:
                values[AT_NAT_SPORT], values[AT_NAT_DPORT] = reply_dport, reply_sport
            elif shape.inverse is not None:
                values[AT_NAT_SPORT] = reply_sport
        values[AT_STATE], extra = rest
        (
            zoned, identified, with_status, limited, counted, with_start, with_stop, marked, timed,
            zoned_orig, zoned_reply,
        ) = shape.has  # fmt: skip
        if zoned_orig or zoned_reply:
            zones = (("zone_orig", zone_orig, zoned_orig), ("zone_reply", zone_reply, zoned_reply))
            extra = {name: n for name, n, there in zones if there} | extra
        if identified:
            values[AT_ID] = number
        if with_status:
            values[AT_STATUS] = self._status[status]
        if limited:
            values[AT_TIMEOUT] = timeout
        if zoned:
            values[AT_ZONE] = zone
        if marked:
            values[AT_MARK] = mark
        if counted:
            values[AT_PACKETS] = {"orig": packets, "reply": reply_packets}
            values[AT_BYTES] = {"orig": octets, "reply": reply_octets}
        if with_start:
            values[AT_START] = began
        if with_stop:
            values[AT_STOP] = ended
            if shape.destroys:
                values[AT_TIMESTAMP] = ended
        if timed:
            values[AT_TIMESTAMP] = at
        if shape.is_event:
            portid: int = self._portid(data, start + 12)[0]
            if shape.destroys:
                values[AT_END_REASON] = end_reason(portid, timeout if limited else None)
            if portid:
                extra = extra | {"nlmsg_pid": portid}
        values[AT_EXTRA] = extra or None
        return values


def _make_row(values: Values) -> None:
    """Change the values of a record to those of its row."""
    for at in (AT_TIMESTAMP, AT_OBSERVED, AT_START, AT_STOP):
        if values[at] is not None:
            values[at] = rfc3339(values[at])
    for at in (AT_PACKETS, AT_BYTES, AT_EXTRA):
        if values[at] is not None:
            values[at] = json_ready(values[at])
