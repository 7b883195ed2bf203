"""IPFilter's log: what /dev/ipl, /dev/ipnat and /dev/ipstate give, in every layout of ipl_layouts.

`Stream` steps from record to record by ipl_dsize (2.x has no such field: by fl_hlen + fl_plen) and
decodes each by the plan of its layout. A record that does not add up is damage: the next one is
looked for by its magic. `probe` finds the layout of a dump by trying them all.

Semantics: ipl(4), ip_log.c, ipmon.c. The kernel writes fl_plen and fl_hlen through a u_char, so
the body's length is ipl_dsize less the rest, and fl_plen only its lowest 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from struct import error as StructError
from typing import Any

import msgspec

from pylog.errors import DecodeError
from pylog.formats import Guess, Item, Message, ipl_layouts
from pylog.formats import Stream as BaseStream
from pylog.formats import ipl_names as names
from pylog.formats.ipl_layouts import Layout
from pylog.formats.packet import ETH_P_IP, ETH_P_IPV6, addresses, fields
from pylog.formats.plan import Plan
from pylog.record import MAX_SECONDS, FlowRecord, LossRecord, PacketRecord, Record

LINKTYPES = (116,)
"""LINKTYPE_IPFILTER: whole records, with the layout's name in the interface description."""

MAX_RECORD = 0x80000
"""The largest log buffer a kernel can be told to use, and so the largest record (ipl_logsize)."""

_NONE32 = 0xFFFFFFFF
_PACKET_FIELDS = (
    "ipl_count", "ipl_seqnum", "ipl_sec", "ipl_usec", "ipl_dsize", "fl_unit", "fl_rule",
    "fl_flags", "fl_lflags", "fl_logtag", "fl_nattag", "fl_plen", "fl_loglevel", "fl_group",
    "fl_hlen", "fl_dir", "fl_breason", "fl_family", "fl_ifname", "fl_uuid", "fl_bits",
)  # fmt: skip


class _Names(dict[bytes, str]):
    """A C character array -> text up to the NUL, remembered (bounded)."""

    def __missing__(self, array: bytes) -> str:
        if len(self) >= 4096:
            self.clear()
        text = array.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        self[array] = text
        return text


_text = _Names()


class _Plans:
    """What the planner makes of one layout for one device."""

    def __init__(self, layout: Layout, device: str) -> None:
        schema = layout.schema(device)
        self.plan = Plan(schema)
        self.size = self.plan.size
        self.magic = layout.magic(device)
        self.dsize = self.plan.reader(("ipl_dsize",))


@cache
def _plans(layout: Layout) -> dict[str, _Plans]:
    return {device: _Plans(layout, device) for device in layout.devices}


