"""Lines of the kernel's LOG target and of ulogd's LOGEMU, which imitates it.

    PREFIX IN=a OUT=b MAC=.. SRC=.. DST=.. LEN=.. .. PROTO=TCP SPT=.. DPT=.. ..

A prefix may hold anything, even IN=, and nothing separates it from what follows: the right IN= is
the last one that a part of a packet follows. After it come words with a value (SRC=) and without
(DF, SYN), in the order of the headers, so one loop over the words reads all forms. Words mean
different things in different headers: LEN= is that of IP first, then that of UDP. An ICMP error has
the packet that it quotes in brackets. The kernel cuts lines at 1016 characters, so the last word is
not believed where more must follow.

Source: nf_log_syslog.c (nf_log_dump_*), ulogd 2.0.8's printpkt.c; recordings of Linux 6.18.
"""

from __future__ import annotations

import re
from typing import Any

from pylog.formats.ip_numbers import AH, ESP, ICMP, ICMPV6, TCP, UDP, UDPLITE
from pylog.formats.packet import TCP_FLAGS, vlan_tag
from pylog.formats.packet_schemas import FAMILIES
from pylog.formats.textlog_fields import (
    LARGEST,
    canonical,
    family_of,
    hexadecimal,
    no_values,
    number,
    protocol_number,
    utf8,
)
from pylog.record import Fragment
from pylog.record.places import (
    AT_CUT,
    AT_DADDR,
    AT_DIRECTION,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_FRAGMENT,
    AT_GID,
    AT_HWADDR,
    AT_HWHEADER,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_INDEV,
    AT_LENGTH,
    AT_MARK,
    AT_OUTDEV,
    AT_PHYSINDEV,
    AT_PHYSOUTDEV,
    AT_PREFIX,
    AT_PROTOCOL,
    AT_SADDR,
    AT_SOURCE,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_UID,
    AT_VLAN,
    Values,
)

KERNEL, LOGEMU = "kernel-log", "logemu"
"""The sources."""
MOST = 1016
"""The longest line of the kernel, without its envelope (S_SIZE in nf_log_syslog.c)."""

_HEAD = re.compile(
    r"(.*)IN=(\S{0,64}) OUT=(\S{0,64})"
    r"(?: (?=PHYS(?:IN|OUT)=|MAC(?:SRC)?=|TUNNEL=|SRC=|ARP |UID=|MARK=)"
    r"|(?: (?:MA?C?|MACS?R?C?|S?R?C?|A?R?P?|PHY\w*))? ?$)",
    re.S,
)
"""The prefix and the interfaces. What follows them may be cut."""
_LINK = re.compile(
    r"(?:PHYSIN=(\S*) )?(?:PHYSOUT=(\S*) )?(?:MAC=([0-9a-f:]*)(?: |$)|MACSRC=([0-9a-f:]+)"
    r" MACDST=([0-9a-f:]+) (?:VPROTO=([0-9a-f]{4}) VID=(\d{1,5}) )?MACPROTO=([0-9a-f]{4})(?: |$))?"
)
_PROTOCOLS = {
    "TCP": TCP, "UDP": UDP, "UDPLITE": UDPLITE, "ICMP": ICMP, "ICMPv6": ICMPV6, "AH": AH,
    "ESP": ESP,
}  # fmt: skip
_NAMES = {TCP: "tcp", UDP: "udp", UDPLITE: "udp", ICMP: "icmp", ICMPV6: "icmpv6", AH: "ah",
          ESP: "esp"}  # fmt: skip
FLAGS = {"ACK": 16, "RST": 4, "SYN": 2, "FIN": 1, "URG": 32, "PSH": 8, "ECE": 64, "CWR": 128}
_UNFINISHED = frozenset((
    "IN", "OUT", "PHYSIN", "PHYSOUT", "MAC", "SRC", "DST", "LEN", "TOS", "PREC", "TTL", "TC",
    "HOPLIMIT", "SPT", "DPT", "ACK", "WINDOW", "RES", "TYPE", "UID", "HTYPE", "PTYPE", "MACSRC",
    "IPSRC", "MACDST",
))  # fmt: skip
"""Words with a value after which another one must follow."""


