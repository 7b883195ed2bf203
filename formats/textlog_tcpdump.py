"""Lines of tcpdump -e on a pflog interface: tcpdump.org's, and OpenBSD's own.

    TIME rule R[.ANCHOR.SUB]/REASON[ [uid N]]: ACTION DIR on INTERFACE: PACKET
    TIME rule R[.ANCHOR.SUB]/(REASON) [uid N, pid N] ACTION DIR on INTERFACE: [uid N, pid N] PACKET

An anchor may hold dots, slashes and brackets, so the rule inside it is read from the right. Of the
text of the packet only what both programs have is read: addresses, ports, protocol and TCP flags.
With -v tcpdump.org begins a line of its own with the addresses, after four blanks.
tcpdump.org's 5.0 prints uids of a little-endian machine in the wrong byte order.

Source: print-pflog.c of tcpdump 4.99.3 and 5.0.0-PRE, and of OpenBSD; both were run.
"""

from __future__ import annotations

import re
from typing import Any

from pylog.formats.ip_numbers import AH, ESP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.pflog_layouts import NOBODY, UID_MAX
from pylog.formats.pflog_words import ACTIONS, LATER_ACTIONS, LATER_REASONS, REASONS
from pylog.formats.textlog_fields import (
    LARGEST,
    canonical,
    family_of,
    no_values,
    number,
    port,
    utf8,
)
from pylog.formats.textlog_times import MONTHS, When, dated, fraction_ns, yearless
from pylog.record import Fragment, PacketRecord, Record
from pylog.record.places import (
    AT_ACTION,
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
    AT_SOURCE,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_UID,
    Values,
)

SOURCE = "tcpdump"
ORG, OPENBSD = "tcpdump", "tcpdump-openbsd"
"""The forms."""

_TIME = re.compile(
    r"(?:(\d{4})-(\d\d)-(\d\d) |([A-Z][a-z]{2}) ([ \d]\d) )?(\d\d:\d\d:\d\d)\.(\d{6,9}) (?=rule )"
    r"|(\d{9,11})\.(\d{6,9}) (?=rule )"
)
_LINE = re.compile(
    r"rule (\d{0,10}|def)(?:\.(.*)\.(\d{1,10}|def))?/(?:(\d{1,3}|unkn)?\((.*?)\)?)"
    r"((?: \[[^\]]*\])*)(:?)"
    r" ([a-z0-9-]+(?: \(\w+\))?|unkn\(\d{1,10}\)) (in/out|in|out|fwd|unkn\(\d{1,10}\)) on (\S*): "
    r"(?:\[([^\]]*)\] )?(.*)$"
)
_DETAILS = re.compile(r"(?:IP6? )?\((?:tos|class|flowlabel|hlim)[^()]*(?:\([^()]*\)[^()]*)*\) ?")
_DETAIL = {
    "length": re.compile(r"\blength:? (\d+)"), "ttl": re.compile(r"\b(?:ttl|hlim) (\d+)"),
    "proto": re.compile(r"(?:proto|next-header)[^()]*\((\d+)\)"),
    "payload": re.compile(r"payload length: (\d+)"),
}  # fmt: skip
_MISSING = re.compile(r"(?:IP6? )?truncated-ip6? - \d{1,6} bytes missing!\s?")
_ENDS = re.compile(r"(?:IP6? )?(\S+) > ([^\s:]\S*): (.*)$")
_EXTENDED = re.compile(r"(?:HBH|DSTOPT|RT6|srcrt)\b.{0,200}? (\d{1,5}) > (\d{1,5}): (.*)$")
"""After extension headers of IPv6 the ports stand alone."""
_FRAG6 = re.compile(r"frag \((?:0x[0-9a-f]+:)?(\d+)\|\d+\)")
_FLAGS = re.compile(r"Flags \[([A-Za-z.]+)\]")
_OLD_TCP = re.compile(r"([SFRPUWE.]+) (?:\d+:\d+\(\d+\)|ack|win|urg|<)")
_PROTOCOLS = (
    ("ICMP6", ICMPV6), ("icmp6", ICMPV6), ("ICMP", ICMP), ("icmp", ICMP), ("igmp", 2), ("GRE", GRE),
    ("gre", GRE), ("ESP(", ESP), ("esp ", ESP), ("AH(", AH), ("ah ", AH), ("sctp", SCTP),
    ("OSPF", 89), ("CARP", 112), ("VRRP", 112), ("pfsync", 240), ("PIM", 103), ("pim", 103),
)  # fmt: skip
"""How the text of a packet without ports begins."""
_NUMBERED = re.compile(r"(?:ip-proto-|PROTO )(\d{1,3})")
_ECHO = {"echo request": (8, 128), "echo reply": (0, 129)}
LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
_OWNER = re.compile(r"\[uid (\d{1,10})(?:, pid (\d{1,10}))?\]")
_SOCKET = re.compile(r"uid (\d{1,10})(?:, pid (\d{1,10}))?$")
_RIDENTIFIER = re.compile(r"\[ridentifier (\d{1,10})\]")
_LATER = frozenset(word for words in LATER_ACTIONS.values() for word in words)
_LATER_REASONS = frozenset(word for words in LATER_REASONS.values() for word in words)


