"""IPFilter's log: what /dev/ipl, /dev/ipnat and /dev/ipstate give, in every layout of ipl_layouts.

`IplStream` steps from record to record by ipl_dsize (2.x has no such field: by fl_hlen + fl_plen)
and decodes each by the plan of its layout. A record that does not add up is damage: the next one
is looked for by its magic. `probe` finds the layout of a dump by trying them all.

Semantics: ipl(4), ip_log.c, ipmon.c. The kernel writes fl_plen and fl_hlen through a u_char, so
the body's length is ipl_dsize less the rest, and fl_plen only its lowest 8 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import msgspec

from pylog.errors import DecodeError
from pylog.formats import (
    Dropped,
    Guess,
    Item,
    Message,
    Needle,
    NextSeq,
    Stream,
    cut_off,
    ipl_layouts,
)
from pylog.formats import ipl_names as names
from pylog.formats.ip_header import stated_length
from pylog.formats.ip_numbers import ICMP, ICMPV6
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_records import flows, packet_log
from pylog.formats.mapping import packets
from pylog.formats.packet import swapped
from pylog.formats.plan import BYTEORDER, Unpack
from pylog.formats.scrub import Scrubber
from pylog.record import FlowRecord, PacketRecord, Record, Row

NAME = "ipl"
LINKTYPES: tuple[int, ...] = (116,)
"""LINKTYPE_IPFILTER: whole records, with the layout's name in the interface description."""

LOOKED_FOR = (
    "IPFilter records (the magic IPLM in either byte order and a chain of ipl_dsize; without a"
    " magic, three records of 2.x or 3.1 in a chain)"
)

MAX_RECORD = 0x80000
"""The largest log buffer a kernel can be told to use, and so the largest record (ipl_logsize)."""

USUAL_RECORD = 0x2000
"""The log buffer that kernels have by default (IPFILTER_LOGSIZE)."""

FIRST_LOOK = 1 << 14
"""How many bytes every layout is tried on, before the better ones are tried on more."""


class _Log:
    """What is needed to find the records of one log of a layout."""

    def __init__(self, layout: Layout, log: str) -> None:
        self.plan = layout.plan(log)
        self.size = self.plan.size
        self.magic = layout.magic(log)
        self.dsize = self.plan.reader(("ipl_dsize",))
        self.usual = self._usual(layout) if self.magic and log == "ipf" else None

    def _usual(self, layout: Layout) -> tuple[Unpack, int]:
        """A reader of magic, ipl_dsize and the two lengths that make it up; and the magic."""
        names = sorted(
            ("ipl_magic", "ipl_dsize", "fl_hlen", "fl_plen"),
            key=lambda n: self.plan.places[n].offset,
        )
        return self.plan.reader(names), int.from_bytes(self.magic, BYTEORDER[layout.abi.order])


@cache
def _logs(layout: Layout) -> dict[str, _Log]:
    return {log: _Log(layout, log) for log in layout.logs}


def _needle(layout: Layout, log: str) -> tuple[re.Pattern[bytes], int, int]:
    """What to look for when a record is to be found again: pattern, where in a record, and size.

    The magic; without one, the first byte of an IPv4 packet, or the only ipl_dsize there can be.
    What stands in fields of small numbers must be small, so few places of any bytes are found.
    """
    kind = _logs(layout)[log]
    order, places = layout.abi.order, kind.plan.places
    if kind.magic:
        needle = b"LPI" if order == "<" else b"IPL"
        at, dsize = kind.magic.index(needle), places["ipl_dsize"]
        after = dsize.offset - at - len(needle)
        pattern = re.escape(needle) + _after(after, _small(dsize.size, MAX_RECORD, order))
        return re.compile(pattern, re.S), at, dsize.offset + dsize.size - at
    if log == "ipf":
        before = bytearray(b"." * kind.size)
        fields = {"fl_hlen": rb"[\x14-\x3c]"}
        for name, most in (("ipl_usec", 999_999), ("ipl_dsize", MAX_RECORD)):
            if name in places:
                fields[name] = _small(places[name].size, most, order)
        pattern, at = b"", 0
        for name in sorted(fields, key=lambda name: places[name].offset):
            pattern += _any(places[name].offset - at) + fields[name]
            at = places[name].offset + places[name].size
        pattern = rb"[\x45-\x4f](?<=%b%b.)" % (pattern, _any(len(before) - at))
        return re.compile(pattern, re.S), kind.size, 1
    leaf = places["ipl_dsize"]
    number = kind.size.to_bytes(leaf.size, BYTEORDER[order])
    return re.compile(re.escape(number)), leaf.offset, leaf.size