def read(message: str, escaped: bool, ended: bool, plain: bool) -> Values | None:
    """The values of a line's record; None if it is no line of LOG.

    escaped   as of an Envelope
    ended     whether the line has an end: if not, it may be cut anywhere
    plain     whether no program is named before the message, as in LOGEMU's lines
    """
    head = _HEAD.match(message)
    if head is None:
        return None
    values = no_values()
    extra: dict[str, Any] = {}
    values[AT_SOURCE] = KERNEL
    rest = message[head.end() :]
    link = _LINK.match(rest)
    assert link is not None
    words = rest[link.end() :].replace(")]", ") ]").split()
    if not words and not (link[3] or link[8]) and not head[2] + head[3]:
        return None
    if words:
        _drop_cut(words, message, ended, extra)
    prefix = head[1]
    if plain and _is_logemu(rest, words):
        values[AT_SOURCE] = LOGEMU
        prefix = prefix.removesuffix(" ")
    values[AT_PREFIX] = utf8(prefix, escaped) or None
    _put_devices(values, head, link)
    _put_link(values, link)
    _Words(words, values, extra).read()
    if values[AT_FAMILY] is None and values[AT_HWHEADER] and len(values[AT_HWHEADER]) == 28:
        ethertype = int(values[AT_HWHEADER][24:], 16)
        values[AT_FAMILY] = FAMILIES.get(ethertype, ethertype)
    if values[AT_SOURCE] == LOGEMU:
        values[AT_MARK] = values[AT_MARK] or None  # it writes 0 for none
    values[AT_EXTRA] = extra or None
    return values


def _drop_cut(words: list[str], message: str, ended: bool, extra: dict[str, Any]) -> None:
    """Drop a last word that is cut, or may be: some programs strip the blank behind the last."""
    if message[-1:] in (" ", ")", "]"):
        return
    key, sign, _ = words[-1].partition("=")
    if len(message) >= MOST or not ended or (sign and key in _UNFINISHED):
        extra["line_cut"] = True
        del words[-1]


def _is_logemu(rest: str, words: list[str]) -> bool:
    """Whether ulogd wrote the line: it always writes MAC= and MARK=, and no 0x in TOS."""
    tos = next((word for word in words if word.startswith("TOS=")), "")
    if tos:
        return not tos.startswith("TOS=0x")
    return rest.startswith("MAC=") and "MARK=" in words[-1] if words else False


def _put_devices(values: Values, head: re.Match[str], link: re.Match[str]) -> None:
    into, out = head[2], head[3]
    for at, name in (
        (AT_INDEV, into), (AT_OUTDEV, out), (AT_PHYSINDEV, link[1]), (AT_PHYSOUTDEV, link[2])
    ):  # fmt: skip
        values[at] = utf8(name) if name else None
    if into or out:
        values[AT_DIRECTION] = "forward" if into and out else "in" if into else "out"


def _put_link(values: Values, link: re.Match[str]) -> None:
    """Put the link header: destination, source and type, as NFLOG has it."""
    mac, source, destination, tag, vid, kind = link.group(3, 4, 5, 6, 7, 8)
    if source:
        header = f"{destination}{source}{kind}".replace(":", "")
        values[AT_HWADDR] = source
    elif mac:
        header = mac.replace(":", "")
        if len(mac) == 41:
            values[AT_HWADDR] = mac[18:35]
    else:
        return
    values[AT_HWHEADER] = header
    if tag and int(vid) < 1 << 16:
        values[AT_VLAN] = (vlan_tag(int(vid), int(tag, 16)),)


