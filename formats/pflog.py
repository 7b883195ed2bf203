"""pflog: packets that pf, npf and ipfw's NAT64 logged, in captures of pflog interfaces.

A packet of link type 117 is a header that begins with its own length, and the packet from its IP
header on. `pflog_layouts` has the headers of each system, `pflog_words` the meaning of their
numbers, `pflog_evidence` what tells the systems apart. Records have one layout for each packet, by
the length that its header states. Link type 17 is OpenBSD 3.0 to 3.3.

The kernel stamps the packets (BPF), so the time of capture is that of the record, too.

Sources: net/if_pflog.h and if_pflog.c of the systems, FreeBSD's nat64lsn.c, print-pflog.c of
tcpdump.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from pylog.formats import Guess, Message, Stream
from pylog.formats.addresses import addresses
from pylog.formats.ip_header import stated_length
from pylog.formats.packet import put_headers, seeming
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6
from pylog.formats.pflog_evidence import AF_INET6, SOUND, examine, examine_old, is_npf
from pylog.formats.pflog_layouts import (
    LONG,
    NOBODY,
    OLD,
    OPENBSD,
    SHORT,
    SIZES,
    UID_MAX,
    Layout,
    layouts,
    named,
    packet_at,
    plan,
    size_of,
)
from pylog.formats.pflog_words import actions, directions, reasons, word
from pylog.formats.plan import BYTEORDER
from pylog.memo import Memo
from pylog.record import PacketRecord, Record
from pylog.record.places import (
    AT_ACTION,
    AT_DIRECTION,
    AT_EXTRA,
    AT_GROUP,
    AT_INDEV,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_OUTDEV,
    AT_PAYLOAD,
    AT_RAW,
    AT_REASON,
    AT_RULE,
    AT_SOURCE,
    AT_TIMESTAMP,
    AT_UID,
    Values,
    no_values,
)

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "pflog"
LINKTYPE_PFLOG, LINKTYPE_OLD_PFLOG = 117, 17
LINKTYPES: tuple[int, ...] = (LINKTYPE_PFLOG, LINKTYPE_OLD_PFLOG)
LOOKED_FOR = ""

AF_INET = 2
ETHERTYPES = {AF_INET: ETH_P_IP, 10: ETH_P_IPV6, **dict.fromkeys(AF_INET6, ETH_P_IPV6)}
"""The EtherType by address family; 10 is AF_INET6 of Linux."""
NO_PID = frozenset((NOBODY, 100000))
OLD_NO_PID = 32767
"""NO_PID of older OpenBSDs."""
NAT64 = {"NAT64LSN", "NAT64STL"}
"""The interface names with which ipfw logs translations to ipfwlog0 (FreeBSD)."""
PF_NAT = 4


class PflogStream(Stream):
    """Packets with a header of pflog, of a capture."""

    source = "pflog"
    one_message_linktypes = frozenset(LINKTYPES)

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout
        self.layout = layout.name
        self._meanings: Memo[bytes, Values] = Memo(self._meaning)

    def measure(self, data: bytes, pos: int) -> int:
        raise self.error(pos, "pflog", "packets outside a capture", "pcap or pcapng")

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        if start + 4 > len(data):
            return None
        if linktype == LINKTYPE_OLD_PFLOG:
            return data[start : start + 3] == b"\0\0\0" and data[start + 3] in ETHERTYPES
        length, af, action, reason = data[start : start + 4]
        return length in SOUND and af in ETHERTYPES and action < 32 and reason < 32

    def _header(self, data: bytes, start: int, end: int) -> tuple[int, int]:
        """The size of the header at `start`, of SIZES, and where the packet begins."""
        if self._layout.size == OLD:
            size, at = OLD, start + OLD
        else:
            length = data[start] if start < end else 0
            found = size_of(length)
            if found is None:
                raise self.error(start, "pfloghdr length", length, f"{SHORT} or more")
            size, at = found, start + packet_at(length)
            if length not in SOUND and not (at < end and seeming(data[at : at + 1])):
                known = ", ".join(map(str, SIZES[1:]))
                raise self.error(start, "pfloghdr length", length, f"one of {known}")
        if at > end:
            raise self.error(start, "pfloghdr", f"{end - start} bytes", f"{at - start}")
        return size, at

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        size, at = self._header(data, start, end)
        values = self._meanings[data[start : start + plan(size).size]].copy()
        if values[AT_EXTRA]:
            values[AT_EXTRA] = values[AT_EXTRA].copy()  # the caller may change it
        observed_ns = self.observed_ns if origin is None else origin.observed_ns
        values[AT_TIMESTAMP] = values[AT_OBSERVED] = observed_ns
        if not self.live:
            values[AT_OFFSET] = self.base + start
        payload = data[at:end]
        values[AT_PAYLOAD] = payload or None
        if raw:
            values[AT_RAW] = data[start:end]
        af = data[start + (3 if size == OLD else 1)]
        ethertype = seeming(payload) or ETHERTYPES.get(af, 0)
        put_headers(values, payload, 0, len(payload), ethertype)
        record = PacketRecord(*values)
        bad = f"version {payload[0] >> 4 if payload else 0}"
        if ethertype and "bad_header" in (record.extra or {}):
            self.flawed(at, "IP header", record.extra["bad_header"], "that of version 4 or 6")  # type: ignore[index]
        elif not ethertype and payload:
            self.flawed(at, "IP header", f"{bad}, address family {af}", "version 4 or 6")
        return record

    def _meaning(self, header: bytes) -> Values:
        """The values of a record that its header determines."""
        size = _size_of_struct()[len(header)]
        layout = self._layout.of_size(size)
        schema = plan(size)
        f: dict[str, Any] = dict(zip(schema.names, schema.unpack(header, 0), strict=True))
        values, extra = no_values(), {}
        ifname, group = _text(f["ifname"]), _text(f.get("ruleset", b""))
        nat64 = _nat64(ifname, f) if size > OLD else None
        rule = f["rulenr"]
        if rule not in (NOBODY, -1) and nat64 is None:
            values[AT_RULE] = rule
        way = directions(layout).get(f["dir"])
        values[AT_DIRECTION] = way
        if way is None and f["dir"]:
            extra["dir"] = f["dir"]
        if ifname and nat64 is None:
            values[AT_OUTDEV if way == "out" else AT_INDEV] = ifname
        npf = size == LONG and is_npf(f["ruleset"], f["subrulenr"], f["pid"], f["rule_pid"])
        if group:
            values[AT_GROUP] = group
            if f["subrulenr"] != NOBODY:
                extra["subrulenr"] = f["subrulenr"]
        if npf and f["subrulenr"]:
            extra["rule_id"] = f["subrulenr"] << 32 | rule
        if nat64 is not None:
            extra["nat64"] = nat64
        if f.get("ridentifier"):
            extra["ridentifier"] = f["ridentifier"]
        if size >= LONG:
            self._put_users(values, extra, f, layout)
        if f.get("rewritten"):
            extra["rewritten"] = _rewritten(f)
        values[AT_SOURCE], values[AT_LAYOUT] = self.source, layout.name
        values[AT_ACTION] = word(actions(layout), f["action"])
        values[AT_REASON] = word(reasons(layout), f["reason"])
        values[AT_EXTRA] = extra or None
        return values

    def _put_users(
        self, values: Values, extra: dict[str, Any], f: dict[str, Any], layout: Layout
    ) -> None:
        """Put uid and pid of the socket, and those of who loaded the rule."""
        order = BYTEORDER[layout.order]
        uid, pid, rule_uid, rule_pid = (
            int.from_bytes(f[name], order) for name in ("uid", "pid", "rule_uid", "rule_pid")
        )
        if uid not in (NOBODY, UID_MAX):
            values[AT_UID] = uid
        old = layout.system in ("openbsd", "")
        if pid not in NO_PID and not (old and pid == OLD_NO_PID):
            extra["pid"] = pid
        if rule_uid not in (NOBODY, UID_MAX):
            extra["rule_uid"] = rule_uid
        if rule_pid != NOBODY:
            extra["rule_pid"] = rule_pid


@cache
def _size_of_struct() -> dict[int, int]:
    """The size of a header by that of its struct, which has padding."""
    return {plan(size).size: size for size in SIZES}


def _text(name: bytes) -> str:
    """A name that ends at its first NUL, or fills its bytes."""
    return name.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _rewritten(f: dict[str, Any]) -> dict[str, Any]:
    """The addresses and ports after translation, in family naf."""
    size = 4 if f["naf"] == AF_INET else 16
    return {
        "naf": f["naf"],
        "saddr": addresses[f["saddr"][:size]],
        "daddr": addresses[f["daddr"][:size]],
        "sport": f["sport"],
        "dport": f["dport"],
    }


def _nat64(ifname: str, f: dict[str, Any]) -> dict[str, Any] | None:
    """What ipfw's NAT64 logs in place of rule numbers (nat64lsn_log); None for another packet."""
    if ifname not in NAT64 or f["action"] != PF_NAT:
        return None
    sub = f["subrulenr"]
    return {
        "kind": ifname.removeprefix("NAT64").lower(),
        "address": addresses[f["rulenr"].to_bytes(4)],
        "port": sub >> 16,
        "protocol": sub >> 8 & 0xFF,
        "last": sub & 0xFF,
    }