def when(line: str) -> tuple[When, int] | None:
    """The time of a line, and where it ends; None if none of tcpdump's stands before a rule."""
    match = _TIME.match(line)
    if match is None:
        return None
    year, month, day, name, of_month, clock, digits, epoch, fraction = match.groups()
    written = match[0][:-1]
    if epoch:
        return When(written, int(epoch), fraction_ns(fraction), True), match.end()
    if year:
        date = int(year), int(month), int(day)
        return dated(written, date, clock, digits, None), match.end()
    if name and name in MONTHS:
        return yearless(written, name, of_month, clock, digits), match.end()
    return When(written), match.end()


def read(message: str) -> tuple[Values, str] | None:
    """The values of a line without its time, and its form; None for another line."""
    match = _LINE.match(message)
    if match is None:
        return None
    (rule, anchor, sub, reason_number, reason, owner, colon, action, way, device, socket,
     packet) = match.groups()  # fmt: skip
    if not colon and reason_number:
        return None
    values = no_values()
    extra: dict[str, Any] = {}
    values[AT_SOURCE] = SOURCE
    if rule not in ("", "def") and int(rule) < NOBODY:
        values[AT_RULE] = int(rule)
    if anchor:  # without one the number after it means nothing
        values[AT_GROUP] = utf8(anchor)
        if sub != "def" and int(sub) < NOBODY:
            extra["subrulenr"] = int(sub)
    values[AT_REASON] = _reason(reason_number, reason)
    values[AT_ACTION] = _action(action)
    if way in ("in", "out", "fwd"):
        values[AT_DIRECTION] = "forward" if way == "fwd" else way
    values[AT_OUTDEV if way == "out" else AT_INDEV] = utf8(device) or None
    _put_users(values, extra, owner, socket)
    _put_packet(values, extra, packet)
    values[AT_EXTRA] = extra or None
    return values, ORG if colon else OPENBSD


def completed(record: Record, text: str) -> PacketRecord | None:
    """The record with the addresses in the line after its own, where -v puts them; None if it has
    addresses, or the line none.
    """
    if not isinstance(record, PacketRecord) or record.saddr is not None:
        return None
    if not text.startswith(("    ", "\t")):
        return None
    values = [getattr(record, name) for name in PacketRecord.__struct_fields__]
    extra = dict(record.extra or {})
    _put_packet(values, extra, text.strip())
    if values[AT_SADDR] is None:
        return None
    if record.protocol is not None:
        values[AT_PROTOCOL] = record.protocol
    values[AT_EXTRA] = extra or None
    return PacketRecord(*values)


def _reason(digits: str | None, word: str) -> str | int | None:
    """The reason; unkn(N) of tcpdump 4.99 is a number that it has no word for."""
    if digits == "unkn" and (value := number(word)) is not None:
        return REASONS[value] if value < len(REASONS) else value
    if word in REASONS or word in _LATER_REASONS:
        return word
    return int(digits) if digits and digits.isdecimal() else utf8(word) or None


def _action(word: str) -> str | int:
    if word.startswith("unkn("):
        value = int(word[5:-1])
        return ACTIONS[value] if value < len(ACTIONS) else value
    return word.partition(" ")[0]  # "dummynet (Darwin)"