class Stream(BaseStream):
    """Records of one layout, from any of the three devices where the magic tells them apart.

    device   for the versions before 4.0, whose magic does not tell: ipf, nat or state
    """

    source = "ipl"

    def __init__(self, layout: Layout, device: str = "ipf") -> None:
        super().__init__()
        if device not in layout.devices:
            raise ValueError(f"{layout.name} has no {device} log")
        self.layout_value = layout
        self.layout = layout.name
        self.device = device
        version, self._plans = layout.version, _plans(layout)
        if version.has_magic:
            self.needle = b"LPI" if layout.abi.order == "<" else b"IPL"
            self.needle_at = layout.magic("ipf").index(self.needle)
        told = version.magic_tells_device
        self._devices = layout.devices if told else (device,)
        self._by_magic = {self._plans[d].magic: d for d in self._devices}
        self._magic_size = len(self._plans[device].magic)
        ipf = self._plans["ipf"]
        self._packet_magic = ipf.magic if "ipf" in self._devices else None
        self._frame = ipf.plan.reader(("ipl_dsize", "fl_hlen", "fl_plen"))
        self._decoders: dict[str, Callable[[bytes, Message, bool], Record]] = {
            "ipf": _packet_decoder(self, ipf),
        }
        for name in layout.devices[1:]:
            make = _nat_decoder if name == "nat" else _state_decoder
            self._decoders[name] = make(self, self._plans[name])
        self._packet_size = ipf.size
        self._swapped = layout.host_order_ip

    def device_of(self, data: bytes, message: Message) -> str:
        """Which log a record is of: ipf, nat or state."""
        start = message.start
        return self._by_magic[data[start : start + self._magic_size]]

    def measure(self, data: bytes, pos: int) -> int:
        magic = data[pos : pos + self._magic_size]
        if magic == self._packet_magic:
            return self._measure_packet(data, pos)
        device = self._by_magic.get(magic)
        if device is None:
            if pos + self._magic_size > len(data) and any(
                known.startswith(magic) for known in self._by_magic
            ):
                return pos + self._magic_size
            expected = " or ".join(repr(m) for m in self._by_magic)
            raise self.error(pos, "ipl_magic", repr(magic), expected)
        plans = self._plans[device]
        size = plans.size
        if pos + size > len(data):
            return pos + size
        (dsize,) = plans.dsize(data, pos)
        if dsize != size:
            raise self.error(pos, "ipl_dsize", dsize, f"{size} for a {device} record")
        return pos + size

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        while start < end:
            after = self.measure(data, start)
            if after > end:
                raise self.error(start, "record", f"{end - start} bytes", after - start)
            items.append(Message(start, after, origin))
            start = after

    def _measure_packet(self, data: bytes, pos: int) -> int:
        fixed = self._packet_size
        if pos + fixed > len(data):
            return pos + fixed
        dsize, hlen, plen = self._frame(data, pos)
        if dsize is None:  # 2.x
            self._check_bare(data, pos, hlen)
            return pos + fixed + int(hlen) + int(plen)
        body = dsize - fixed - hlen
        if body != plen:
            if not body >= 0 or dsize > MAX_RECORD:
                raise self.error(
                    pos, "ipl_dsize", dsize, f"{fixed + hlen} (head, ipflog and fl_hlen) to"
                    f" {MAX_RECORD}"
                )  # fmt: skip
            if (body - plen) & 0xFF or hlen + body > self._ip_length(data, pos + fixed):
                raise self.error(
                    pos, "ipl_dsize", dsize, f"{fixed + hlen + plen}, with fl_hlen {hlen} and"
                    f" fl_plen {plen}"
                )  # fmt: skip
        if not self._magic_size:
            self._check_bare(data, pos, hlen)
        return pos + int(dsize)

    def _check_bare(self, data: bytes, pos: int, hlen: int) -> None:
        """Without a magic, ask more of a record: the packet must begin as IPv4."""
        at = pos + self._packet_size
        if hlen < 20 or (at < len(data) and data[at] >> 4 != 4):
            raise self.error(pos, "fl_hlen", hlen, "an IPv4 header of 20 bytes or more after it")

    def _ip_length(self, data: bytes, at: int) -> int:
        """The length that the IP header at `at` states; the largest one if it is not there."""
        if at + 6 > len(data):
            return MAX_RECORD
        if data[at] >> 4 == 6:
            return 40 + int.from_bytes(data[at + 4 : at + 6])
        return int.from_bytes(data[at + 2 : at + 4], "little" if self._swapped else "big")

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start = message.start
        device = self._by_magic[data[start : start + self._magic_size]]
        return self._decoders[device](data, message, raw)

    def nanoseconds(self, pos: int, sec: int, usec: int) -> int:
        """The record's time; DecodeError for one that no kernel writes."""
        if usec >= 1_000_000:
            raise self.error(pos, "ipl_usec", usec, "0 to 999999")
        if sec > MAX_SECONDS:
            raise self.error(pos, "ipl_sec", sec, f"at most {MAX_SECONDS} (year 9999)")
        return int(sec * 1_000_000_000 + usec * 1000)

    def check_count(self, pos: int, count: int | None) -> None:
        if count == 0:
            raise self.error(pos, "ipl_count", 0, "1 or more")


def observed(message: Message) -> int | None:
    """When the capture file says that the record was received."""
    return None if message.origin is None else message.origin.observed_ns


# Packet records


def _action_3(flags: int) -> str | int:
    """The order of the tests is ipmon's."""
    if flags & 0x2:
        return "pass"
    if flags & 0x1:
        return "block"
    return "nomatch" if flags & 0x40000000 else "log"