def _any(size: int) -> bytes:
    return b".{%d}" % size if size else b""


def _after(gap: int, pattern: bytes) -> bytes:
    """The pattern behind so many bytes, looked at only."""
    return b"(?=%b%b)" % (_any(gap), pattern)


def _small(size: int, most: int, order: str) -> bytes:
    """The pattern of a number of 4 or 8 bytes that is not much above `most`, below 2^24."""
    parts = [b"\\x00{%d}" % (size - 3), rb"[\x00-\x%02x]" % (most >> 16), b".."]
    return b"".join(parts if order == ">" else reversed(parts))


class IplStream(Stream):
    """Records of one layout, from any of the three logs where the magic tells them apart.

    log   for the versions before 4.0, whose magic does not tell: ipf, nat or state
    """

    source = "ipl"
    columns_module = "pylog.formats.columns.ipl"

    def __init__(self, layout: Layout, log: str = "ipf") -> None:
        super().__init__()
        if log not in layout.logs:
            raise ValueError(f"{layout.name} has no {log} log")
        self.layout_value = layout
        self.layout = layout.name
        self.log = log
        version, self._logs = layout.version, _logs(layout)
        self.needle, self.needle_at, self.needle_size = _needle(layout, log)
        told = version.magic_tells_log
        self._own_logs = layout.logs if told else (log,)
        self._by_magic = {self._logs[d].magic: d for d in self._own_logs}
        self._magic_size = len(self._logs[log].magic)
        ipf = self._logs["ipf"]
        self._packet_magic = ipf.magic if "ipf" in self._own_logs else None
        self._frame = ipf.plan.reader(("ipl_dsize", "fl_hlen", "fl_plen"))
        self._usual = None if self._packet_magic is None else ipf.usual
        plans = {log: kind.plan for log, kind in self._logs.items()}
        self._packets = packets(self, packet_log(layout))
        self._flows = flows(self, layout, plans)
        self._packet_size = ipf.size
        self._decisive = 6 + max(log.size for log in self._logs.values())
        self._swapped = layout.host_order_ip

    @property
    def name(self) -> str:
        told = self.layout_value.version.magic_tells_log or self.log == "ipf"
        return self.layout if told else f"{self.layout}:{self.log}"

    @property
    def magics(self) -> list[bytes]:
        """What its records may begin with."""
        return list(self._by_magic)

    @property
    def logs(self) -> list[str]:
        """The log that each of the magics is of."""
        return list(self._by_magic.values())

    def message_log(self, data: bytes, message: Message) -> str:
        """Which log a record is of: ipf, nat or state."""
        start = message.start
        return self._by_magic[data[start : start + self._magic_size]]

    def measure(self, data: bytes, pos: int) -> int:
        magic = data[pos : pos + self._magic_size]
        if magic == self._packet_magic:
            return self._measure_packet(data, pos)
        log = self._by_magic.get(magic)
        if log is None:
            if pos + self._magic_size > len(data):
                return pos + self._magic_size
            expected = " or ".join(repr(m) for m in self._by_magic)
            raise self.error(pos, "ipl_magic", repr(magic), expected)
        plans = self._logs[log]
        size = plans.size
        if pos + size > len(data):
            return pos + size
        (dsize,) = plans.dsize(data, pos)
        if dsize != size:
            raise self.error(pos, "ipl_dsize", dsize, f"{size} for a {log} record")
        return pos + size

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        if self._usual is None:
            return pos
        (frame, magic), fixed, add = self._usual, self._packet_size, items.append
        size = len(data)
        while pos + fixed <= size:
            found, dsize, length, rest = frame(data, pos)
            end = pos + dsize
            if found != magic or dsize != fixed + length + rest or end > size:
                break
            add(Message(pos, end))
            pos = end
        return pos

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        while start < end:
            after = self.measure(data, start)
            if after > end:
                packet = self._packet_magic is not None and data.startswith(
                    self._packet_magic, start
                )
                if not origin.cut or not packet or end - start <= self._packet_size:
                    raise self.error(start, "record", f"{end - start} bytes", after - start)
                if after < end + origin.cut:
                    reason = f"{end + origin.cut - after} bytes of the packet were not captured"
                    items.append(Dropped(self.base + end, None, reason))
                items.append(Message(start, end, origin))
                break
            items.append(Message(start, after, origin))
            start = after

    def complete(self, data: bytes, message: Message) -> bytes:
        raw = self.raw(data, message)
        if message.origin is None or not message.origin.cut:
            return raw
        plan, octets = self._logs["ipf"].plan, bytearray(raw)
        missing = self.measure(raw, 0) - len(raw)
        if missing > 0:
            hlen = min(plan.get(octets, "fl_hlen"), len(raw) - self._packet_size)
            plen = len(raw) - self._packet_size - hlen
            if "ipl_dsize" in plan.places:
                plan.set(octets, "ipl_dsize", len(raw))
            plan.set(octets, "fl_hlen", hlen)
            plan.set(octets, "fl_plen", plen & 256 ** plan.places["fl_plen"].size - 1)
        return bytes(octets)

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        magic = data[start : start + self._magic_size]
        if magic not in self._by_magic and len(magic) == self._magic_size:
            return False
        try:
            after = self.measure(data, start)
        except DecodeError:
            return False
        if after > end:
            return False
        return True if min(end, start + self._decisive) <= len(data) else None

    def _measure_packet(self, data: bytes, pos: int) -> int:
        fixed = self._packet_size
        if pos + fixed > len(data):
            return pos + fixed
        dsize, hlen, plen = self._frame(data, pos)
        if dsize is None:  # 2.x
            self._check_without_magic(data, pos, hlen)
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
            self._check_without_magic(data, pos, hlen)
        return pos + int(dsize)

    def _check_without_magic(self, data: bytes, pos: int, hlen: int) -> None:
        """Without a magic, ask more of a record: the packet must begin as IPv4."""
        at = pos + self._packet_size
        if hlen < 20 or (at < len(data) and data[at] >> 4 != 4):
            raise self.error(pos, "fl_hlen", hlen, "an IPv4 header of 20 bytes or more after it")

    def _ip_length(self, data: bytes, at: int) -> int:
        """The length that the IP header at `at` states; the largest one if it is not there."""
        if at + 6 > len(data):
            return MAX_RECORD
        return stated_length(data, at, "little" if self._swapped else "big")

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        log = self.message_log(data, message)
        if log != "ipf":
            return self._flows[log](data, message, raw)
        found: list[Record | Row] = []
        self._packets(data, (message,), raw, found, None, False)
        record = found[0]
        assert isinstance(record, PacketRecord)
        return record

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        if self._packet_magic is None:
            super().records(data, messages, raw, found, numbers)
        else:
            self._packets(data, messages, raw, found, numbers, self.rows)