STREAM = PflogStream


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The layout of a packet by itself; what many say together is known to `examined`."""
    if linktype == LINKTYPE_OLD_PFLOG:
        return Layout(OLD).name
    return examine([packet], "<")[0].name


def examined(packets: Iterable[bytes], linktype: int, order: str) -> tuple[str, list[str]]:
    """The layout of the packets of a capture of that byte order, and sentences that say why."""
    packets = list(packets)
    old = linktype == LINKTYPE_OLD_PFLOG
    layout, evidence = examine_old(packets) if old else examine(packets, order)
    return layout.name, evidence


def linktype(layout: str) -> int:
    """The link type of a capture of that layout."""
    return LINKTYPE_OLD_PFLOG if named(layout).size == OLD else LINKTYPE_PFLOG


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet with which a capture file holds a message, the message itself; the byte order that
    other programs need to read its uid, "" for any; and its original length, by its IP header.
    """
    at = OLD if named(layout).size == OLD else packet_at(message[0] if message else 0)
    length = len(message)
    if seeming(message[at : at + 1]) and len(message) >= at + 6:
        length = max(length, at + stated_length(message, at))
    return message, named(layout).order, length


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to state it."""
    return layout


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: a header has the name of the interface."""
    return {}


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message without addresses and payload; the rest of its header stays."""
    old = named(layout).size == OLD
    at = OLD if old else packet_at(message[0] if message else 0)
    header = bytearray(message[:at])
    if not old and size_of(header[0] if header else 0) == OPENBSD:
        places = plan(OPENBSD).places
        size = 4 if header[places["naf"].offset] == AF_INET else 16
        for name in ("saddr", "daddr"):
            first = places[name].offset
            header[first : first + 16] = scrubber.address(bytes(header[first:][:size])).ljust(
                16, b"\0"
            )
    return bytes(header) + scrubber.packet(message[at:])


def stream(name: str, head: bytes = b"") -> PflogStream:
    """The stream of a layout; ValueError for another name."""
    return PflogStream(named(name))


def layout_names() -> list[str]:
    """The names of all layouts."""
    return list(layouts())


def cut(data: bytes) -> str | None:
    """None: outside a capture there are no packets of pflog."""
    return None


def probe(head: bytes, final: bool) -> list[Guess]:
    """None: outside a capture there are no packets of pflog."""
    return []