class _Words:
    """Reads the words of a packet, or of one that an ICMP error quotes."""

    def __init__(self, words: list[str], values: Values, extra: dict[str, Any]) -> None:
        self._words, self._values, self._extra = words, values, extra
        self._at = 0

    def read(self, quoted: bool = False) -> None:
        """Read up to the end, or to the bracket that ends a quoted packet."""
        values, extra, words = self._values, self._extra, self._words
        protocol: int | None = None
        flags: int | None = None
        fragment: dict[str, Any] = {}
        dont = False
        while self._at < len(words):
            word = words[self._at]
            self._at += 1
            key, sign, value = word.partition("=")
            if sign:
                if key == "PROTO":
                    protocol = _PROTOCOLS.get(value) or protocol_number(value)
                    if value == "ARP":
                        self._read_arp_of_logemu()
                    values[AT_PROTOCOL] = protocol
                else:
                    if key.startswith("["):
                        self._at -= 1
                        words[self._at] = word[1:]
                        self._read_quoted()
                        continue
                    if key.startswith("INCOMPLETE"):  # LOGEMU puts no blank behind it
                        values[AT_CUT] = _NAMES.get(protocol or 0, "layer 4")
                        key = key.removeprefix("INCOMPLETE")
                    if key in ("WINDOW", "RES"):
                        flags = flags or 0
                    self._value(key, value, protocol)
            elif word in FLAGS and flags is not None:
                flags |= FLAGS[word]
            elif word == "]" and quoted:
                break
            elif word == "DF":
                dont = True
            elif word == "MF":
                fragment["more"] = True
            elif word.startswith("FRAG:"):
                self._fragment(word, fragment, 8 if values[AT_FAMILY] == "ipv4" else 1)
            elif word == "OPT":
                self._options(fragment)
            elif word == "ARP":
                values[AT_FAMILY] = "arp"
                self._read_arp()
            elif word == "INCOMPLETE" and protocol is None and "offset" in fragment:
                fragment["more"] = True  # in the fragment header of IPv6
            elif word == "INCOMPLETE":
                values[AT_CUT] = _NAMES.get(protocol or 0, str(values[AT_FAMILY] or "link"))
            elif word == "TRUNCATED":
                values[AT_CUT] = values[AT_FAMILY] or "network"
            elif word.startswith("ID:"):
                if word == "ID:" and self._at < len(words):  # of LOGEMU
                    word += words[self._at]
                    self._at += 1
                fragment["id"] = hexadecimal(word[3:])
        if flags is not None:
            values[AT_TCP_FLAGS] = TCP_FLAGS[flags]
        if fragment.get("more") or fragment.get("offset"):
            fragment.setdefault("id", extra.get("ip_id"))
            fragment.setdefault("offset", 0)
            values[AT_FRAGMENT] = Fragment(**fragment, dont=dont)

    def _value(self, key: str, value: str, protocol: int | None) -> None:
        """Take a word with a value, other than PROTO."""
        values, extra = self._values, self._extra
        if key in ("SRC", "DST"):
            address = canonical[value]
            if address is not None:
                values[AT_SADDR if key == "SRC" else AT_DADDR] = address
                values[AT_FAMILY] = family_of(address)
        elif key == "LEN":
            if protocol is None:
                values[AT_LENGTH] = number(value)
            elif protocol in (UDP, UDPLITE):
                _add(extra, "udp_length", number(value, 0xFFFF))
        elif key in _PLACES:
            at, base, most = _PLACES[key]
            values[at] = number(value, most) if base == 10 else hexadecimal(value, most)
        elif key in ("TOS", "PREC"):
            part = hexadecimal(value, 255)
            if part is not None:
                extra["tos"] = extra.get("tos", 0) | part
        elif key == "ID" and protocol is not None:
            _add(extra, "icmp_id", number(value, 0xFFFF))
        elif key == "SEQ" and protocol in (ICMP, ICMPV6):
            _add(extra, "icmp_seq", number(value, 0xFFFF))
        elif key in _EXTRA:
            name, base = _EXTRA[key]
            most = LARGEST.get(name, 0xFFFFFFFF)
            given = number(value, most) if base == 10 else hexadecimal(value, most)
            if given or key not in ("RES", "URGP"):
                _add(extra, name, given)
        elif key == "GATEWAY":
            _add(extra, "gateway", canonical[value])
        elif key == "TUNNEL":
            extra["tunnel"] = utf8(value)

    def _fragment(self, word: str, fragment: dict[str, Any], unit: int) -> None:
        """Take FRAG:n, or FRAG: n of LOGEMU."""
        text = word[5:]
        if not text and self._at < len(self._words):
            text = self._words[self._at]
            self._at += 1
        offset = number(text, 0xFFFF)
        if offset is not None:
            fragment["offset"] = offset * unit

    def _options(self, fragment: dict[str, Any]) -> None:
        """Take what follows OPT: the octets of options, or an IPv6 extension header."""
        words, values = self._words, self._values
        if self._at >= len(words):
            return
        word = words[self._at]
        self._at += 1
        if word.startswith("(") and len(word) > 1:
            name = "ip_options" if values[AT_PROTOCOL] is None else "tcp_option_bytes"
            self._extra[name] = word.strip("()").lower()
            return
        while self._at < len(words):
            word = words[self._at]
            self._at += 1
            if word == ")":
                return
            if word.startswith("FRAG:"):
                self._fragment(word, fragment, 1)
            elif word == "INCOMPLETE":
                fragment["more"] = True
            elif word.startswith("ID:"):
                fragment["id"] = hexadecimal(word[3:])
            elif word == "ESP":
                values[AT_PROTOCOL] = ESP
            elif word.startswith("SPI="):
                _add(self._extra, "spi", hexadecimal(word[4:]))

    def _read_arp(self) -> None:
        """Take the words of ARP; its MACSRC= is not that of the link header."""
        values, extra = self._values, self._extra
        while self._at < len(self._words):
            word = self._words[self._at]
            self._at += 1
            key, _, value = word.partition("=")
            if key == "OPCODE":
                _add(extra, "arp_oper", number(value, 0xFFFF))
            elif key in ("MACSRC", "MACDST"):
                extra["arp_sha" if key == "MACSRC" else "arp_tha"] = utf8(value)
            elif key in ("IPSRC", "IPDST"):
                values[AT_SADDR if key == "IPSRC" else AT_DADDR] = canonical[value]
            elif key == "INCOMPLETE":
                values[AT_CUT] = "arp"
            elif key == "MARK":
                values[AT_MARK] = hexadecimal(value)

    def _read_arp_of_logemu(self) -> None:
        """Take the words of ARP as ulogd 2.0.8 writes them: its addresses are garbage."""
        values, extra = self._values, self._extra
        values[AT_FAMILY], values[AT_SADDR], values[AT_DADDR] = "arp", None, None
        while self._at < len(self._words):
            word = self._words[self._at]
            if word in ("REQUEST", "REPLY"):
                extra["arp_oper"] = 1 if word == "REQUEST" else 2
            elif word.startswith("REPLY_MAC="):
                extra["arp_sha"] = utf8(word[10:])
            else:
                return
            self._at += 1

    def _read_quoted(self) -> None:
        """Take the packet in brackets that an ICMP error quotes."""
        inner = no_values()
        extra: dict[str, Any] = {}
        reader = _Words(self._words, inner, extra)
        reader._at = self._at
        reader.read(quoted=True)
        self._at = reader._at
        self._extra["inner"] = {
            name: inner[at] for name, at in _QUOTED if inner[at] is not None
        } | {name: extra[name] for name in ("spi",) if name in extra}