STREAM = IplStream

# Another layout


CHAIN = 3
"""How many records that follow each other make it sure that those of another layout begin."""
ENOUGH = 16
"""How many of them at most tell which one."""


class _Frame:
    """Layouts whose records are found alike, so that one of their streams does it for all.

    places   of the magic and ipl_dsize of each log, and of the packet log's lengths
    """

    def __init__(self, layout: Layout, log: str) -> None:
        self.layouts: list[tuple[Layout, str]] = []
        self.stream = IplStream(layout, log)
        dsize = layout.plan(log).places["ipl_dsize"]
        self._dsize, self._head = slice(dsize.offset, dsize.offset + dsize.size), dsize.offset + 8
        self._order = BYTEORDER[layout.abi.order]
        self._sizes = {
            self.stream.magics[i]: (
                layout.plan(log).size,
                [layout.plan(log).places[name].offset for name in ("fl_hlen", "fl_plen")]
                if log == "ipf"
                else [],
            )
            for i, log in enumerate(self.stream.logs)
        }
        self._magics = tuple(self.stream.magics)
        self._magic_size = len(self._magics[0])

    @staticmethod
    def key(layout: Layout, log: str) -> tuple[Any, ...]:
        """What layouts have to agree in."""
        told = layout.version.magic_tells_log
        found: list[Any] = [layout.abi.order, layout.host_order_ip]
        for one in layout.logs if told else (log,):
            plan = layout.plan(one)
            names = ("ipl_dsize", "fl_hlen", "fl_plen")
            found += [one, layout.magic(one), plan.size]
            found += [(plan.places[n].offset, plan.places[n].size)
                      for n in names if n in plan.places]  # fmt: skip
        return tuple(found)

    def chain(self, data: bytes, pos: int, final: bool) -> int | None:
        """Where records end that follow each other from `pos` on; `pos` for too few of them.

        None: more data is needed to tell.
        """
        size, count, at = len(data), 0, pos
        if not data.startswith(self._magics, pos):
            return pos
        head = data[pos : pos + self._head]
        if len(head) < self._head:
            return pos if final else None
        dsize = int.from_bytes(head[self._dsize], self._order)
        following = pos + dsize
        fixed, lengths = self._sizes[head[: self._magic_size]]
        if pos + fixed <= size:
            rest = dsize - fixed
            for offset in lengths:
                rest -= data[pos + offset]
            if rest < 0 or rest & 0xFF or (rest and not lengths):
                return pos
        if following + self._magic_size <= size and not data.startswith(self._magics, following):
            return pos  # the cheapest way to tell
        while count < ENOUGH:
            try:
                end = self.stream.measure(data, at)
            except DecodeError:
                return at if count >= CHAIN else pos
            if end > size:
                break
            count, at = count + 1, end
            if at == size:
                break
        if count == ENOUGH:
            return at
        if not final:
            return None
        return at if count >= CHAIN - 1 or (count and at == size) else pos


