"""The regular lines of the kernel's LOG, read several times as fast as by the grammar.

A line is cut at SRC= and at TTL= (HOPLIMIT= of IPv6). What stands between the time and SRC= is the
same for all packets of a rule and a neighbour, so the grammar (`textlog_kernel`) reads it once and
it is remembered. The part behind TTL= has a shape: what is left of it without digits. All lines of
a shape have the same words in the same order. Without capital letters only their numbers are left
between the signs =, each at the place that the shape determines. A digit where none belongs leaves
no number there. The grammar reads such a line, and those of other shapes: fragments, options,
errors, cut lines. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pylog.formats.ip_numbers import ICMP, ICMPV6, TCP, UDP
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.textlog_fields import AT_LOCAL, canonical, is_ipv4, is_ipv6
from pylog.formats.textlog_kernel import FLAGS, MOST
from pylog.memo import Bounded, Memo
from pylog.record.places import (
    AT_DADDR,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_GID,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_LENGTH,
    AT_MARK,
    AT_PROTOCOL,
    AT_SADDR,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_TIMESTAMP,
    AT_UID,
    Values,
)


class Timed(NamedTuple):
    """What an envelope says of the time.

    form      of the envelope
    written   the time as it stands there
    moment    in nanoseconds since 1970, None if that is open
    local     as `timestamp_local` of a record
    """

    form: str
    written: str
    moment: int | None
    local: str | None


_DIGITS = b"0123456789abcdef"
_CAPITALS = bytes(range(ord("A"), ord("Z") + 1))
_SHAPE = re.compile(
    rb" (?P<ident>ID|FLOWLBL)= (?:DF )?PROTO=(?:"
    rb"(?P<tcp>TCP) SPT= DPT= (?P<seq>SEQ= ACK= )?WINDOW="
    rb"|(?P<udp>UDP) SPT= DPT= LEN=(?= )|(?P<icmp>ICMPv?) TYPE= CODE=(?P<echo> ID= SEQ=)?)"
    rb"(?P<owner> UID= GID=)?(?P<mark> MARK=x)? ?\r?"
)
"""Of what follows TTL= or HOPLIMIT=, of TCP up to RES=. After LEN= a blank must follow: without it
the number may be cut.
"""
_END = re.compile(
    rb"0x([0-9a-f]{1,8}) ((?:[A-Z]{3} )*)URGP=([0-9]{1,9})"
    rb"(?: UID=([0-9]{1,9}) GID=([0-9]{1,9}))?(?: MARK=0x([0-9a-f]{1,8}))? ?\r?"
)
"""Of what follows RES=."""
_BEGINNING = re.compile(
    rb"(?P<priority><\d{1,3}>(?:1 )?)?(?:\[ *(?P<uptime>\d+\.\d{6})\]"
    rb"|(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?P<point>[.,])(?P<fraction>\d{6})"
    rb"(?P<zone>Z|[+-]\d\d:?\d\d)"
    rb"|\[[^\]]{1,40}\]|[A-Z][a-z]{2} [ \d]\d \S{1,40}|[^\s\[]\S{0,40}) "
)
"""The time of a line, with a priority before it. Two forms change from line to line: seconds since
the start of the machine, and RFC 3339 with microseconds.
"""
_UPTIME = re.compile(rb"((?:\S*[^\s:] )?kernel(?:: | - - - ))\[ *\d+\.\d+\] ")
"""The beginning of a line behind its time, with the kernel's own time, which is not remembered."""
_SIZES = re.compile(
    rb"LEN=([0-9]{1,9}) (?:TOS=0x([0-9A-F]{2}) PREC=0x([0-9A-F]{2})|TC=([0-9]{1,3}))"
)
LARGEST = 0xFFFFFFFF
MOST_SEEN = 65536
"""So many addresses are remembered."""


Places = tuple[tuple[int | str, int, int], ...]
"""Of numbers: the place in the record, or the name in `extra`, the base and the largest."""


class _Shape(NamedTuple):
    """What the shape of a line says.

    ident     the name of the number behind TTL= or HOPLIMIT=
    between   what is left of the value of PROTO= without capital letters
    places    of the numbers behind PROTO=
    brief     the name in `extra` of the only number behind the ports; "" if there are others
    largest   of that number
    """

    protocol: int
    ident: str
    between: bytes
    places: Places
    brief: str
    largest: int


