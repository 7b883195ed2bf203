"""Records of IPFilter's log as a stream: where each one ends, and how records are found in damage.

`IplStream` steps from record to record by ipl_dsize (2.x has no such field: by fl_hlen + fl_plen)
and decodes each by the plan of its layout, see formats.ipl_records. A record whose lengths do not
add up is damage. The next one is searched for by its magic and a plausible ipl_dsize.

The kernel writes fl_plen and fl_hlen through a u_char. So the body's length is ipl_dsize less the
rest, and fl_plen only its lowest 8 bits. Sources: ipl(4), ip_log.c, ipmon.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any

from pylog.errors import DecodeError
from pylog.formats import Dropped, Item, Message, NextSeq, Stream
from pylog.formats.ip_header import stated_length
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_records import Decode, flows, packet_log
from pylog.formats.mapping import DecodeMany, packets
from pylog.formats.plan import BYTEORDER, Unpack
from pylog.record import PacketRecord, Record, Row

LEAST_HEADER = 20
"""Without a magic, fl_hlen is at least the size of an IPv4 header."""

MAX_RECORD = 0x80000
"""The largest log buffer that a kernel accepts, and so the largest record (ipl_logsize)."""


class LogFrame:
    """Where the records of one log of a layout begin and end.

    plan    of the fixed part
    size    of the fixed part
    magic   that begins each record, b"" before 3.2
    dsize   reads ipl_dsize, None before 3.2
    quick   reads magic, ipl_dsize, fl_hlen and fl_plen at once, and the magic as it reads it; None
            for other logs than that of packets
    """

    def __init__(self, layout: Layout, log: str) -> None:
        self.plan = layout.plan(log)
        self.size = self.plan.size
        self.magic = layout.magic(log)
        self.dsize = self.plan.reader(("ipl_dsize",))
        self.quick = self._quick(layout) if self.magic and log == "ipf" else None

    def _quick(self, layout: Layout) -> tuple[Unpack, int]:
        names = sorted(
            ("ipl_magic", "ipl_dsize", "fl_hlen", "fl_plen"),
            key=lambda n: self.plan.places[n].offset,
        )
        return self.plan.reader(names), int.from_bytes(self.magic, BYTEORDER[layout.abi.order])


@cache
def log_frame(layout: Layout, log: str) -> LogFrame:
    """The frame of a log of a layout."""
    return LogFrame(layout, log)


def _needle(layout: Layout, log: str) -> tuple[re.Pattern[bytes], int, int]:
    """What to search damage for: a pattern, where it lies in a record, and its size.

    The pattern is the magic; without one, the first byte of an IPv4 packet, or the only possible
    ipl_dsize. Fields of small numbers must be small, so that random bytes seldom match.
    """
    frame = log_frame(layout, log)
    order, places = layout.abi.order, frame.plan.places
    if frame.magic:
        needle = b"LPI" if order == "<" else b"IPL"
        at, dsize = frame.magic.index(needle), places["ipl_dsize"]
        after = dsize.offset - at - len(needle)
        pattern = re.escape(needle) + _after(after, small_number(dsize.size, MAX_RECORD, order))
        return re.compile(pattern, re.S), at, dsize.offset + dsize.size - at
    if log == "ipf":
        before = bytearray(b"." * frame.size)
        fields = {"fl_hlen": rb"[\x14-\x3c]"}
        for name, most in (("ipl_usec", 999_999), ("ipl_dsize", MAX_RECORD)):
            if name in places:
                fields[name] = small_number(places[name].size, most, order)
        pattern, at = b"", 0
        for name in sorted(fields, key=lambda name: places[name].offset):
            pattern += any_bytes(places[name].offset - at) + fields[name]
            at = places[name].offset + places[name].size
        pattern = rb"[\x45-\x4f](?<=%b%b.)" % (pattern, any_bytes(len(before) - at))
        return re.compile(pattern, re.S), frame.size, 1
    leaf = places["ipl_dsize"]
    number = frame.size.to_bytes(leaf.size, BYTEORDER[order])
    return re.compile(re.escape(number)), leaf.offset, leaf.size


def any_bytes(size: int) -> bytes:
    """The pattern of this many bytes of any value."""
    return b".{%d}" % size if size else b""


def _after(gap: int, pattern: bytes) -> bytes:
    """A look-ahead for the pattern after a gap of bytes."""
    return b"(?=%b%b)" % (any_bytes(gap), pattern)


def small_number(size: int, most: int, order: str) -> bytes:
    """The pattern of a number of 4 or 8 bytes that is not much above `most`, itself below 2^24."""
    parts = [b"\\x00{%d}" % (size - 3), rb"[\x00-\x%02x]" % (most >> 16), b".."]
    return b"".join(parts if order == ">" else reversed(parts))


class IplStream(Stream):
    """Records of one layout, of all three logs where the magic tells them apart.

    log   ipf, nat or state, for the versions before 4.0 whose magic is the same in all logs
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
        is_clear = layout.version.magic_tells_log
        self._by_magic = {layout.magic(d): d for d in (layout.logs if is_clear else (log,))}
        self._magic_size = len(layout.magic(log))
        ipf = log_frame(layout, "ipf")
        self._packet_magic = ipf.magic if is_clear or log == "ipf" else None
        self._frame = ipf.plan.reader(("ipl_dsize", "fl_hlen", "fl_plen"))
        self._quick = None if self._packet_magic is None else ipf.quick
        self._packet_size = ipf.size
        self._swapped = layout.host_order_ip

    # What follows is made when it is needed: of the many layouts that detection tries, few decode,
    # and few meet damage.

    @cached_property
    def _needle(self) -> tuple[re.Pattern[bytes], int, int]:
        return _needle(self.layout_value, self.log)

    @property
    def needle(self) -> re.Pattern[bytes]:  # type: ignore[override]
        return self._needle[0]

    @property
    def needle_at(self) -> int:  # type: ignore[override]
        return self._needle[1]

    @property
    def needle_size(self) -> int:  # type: ignore[override]
        return self._needle[2]

    @cached_property
    def _packets(self) -> DecodeMany:
        return packets(self, packet_log(self.layout_value))

    @cached_property
    def _flows(self) -> dict[str, Decode]:
        layout = self.layout_value
        return flows(self, layout, {log: layout.plan(log) for log in layout.logs})

    @cached_property
    def _decisive(self) -> int:
        """How many bytes tell whether a record is plausible."""
        layout = self.layout_value
        return 6 + max(log_frame(layout, log).size for log in layout.logs)

    @property
    def name(self) -> str:
        is_clear = self.layout_value.version.magic_tells_log or self.log == "ipf"
        return self.layout if is_clear else f"{self.layout}:{self.log}"

    @property
    def magics(self) -> list[bytes]:
        return list(self._by_magic)

    @property
    def logs(self) -> list[str]:
        """The log that each of the magics belongs to."""
        return list(self._by_magic.values())

    def message_log(self, data: bytes, message: Message) -> str:
        """The log of a record: ipf, nat or state."""
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
        frame = log_frame(self.layout_value, log)
        size = frame.size
        if pos + size > len(data):
            return pos + size
        (dsize,) = frame.dsize(data, pos)
        if dsize != size:
            raise self.error(pos, "ipl_dsize", dsize, f"{size} for a {log} record")
        return pos + size

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        if self._quick is None:
            return pos
        (read, own_magic), fixed, add = self._quick, self._packet_size, items.append
        size = len(data)
        while pos + fixed <= size:
            magic, dsize, length, rest = read(data, pos)
            end = pos + dsize
            if magic != own_magic or dsize != fixed + length + rest or end > size:
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
        plan, octets = self.layout_value.plan("ipf"), bytearray(raw)
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
        """Without a magic, demand more of a record: its packet must begin as IPv4."""
        at = pos + self._packet_size
        if hlen < LEAST_HEADER or (at < len(data) and data[at] >> 4 != 4):
            raise self.error(pos, "fl_hlen", hlen, "an IPv4 header of 20 bytes or more after it")

    def _ip_length(self, data: bytes, at: int) -> int:
        """The length that the IP header at `at` states; MAX_RECORD if the header is missing."""
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