@cache
def _frames() -> list[_Frame]:
    found: dict[tuple[Any, ...], _Frame] = {}
    for layout in ipl_layouts.layouts():
        if layout.version.has_magic:
            told = layout.version.magic_tells_log
            for log in ("ipf",) if told else layout.logs:
                frame = found.setdefault(_Frame.key(layout, log), _Frame(layout, log))
                frame.layouts.append((layout, log))
    return list(found.values())


@cache
def _jumps() -> dict[tuple[bytes, int, int, int], list[_Frame]]:
    """The frames by the letters of the magic and their place, and by that of ipl_dsize."""
    found: dict[tuple[bytes, int, int, int], list[_Frame]] = {}
    for frame in _frames():
        layout, log = frame.stream.layout_value, frame.stream.log
        letters = b"LPI" if layout.abi.order == "<" else b"IPL"
        at, dsize = layout.magic(log).index(letters), layout.plan(log).places["ipl_dsize"]
        key = letters, at, dsize.offset, dsize.offset + dsize.size
        found.setdefault(key, []).append(frame)
    return found


def resumes() -> list[Needle]:
    """What any record with a magic carries: three letters, and a small number as ipl_dsize."""
    sizes: dict[tuple[bytes, int, bytes], set[bytes]] = {}
    within = 0
    for frame in _frames():
        layout = frame.stream.layout_value
        order, dsize = layout.abi.order, layout.plan(frame.stream.log).places["ipl_dsize"]
        letters = b"LPI" if order == "<" else b"IPL"
        for magic in frame.stream.magics:
            at = magic.index(letters)
            beside = rb"(?=[MNS])" if order == ">" else rb"(?<=[MNS]LPI)"
            gap = dsize.offset - at - len(letters)
            sizes.setdefault((letters, at, beside), set()).add(
                _any(gap) + _small(dsize.size, MAX_RECORD, order)
            )
            within = max(within, dsize.offset + dsize.size - at)
    return [
        Needle(re.compile(letters + beside + b"(?=%b)" % b"|".join(sorted(some)), re.S), at, within)
        for (letters, at, beside), some in sizes.items()
    ]