def _shape(text: bytes) -> _Shape | None:
    """What a shape says; None: the grammar must read such lines."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    places: list[tuple[int | str, int, int]] = []
    protocol, between, brief = TCP, b" ", ""
    if match["icmp"]:
        protocol, between = (ICMPV6, b"v6 ") if match["icmp"] == b"ICMPv" else (ICMP, b" ")
        places = [(AT_ICMP_TYPE, 10, 0xFF), (AT_ICMP_CODE, 10, 0xFF)]
        if match["echo"]:
            places += [("icmp_id", 10, 0xFFFF), ("icmp_seq", 10, 0xFFFF)]
    else:
        places = [(AT_SPORT, 10, 0xFFFF), (AT_DPORT, 10, 0xFFFF)]
    if match["udp"]:
        protocol, brief = UDP, "udp_length"
        places.append(("udp_length", 10, 0xFFFF))
    elif match["tcp"]:
        if match["seq"]:
            places += [("tcp_seq", 10, LARGEST), ("tcp_ack", 10, LARGEST)]
        places.append(("tcp_window", 10, LARGEST))
        brief = "" if match["seq"] else "tcp_window"
    if match["owner"]:
        places += [(AT_UID, 10, LARGEST), (AT_GID, 10, LARGEST)]
    if match["mark"]:
        places.append((AT_MARK, 16, LARGEST))
    if match["owner"] or match["mark"]:
        brief = ""
    ident = "ip_id" if match["ident"] == b"ID" else "flow_label"
    return _Shape(protocol, ident, between, tuple(places), brief, places[-1][2])


class _End(NamedTuple):
    """The end of a line of TCP: its flags, and other values in their places or for `extra`."""

    flags: str
    places: tuple[tuple[int, int], ...]
    extra: dict[str, int]


def _end(text: bytes) -> _End | None:
    """What follows RES= in a line of TCP; None: the grammar must read it."""
    match = _END.fullmatch(text)
    if match is None or not (words := set(match[2].decode().split())) <= FLAGS.keys():
        return None
    flags = TCP_FLAGS[sum(FLAGS[word] for word in words)]
    given = ((AT_UID, match[4], 10), (AT_GID, match[5], 10), (AT_MARK, match[6], 16))
    numbers = ("tcp_reserved", int(match[1], 16)), ("tcp_urgent", int(match[3]))
    return _End(
        flags,
        tuple((place, int(digits, base)) for place, digits, base in given if digits is not None),
        {name: number for name, number in numbers if number},
    )


class _Addresses(dict[bytes, str]):
    """Addresses as records have them, by the words of lines; KeyError for a word that is none.

    A full memory forgets everything. The size of a key is bounded by that of a line.
    """

    def __init__(self, before: bytes, is_one: Callable[[str], bool]) -> None:
        """
        before   what stands before the address in a word
        is_one   whether text is an address of the family
        """
        super().__init__()
        self._before, self._is_one = before, is_one

    def __missing__(self, word: bytes) -> str:
        text = word[len(self._before) :].decode("latin-1")
        address = canonical[text] if ":" in text else text
        if not word.startswith(self._before) or address is None or not self._is_one(address):
            raise KeyError(word)
        if len(self) >= MOST_SEEN:
            self.clear()
        self[word] = address
        return address


def _sizes(text: bytes) -> tuple[int, int]:
    """The numbers of LEN=, and of TOS= and PREC= or TC=; ValueError for other words."""
    match = _SIZES.fullmatch(text)
    if match is None:
        raise ValueError("other words")
    tos = int(match[4]) if match[4] else int(match[2], 16) | int(match[3], 16)
    return int(match[1]), tos


def _put(places: Places, texts: list[bytes], values: Values, extra: dict[str, int]) -> bool:
    """Put numbers in their places; False if one is too large."""
    for (place, base, most), text in zip(places, texts, strict=True):
        number = int(text, base)
        if number > most:
            return False
        if isinstance(place, int):
            values[place] = number
        else:
            extra[place] = number
    return True


class Fast:
    """Reads regular lines."""

    def __init__(
        self, rule_of: Callable[[str], Values | None], time_of: Callable[[str], Timed]
    ) -> None:
        """
        rule_of   a line up to SRC= -> the values that it determines, but for its time; None if the
                  grammar must read such lines
        time_of   a line up to SRC= -> what its envelope says of the time
        """
        self._rule_of, self._time_of = rule_of, time_of
        self._rules: Memo[object, Bounded[bytes, Values | None]] = Memo(
            lambda _: Bounded(room=1 << 20), 32
        )
        """Of each form of the time: the values by what stands between it and SRC=."""
        self._stamp, self._size = b"\n", 0
        self._timed: tuple[Bounded[bytes, Values | None], int | None, str | None] | None = None
        """The time of the last line as it begins the line, its size, and what it says."""
        self._seconds: Memo[bytes, tuple[int | None, bool]] = Memo(self._second)
        self._four, self._to_four, self._six, self._to_six = (
            _Addresses(before, is_one) for is_one in (is_ipv4, is_ipv6) for before in (b"", b"DST=")
        )  # fmt: skip
        self._sizes, self._shapes = Memo(_sizes), Memo(_shape)
        self._ends = Memo(_end)
        self._uptimes = False
        """Whether the kernel's own time stands in the last rule that was not remembered."""

    def values(self, line: bytes) -> Values | None:
        """The values of a line without its end; None: the grammar must read it."""
        head, _, rest = line.partition(b" SRC=")
        if not rest or len(line) >= MOST:
            return None
        end = self._size
        if not line.startswith(self._stamp):
            end = self._begin(line, head)
        if self._timed is None:
            return None
        rules, moment, written = self._timed
        rule = head[end:]
        if self._uptimes and (uptime := _UPTIME.match(rule)):
            rule = uptime[1] + rule[uptime.end() :]
        try:
            shared = rules[rule]
        except KeyError:
            if not self._uptimes and b"[" not in self._stamp and _UPTIME.match(rule):
                self._uptimes = True
                return self.values(line)
            shared = rules.keep(rule, self._rule_of(f"{head.decode('latin-1')} "))
        if shared is None:
            return None
        values: Values = shared.copy()
        values[AT_TIMESTAMP], values[AT_LOCAL] = moment, written
        try:
            network, _, numbers = rest.partition(b" TTL=")
            if numbers:
                saddr, daddr, sizes = network.split(b" ", 2)
                values[AT_SADDR], values[AT_DADDR] = self._four[saddr], self._to_four[daddr]
            else:
                network, _, numbers = rest.partition(b" HOPLIMIT=")
                saddr, daddr, sizes = network.split(b" ", 2)
                values[AT_SADDR], values[AT_DADDR] = self._six[saddr], self._to_six[daddr]
                values[AT_FAMILY] = "ipv6"
            numbers, _, tail = numbers.partition(b" RES=")
            shape = self._shapes[numbers.translate(None, _DIGITS)]
            if shape is None or numbers.count(b"= "):
                return None
            texts = numbers.translate(None, _CAPITALS).split(b"=")
            values[AT_LENGTH], tos = self._sizes[sizes]
            ttl, ident = int(texts[0]), int(texts[1])
            if texts[2] != shape.between or (ttl | ident) > LARGEST:
                return None
            extra = {"tos": tos, "ttl": ttl, shape.ident: ident}
            if shape.brief:
                sport, dport, last = int(texts[3]), int(texts[4]), int(texts[5])
                if (sport | dport) > 0xFFFF or last > shape.largest:
                    return None
                values[AT_SPORT], values[AT_DPORT], extra[shape.brief] = sport, dport, last
            elif not _put(shape.places, texts[3:], values, extra):
                return None
        except (ValueError, KeyError):  # another number of words, or a word that is no value
            return None
        values[AT_PROTOCOL], values[AT_EXTRA] = shape.protocol, extra
        if shape.protocol != TCP:
            return None if tail else values
        last_words = self._ends[tail]
        if last_words is None:
            return None
        values[AT_TCP_FLAGS], places, more = last_words
        if places or more:
            extra |= more
            for place, number in places:
                values[place] = number
        return values

    # The time

    def _begin(self, line: bytes, head: bytes) -> int:
        """Read the time of a line that begins otherwise than the last; gives where it ends.

        head   the line up to SRC=
        """
        match = _BEGINNING.match(line)
        if match is None:
            self._stamp, self._size, self._timed = b"\n", 0, None
            return 0
        self._stamp, self._size = match[0], match.end()
        kind = match.lastgroup
        if kind == "uptime":
            self._timed = self._rules[match["priority"]], None, match["uptime"].decode()
            return self._size
        if kind == "zone":
            second, point, fraction, zone = match.group("second", "point", "fraction", "zone")
            moment, is_complete = self._seconds[second + zone + b" "]
            if moment is not None or not is_complete:
                moment = None if moment is None else moment + int(fraction) * 1000
                written = None if is_complete else (second + point + fraction + zone).decode()
                self._timed = self._rules[match["priority"], point, zone], moment, written
                return self._size
        timed = self._time_of(head.decode("latin-1"))
        text = self._stamp[match.end("priority") : -1] if match["priority"] else self._stamp[:-1]
        if timed.written and text.decode("latin-1") in (timed.written, f"[{timed.written}]"):
            self._timed = self._rules[timed.form], timed.moment, timed.local
        else:
            self._timed = None
        return self._size

    def _second(self, stamp: bytes) -> tuple[int | None, bool]:
        """The moment of a time of RFC 3339 without its fraction, and whether there is no more to
        say of it; (None, True) for a time that does not exist.
        """
        timed = self._time_of(stamp.decode("latin-1"))
        if timed.written != stamp[:-1].decode("latin-1"):
            return None, True
        return timed.moment, timed.local is None
