"""The flows that live, so that a listing shows which have ended without an event.

Events of conntrack have no numbers. What a loss cost shows only in a listing afterwards: flows that
were there before and are missing in it have ended. `Living` therefore keeps every flow of one
network namespace, from its first event or entry to its end. It holds the tuples, id, zone and mark
as the message has them: about 215 bytes of memory for a flow of IPv4, 290 of IPv6.

It begins with the first answer by which pylog marks its reading (nfct_requests). A recording
without one passes unchanged, and costs nothing.

A reliable listener makes the kernel send events again, to all listeners. The end of a flow that
does not live is a repeat if id, tuples, start, stop and bytes are those of an end before; it is
left out. A beginning that is sent again has what changed since, and becomes an update.

Sources: ctnetlink_conntrack_event in net/netfilter/nf_conntrack_netlink.c, nf_conntrack_ecache.c;
recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as CStruct

from msgspec.structs import force_setattr

from pylog.formats import Message
from pylog.formats.netlink import OCTETS, Table, build
from pylog.formats.nfct import NfctStream
from pylog.formats.nfct_attributes import CT_DELETE
from pylog.formats.nfct_requests import Mark, Purpose, mark_of, tuples
from pylog.record import CounterRecord, FlowRecord

MOST_FLOWS = 1 << 18
"""So many flows are kept, in 55 to 75 MB. Of further ones a loss cannot show that they ended."""
MOST_ENDED = 1 << 16
"""Of so many flows that ended last a repeat is recognized."""

_ATTRIBUTES: Table = {8: ("CTA_MARK", OCTETS), 12: ("CTA_ID", OCTETS), 18: ("CTA_ZONE", OCTETS)}
_HAS_BEGUN = 1 << 48
_V4 = (1, 2)
"""CTA_IP_V4_SRC and DST."""

_seq = {order: CStruct(f"{order}I").unpack_from for order in "<>"}
_attribute = {order: CStruct(f"{order}HH").unpack_from for order in "<>"}


class Living:
    """The flows of a network namespace, once pylog has marked that it reads them.

    is_on     whether it has
    unkept    flows that were not kept, because there were too many
    """

    def __init__(self, most: int = MOST_FLOWS) -> None:
        self.is_on = False
        self.unkept = 0
        self._most = most
        self._flows: dict[bytes, int] = {}
        """By tuples and id: the mark, from bit 32 the zone, at bit 48 whether there was an event of
        its beginning, from bit 49 the number of listings when it was seen last."""
        self._ended: dict[int, None] = {}
        """Hashes of what identifies the ends of flows."""
        self._listings = 0
        self._purpose: Purpose | None = None
        """Of the listing that is being received."""
        self._has_lost = self._lost_before_listing = False

    def __len__(self) -> int:
        return len(self._flows)

    def lose(self) -> None:
        """Events were lost here."""
        self._has_lost = True

    def mark(self, record: CounterRecord, data: bytes, start: int) -> Iterator[FlowRecord] | None:
        """Take statistics; None if they are no mark of pylog's. Otherwise records of flows of
        which the listing that they end shows that they have ended.
        """
        order = _order(record)
        mark = mark_of(_seq[order](data, start + 8)[0])
        if mark is None or record.name != "conntrack":
            return None
        self.is_on = True
        ends = mark.is_end and self._purpose == mark.purpose
        self._purpose = None if mark.is_end or mark.purpose == Purpose.START else mark.purpose
        if self._purpose is not None:
            self._listings += 1
            self._lost_before_listing = self._has_lost or mark.purpose == Purpose.REPAIR
            self._has_lost = False
        return self._missing(record, mark, order) if ends else iter(())

    def take(self, record: FlowRecord, data: bytes, message: Message) -> bool:
        """Take an event or entry; whether it is to be given, as it is no repeat.

        An entry of a listing by pylog gets its `via`.
        """
        start, end = message.start, message.end
        order, event = _order(record), record.event
        if event == "dump":
            mark = mark_of(_seq[order](data, start + 8)[0])
            if mark is not None:
                force_setattr(record, "via", mark.purpose.name.lower())
        if record.flow_type == "expect":
            return True
        after = tuples(data, start, end, order)
        if not after or record.id is None:
            return True
        key = data[start + 20 : after] + record.id.to_bytes(4)
        if event == "destroy":
            return self._end(key, record)
        before = self._flows.get(key)
        if before is None and len(self._flows) >= self._most:
            self.unkept += 1
            return True
        has_begun = event == "new"
        if before is not None:
            if event == "dump" and before >> 49 == self._listings and self._purpose is not None:
                return False  # a second time in the listing, as when the table is resized
            if has_begun and before & _HAS_BEGUN and not self._has_lost:
                force_setattr(record, "event", "update")
            has_begun = has_begun or bool(before & _HAS_BEGUN)
        number = record.mark
        if number is None:
            number = 0 if before is None else before & 0xFFFFFFFF
        value = self._listings << 49 | (record.zone or 0) << 32 | number
        self._flows[key] = value | _HAS_BEGUN if has_begun else value
        return True

    def _end(self, key: bytes, record: FlowRecord) -> bool:
        """A flow has ended; whether its end was not seen before."""
        was_alive = self._flows.pop(key, None) is not None
        # a repeat has another time of the event, and less time to live
        octets = tuple(record.bytes.values()) if record.bytes else ()
        ended, digest = self._ended, hash((key, octets, record.start_ns, record.stop_ns))
        if not was_alive and digest in ended:
            return False
        ended[digest] = None
        if len(ended) > MOST_ENDED:
            del ended[next(iter(ended))]
        return True

    def _missing(self, answer: CounterRecord, mark: Mark, order: str) -> Iterator[FlowRecord]:
        """Records of the flows that a listing lacks, which are kept no longer.

        answer   at the end of the listing
        """
        reason, flows = "lost" if self._lost_before_listing else "unseen", self._flows
        # of a reliable listener the end may come yet, but not after another listing
        number = self._listings - mark.reliable
        gone = [(key, value) for key, value in flows.items() if value >> 49 < number]
        stream = NfctStream(order)
        stream.live = stream.lenient = True
        for key, value in gone:
            del flows[key]
            record = _record(stream, order, key, value)
            force_setattr(record, "layout", answer.layout)
            force_setattr(record, "offset", answer.offset)
            force_setattr(record, "observed_ns", answer.observed_ns)
            force_setattr(record, "via", mark.purpose.name.lower())
            force_setattr(record, "end_reason", reason)
            yield record


def _order(record: FlowRecord | CounterRecord) -> str:
    return "<" if record.layout.endswith("le") else ">"


def _record(stream: NfctStream, order: str, key: bytes, value: int) -> FlowRecord:
    """The record of a flow that has ended, as far as it was kept."""
    number, zone, mark = key[-4:], value >> 32 & 0xFFFF, value & 0xFFFFFFFF
    attributes = [(12, number)]
    if mark:
        attributes.append((8, mark.to_bytes(4)))
    if zone:
        attributes.append((18, zone.to_bytes(2)))
    # key: CTA_TUPLE_ORIG, CTA_TUPLE_IP, then an address
    family = 2 if len(key) > 12 and _attribute[order](key, 8)[1] & 0x3FFF in _V4 else 10
    head = build(_ATTRIBUTES, order, CT_DELETE, 0, attributes, family=family)
    body = head[:20] + key[:-4] + head[20:]
    record = stream.decode(body, Message(0, len(body)))
    assert isinstance(record, FlowRecord)
    force_setattr(record, "offset", None)
    return record