def resume(data: bytes, pos: int, final: bool, before: Stream) -> list[Stream] | None:
    """The streams of the layouts that read the records at `pos` best, and alike.

    Of several that read them as well but differently, one of the machine of `before` is preferred:
    what wrote both releases is most often the same machine.
    """
    trials: list[_Trial] = []
    size, likely = len(data), list[_Frame]()
    for (letters, at, start, stop), frames in _jumps().items():
        if not data.startswith(letters, pos + at):
            continue
        if pos + stop > size:
            if not final:
                return None
            continue
        order: Any = "little" if letters == b"LPI" else "big"
        following = pos + at + int.from_bytes(data[pos + start : pos + stop], order)
        if following + 3 > size or data.startswith(letters, following):
            likely += frames
    for frame in likely:
        end = frame.chain(data, pos, final)
        if end is None:
            return None
        if end > pos:
            records = data[pos:end]
            tried = [_Trial(layout, log, records, True) for layout, log in frame.layouts]
            trials += [t for t in tried if t.explained * 2 > len(records)]
    if not trials:
        return []
    rank = max(trial.rank for trial in trials)
    abi = before.layout_value.abi if isinstance(before, IplStream) else None
    top = sorted((t for t in trials if t.rank == rank), key=lambda t: t.layout.abi != abi)
    return [IplStream(t.layout, t.log) for t in top if _same_records(top[0], t)]


# Detection


def stream(name: str, head: bytes = b"") -> IplStream:
    """The stream of a layout name; ValueError if there is none.

    name   ipl-VERSION-ABI; before 4.0, whose records do not tell, with ":nat" or ":state" for
           those logs
    head   the first bytes, which tell the log where the name does not
    """
    name, _, log = name.partition(":")
    layout = ipl_layouts.named(name)
    if log and log not in layout.logs:
        raise ValueError(f"{name} has no log {log!r}, only {', '.join(layout.logs)}")
    if not log and head and not layout.version.magic_tells_log:
        trials = sorted(_trials([layout], head[:FIRST_LOOK], False), key=lambda t: t.explained)
        log = trials[-1].log if trials else "ipf"
    return IplStream(layout, log or "ipf")


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """A packet alone does not tell its layout: the interface's description must name it."""
    raise DecodeError("if_description", "no ipl layout", "one, or --layout NAME", offset)


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet as which a capture file holds a record: as it is, in whatever byte order; and its
    original length, by the lengths in it.
    """
    try:
        return message, "", max(len(message), _stream(layout).measure(message, 0))
    except DecodeError:
        return message, "", len(message)


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to say it, with the log if records do not tell."""
    told = ipl_layouts.named(layout).version.magic_tells_log
    return layout if told or log == "ipf" else f"{layout}:{log}"


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: IPFilter logs names."""
    return {}


_stream = cache(stream)


_TEXTS = ("fl_ifname", "fl_group", "fl_nattag", "isl_group")


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The record without addresses, payload, kernel pointers and what was never written."""
    records = _stream(layout)
    kind = records.layout_value
    plan = kind.plan(records.message_log(message, Message(0, len(message))))
    f = dict(zip(plan.names, plan.unpack(message, 0), strict=True))
    v = f.get("nl_v", f.get("isl_v", 4))
    width = 4 if (v[0] if isinstance(v, bytes) else v) == 4 else 16
    for name, value in f.items():
        if (name.startswith("nl_") and name.endswith("ip")) or name in ("isl_src", "isl_dst"):
            f[name] = scrubber.address(value[:width])
        elif name in _TEXTS and isinstance(value, bytes):  # a group is a number before 4.0
            f[name] = value.split(b"\0", 1)[0]
        elif name == "nl_ifnames":
            f[name] = b"".join(
                n.split(b"\0", 1)[0].ljust(16, b"\0") for n in (value[:16], value[16:])
            )
        elif name in ("ipl_next", "fl_nattag_not"):
            f[name] = 0
    if f.get("fl_unit", 0) >= 0x8000:
        f["fl_unit"] = names.NONE32
    if f.get("isl_p") in (ICMP, ICMPV6):
        f["isl_ps"] = f["isl_ps"][:2]
    packet = message[plan.size :]
    if kind.host_order_ip and packet[:1] and packet[0] >> 4 == 4:
        scrubbed = swapped(scrubber.packet(swapped(packet)))
    else:
        scrubbed = scrubber.packet(packet)
    return plan.pack(f) + packet[:1] + scrubbed[1:]  # ip_v and ip_hl stay, wrong ones too