def _add(extra: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        extra[name] = value


_PLACES = {
    "SPT": (AT_SPORT, 10, 0xFFFF),
    "DPT": (AT_DPORT, 10, 0xFFFF),
    "TYPE": (AT_ICMP_TYPE, 10, 255),
    "CODE": (AT_ICMP_CODE, 10, 255),
    "UID": (AT_UID, 10, 0xFFFFFFFF),
    "GID": (AT_GID, 10, 0xFFFFFFFF),
    "MARK": (AT_MARK, 16, 0xFFFFFFFF),
}
"""Words with a field of the record: its place, the base of the number, and its largest value."""
_EXTRA = {
    "TTL": ("ttl", 10), "HOPLIMIT": ("ttl", 10), "TC": ("tos", 10), "FLOWLBL": ("flow_label", 10),
    "ID": ("ip_id", 10), "SEQ": ("tcp_seq", 10), "ACK": ("tcp_ack", 10),
    "WINDOW": ("tcp_window", 10), "RES": ("tcp_reserved", 16), "URGP": ("tcp_urgent", 10),
    "SPI": ("spi", 16), "MTU": ("mtu", 10), "PARAMETER": ("parameter", 10),
    "POINTER": ("pointer", 16),
}  # fmt: skip
"""Words whose values go into `extra`, those of fields on request under their names."""
_QUOTED = (
    ("family", AT_FAMILY), ("protocol", AT_PROTOCOL), ("saddr", AT_SADDR), ("daddr", AT_DADDR),
    ("sport", AT_SPORT), ("dport", AT_DPORT), ("tcp_flags", AT_TCP_FLAGS),
    ("icmp_type", AT_ICMP_TYPE), ("icmp_code", AT_ICMP_CODE), ("fragment", AT_FRAGMENT),
    ("length", AT_LENGTH), ("cut", AT_CUT),
)  # fmt: skip