def _put_users(values: Values, extra: dict[str, Any], owner: str, socket: str | None) -> None:
    """Put uid and pid: tcpdump.org has those of the socket, OpenBSD those of the rule, too."""
    if match := _RIDENTIFIER.search(owner):
        extra["ridentifier"] = int(match[1])
    match = _OWNER.search(owner)
    if match and match[2]:
        extra |= {"rule_uid": int(match[1]), "rule_pid": int(match[2])}
    elif match and int(match[1]) <= NOBODY:
        printed = int(match[1])
        uid = min(printed, int.from_bytes(printed.to_bytes(4), "little"))
        if not {printed, uid} & {NOBODY, UID_MAX}:
            values[AT_UID] = uid
    if socket and (match := _SOCKET.match(socket)):
        if int(match[1]) not in (NOBODY, UID_MAX) and int(match[1]) < NOBODY:
            values[AT_UID] = int(match[1])
        if match[2]:
            extra["pid"] = int(match[2])


def _put_packet(values: Values, extra: dict[str, Any], text: str) -> None:
    """Put what the text of the packet says."""
    if details := _DETAILS.match(text):
        text = text[details.end() :]
        _put_details(values, extra, details[0])
    if missing := _MISSING.match(text):
        text = text[missing.end() :]
    ends = _ENDS.match(text)
    if ends is None:
        return
    source, destination, rest = ends.groups()
    (saddr, sport), (daddr, dport) = _end(source), _end(destination)
    values[AT_SADDR], values[AT_DADDR] = saddr, daddr
    if extended := _EXTENDED.match(rest):
        sport, dport, rest = port(extended[1]), port(extended[2]), extended[3]
    values[AT_SPORT], values[AT_DPORT] = sport, dport
    if saddr is not None:
        values[AT_FAMILY] = family_of(saddr)
    if match := _FLAGS.match(rest):
        letters = "" if match[1] == "none" else match[1]
        values[AT_PROTOCOL] = TCP
        values[AT_TCP_FLAGS] = TCP_FLAGS[sum(LETTERS.get(letter, 0) for letter in set(letters))]
    elif sport is not None and (match := _OLD_TCP.match(rest)):
        mask = sum(LETTERS[letter] for letter in set(match[1]) - {"."})
        values[AT_PROTOCOL] = TCP
        values[AT_TCP_FLAGS] = TCP_FLAGS[mask | 16 * (" ack " in rest)]
    elif sport is not None:
        values[AT_PROTOCOL] = SCTP if rest.startswith("sctp") else UDP
    else:
        _put_other(values, rest)
    if fragment := _FRAG6.match(rest):
        values[AT_FRAGMENT] = Fragment(None, number(fragment[1]))


def _put_other(values: Values, rest: str) -> None:
    """Put the protocol of a packet without ports, and the type of an echo."""
    if match := _NUMBERED.match(rest):
        values[AT_PROTOCOL] = number(match[1], 255)
        return
    protocol = next((p for begin, p in _PROTOCOLS if rest.startswith(begin)), None)
    if protocol is None:
        return
    values[AT_PROTOCOL] = protocol
    if protocol in (ICMP, ICMPV6):
        for words, kinds in _ECHO.items():
            if words in rest[:24]:
                values[AT_ICMP_TYPE] = kinds[protocol == ICMPV6]
                values[AT_ICMP_CODE] = 0


def _put_details(values: Values, extra: dict[str, Any], text: str) -> None:
    """Put what -v shows of the IP header."""
    found = {name: number(match[1]) for name, pattern in _DETAIL.items()
             if (match := pattern.search(text))}  # fmt: skip
    payload = found.get("payload")
    values[AT_LENGTH] = found.get("length") if payload is None else payload + 40
    values[AT_PROTOCOL] = found.get("proto")
    ttl = found.get("ttl")
    if ttl is not None and ttl <= LARGEST["ttl"]:
        extra["ttl"] = ttl


def _end(text: str) -> tuple[str | None, int | None]:
    """An address, with a port after a last dot."""
    address = canonical[text]
    if address is not None:
        return address, None
    host, _, service = text.rpartition(".")
    return canonical[host], port(service)