def _action_4(flags: int) -> str | int:
    command = flags & 0xF
    if command == 2:
        return "pass"
    if command == 1:
        return "block"
    if flags & 0x1F == 0x10:
        return "log"
    return "nomatch" if flags & 0x40000000 else command


def _tables(layout: Layout) -> tuple[str, str, dict[int, str | None]]:
    """The names of the flag tables of a layout, and its reasons."""
    version = layout.version
    if version.major >= 5:
        reasons = names.REASONS_51 if version.name == "5.1.2" else names.REASONS_50
        return "flags 5", "lflags 5", reasons
    if version.major == 4:
        illumos = version.name == "4.1-illumos"
        return "flags 4", "lflags illumos" if illumos else "lflags 4", {}
    return "flags 3.4.29" if version.ipflog == "3.4.29" else "flags 3", "lflags 3", {}


class _Groups(dict[Any, str | None]):
    """A group -> as ipmon shows it after the @, remembered (bounded).

    "0" is the main list, None stands for ipmon's -1; a number before 4.0, a name since.
    """

    def __missing__(self, group: int | bytes | None) -> str | None:
        if len(self) >= 4096:
            self.clear()
        if isinstance(group, bytes):
            text = None if group[:2] == b"\xff\0" else _text[group] or "0"
        else:
            text = None if group is None or group == _NONE32 else str(group)
        self[group] = text
        return text


def _packet_decoder(
    stream: Stream, plans: _Plans
) -> Callable[[bytes, Message, bool], PacketRecord]:
    """A function that decodes the packet records of the stream's layout."""
    layout = stream.layout_value
    major, swapped, order = layout.version.major, layout.host_order_ip, layout.abi.order
    flags_table, lflags_table, reasons = _tables(layout)
    read, fixed, name = plans.plan.reader(_PACKET_FIELDS), plans.size, layout.name
    narrow = layout.version.ipflog in ("2.x", "3.1", "3.2", "3.3")  # u16 rule and group
    action_of = _action_4 if major >= 4 else _action_3
    groups = _Groups()
    facts: dict[tuple[Any, ...], tuple[Any, bool | None, dict[str, Any]]] = {}

    def explain(*key: Any) -> tuple[Any, bool | None, dict[str, Any]]:
        """Action, short and extra of the fields that tell them; remembered (bounded)."""
        flags, lflags, logtag, nattag, loglevel, family, uuid = key
        extra: dict[str, Any] = {"fl_flags": names.bit_names(flags_table, flags)}
        if lflags:
            extra["fl_lflags"] = names.bit_names(lflags_table, lflags)
        if loglevel is not None and loglevel != 0xFFFF:
            extra["fl_loglevel"] = loglevel
        if logtag:
            extra["fl_logtag"] = logtag
        if nattag and nattag[:4] != b"\0\0\0\0" and _text[nattag]:
            extra["fl_nattag"] = _text[nattag]
        if family:
            extra["fl_family"] = family
        if uuid and any(uuid):
            extra["fl_uuid"] = uuid.hex()
        if len(facts) >= 4096:
            facts.clear()
        short = bool(lflags & 0x8 if major >= 4 else flags & 0x8000000) or None
        facts[key] = action_of(flags), short, extra
        return facts[key]

    def decode(data: bytes, message: Message, raw: bool) -> PacketRecord:
        start, end = message.start, message.end
        (
            count, seq, sec, usec, _, unit, rule, flags, lflags, logtag, nattag, _, loglevel,
            group, _hlen, direction, breason, family, ifname, uuid, bits,
        ) = read(data, start)  # fmt: skip
        if count == 0:
            stream.check_count(start, count)
        if usec >= 1_000_000 or sec > MAX_SECONDS:
            stream.nanoseconds(start, sec, usec)
        if bits is not None:  # 2.x: u_long flags:24, unit:8
            flags, unit = (bits & 0xFFFFFF, bits >> 24) if order == "<" else (bits >> 8, bits & 255)
        if narrow:
            rule = _NONE32 if rule == 0xFFFF else rule
            group = None if group == 0xFFFF else group
        packet = data[start + fixed : end]
        version = packet[0] >> 4 if packet else 0
        if version == 4:
            if swapped:
                packet = _swapped_back(packet)
            found = fields(packet, 0, len(packet), ETH_P_IP)
        elif version == 6:
            found = fields(packet, 0, len(packet), ETH_P_IPV6)
        else:
            raise stream.error(start + fixed, "ip_v", version, "4 or 6")
        key = (flags, lflags, logtag, nattag, loglevel, family, uuid)
        action, short, extra = facts.get(key) or explain(*key)
        extra = extra.copy()
        if found[-1]:
            extra |= found[-1]
        if direction is None:  # before 3.4.29: FR_OUTQUE, FR_INQUE
            direction = 1 if flags & 0x4 else 0 if flags & 0x8 else None
        elif direction > 1:
            extra["fl_dir"] = direction
        device = _text[ifname] or None
        if major < 5 and unit is not None and device and not device[-1].isdigit():
            device += str(unit) if unit < 0x8000 else ""  # else never written
        return PacketRecord(*(
            "ipl", name, stream.base + start, sec * 1_000_000_000 + usec * 1000,
            None if message.origin is None else message.origin.observed_ns,
            seq, count, action, short,
            "in" if direction == 0 else "out" if direction == 1 else None,
            None,
            rule + 1 if rule != _NONE32 else None,
            groups[group],
            None,
            reasons.get(breason, breason) if breason else None,
            None if direction == 1 else device,
            device if direction == 1 else None,
            None, None, None, None, None, None, None, None, None,
            *found[:11],
            len(packet),
            found[11],
            extra,
            packet,
            data[start:end] if raw else None,
        ))  # fmt: skip

    return decode