def layout_names() -> list[str]:
    """The names of all layouts, in order of preference."""
    return [layout.name for layout in ipl_layouts.layouts()]


_Logged = PacketRecord | FlowRecord


class _Trial:
    """How well one layout explains some bytes."""

    def __init__(
        self, layout: Layout, log: str, data: bytes, final: bool, lenient: bool = False
    ) -> None:
        self.layout, self.log = layout, log
        self.stream = IplStream(layout, log)
        self.stream.lenient = lenient
        self.explained = self.messages = self.score = 0
        self.records: list[_Logged] = []
        self.evidence: dict[str, int] = {}
        expected: dict[str, int] = {}
        for item in self.stream.split(data, final):
            if not isinstance(item, Message):
                continue
            try:
                record = self.stream.decode(data, item)
            except DecodeError:
                continue
            if not isinstance(record, _Logged) or not _plausible(record):
                continue
            self.records.append(record)
            self.messages += 1
            self.explained += item.end - item.start
            self._score(record, self.stream.message_log(data, item), expected)

    @property
    def _copied(self) -> str:
        """The flag that the kernel sets in its copy of a rule: 4.x has it in another's place."""
        return "FR_COPIED" if self.layout.version.major >= 5 else "FF_LOGNOMATCH"

    def _score(self, record: PacketRecord | FlowRecord, log: str, expected: dict[str, int]) -> None:
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
            if names.FAMILIES.get(extra.get("fl_family", 0)) == record.family:
                found.append("address families right")
            else:
                self.score -= 1
        if isinstance(record, PacketRecord) and self.layout.version.ipflog in ("3.4.0", "3.4.29"):
            self.score -= _contradictions(record)
        if record.seq is not None:
            if record.seq == expected.get(log, 1):
                found.append("sequence numbers from 1 on, without a gap")
            expected[log] = record.seq + (record.count or 1)
        for name in found:
            self.evidence[name] = self.evidence.get(name, 0) + 1
        self.score += len(found)

    @property
    def rank(self) -> tuple[int, int]:
        return self.explained, self.score

    @property
    def name(self) -> str:
        return self.stream.name


def _checksum(header: bytes) -> int:
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, len(header) & ~1, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _contradictions(record: PacketRecord) -> int:
    """What is odd where 3.4.0 has fl_lflags and 3.4.29 has fl_dir, in the same four bytes."""
    extra = record.extra or {}
    lflags = extra.get("fl_lflags", ())
    plain = record.family == "ipv4" and (record.payload or b"\x45")[0] == 0x45
    odd = ("FI_OPTIONS" in lflags and plain) or any(isinstance(word, int) for word in lflags)
    other = {"in": "FR_OUTQUE", "out": "FR_INQUE"}.get(str(record.direction))
    return 2 * odd + (other in extra.get("fl_flags", ()))


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
    extra: dict[str, Any] = record.extra or {}
    return (
        isinstance(record.event, str)
        and "nl_v" not in extra
        and "isl_v" not in extra
        and int(extra.get("nl_usec", extra.get("isl_usec", 0))) < 1_000_000
        and f"{record.indev}{record.outdev}".isprintable()
    )


def _same_records(a: _Trial, b: _Trial) -> bool:
    """Whether two layouts make the same of the bytes, but for the layout's name.

    Versions of one structure may also give the reasons other names, and the TCP states: no bytes
    tell them apart.
    """
    if len(a.records) != len(b.records):
        return False
    first, second = a.layout.version, b.layout.version
    renamed = first.structure == second.structure
    states = first.declarations("state") == second.declarations("state")

    def compared(record: _Logged) -> _Logged:
        change: dict[str, Any] = {"layout": ""}
        if isinstance(record, PacketRecord):
            change |= {"reason": None} if renamed else {}
        elif states and record.extra and "isl_state" in record.extra:
            change["extra"] = {k: v for k, v in record.extra.items() if k != "isl_state"}
        return msgspec.structs.replace(record, **change)

    return all(compared(x) == compared(y) for x, y in zip(a.records, b.records, strict=True))


