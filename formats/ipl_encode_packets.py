"""Packets of any source as IPFilter logs them: struct ipflog and the packet behind it.

A record of IPFilter keeps its fields as far as the layout has them. A packet of Linux becomes what
IPFilter would have logged of it:

    fl_dir, fl_ifname      in and the interface it came in by, or out and the one it leaves by; a
                           forwarded packet is logged as it comes in
    fl_flags               its action (see pylog.actions), or log; logged with its body
    fl_group, fl_logtag    its prefix, with _ for blanks, or its NFLOG group, always where groups
                           are numbers; its mark, uid or gid
    fl_rule                none, which is shown as -1
    fl_hlen, body          the headers as ip_log.c counts them, and as much of the rest as is asked;
                           of a text log the headers are made from the fields

Source: ip_log.c of IPFilter 3.4 to 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylog.formats import ipl_layouts
from pylog.formats import ipl_names as names
from pylog.formats.ip_header import ipv4, stated_length
from pylog.formats.ip_numbers import (
    EXTENSIONS_OF_IPFILTER,
    FRAGMENT,
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    TCP,
    UDP,
)
from pylog.formats.ipl_fields import Fields, Impossible
from pylog.formats.ipl_layouts import Layout
from pylog.formats.packet import swapped
from pylog.formats.packet_made import headers
from pylog.formats.textlog import is_of_text
from pylog.record import PacketRecord

ACTIONS = {"pass": ["FR_PASS"], "block": ["FR_BLOCK"], "nomatch": ["FR_NOMATCH"], "log": []}
"""The actions of a packet of another source, and their flags beside FR_LOG."""

_AF_INET = 2

_KEEPS = {"K-S": "FR_KEEPSTATE", "K-F": "FR_KEEPFRAG"}
_NOTICED = {
    "low-ttl": "FI_LOWTTL", "OOW": "FI_OOW", "bad": "FI_BAD", "NAT": "FI_NATED",
    "bad-NAT": "FI_BADNAT", "bad-src": "FI_BADSRC", "multicast": "FI_MULTICAST",
    "broadcast": "FI_BROADCAST", "mbcast": "FI_MBCAST",
}  # fmt: skip
"""Flags by the words of ipmon's text (formats.textlog_ipmon)."""

_DIRECTIONS = {"in": 0, "forward": 0, "out": 1}
_WAYS = {0: "FR_INQUE", 1: "FR_OUTQUE"}
_RESULT_FLAGS = ("FF_OPTIONS", "FF_TCPUDP", "FF_FRAG", "FF_SHORT")
"""Results of the filter: in fl_flags before 4.0, in fl_lflags since."""


def _way(record: PacketRecord) -> list[str]:
    """The flag for the packet's direction, if the record has one."""
    number = _DIRECTIONS.get(record.direction or "")
    return [] if number is None else [_WAYS[number]]


def _flags_from_4(given: list[str | int], action: str | int | None) -> list[str | int]:
    """The flags of 4.x in today's words: there 0 is FR_CALL, and FF_LOGNOMATCH also FR_COPIED."""
    given = [word for word in given if word != "FR_CALL"]
    if "FR_NOMATCH" in given or action == "nomatch":
        return given
    return ["FR_COPIED" if word == "FF_LOGNOMATCH" else word for word in given]