def _swapped_back(packet: bytes) -> bytes:
    """An IPv4 packet whose ip_len and ip_off were in little-endian order, as on the wire."""
    return (packet[:2] + packet[3:4] + packet[2:3] + packet[4:6] + packet[7:8] + packet[6:7]
            + packet[8:])  # fmt: skip


# NAT and state records


def _port(data: bytes | None, protocol: int | None) -> int | None:
    """A port (or an ICMP id) of a flow; a 0 counts only where the protocol has ports."""
    if data is None:
        return None
    port = int.from_bytes(data)
    return port if port or protocol in (None, 6, 17, 132) else None


def _counters(values: Iterable[int | None], directions: tuple[str, ...]) -> dict[str, int] | None:
    found = {d: v for d, v in zip(directions, values, strict=False) if v is not None}
    return found or None


def _nat_decoder(stream: Stream, plans: _Plans) -> Callable[[bytes, Message, bool], FlowRecord]:
    """A function that decodes the NAT records of the stream's layout."""
    layout = stream.layout_value
    plan = plans.plan
    modern = layout.version.major >= 5
    directions = ("in", "out") if "nl_pkts.0" in plan.names else ("total",)
    legacy = layout.version.natlog in ("3.1", "3.2early")

    def decode(data: bytes, message: Message, raw: bool) -> FlowRecord:
        start = message.start
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        stream.check_count(start, f["ipl_count"])
        extra: dict[str, Any] = {}
        kind: int = f["nl_type"]
        event: str | int
        if modern:
            protocol, v = f["nl_p"], f["nl_v"]
            if isinstance(protocol, bytes):  # of the original and of the translated flow
                if protocol[1] != protocol[0]:
                    extra["nl_p"] = list(protocol)
                if v[1] != v[0]:
                    extra["nl_v"] = list(v)
                protocol, v = protocol[0], v[0]
            ends: tuple[str | None, ...] = ("osrc", "odst", "nsrc", "ndst")
            event = names.NAT_EVENTS_5.get(f["nl_action"], f["nl_action"])
            flow_type: str | int = names.NAT_KINDS_5.get(kind, kind)
            indev, outdev = f["nl_ifnames"][:16], f["nl_ifnames"][16:]
        else:
            protocol, v = f.get("nl_p"), f.get("nl_v", 4)
            ends = ("in", "orig", "out", None)
            if kind in names.NAT_KINDS:
                event, flow_type = "new", names.NAT_KINDS[kind]
            else:
                event, flow_type = names.NAT_EVENTS_4.get(kind, kind), "nat"
            indev = outdev = b""
        if v not in (4, 6):
            extra["nl_v"] = v
        width = 16 if v == 6 else 4
        address = [addresses[f[f"nl_{e}ip"][:width]] if e else None for e in ends]
        port = [_port(f[f"nl_{e}port"], protocol) if e else None for e in ends]
        if legacy:
            extra |= {"nl_sec": str(f["nl_sec"]), "nl_usec": str(f["nl_usec"])}
        rule = f["nl_rule"]
        packets = [f.get("nl_pkts", f.get("nl_pkts.0")), f.get("nl_pkts.1")]
        octets = [f.get("nl_bytes", f.get("nl_bytes.0")), f.get("nl_bytes.1")]
        return FlowRecord(
            source="ipl", layout=layout.name, offset=stream.base + start,
            timestamp_ns=stream.nanoseconds(start, f["ipl_sec"], f["ipl_usec"]),
            observed_ns=observed(message), seq=f.get("ipl_seqnum"), count=f["ipl_count"],
            event=event, flow_type=flow_type,
            rule=rule + 1 if rule != -1 else None,
            indev=_text[indev] or None, outdev=_text[outdev] or None,
            family="ipv6" if v == 6 else "ipv4", protocol=protocol,
            saddr=address[0], daddr=address[1], sport=port[0], dport=port[1],
            nat_saddr=address[2], nat_daddr=address[3], nat_sport=port[2], nat_dport=port[3],
            packets=_counters(packets, directions), bytes=_counters(octets, directions),
            extra=extra or None, raw=data[start : message.end] if raw else None,
        )  # fmt: skip

    return decode