def _trials(
    layouts: list[Layout], sample: bytes, final: bool, lenient: bool = False
) -> list[_Trial]:
    """The trials of the layouts that make anything of the sample.

    lenient   records with values that make no sense count, too
    """
    trials = [
        _Trial(layout, log, sample, final, lenient)
        for layout in layouts
        for log in (("ipf",) if layout.version.magic_tells_log else layout.logs)
    ]
    return [trial for trial in trials if trial.messages]


def probe(head: bytes, final: bool) -> list[Guess]:
    """Try every layout on the first bytes of an input."""
    orders = [order for order, magic in (("<", b"LPI"), (">", b"IPL")) if magic in head]
    known = list(ipl_layouts.layouts())
    marked = [x for x in known if x.version.has_magic and x.abi.order in orders]
    trials = _trials(marked, head[:FIRST_LOOK], final)
    if not trials:  # every position may begin a record then: look at less
        trials = _trials([x for x in known if not x.version.has_magic], head[:4096], final)
    lenient = not trials
    if lenient:
        trials = _trials(marked, head[:FIRST_LOOK], final, lenient)
    if trials and len(head) > 4096:
        best = max(trial.explained for trial in trials)
        trials = [_Trial(t.layout, t.log, head, final, lenient)
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
                stream=partial(IplStream, first.layout, first.log),
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
                alternatives=[partial(IplStream, t.layout, t.log) for t in same[1:]],
            )
        )
    return guesses


def cut(data: bytes) -> str | None:
    """What the bytes lack, if they end within a first record.

    Every layout that its magic allows states a size; wrong ones state a time or a counter, so that
    the smallest plausible one counts. Where the bytes end before the size of some layout, no more
    is known than the least that a record needs. Without a magic the head must be there, and look
    like one.
    """
    stated: list[int] = []
    least: list[int] = []
    for layout in ipl_layouts.layouts():
        for log, kind in _logs(layout).items():
            if not (_has_magic(kind.magic, data) if kind.magic else _looks_like_head(kind, data)):
                continue
            size = _stated_size(kind, data)
            if size is None:
                least.append(kind.size)
            elif kind.size <= size <= (USUAL_RECORD if log == "ipf" else kind.size):
                stated.append(size)
    need = min(stated + least, default=0)
    return (
        cut_off("the first record", need, len(data), exact=not least) if need > len(data) else None
    )


def _has_magic(magic: bytes, data: bytes) -> bool:
    """Whether the data begins with the magic, or is all of it but a byte."""
    return data.startswith(magic) or (len(data) == len(magic) - 1 and magic.startswith(data))


def _field(log: _Log, data: bytes, name: str) -> int | None:
    """A number in the head of a first record; None if the data ends before it."""
    leaf = log.plan.places[name]
    return log.plan.get(data, name) if leaf.offset + leaf.size <= len(data) else None


def _stated_size(log: _Log, data: bytes) -> int | None:
    """How long a first record is, as its head says; None if the data ends before that."""
    if "ipl_dsize" in log.plan.places:
        return _field(log, data, "ipl_dsize")
    header, rest = _field(log, data, "fl_hlen"), _field(log, data, "fl_plen")
    return None if header is None or rest is None else log.size + header + rest


def _looks_like_head(log: _Log, data: bytes) -> bool:
    """Whether the data begins as a record without a magic: a time after 1990, a size, a name."""
    second, fraction = _field(log, data, "ipl_sec"), _field(log, data, "ipl_usec")
    size = _stated_size(log, data)
    if second is None or fraction is None or size is None:
        return False
    if not 631152000 <= second < 1 << 31 or fraction >= 1_000_000:
        return False
    if "ipl_count" in log.plan.places:
        return 1 <= (_field(log, data, "ipl_count") or 0) < 1 << 16
    leaf = log.plan.places["fl_ifname"]
    if len(data) < leaf.offset + leaf.size:
        return False
    name = data[leaf.offset : leaf.offset + leaf.size].rstrip(b"\0")
    return (_field(log, data, "fl_hlen") or 0) >= 20 and name.isalnum() and name.isascii()
