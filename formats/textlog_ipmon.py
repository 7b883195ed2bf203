"""Lines of ipmon(8), every release's: packets, states, translations, and records that it missed.

    DATE TIME [Nx ]INTERFACE @GROUP:RULE ACTION SOURCE -> DESTINATION PR PROTOCOL len H N ...
    DATE TIME STATE:EVENT SOURCE -> DESTINATION PR PROTOCOL [counters]
    DATE TIME @RULE NAT:EVENT SOURCE <- -> TRANSLATED [DESTINATION] [counters]
    missed N ipf log entries: EXPECTED FOUND

Under syslog the date is that of the envelope. With -n hosts and ports are names, of which records
have no address and no port: the names are in `extra`.

Source: ipmon.c of IPFilter 3.4 to 5.1, as pylog.ipmon writes it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pylog.formats.ip_numbers import ICMP, ICMPV6, TCP, UDP
from pylog.formats.ipmon_words import ICMP as ICMP_WORDS
from pylog.formats.ipmon_words import ICMP6 as ICMP6_WORDS
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.textlog_fields import (
    LARGEST,
    canonical,
    family_of,
    no_values,
    number,
    port,
    protocol_number,
    utf8,
)
from pylog.formats.textlog_filterlog import FLAGS
from pylog.formats.textlog_times import DAY, When, clock_seconds, dated, fraction_ns
from pylog.record import FlowRecord, Fragment
from pylog.record.places import (
    AT_ACTION,
    AT_COUNT,
    AT_DADDR,
    AT_DIRECTION,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_FRAGMENT,
    AT_GROUP,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_INDEV,
    AT_LENGTH,
    AT_OUTDEV,
    AT_PROTOCOL,
    AT_REASON,
    AT_RULE,
    AT_SADDR,
    AT_SHORT,
    AT_SOURCE,
    AT_SPORT,
    AT_TCP_FLAGS,
    Values,
)

SOURCE = "ipmon"

_TIME = re.compile(r"(?:(\d\d)/(\d\d)/(\d{4}) )?(\d\d:\d\d:\d\d)\.(\d{6}) ")
_PACKET = re.compile(
    r"(?:(\d{1,10})x )?(\S+) @(\S+?):(-?\d{1,10}) ([A-Za-z?-]{1,3}) (\S+) -> (\S+) PR (\S+)"
    r" len (\d+) \(?(\d+)\)?(.*)$"
)
_MISSED = re.compile(
    r"missed (\d{1,10}) (ipf|NAT|state) log entries: (-?\d{1,20}) (-?\d{1,20})\s*$"
)
_STATE = re.compile(r"(?:STATE:(\S+)|Type: (\d{1,9})) (?:(\S+) -> (\S+) PR (\S+)(?: (\d+))?)?(.*)$")
_NAT = re.compile(
    r"@(-?\d{1,10}) (?:NAT:([A-Za-z]+(?:\(\d+\))?)(?:-([A-Z_a-z]+(?:\(\d+\))?))?|Type: (\d{1,9}))"
    r" (\S+)(?: (\S+))? <- -> (\S+)(?: (?!\[)(\d\S*[,.:]\S*))?"
    r"(?: \[(\S+?)(?: PR (\S+))?\])? ?(\S+)?(.*)$"
)
_ICMP = re.compile(r" icmp(?:v6)? (\S+)/(\S+)")
_NUMBERED = re.compile(r"icmp(?:v6)?type\((\d+)\)$")
_FRAGMENT = re.compile(r"\(?frag (?:(\d+):)?([+-]*)\d+@(\d+)([+-]*)\)?")
_TCP = re.compile(r" -([ARSFUPEC]*)(?: (\d+) (\d+) (\d+))?(?= |$)")
_COUNTERS = re.compile(r"(?:(Forward|Backward): )?Pkts in (-?\d{1,18}) Bytes in (-?\d{1,18})"
                       r" Pkts out (-?\d{1,18}) Bytes out (-?\d{1,18})")  # fmt: skip
_TOTAL = re.compile(r" Pkts (-?\d{1,18})(?:/(-?\d{1,18}))? Bytes (-?\d{1,18})(?:/(-?\d{1,18}))?")

ACTIONS = {"p": "pass", "P": "pass", "b": "block", "B": "block", "n": "nomatch", "L": "log"}
"""By the letter; S alone is a short packet, which is always blocked."""
_QUOTED = re.compile(
    r" for (\S+) - (\S+) PR (\S+) len \d+ \(?(\d+)\)?(?: ?(\(?frag [^)\s]*\)?)| icmp (\d+)/(\d+))?"
)
MARKS = ("low-ttl", "OOW", "bad", "NAT", "bad-NAT", "bad-src", "multicast", "broadcast", "mbcast")


class Missed(NamedTuple):
    """A line about records that ipmon missed."""

    records: int
    reason: str


def when(message: str, envelope: When) -> tuple[When, int] | None:
    """The time of a line of ipmon, and where it ends; None if it has none.

    envelope   the time of the envelope, whose date counts where the line has none
    """
    match = _TIME.match(message)
    if match is None:
        return None
    day, month, year, clock, digits = match.groups()
    if day:
        written = match[0][:-1]
        return dated(written, (int(year), int(month), int(day)), clock, digits, None), match.end()
    if envelope.second is None:
        return When(match[0][:-1]), match.end()
    behind = (envelope.second - clock_seconds(clock)) % DAY
    if envelope.zoned or behind > DAY // 2:  # another zone, or a clock that is ahead
        return envelope, match.end()
    written = f"{envelope.written} {match[0][:-1]}"
    if envelope.month and envelope.second < behind:  # before midnight, written after it
        return envelope, match.end()
    return (
        envelope._replace(
            written=written, second=envelope.second - behind, fraction=fraction_ns(digits)
        ),
        match.end(),
    )


def missed(message: str) -> Missed | None:
    """The loss that a line reports; None for another line."""
    match = _MISSED.match(message)
    if match is None:
        return None
    return Missed(int(match[1]), f"ipmon missed {match[1]} {match[2]} log entries")


def read(message: str) -> Values | FlowRecord | None:
    """The values of a packet, or the flow, of a line without its time; None for another line."""
    if match := _PACKET.match(message):
        return _packet(match)
    if message.startswith("@") and (match := _NAT.match(message)):
        return _nat(match)
    if message.startswith(("STATE:", "Type: ")) and (match := _STATE.match(message)):
        return _state(match)
    return None


def _packet(match: re.Match[str]) -> Values | None:
    (count, device, group, rule, letters, source, destination, name, _, length,
     rest) = match.groups()  # fmt: skip
    values = no_values()
    extra: dict[str, Any] = {}
    values[AT_SOURCE] = SOURCE
    values[AT_COUNT] = number(count or "1")
    action = letters.removeprefix("S")
    values[AT_ACTION] = "block" if letters == "S" else ACTIONS.get(action)
    values[AT_SHORT] = True if letters[0] == "S" else None
    if rule != "-1":
        values[AT_RULE] = int(rule)
    if group != "-1":
        values[AT_GROUP] = utf8(group)
    values[AT_PROTOCOL] = protocol_number(name)
    values[AT_LENGTH] = number(length)
    _put_ends(values, extra, source, destination)
    quoted = _QUOTED.search(rest)
    if quoted:
        extra["inner"] = _inner(quoted)
    headers = rest if quoted is None else rest[: quoted.start()] + rest[quoted.end() :]
    _put_headers(values, extra, headers)
    words = headers.split()
    for word, way in (("IN", "in"), ("OUT", "out")):
        if word in words:
            values[AT_DIRECTION] = way
    values[AT_OUTDEV if values[AT_DIRECTION] == "out" else AT_INDEV] = utf8(device)
    _put_marks(values, extra, words)
    values[AT_EXTRA] = extra or None
    return values


def _put_ends(values: Values, extra: dict[str, Any], source: str, destination: str) -> None:
    """Put addresses and ports; names, where ipmon ran with -n, go into `extra`."""
    for text, at, at_port, name in (
        (source, AT_SADDR, AT_SPORT, "source"), (destination, AT_DADDR, AT_DPORT, "destination")
    ):  # fmt: skip
        host, _, service = text.partition(",")
        address = canonical[host]
        values[at], values[at_port] = address, port(service)
        if address is None:
            extra[f"{name}_name"] = utf8(host)
        else:
            values[AT_FAMILY] = family_of(address)
        if service and values[at_port] is None:
            extra[f"{name}_service"] = utf8(service)


def _put_headers(values: Values, extra: dict[str, Any], rest: str) -> None:
    """Put the TCP flags, the type of ICMP and the place of a fragment."""
    if match := _TCP.match(rest):
        values[AT_TCP_FLAGS] = TCP_FLAGS[sum(FLAGS[letter] for letter in set(match[1]))]
        for text, name in zip(
            match.groups()[1:], ("tcp_seq", "tcp_ack", "tcp_window"), strict=True
        ):
            if text is not None and (value := number(text, LARGEST[name])) is not None:
                extra[name] = value
    elif match := _ICMP.match(rest):
        six = values[AT_FAMILY] == "ipv6" or values[AT_PROTOCOL] == ICMPV6
        if values[AT_PROTOCOL] in (ICMP, ICMPV6):
            values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = _icmp(match[1], match[2], six)
    if match := _FRAGMENT.search(rest):
        values[AT_FRAGMENT] = _fragment(match)


def _fragment(match: re.Match[str]) -> Fragment:
    ident, before, offset, after = match.groups()
    signs = before + after
    return Fragment(number(ident or ""), number(offset), "+" in signs, "-" in signs)


def _icmp(kind: str, code: str, six: bool) -> tuple[int | None, int | None]:
    """The numbers of an ICMP type and code in words."""
    if kind.isdecimal():
        return number(kind, 255), number(code, 255)
    if match := _NUMBERED.match(kind):
        return number(match[1], 255), number(code, 255)
    for value, (word, codes) in (ICMP6_WORDS if six else ICMP_WORDS).items():
        if word == kind:
            numbers = {name: n for n, name in codes.items()}
            return value, numbers.get(code, number(code, 255))
    return None, None


def _inner(match: re.Match[str]) -> dict[str, Any]:
    """The packet that an ICMP error quotes."""
    source, destination, name, length, fragment, kind, code = match.groups()
    inner: dict[str, Any] = {"family": "ipv4", "protocol": protocol_number(name)}
    for text, at in ((source, "s"), (destination, "d")):
        host, _, service = text.partition(",")
        inner[f"{at}addr"], inner[f"{at}port"] = canonical[host], port(service)
    inner["length"] = number(length)
    inner["icmp_type"], inner["icmp_code"] = number(kind or "", 255), number(code or "", 255)
    if fragment and (place := _FRAGMENT.search(fragment)):
        inner["fragment"] = _fragment(place)
    return {name: value for name, value in inner.items() if value is not None}


def _put_marks(values: Values, extra: dict[str, Any], words: list[str]) -> None:
    """Put tags, states, and what the filter noticed."""
    marks = [word for word in words if word in MARKS or word in ("K-S", "K-F")]
    if marks:
        extra["marks"] = marks
    for at, word in enumerate(words):
        if word == "log-tag" and at + 1 < len(words):
            text = words[at + 1]
            if (tag := number(text.removeprefix("-"))) is not None:
                extra["fl_logtag"] = 2**32 - tag if text.startswith("-") else tag
        elif word == "nat-tag" and at + 1 < len(words):
            extra["fl_nattag"] = utf8(words[at + 1])
        elif word.startswith("reason:"):
            reason = word.removeprefix("reason:")
            code = number(reason)
            values[AT_REASON] = utf8(reason) if code is None else code


# Flows


def _end(text: str | None) -> tuple[str | None, int | None]:
    """An address and a port."""
    host, _, service = (text or "").partition(",")
    return canonical[host], port(service)


EVENTS = {"CLOSE": "expire"}
"""The event of a state, where its word is not that of the kernel."""


def _state(match: re.Match[str]) -> FlowRecord:
    word, kind, source, destination, name, icmp_type, rest = match.groups()
    (saddr, sport), (daddr, dport) = _end(source), _end(destination)
    packets, octets = _counters(rest)
    extra: dict[str, Any] = {}
    words = rest.split()
    if words[:1] == ["tag"] and len(words) > 1:
        extra["isl_tag"] = number(words[1])
    if word == "CLOSE":  # which ipmon says of an established connection that expired
        extra["word"] = word
    event: str | int = int(kind) if kind else EVENTS.get(word, word.lower())
    return FlowRecord(
        SOURCE, "",
        event=event,
        flow_type="state",
        family=None if saddr is None else family_of(saddr),
        protocol=protocol_number(name) if name else None,
        saddr=saddr, daddr=daddr, sport=sport, dport=dport,
        icmp_type=number(icmp_type or "", 255),
        packets=packets, bytes=octets, extra=extra or None,
    )  # fmt: skip


_NAT_EVENTS = frozenset(("expire", "flush", "clone", "destroy", "purge", "unload", "new"))


def _nat(match: re.Match[str]) -> FlowRecord:
    (rule, word, kind, number_of, first, second, third, fourth, peer, peer_protocol, name,
     rest) = match.groups()  # fmt: skip
    event: str | int = word.lower() if word else int(number_of)
    flow_type = "map" if kind == "NAT" else kind.lower() if kind else "nat"
    if isinstance(event, str) and kind is None and event not in _NAT_EVENTS:
        event, flow_type = "new", event  # before 5.0 a new one has the word of its type
    (saddr, sport), (nat_saddr, nat_sport) = _end(first), _end(third)
    daddr, dport = _end(second if second else peer)
    nat_daddr, nat_dport = _end(fourth)
    packets, octets = _counters(rest)
    if name == "Pkts":
        packets, octets = _counters(f" Pkts{rest}")
        name = None
    protocol = protocol_number(peer_protocol or name or "")
    if protocol not in (TCP, UDP):  # others have no ports, which are written as 0
        sport, dport, nat_sport, nat_dport = (
            p or None for p in (sport, dport, nat_sport, nat_dport)
        )
    return FlowRecord(
        SOURCE, "",
        event=event, flow_type=flow_type, rule=int(rule) or None,
        family=None if saddr is None else family_of(saddr), protocol=protocol,
        saddr=saddr, daddr=daddr, sport=sport, dport=dport,
        nat_saddr=nat_saddr, nat_daddr=nat_daddr, nat_sport=nat_sport, nat_dport=nat_dport,
        packets=packets, bytes=octets,
    )  # fmt: skip


def _counters(rest: str) -> tuple[dict[str, int] | None, dict[str, int] | None]:
    """The packets and bytes by direction. A negative counter has overflowed, and is left out."""
    packets: dict[str, str] = {}
    octets: dict[str, str] = {}
    for way, p_in, b_in, p_out, b_out in _COUNTERS.findall(rest):
        before = f"{way.lower()}_" if way else ""
        packets |= {f"{before}in": p_in, f"{before}out": p_out}
        octets |= {f"{before}in": b_in, f"{before}out": b_out}
    if not packets and (match := _TOTAL.search(rest)):
        first, second, third, fourth = match.groups()
        if second is None:
            packets, octets = {"total": first}, {"total": third}
        else:
            packets, octets = {"in": first, "out": second}, {"in": third, "out": fourth or "0"}
    counts = [
        {name: int(text) for name, text in texts.items() if text[0] != "-"}
        for texts in (packets, octets)
    ]
    return counts[0] or None, counts[1] or None