_STATE_DIRECTIONS = ("forward_in", "forward_out", "backward_in", "backward_out")


def _state_decoder(stream: Stream, plans: _Plans) -> Callable[[bytes, Message, bool], FlowRecord]:
    """A function that decodes the state records of the stream's layout."""
    layout = stream.layout_value
    plan = plans.plan
    many = "isl_pkts.0" in plan.names
    directions = _STATE_DIRECTIONS if many else ("total",)
    states = names.TCP_STATES_4 if layout.version.major >= 4 else names.TCP_STATES_3
    groups = _Groups()
    little = layout.abi.order == "<"

    def decode(data: bytes, message: Message, raw: bool) -> FlowRecord:
        start = message.start
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        stream.check_count(start, f["ipl_count"])
        protocol, v, ps = f["isl_p"], f.get("isl_v", 4), f["isl_ps"]
        extra: dict[str, Any] = {}
        if v not in (4, 6):
            extra["isl_v"] = v
        width = 16 if v == 6 else 4
        sport = dport = icmp_type = None
        if protocol in (6, 17):
            sport, dport = int.from_bytes(ps[:2]), int.from_bytes(ps[2:])
        elif protocol in (1, 58):
            icmp_type = int.from_bytes(ps[:2], "little" if little else "big")  # in host order
        elif any(ps):
            extra["isl_ps"] = ps.hex()
        if protocol == 6 and "isl_state" in f:
            extra["isl_state"] = [states[s] if s < len(states) else s for s in f["isl_state"]]
        if f["isl_flags"]:
            extra["isl_flags"] = f["isl_flags"]
        if f.get("isl_tag"):
            extra["isl_tag"] = f["isl_tag"]
        if "isl_sec" in f:
            extra |= {"isl_sec": str(f["isl_sec"]), "isl_usec": str(f["isl_usec"])}
        rule, event = f.get("isl_rulen"), f["isl_type"]
        keys = [f".{i}" for i in range(4)] if many else [""]
        return FlowRecord(
            source="ipl", layout=layout.name, offset=stream.base + start,
            timestamp_ns=stream.nanoseconds(start, f["ipl_sec"], f["ipl_usec"]),
            observed_ns=observed(message), seq=f.get("ipl_seqnum"), count=f["ipl_count"],
            event=names.STATE_EVENTS.get(event, event), flow_type="state",
            rule=None if rule is None or rule == _NONE32 else rule + 1,
            group=groups[f.get("isl_group")],
            family="ipv6" if v == 6 else "ipv4", protocol=protocol,
            saddr=addresses[f["isl_src"][:width]], daddr=addresses[f["isl_dst"][:width]],
            sport=sport, dport=dport, icmp_type=icmp_type,
            packets=_counters([f["isl_pkts" + k] for k in keys], directions),
            bytes=_counters([f["isl_bytes" + k] for k in keys], directions),
            extra=extra or None, raw=data[start : message.end] if raw else None,
        )  # fmt: skip

    return decode