class PacketEncoder:
    """Puts packets into the fields of a layout; the parameters are those of Encoder."""

    def __init__(
        self, layout: Layout, group: str, tag: str, body: int | None, af_inet6: int
    ) -> None:
        self._layout, self._words = layout, names.words(layout.version)
        self._group, self._tag, self._body = group, tag, body
        self._af_inet6 = af_inet6

    def put(self, fields: Fields, record: PacketRecord) -> bytes:
        """Put struct ipflog into the fields; gives the bytes after it. Impossible if refused."""
        v6 = record.family == "ipv6"
        payload = record.payload
        if payload is None and is_of_text(record):
            payload = headers(record)
        if not payload or payload[0] >> 4 != {"ipv4": 4, "ipv6": 6}.get(str(record.family)):
            raise Impossible("no IP packet")
        if v6 and self._layout.version.ipflog in ("2.x", "3.1", "3.2", "3.3"):
            raise Impossible(f"IPv6 packets, which {self._layout.version.name} does not log")
        size, packet = self._kept(fields, record, payload)
        body = len(packet) - size
        extra = record.extra or {} if record.source == "ipl" else self._translated(record, body)
        fields.put("fl_hlen", size)
        fields.put("fl_plen", body if not body >> 8 * fields.size_of("fl_plen") else body & 0xFF)
        fields.put_rule("fl_rule", record.rule)
        fields.put_group("fl_group", extra.get("group", record.group))
        self._put_flags(fields, record, extra)
        device = record.outdev if record.direction == "out" else record.indev
        fields.put_interface(f"if{device}" if isinstance(device, int) else device or "")
        direction = extra.get("fl_dir", _DIRECTIONS.get(record.direction or "", 2))
        fields.put("fl_dir", direction, absent=direction if direction <= 2 else None)
        fields.put("fl_loglevel", extra.get("fl_loglevel", 0xFFFF), absent=0xFFFF)
        fields.put("fl_logtag", extra.get("fl_logtag", 0), absent=0)
        self._put_tag(fields, record, extra.get("fl_nattag", ""))
        fields.put("fl_uuid", bytes.fromhex(extra.get("fl_uuid", "")), absent=b"")
        reason = names.number(self._words.reasons, record.reason)
        if reason is None:
            fields.lost["fl_breason"] += record.reason is not None
        else:
            fields.put("fl_breason", reason, absent=0)
        family = self._af_inet6 if v6 else _AF_INET
        fields.put("fl_family", family, absent=family)
        return swapped(packet) if self._layout.host_order_ip and not v6 else packet

    def _kept(self, fields: Fields, record: PacketRecord, payload: bytes) -> tuple[int, bytes]:
        """The size of the headers, and the bytes that are kept."""
        headers = min(header_size(payload), 0xFF)
        most = len(payload)
        if record.source == "ipl" and record.raw is not None:
            headers = ipl_layouts.named(record.layout).plan("ipf").get(record.raw, "fl_hlen")
        elif record.source != "ipl" and self._body is not None:
            most = min(most, headers + self._body)
        if headers < 20 and not self._layout.version.has_magic:
            raise Impossible(f"packets without a complete header, by {self._layout.version.name}")
        # 2.x has no other length than fl_plen; later versions use the packet's own length where
        # fl_plen is too small
        stated = stated_length(payload) if fields.size_of("ipl_dsize") else 0
        if fields.size_of("fl_plen") == 1 and most > max(headers + 0xFF, stated):
            fields.lost["packet"] += 1
            most = headers + 0xFF
        return headers, payload[:most]

    def _translated(self, record: PacketRecord, body: int) -> dict[str, Any]:
        """What IPFilter would have logged of another system's packet, as `extra` has it."""
        prefix = record.prefix or ""
        flags = ["FR_LOG", *ACTIONS.get(str(record.action), []), *_way(record)]
        if self._layout.version.major >= 4:
            flags.append("FR_COPIED")  # as all rules of a kernel are
        marks = {
            "FI_FRAG": record.fragment is not None,
            "FI_SHORT": record.cut is not None,  # or ipmon reads beyond the packet
            "FI_TCPUDP": record.protocol in (TCP, UDP),
        }
        word = "_".join(prefix.split())
        named = self._layout.version.major >= 4  # before, groups are numbers
        groups = {"prefix": word if word and named else record.group, "group": record.group}
        tags = {"mark": record.mark, "uid": record.uid, "gid": record.gid}
        written: list[str] = (record.extra or {}).get("marks", []) if is_of_text(record) else []
        flags += [_KEEPS[word] for word in written if word in _KEEPS]
        noticed = [_NOTICED[word] for word in written if word in _NOTICED]
        return {
            "fl_flags": [*flags, "FR_LOGBODY"] if body else flags,
            "fl_lflags": [*(name for name, is_so in marks.items() if is_so), *noticed],
            "group": groups.get(self._group, "0"),
            "fl_logtag": tags.get(self._tag) or 0,
        }

    def _put_flags(self, fields: Fields, record: PacketRecord, extra: Mapping[str, Any]) -> None:
        """fl_flags and fl_lflags, from the names of their bits."""
        source = ipl_layouts.named(record.layout).version if record.source == "ipl" else None
        flags: list[str | int] = list(extra.get("fl_flags", ()))
        lflags: list[str | int] = list(extra.get("fl_lflags", ()))
        if not fields.size_of("fl_dir"):  # these flags say the direction
            flags = [word for word in flags if word not in _WAYS.values()]
            flags += _way(record)
        if source is not None and source.major == 4:
            flags = _flags_from_4(flags, record.action)
        if self._layout.version.major == 4:
            flags = ["FF_LOGNOMATCH" if word == "FR_COPIED" else word for word in flags]
        if self._layout.version.major >= 4:
            lflags += [f"FI{word[2:]}" for word in _RESULT_FLAGS if word in flags]
            flags = [word for word in flags if word not in _RESULT_FLAGS]
        elif source is None or source.major >= 4 or not fields.size_of("fl_lflags"):
            moved = {f"FI{word[2:]}": word for word in _RESULT_FLAGS}
            flags += [moved[str(word)] for word in lflags if word in moved]
            lflags = [word for word in lflags if word not in moved]
        source_words = names.words(source) if source is not None else None
        for field, table, words in (
            ("fl_flags", self._words.flags, flags),
            ("fl_lflags", self._words.lflags, lflags),
        ):
            value, unknown = names.bits(table, words)
            for word in (
                unknown
            ):  # a number, as text if it is large, has the same meaning in the same table
                if str(word).isdigit() and source_words and table in source_words[:2]:
                    value |= int(word)
                else:
                    fields.lost[f"{field} {word}"] += 1
            room = 2 ** (8 * fields.size_of(field)) - 1
            if value & ~room and room:
                fields.lost[field] += 1
                value &= room
            fields.put(field, value, absent=0)

    def _put_tag(self, fields: Fields, record: PacketRecord, text: str) -> None:
        """fl_nattag, even one without text: its first four bytes say whether there is a tag."""
        fields.put_text("fl_nattag", text)
        if text or record.source != "ipl" or record.raw is None:
            return
        leaf = ipl_layouts.named(record.layout).plan("ipf").places.get("fl_nattag")
        tag = b"" if leaf is None else record.raw[leaf.offset : leaf.offset + leaf.size]
        if any(tag[:4]):
            fields.put("fl_nattag", tag, absent=b"")


def header_size(payload: bytes) -> int:
    """How many bytes of an IP packet ip_log.c counts as headers (fl_hlen)."""
    if payload[0] >> 4 == 4:
        head = ipv4(payload)
        size, protocol, later = head.size, head.protocol, head.fragment & 0x1FFF
    else:
        size, protocol, later = 40, sum(payload[6:7]), 0
        while protocol in EXTENSIONS_OF_IPFILTER and size + 2 <= len(payload):
            protocol, units = payload[size : size + 2]
            size += 8 + 8 * units
        if protocol == FRAGMENT and size + 8 <= len(payload):
            later = int.from_bytes(payload[size + 2 : size + 4]) & 0xFFF8
            protocol = payload[size]
            size += 8
    kind = payload[size] if size < len(payload) else 0
    after = {
        TCP: 20,
        UDP: 8,
        ICMP: 36 if kind in ICMP_ERRORS else 28,
        ICMPV6: 16 if kind < 128 else 8,
    }
    return min(len(payload), size + (0 if later else after.get(protocol, 0)))
