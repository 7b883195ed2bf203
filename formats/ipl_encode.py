"""Records of any source as bytes of IPFilter's log, in any layout.

An `Encoder` is made for a layout. What the layout cannot hold is left out and counted by the name
of its field in `lost`; a record that it cannot hold at all is counted in `refused`, and has no
bytes. Padding and what no kernel fills in are zeros.

A packet of Linux becomes what IPFilter would have logged of it:

    fl_dir, fl_ifname      in and the interface it came in by, out and the one it leaves by; a
                           forwarded packet is logged as it comes in
    fl_flags               the action that is asked for its prefix, logged with its body
    fl_group, fl_logtag    its prefix, with _ for blanks, or its NFLOG group, always where groups
                           are numbers; its mark, uid or gid
    fl_rule                none, which is shown as -1
    fl_hlen, body          the headers as ip_log.c takes them, and so much of the rest
    ipl_seqnum             the events of each log, with those that were lost, from 1 on
    ipl_sec, ipl_usec      the kernel's time, or that of receipt, or that of the packet before

Sources: ip_log.c, ip_nat.c and ip_state.c of IPFilter 3.4 to 5.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
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
from pylog.formats.ipl_names import NONE32
from pylog.formats.packet import swapped
from pylog.formats.plan import BYTEORDER
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record, kind_of

LAYOUT = "ipl-5.1.2-lp64le"
"""What is written unless another layout is asked for: the newest, of the most common machine."""

ACTIONS = {"pass": ["FR_PASS"], "block": ["FR_BLOCK"], "log": []}
"""What may be asked of a prefix, and its flags beside FR_LOG."""

GROUPS = ("prefix", "group", "none")
TAGS = ("mark", "uid", "gid", "none")

BODY = 128
"""How many bytes after the headers ip_log.c keeps of a packet."""

MAXIMUM_GAP = 2**31
"""So many numbers cannot be missing: they would look as if they were counted anew."""

_AF_INET, _AF_INET6_FREEBSD, _AF_INET6_NETBSD = 2, 28, 24


class Encoder:
    """Makes records of a layout.

    lost      what could not be held, by field: how often
    refused   records that could not be held at all, by reason: how many

    These say what a Linux packet becomes:

    actions   patterns of prefixes (as in fnmatch) and what they stand for, pass, block or log; the
              first that fits counts; without one it is log
    group     what fl_group is: "prefix", "group" (the NFLOG group) or "none"
    tag       what fl_logtag is: "mark", "uid", "gid" or "none"
    body      bytes kept after the headers; None: all
    af_inet6  AF_INET6 of the system that is to read it, for records of IPFilter too; None: of
              FreeBSD, and of NetBSD for layouts without fl_unit, but what the record has where its
              layout stays the same
    """

    def __init__(
        self,
        layout: Layout | str,
        *,
        actions: Mapping[str, str] | None = None,
        group: str = "prefix",
        tag: str = "mark",
        body: int | None = BODY,
        af_inet6: int | None = None,
    ) -> None:
        """Raises ValueError for a layout or action that there is not."""
        self.layout = ipl_layouts.named(layout) if isinstance(layout, str) else layout
        self._words = names.words(self.layout.version)
        self._order = BYTEORDER[self.layout.abi.order]
        self._actions = dict(actions or {})
        for action in self._actions.values():
            if action not in ACTIONS:
                raise ValueError(f"no action {action!r}; there are {', '.join(ACTIONS)}")
        self._group, self._tag, self._body = group, tag, body
        unit = self.layout.abi.unit
        self._af_inet6 = af_inet6 or (_AF_INET6_FREEBSD if unit else _AF_INET6_NETBSD)
        self._family = self.layout.plan("ipf").places.get("fl_family") if af_inet6 else None
        self._events: dict[str, int] = {}
        self._gaps: dict[str, tuple[int, int]] = {}
        """By log, how many losses there are after its last record, and how many of them are no
        gaps in IPFilter's own numbers."""
        self._last_ns = 0
        self.lost: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def encode(self, record: Record) -> bytes:
        """The record's bytes; b"" if it is refused, or is no record but a loss.

        A record of this very layout that has its raw bytes keeps them, but for the `af_inet6` that
        was asked for.
        """
        if isinstance(record, LossRecord):
            self._skip(record)
            return b""
        if self._gaps:
            self._follow(record)
        if not isinstance(record, PacketRecord | FlowRecord):  # of a format that is not IPFilter's
            self.refused[f"{kind_of(record)} records"] += 1
            return b""
        if record.raw is not None and record.layout == self.layout.name:
            if self._family is None or record.family != "ipv6" or ipfilter_log(record) != "ipf":
                return record.raw
            at = self._family.offset
            return record.raw[:at] + bytes((self._af_inet6,)) + record.raw[at + 1 :]
        log = ipfilter_log(record)
        packet = b""
        try:
            fields = Fields(self.layout, log)
            if isinstance(record, PacketRecord):
                packet = self._packet(fields, record)
            elif log == "state":
                self._state(fields, record)
            else:
                self._nat(fields, record)
            self._head(fields, record, len(packet), log)
        except Impossible as reason:
            self.refused[str(reason)] += 1
            return b""
        self.lost.update(+fields.lost)
        return fields.pack() + packet

    def report(self) -> list[str]:
        """What was lost and refused since the last report, as sentences."""
        found = []
        self._unheld(sum(every for every, _ in self._gaps.values()))
        self._gaps.clear()
        for what, counts in (("records left out", self.refused), ("not held", self.lost)):
            if counts:
                told = "; ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
                found.append(f"{self.layout.name}: {what}: {told}")
                counts.clear()
        return found

    def _skip(self, loss: LossRecord) -> None:
        """Leave a gap in the numbers, where the layout has them; the next record shows it."""
        if loss.cut_off:
            return
        log = ipfilter_log(loss)
        numbered = log in self.layout.logs and "ipl_seqnum" in self.layout.plan(log).places
        if loss.count is not None and numbered and 0 <= loss.count < MAXIMUM_GAP:
            self._events[log] = self._events.get(log, 0) + loss.count
            every, told = self._gaps.get(log, (0, 0))
            self._gaps[log] = every + 1, told + (loss.source != "ipl" or loss.seq is None)
        else:
            self._unheld(1)

    def _follow(self, record: Record) -> None:
        """A record comes after losses of its log. Its own number shows only those by numbers."""
        _, told = self._gaps.pop(ipfilter_log(record), (0, 0))
        if record.source == "ipl" and record.seq is not None:
            self._unheld(told)

    def _unheld(self, losses: int) -> None:
        if losses:
            self.lost["losses"] += losses

    def _head(self, fields: Fields, record: Record, packet_size: int, log: str) -> None:
        """struct iplog."""
        count = record.count or 1
        number = record.seq if record.source == "ipl" else None
        if number is None:
            number = self._events.get(log, 0) + 1
            self._events[log] = number + count - 1
        elif not fields.size_of("ipl_seqnum"):
            fields.lost["ipl_seqnum"] += 1
        nanoseconds = record.timestamp_ns
        if nanoseconds is None:
            nanoseconds = record.observed_ns
        if nanoseconds is None:
            fields.lost["time"] += 1
            nanoseconds = self._last_ns
        self._last_ns = nanoseconds
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second >> 8 * fields.size_of("ipl_sec"):
            raise Impossible(f"times after 2106, for which {self.layout.name} has no room")
        size = fields.size + packet_size
        magic = self.layout.magic(log)
        for name, value in (
            ("ipl_magic", int.from_bytes(magic, self._order)),
            ("ipl_seqnum", number & NONE32),
            ("ipl_sec", second),
            ("ipl_usec", rest // 1000),
            ("ipl_len", size),
            ("ipl_dsize", size),
        ):
            fields.put(name, value, absent=value)
        fields.put("ipl_count", count, absent=1)

    # Packets

    def _packet(self, fields: Fields, record: PacketRecord) -> bytes:
        """struct ipflog, and the bytes after it."""
        v6 = record.family == "ipv6"
        if not record.payload or record.payload[0] >> 4 != {"ipv4": 4, "ipv6": 6}.get(
            str(record.family)
        ):
            raise Impossible("no IP packet")
        if v6 and self.layout.version.ipflog in ("2.x", "3.1", "3.2", "3.3"):
            raise Impossible(f"IPv6 packets, which {self.layout.version.name} does not log")
        headers, packet = self._kept(fields, record, record.payload)
        body = len(packet) - headers
        told = record.extra or {} if record.source == "ipl" else self._told(record, body)
        fields.put("fl_hlen", headers)
        fields.put("fl_plen", body if not body >> 8 * fields.size_of("fl_plen") else body & 0xFF)
        fields.put_rule("fl_rule", record.rule)
        fields.put_group("fl_group", told.get("group", record.group))
        self._put_flags(fields, record, told)
        device = record.outdev if record.direction == "out" else record.indev
        fields.put_interface(f"if{device}" if isinstance(device, int) else device or "")
        direction = told.get("fl_dir", _DIRECTIONS.get(record.direction or "", 2))
        fields.put("fl_dir", direction, absent=direction if direction <= 2 else None)
        fields.put("fl_loglevel", told.get("fl_loglevel", 0xFFFF), absent=0xFFFF)
        fields.put("fl_logtag", told.get("fl_logtag", 0), absent=0)
        self._put_tag(fields, record, told.get("fl_nattag", ""))
        fields.put("fl_uuid", bytes.fromhex(told.get("fl_uuid", "")), absent=b"")
        self._put_reason(fields, record.reason)
        family = self._af_inet6 if v6 else _AF_INET
        fields.put("fl_family", family, absent=family)
        return swapped(packet) if self.layout.host_order_ip and not v6 else packet

    def _kept(self, fields: Fields, record: PacketRecord, payload: bytes) -> tuple[int, bytes]:
        """How many bytes are headers, and the bytes that are kept."""
        headers = min(header_size(payload), 0xFF)
        most = len(payload)
        if record.source == "ipl" and record.raw is not None:
            headers = ipl_layouts.named(record.layout).plan("ipf").get(record.raw, "fl_hlen")
        elif record.source != "ipl" and self._body is not None:
            most = min(most, headers + self._body)
        if headers < 20 and not self.layout.version.has_magic:
            raise Impossible(f"packets without a whole header, by {self.layout.version.name}")
        # 2.x has no length but fl_plen; others need that of the packet where fl_plen is too small
        stated = stated_length(payload) if fields.size_of("ipl_dsize") else 0
        if fields.size_of("fl_plen") == 1 and most > max(headers + 0xFF, stated):
            fields.lost["packet"] += 1
            most = headers + 0xFF
        return headers, payload[:most]

    def _told(self, record: PacketRecord, body: int) -> dict[str, Any]:
        """What IPFilter would have told of a packet that another system logged."""
        prefix = record.prefix or ""
        action = next((a for p, a in self._actions.items() if fnmatchcase(prefix, p)), "log")
        flags = ["FR_LOG", *ACTIONS[action], *_way(record)]
        if self.layout.version.major >= 4:
            flags.append("FR_COPIED")  # as all rules of a kernel are
        found = {
            "FI_FRAG": record.fragment is not None,
            "FI_SHORT": record.cut is not None,  # or ipmon reads beyond what there is
            "FI_TCPUDP": record.protocol in (TCP, UDP),
        }
        word = "_".join(prefix.split())
        named = self.layout.version.major >= 4  # before, groups are numbers
        groups = {"prefix": word if word and named else record.group, "group": record.group}
        tags = {"mark": record.mark, "uid": record.uid, "gid": record.gid}
        return {
            "fl_flags": [*flags, "FR_LOGBODY"] if body else flags,
            "fl_lflags": [name for name, is_so in found.items() if is_so],
            "group": groups.get(self._group, "0"),
            "fl_logtag": tags.get(self._tag) or 0,
        }

    def _put_flags(self, fields: Fields, record: PacketRecord, told: Mapping[str, Any]) -> None:
        """fl_flags and fl_lflags, from the names of their bits."""
        source = ipl_layouts.named(record.layout).version if record.source == "ipl" else None
        flags: list[str | int] = list(told.get("fl_flags", ()))
        lflags: list[str | int] = list(told.get("fl_lflags", ()))
        if not fields.size_of("fl_dir"):  # it is told by these
            flags = [word for word in flags if word not in _WAYS.values()]
            flags += _way(record)
        if source is not None and source.major == 4:
            flags = _flags_from_4(flags, record.action)
        if self.layout.version.major == 4:
            flags = ["FF_LOGNOMATCH" if word == "FR_COPIED" else word for word in flags]
        if self.layout.version.major >= 4:
            lflags += [f"FI{word[2:]}" for word in _FOUND_IN_FLAGS if word in flags]
            flags = [word for word in flags if word not in _FOUND_IN_FLAGS]
        elif source is None or source.major >= 4 or not fields.size_of("fl_lflags"):
            moved = {f"FI{word[2:]}": word for word in _FOUND_IN_FLAGS}
            flags += [moved[str(word)] for word in lflags if word in moved]
            lflags = [word for word in lflags if word not in moved]
        numbered = names.words(source) if source is not None else None
        for field, table, words in (
            ("fl_flags", self._words.flags, flags),
            ("fl_lflags", self._words.lflags, lflags),
        ):
            value, unknown = names.bits(table, words)
            for word in unknown:  # a number, as text if it is large, means the same where names do
                if str(word).isdigit() and numbered and table in numbered[:2]:
                    value |= int(word)
                else:
                    fields.lost[f"{field} {word}"] += 1
            room = 2 ** (8 * fields.size_of(field)) - 1
            if value & ~room and room:
                fields.lost[field] += 1
                value &= room
            fields.put(field, value, absent=0)

    def _put_tag(self, fields: Fields, record: PacketRecord, text: str) -> None:
        """fl_nattag, also one without text: its first four bytes say whether there is one."""
        fields.put_text("fl_nattag", text)
        if text or record.source != "ipl" or record.raw is None:
            return
        leaf = ipl_layouts.named(record.layout).plan("ipf").places.get("fl_nattag")
        tag = b"" if leaf is None else record.raw[leaf.offset : leaf.offset + leaf.size]
        if any(tag[:4]):
            fields.put("fl_nattag", tag, absent=b"")

    def _put_reason(self, fields: Fields, reason: str | int | None) -> None:
        """fl_breason, of a word or number."""
        number = _number(self._words.reasons, reason)
        if number is None:
            fields.lost["fl_breason"] += reason is not None
        else:
            fields.put("fl_breason", number, absent=0)

    # NAT and state entries

    def _nat(self, fields: Fields, record: FlowRecord) -> None:
        """struct natlog."""
        extra = record.extra or {}
        modern = self.layout.version.major >= 5
        if record.family == "ipv6" and fields.size_of("nl_osrcip" if modern else "nl_inip") == 4:
            raise Impossible(f"IPv6 NAT, which {self.layout.version.name} does not log")
        (self._nat_5 if modern else self._nat_4)(fields, record)
        fields.put("nl_rule", -1 if record.rule is None else record.rule - 1)
        for name, value, absent in (
            ("nl_p", record.protocol or 0, 0),
            ("nl_v", 6 if record.family == "ipv6" else 4, 4),
        ):
            told = extra.get(name, value)
            pair = bytes(told) if isinstance(told, list) else bytes((told, told))
            one = told if isinstance(told, int) else value
            fields.put(name, pair if fields.size_of(name) == 2 else one, absent=absent)
        self._put_counters(fields, record, "nl", names.NAT_DIRECTIONS)
        devices = [str(device or "").encode() for device in (record.indev, record.outdev)]
        fields.lost["nl_ifnames"] += any(len(device) > 16 for device in devices)
        both = b"".join(device[:16].ljust(16, b"\0") for device in devices)
        fields.put("nl_ifnames", both, absent=bytes(32))

    def _nat_5(self, fields: Fields, record: FlowRecord) -> None:
        """The flow as it comes and as it goes on, in four ends."""
        source, peer = (record.saddr, record.sport), (record.daddr, record.dport)
        mapped = record.nat_saddr, record.nat_sport
        new_peer = record.nat_daddr, record.nat_dport
        if record.nat_daddr is None:  # before 5.0: the inside, the outside and the peer
            new_peer = peer
            if record.flow_type == "rdr":
                source, peer, mapped, new_peer = peer, mapped, peer, source
        for name, end in (("osrc", source), ("odst", peer), ("nsrc", mapped), ("ndst", new_peer)):
            fields.put_end(end, f"nl_{name}ip", f"nl_{name}port")
        action = _number(names.NAT_EVENTS_5, record.event)
        kind = _number(names.NAT_KINDS_5, record.flow_type)
        if action is None:
            raise Impossible(f"NAT events {record.event!r}")
        if kind is None:  # an event of 4.x does not say what kind of entry it is of
            fields.lost["nl_type"] += 1
        fields.put("nl_action", action)
        fields.put("nl_type", kind or 0)

    def _nat_4(self, fields: Fields, record: FlowRecord) -> None:
        """The inside, the outside and the peer."""
        inside, outside = (record.saddr, record.sport), (record.nat_saddr, record.nat_sport)
        peer = record.daddr, record.dport
        if record.nat_daddr is not None:  # 5.x: four ends, of which one or two were changed
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
            number = _number(names.NAT_EVENTS_4, record.event)
            fields.lost["nl_type"] += record.flow_type != "nat"  # the event takes its place
        if number is None:
            what = record.flow_type if record.event == "new" else record.event
            raise Impossible(f"NAT {what!r}, which is new in 5.0")
        fields.put("nl_type", number)

    def _state(self, fields: Fields, record: FlowRecord) -> None:
        """struct ipslog."""
        extra = record.extra or {}
        if record.family == "ipv6" and fields.size_of("isl_src") == 4:
            raise Impossible(f"IPv6 states, which {self.layout.version.name} does not log")
        number = _number(names.STATE_EVENTS, record.event)
        if number is None:
            raise Impossible(f"state events {record.event!r}")
        fields.put("isl_type", number)
        fields.put_end((record.saddr, None), "isl_src", "")
        fields.put_end((record.daddr, None), "isl_dst", "")
        fields.put("isl_p", record.protocol or 0)
        fields.put("isl_v", extra.get("isl_v", 6 if record.family == "ipv6" else 4), absent=4)
        if record.icmp_type is not None:
            fields.put("isl_ps", record.icmp_type.to_bytes(2, self._order))
        elif "isl_ps" in extra:
            fields.put("isl_ps", bytes.fromhex(extra["isl_ps"]))
        else:
            fields.put("isl_ps", b"".join((port or 0).to_bytes(2)
                                          for port in (record.sport, record.dport)))  # fmt: skip
        self._put_states(fields, extra.get("isl_state"))
        fields.put("isl_flags", extra.get("isl_flags", 0), absent=0)
        fields.put("isl_tag", extra.get("isl_tag", 0), absent=0)
        fields.put_rule("isl_rulen", record.rule)
        fields.put_group("isl_group", record.group)
        self._put_counters(fields, record, "isl", names.STATE_DIRECTIONS)

    def _put_states(self, fields: Fields, states: list[str | int] | None) -> None:
        """isl_state, of the names of TCP states."""
        if states is None:
            return
        table = dict(enumerate(self._words.tcp_states))
        numbers = [_number(table, state) for state in states]
        fields.lost["isl_state"] += None in numbers
        fields.put("isl_state", bytes(number or 0 for number in numbers))

    def _put_counters(
        self, fields: Fields, record: FlowRecord, prefix: str, ways: tuple[str, ...]
    ) -> None:
        """Packets and bytes, and the time that 3.1 has once more beside them."""
        fields.put_counters(f"{prefix}_pkts", record.packets or {}, ways)
        fields.put_counters(f"{prefix}_bytes", record.bytes or {}, ways)
        second, microsecond = divmod((record.timestamp_ns or 0) // 1000, 1_000_000)
        for name, value in ((f"{prefix}_sec", second), (f"{prefix}_usec", microsecond)):
            fields.put(name, int((record.extra or {}).get(name, value)), absent=value)


def ipfilter_log(record: Record) -> str:
    """The log of IPFilter that a record of any source belongs to: ipf, nat or state."""
    return (record.log if record.source == "ipl" else "") or "ipf"


_DIRECTIONS = {"in": 0, "forward": 0, "out": 1}
_WAYS = {0: "FR_INQUE", 1: "FR_OUTQUE"}
_FOUND_IN_FLAGS = ("FF_OPTIONS", "FF_TCPUDP", "FF_FRAG", "FF_SHORT")
"""What the filter found, which is in fl_flags before 4.0 and in fl_lflags since."""


def _way(record: PacketRecord) -> list[str]:
    """The flag that says which way the packet goes, as far as that is known."""
    number = _DIRECTIONS.get(record.direction or "")
    return [] if number is None else [_WAYS[number]]


def _flags_from_4(given: list[str | int], action: str | int | None) -> list[str | int]:
    """The flags of 4.x, where 0 is FR_CALL and one bit is FR_COPIED of a rule as well."""
    given = [word for word in given if word != "FR_CALL"]
    if "FR_NOMATCH" in given or action == "nomatch":
        return given
    return ["FR_COPIED" if word == "FF_LOGNOMATCH" else word for word in given]


def _number(table: Mapping[int, str | None], word: str | int | None) -> int | None:
    """The number of a word; a number stands for itself."""
    if isinstance(word, int):
        return word
    return next((number for number, known in table.items() if known == word), None)


def header_size(payload: bytes) -> int:
    """How many bytes of an IP packet ip_log.c takes for headers (fl_hlen)."""
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