# Detection


def stream(name: str, head: bytes = b"") -> Stream:
    """The stream of a layout name; ValueError if there is none.

    name   ipl-VERSION-ABI; before 4.0, whose records do not tell, with ":nat" or ":state" for
           those logs
    head   the first bytes, which tell the log where the name does not
    """
    name, _, device = name.partition(":")
    layout = ipl_layouts.named(name)
    if device and device not in layout.devices:
        raise ValueError(f"{name} has no log {device!r}, only {', '.join(layout.devices)}")
    if not device and head and not layout.version.magic_tells_device:
        trials = sorted(_trials([layout], head[:16384], False), key=lambda t: t.explained)
        device = trials[-1].device if trials else "ipf"
    return Stream(layout, device or "ipf")


def captured_stream(data: bytes, linktype: int, offset: int) -> Stream:
    """A packet alone does not tell its layout: the interface's description must name it."""
    raise DecodeError("if_description", "no ipl layout", "one, or --layout NAME", offset)


def known_layouts() -> list[str]:
    """The names of all layouts, in order of preference."""
    return [layout.name for layout in ipl_layouts.layouts()]


_Logged = PacketRecord | FlowRecord

_AF = {"ipv4": (2,), "ipv6": (10, 24, 26, 28, 30)}
"""AF_INET everywhere; AF_INET6 on Linux, NetBSD and OpenBSD, illumos, FreeBSD, Darwin."""


class _Trial:
    """How well one layout explains some bytes."""

    def __init__(self, layout: Layout, device: str, data: bytes, final: bool) -> None:
        self.layout, self.device = layout, device
        self.stream = Stream(layout, device)
        self.explained = self.messages = self.score = 0
        self.records: list[_Logged] = []
        self.evidence: dict[str, int] = {}
        expected: dict[str, int] = {}
        for item in self.stream.split(data, final):
            if not isinstance(item, Message):
                continue
            try:
                record = self.stream.decode(data, item)
            except (DecodeError, StructError):
                continue
            if isinstance(record, LossRecord) or not _plausible(record):
                continue
            self.records.append(record)
            self.messages += 1
            self.explained += item.end - item.start
            self._score(record, self.stream.device_of(data, item), expected)

    @property
    def _copied(self) -> str:
        """The flag that the kernel sets in its copy of a rule: 4.x has it in another's place."""
        return "FR_COPIED" if self.layout.version.major >= 5 else "FF_LOGNOMATCH"

    def _score(
        self, record: PacketRecord | FlowRecord, device: str, expected: dict[str, int]
    ) -> None:
        """Count what only the right layout gets right."""
        found = []
        if isinstance(record, PacketRecord) and record.family == "ipv4" and record.payload:
            header = record.payload[: (record.payload[0] & 15) * 4]
            if len(header) >= 20 and _checksum(header) == 0:
                found.append("IPv4 header checksums right")
            if record.length == record.caplen:
                found.append("packets logged whole")
        nanoseconds = record.timestamp_ns or 0
        if nanoseconds >= 694224000 * 10**9:
            found.append("times after 1991")
        if nanoseconds % 10**9:
            found.append("times with a fraction of a second")
        extra = record.extra or {}
        flags = extra.get("fl_flags", ())
        if self._copied in flags and "FR_NOMATCH" not in flags:
            found.append(f"rules marked {self._copied} as in {self.layout.version.major}.x")
        if isinstance(record, PacketRecord) and self.layout.version.ipflog == "5.0.5":
            if extra.get("fl_family") in _AF[str(record.family)]:
                found.append("address families right")
            else:
                self.score -= 1
        if record.seq is not None:
            if record.seq == expected.get(device, 1):
                found.append("sequence numbers from 1 on, without a gap")
            expected[device] = record.seq + (record.count or 1)
        for name in found:
            self.evidence[name] = self.evidence.get(name, 0) + 1
        self.score += len(found)

    @property
    def rank(self) -> tuple[int, int]:
        return self.explained, self.score

    @property
    def name(self) -> str:
        told = self.layout.version.magic_tells_device or self.device == "ipf"
        return self.layout.name if told else f"{self.layout.name}:{self.device}"


def _checksum(header: bytes) -> int:
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header) & ~1, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _plausible(record: _Logged) -> bool:
    """Whether a decoded record looks like one a kernel wrote; a wrong layout seldom does."""
    if isinstance(record, PacketRecord):
        device = record.indev or record.outdev
        return (
            isinstance(device, str)
            and device.isprintable()
            and device.isascii()
            and "bad_header" not in (record.extra or {})
            and record.direction is not None
            and (record.group or "0").isprintable()
        )
    extra = record.extra or {}
    return (
        isinstance(record.event, str)
        and "nl_v" not in extra
        and "isl_v" not in extra
        and int(extra.get("nl_usec", extra.get("isl_usec", 0))) < 1_000_000
        and f"{record.indev}{record.outdev}".isprintable()
    )


def _same_records(a: _Trial, b: _Trial) -> bool:
    """Whether two layouts make the same of the bytes, but for the layout's name.

    Versions of one structure may also give the reasons other names: no bytes tell them apart.
    """
    if len(a.records) != len(b.records):
        return False
    ignored: dict[str, Any] = {"layout": ""}
    renamed = a.layout.version.structure == b.layout.version.structure
    for x, y in zip(a.records, b.records, strict=True):
        change = ignored | {"reason": None} if renamed and type(x) is PacketRecord else ignored
        if msgspec.structs.replace(x, **change) != msgspec.structs.replace(y, **change):
            return False
    return True


def _trials(layouts: list[Layout], sample: bytes, final: bool) -> list[_Trial]:
    """The trials of the layouts that make anything of the sample."""
    trials = [
        _Trial(layout, device, sample, final)
        for layout in layouts
        for device in (("ipf",) if layout.version.magic_tells_device else layout.devices)
    ]
    return [trial for trial in trials if trial.messages]


def probe(head: bytes, final: bool) -> list[Guess]:
    """Try every layout on the first bytes of an input."""
    orders = [order for order, magic in (("<", b"LPI"), (">", b"IPL")) if magic in head]
    known = list(ipl_layouts.layouts())
    trials = _trials(
        [x for x in known if x.version.has_magic and x.abi.order in orders], head[:16384], final
    )
    if not trials:  # every position may begin a record then: look at less
        trials = _trials([x for x in known if not x.version.has_magic], head[:4096], final)
    if trials and len(head) > 4096:
        best = max(trial.explained for trial in trials)
        trials = [_Trial(t.layout, t.device, head, final)
                  for t in trials if t.explained * 2 > best]  # fmt: skip
    # without a magic, chance may make a record or two
    trials = [t for t in trials if t.layout.version.has_magic or t.messages >= 3]
    if not trials:
        return []
    trials.sort(key=lambda t: t.rank, reverse=True)  # stable: preference among equals is kept
    top = [t for t in trials if t.rank == trials[0].rank]
    rivals = [(t.name, t.explained, t.score) for t in trials if t.rank != trials[0].rank]
    guesses: list[Guess] = []
    while top:
        first = top[0]
        same = [t for t in top if _same_records(first, t)]
        top = [t for t in top if t not in same]
        facts = [f"{n} of {first.messages} {what}" for what, n in sorted(first.evidence.items())]
        guesses.append(
            Guess(
                stream=partial(Stream, first.layout, first.device),
                container="raw",
                layouts=[t.name for t in same],
                messages=first.messages,
                explained=first.explained,
                score=first.score,
                evidence=[
                    f"{first.messages} records chain by their lengths over {first.explained} of"
                    f" {len(head)} bytes",
                    *facts,
                ],
                rivals=rivals[:8],
            )
        )
    return guesses
