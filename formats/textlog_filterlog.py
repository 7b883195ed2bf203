"""Lines of filterlog, the program of pfSense and OPNsense that writes pflog as text.

A line is values with commas: those of pflog's header, of the IP header, then of the protocol. Both
programs have the same order but for a few fields: the fourth is the number of the rule's tracker on
pfSense, its label on OPNsense; the words for IPv6 protocols differ, and so does what follows ICMP.

Source: print-pflog.c of pfSense's filterlog, filterlog.c of OPNsense (2020 to 2026).
"""

from __future__ import annotations

import re
from typing import Any

from pylog.formats.ip_numbers import EXTENSIONS, FRAGMENT, ICMP, ICMPV6, SCTP, TCP, UDP
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.pflog_words import ACTIONS, LATER_ACTIONS, LATER_REASONS, REASONS
from pylog.formats.textlog_fields import (
    LARGEST,
    canonical,
    hexadecimal,
    no_values,
    number,
    port,
    utf8,
)
from pylog.record import Fragment
from pylog.record.places import (
    AT_ACTION,
    AT_CUT,
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
    Values,
)

SOURCE = "filterlog"
PFSENSE, OPNSENSE = "filterlog-pfsense", "filterlog-opnsense"
"""The forms."""

_ACTIONS = frozenset((*ACTIONS, *LATER_ACTIONS["freebsd"]))
_REASONS = frozenset((*REASONS, *LATER_REASONS["freebsd"]))
MOST_COMMAS = 8
"""A label of OPNsense with more commas is not read."""
_UNKNOWN = re.compile(r"unk(?:n|nown)\((\d{1,10}|%u)\)$")
_ERROR = re.compile(r"(?:error|errormsg)='([^']*)',?")
_TRUNCATED = re.compile(r"truncated-(?:ip|icmp) ?= ?(\d+)")
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
_ECN = {"1": 1, "0": 2, "CE": 3}
_ICMP = {
    "request": (8, 0), "reply": (0, 0), "unreachproto": (3, 2), "unreachport": (3, 3),
    "needfrag": (3, 4), "unreach": (3, None), "redirect": (5, None), "timexceed": (11, None),
    "paramprob": (12, None), "tstamp": (13, 0), "tstampreply": (14, 0), "maskreply": (18, 0),
}  # fmt: skip
"""Type and code by the words of pfSense."""
TYPES = {
    "echorep": 0, "unreach": 3, "squench": 4, "redir": 5, "althost": 6, "echoreq": 8,
    "routeradv": 9, "routersol": 10, "timex": 11, "paramprob": 12, "timereq": 13, "timerep": 14,
    "inforeq": 15, "inforep": 16, "maskreq": 17, "maskrep": 18, "trace": 30, "dataconv": 31,
    "mobredir": 32, "ipv6-where": 33, "ipv6-here": 34, "mobregreq": 35, "mobregrep": 36,
    "skip": 39, "photuris": 40,
}  # fmt: skip
"""ICMP types by the words of pf.conf(5), which OPNsense writes from 2026 on."""
TYPES_6 = {
    "unreach": 1, "toobig": 2, "timex": 3, "paramprob": 4, "echoreq": 128, "echorep": 129,
    "groupqry": 130, "listqry": 130, "grouprep": 131, "listenrep": 131, "groupterm": 132,
    "listendone": 132, "routersol": 133, "routeradv": 134, "neighbrsol": 135, "neighbradv": 136,
    "redir": 137, "routrrenum": 138, "wrureq": 139, "fqdnreq": 139, "niqry": 139, "wrurep": 140,
    "fqdnrep": 140, "nirep": 140, "mtraceresp": 200, "mtrace": 201,
}  # fmt: skip
CODES = {
    3: {"net-unr": 0, "host-unr": 1, "proto-unr": 2, "port-unr": 3, "needfrag": 4, "srcfail": 5,
        "net-unk": 6, "host-unk": 7, "isolate": 8, "net-prohib": 9, "host-prohib": 10,
        "net-tos": 11, "host-tos": 12, "filter-prohib": 13, "host-preced": 14,
        "cutoff-preced": 15},
    5: {"redir-net": 0, "redir-host": 1, "redir-tos-net": 2, "redir-tos-host": 3},
    9: {"normal-adv": 0, "common-adv": 16},
    11: {"transit": 0, "reassemb": 1},
    12: {"badhead": 0, "optmiss": 1, "badlen": 2},
    40: {"unknown-ind": 0, "auth-fail": 1, "decrypt-fail": 2},
}  # fmt: skip
CODES_6 = {
    1: {"noroute-unr": 0, "admin-unr": 1, "notnbr-unr": 2, "beyond-unr": 2, "addr-unr": 3,
        "port-unr": 4},
    3: {"transit": 0, "reassemb": 1},
    4: {"badhead": 0, "nxthdr": 1, "optmiss": 2},
    137: {"redironlink": 0, "redirrouter": 1},
}  # fmt: skip


def read(message: str, program: str) -> tuple[Values, str] | None:
    """The values of a line's record, and its form; None if it is no line of filterlog.

    program   that the envelope names, "" for none
    """
    cells = _cells(message.rstrip())
    if len(cells) < 10 or not cells[4] or " " in cells[4] or cells[8] not in ("4", "6"):
        return None
    action, reason = _word(cells[6], _ACTIONS), _word(cells[5], _REASONS)
    if action is None or reason is None or not _is_way(cells[7]):
        return None
    rule, sub = number(cells[0]), number(cells[1])
    if (cells[0] and rule is None) or (cells[1] and sub is None):
        return None
    values = no_values()
    extra: dict[str, Any] = {}
    values[AT_SOURCE] = SOURCE
    values[AT_RULE], values[AT_ACTION], values[AT_REASON] = rule, action, reason
    if cells[2]:
        values[AT_GROUP] = utf8(cells[2])
        if sub is not None:
            extra["subrulenr"] = sub
    form = _put_rule_id(extra, cells[3])
    way = cells[7]
    if way in ("in", "out", "forward", "fwd"):
        values[AT_DIRECTION] = "forward" if way == "fwd" else way
    values[AT_OUTDEV if way == "out" else AT_INDEV] = utf8(cells[4])
    reader = _Ipv4 if cells[8] == "4" else _Ipv6
    packet = reader(values, extra, cells[9:])
    if not packet.read():
        return None
    values[AT_EXTRA] = extra or None
    return values, form or packet.form or PFSENSE


def _cells(message: str) -> list[str]:
    """The values of a line. Only the label of OPNsense's rules may have commas of its own."""
    cells = message.split(",")
    for more in range(1, min(MOST_COMMAS + 1, len(cells) - 9)):
        if cells[8] in ("4", "6"):
            break
        if cells[8 + more] in ("4", "6") and _is_way(cells[7 + more]):
            return [*cells[:3], ",".join(cells[3 : 4 + more]), *cells[4 + more :]]
    return cells


def _word(text: str, words: frozenset[str]) -> str | int | None:
    """The word or the number of an unknown one; None for what is neither."""
    if text in words:
        return text
    match = _UNKNOWN.match(text)
    if match is None:
        return None
    return int(match[1]) if match[1].isdecimal() else text


def _is_way(text: str) -> bool:
    return text in ("in", "out", "in/out", "fwd") or _UNKNOWN.match(text) is not None


def _put_rule_id(extra: dict[str, Any], text: str) -> str:
    """Put the tracker of pfSense or the label of OPNsense; gives the form, "" if it is open."""
    if text in ("", "0"):
        return ""
    tracker = number(text)
    if tracker is not None:
        extra["ridentifier"] = tracker
        return PFSENSE
    extra["label"] = utf8(text)
    return OPNSENSE


class _Packet:
    """Reads the cells of a packet.

    form   which program wrote them, "" if it is open
    """

    def __init__(self, values: Values, extra: dict[str, Any], cells: list[str]) -> None:
        self.values, self.extra, self.cells = values, extra, cells
        self.form = ""

    def read(self) -> bool:
        """Whether there is a packet."""
        raise NotImplementedError

    def _ends(self, source: str, destination: str) -> bool:
        """Put the addresses; whether they are addresses."""
        saddr, daddr = canonical[source], canonical[destination]
        self.values[AT_SADDR], self.values[AT_DADDR] = saddr, daddr
        return saddr is not None and daddr is not None

    def _upper(self, protocol: int | None, cells: list[str], size: int | None) -> None:
        """Put what follows the addresses; `size` is that of the IP payload."""
        values, extra = self.values, self.extra
        if not cells or cells == [""]:
            return
        if _TRUNCATED.match(cells[0]) or cells[0].startswith(("[|", "bad-", "INVALID")):
            values[AT_CUT] = values[AT_FAMILY]
            return
        if cells[0].startswith("errormsg="):
            extra["error"] = utf8(",".join(cells))
        elif cells[0].startswith("datalength="):
            self._datalength(protocol, cells)
        elif protocol in (TCP, UDP, SCTP) and len(cells) >= 3 and port(cells[0]) is not None:
            values[AT_SPORT], values[AT_DPORT] = port(cells[0]), port(cells[1])
            if protocol == TCP:
                self._tcp(cells)
            elif protocol == UDP and (length := number(cells[2], 0xFFFF)) is not None:
                extra["udp_length"] = length
        elif protocol == ICMP:
            self._icmp(cells, size)
        elif protocol == 112 and len(cells) >= 6:
            names = ("type", "ttl", "vhid", "version", "advskew", "advbase")
            carp = zip(names, map(utf8, cells), strict=False)
            extra["carp"] = {
                name: number(text) if text.isdecimal() else text for name, text in carp
            }

    def _tcp(self, cells: list[str]) -> None:
        values, extra = self.values, self.extra
        if len(cells) < 4 or cells[3].strip("FSRPAUECW"):
            return
        values[AT_TCP_FLAGS] = TCP_FLAGS[sum(FLAGS.get(letter, 0) for letter in set(cells[3]))]
        names = ((4, "tcp_seq"), (5, "tcp_ack"), (6, "tcp_window"), (7, "tcp_urgent"))
        for at, name in names:
            text = cells[at].partition(":")[0] if at < len(cells) else ""
            if (value := number(text, LARGEST.get(name, 0xFFFF))) is not None:
                extra[name] = value
        if len(cells) > 8 and cells[8]:
            extra["tcp_option_names"] = utf8(cells[8])

    def _datalength(self, protocol: int | None, cells: list[str]) -> None:
        """datalength=N, and from 2026 on OPNsense's type, code, id, seq and mtu of ICMP."""
        values = self.values
        if protocol in (ICMP, ICMPV6):
            self.form = self.form or OPNSENSE
        if len(cells) < 3 or protocol not in (ICMP, ICMPV6):
            return
        types, codes = (TYPES, CODES) if protocol == ICMP else (TYPES_6, CODES_6)
        kind = types.get(cells[1], number(cells[1], 255))
        values[AT_ICMP_TYPE] = kind
        values[AT_ICMP_CODE] = codes.get(kind or 0, {}).get(cells[2], number(cells[2], 255))
        for text, name in zip(cells[3:], ("icmp_id", "icmp_seq", "mtu"), strict=False):
            if (value := number(text)) is not None:
                self.extra[name] = value

    def _icmp(self, cells: list[str], size: int | None) -> None:
        """The words of pfSense; the length of the message follows the last value directly."""
        kind = _ICMP.get(cells[0].strip())
        if kind is None:
            return
        self.form = self.form or PFSENSE
        self.values[AT_ICMP_TYPE], self.values[AT_ICMP_CODE] = kind
        if kind[0] in (0, 8, 13, 14, 18) and len(cells) >= 3:
            last = cells[2].strip()
            if size is not None:
                last = last.removesuffix(str(size))
            for text, name in ((cells[1], "icmp_id"), (last, "icmp_seq")):
                if (value := number(text.strip(), 0xFFFF)) is not None:
                    self.extra[name] = value


class _Ipv4(_Packet):
    def read(self) -> bool:
        values, extra, cells = self.values, self.extra, self.cells
        values[AT_FAMILY] = "ipv4"
        joined = ",".join(cells)
        if match := _ERROR.match(joined):
            extra["error"] = utf8(match[1])
            cells = joined[match.end() :].lstrip(",").split(",")
        elif _TRUNCATED.match(cells[0]):
            extra["error"] = utf8(cells[0])
            cells = cells[1:]
        if len(cells) < 11:
            return False
        tos, ecn, ttl, ident, offset, flags, protocol, _, length, source, destination = cells[:11]
        if not self._ends(source, destination):
            return False
        values[AT_PROTOCOL], values[AT_LENGTH] = number(protocol, 255), number(length, 0xFFFF)
        _put_header(extra, tos, ecn, ttl)
        identity, place = number(ident, 0xFFFF), number(offset, 0xFFFF)
        if identity is not None:
            extra["ip_id"] = identity
        more = "+" in flags
        if more or place:
            values[AT_FRAGMENT] = Fragment(identity, place, more, "DF" in flags)
        if not place:
            size = None if values[AT_LENGTH] is None else values[AT_LENGTH] - 20
            self._upper(values[AT_PROTOCOL], cells[11:], size)
        return True


class _Ipv6(_Packet):
    def read(self) -> bool:
        values, extra, cells = self.values, self.extra, self.cells
        values[AT_FAMILY] = "ipv6"
        if len(cells) < 8:
            return False
        tos, label, limit, name, protocol, length, source, destination = cells[:8]
        if not self._ends(source, destination):
            return False
        upper = number(protocol, 255)
        size = number(length, 0xFFFF)
        values[AT_LENGTH] = None if size is None else size + 40
        _put_header(extra, tos, "", limit)
        if (flow := hexadecimal(label)) is not None:
            extra["flow_label"] = flow
        if name and name != name.lower():
            self.form = PFSENSE
        elif name:
            self.form = OPNSENSE
        rest = cells[8:]
        if upper in EXTENSIONS or upper == FRAGMENT:  # of pfSense: the upper protocol is not named
            self._fragment(rest)
            return True
        values[AT_PROTOCOL] = upper
        self._upper(upper, rest, size)
        return True

    def _fragment(self, cells: list[str]) -> None:
        """Take FRAG6, 0xID:OFFSET|LENGTH among the extension headers."""
        for at, cell in enumerate(cells):
            if cell != "FRAG6" or at + 1 >= len(cells):
                continue
            ident, _, rest = cells[at + 1].strip().partition(":")
            offset = number(rest.partition("|")[0], 0xFFFF)
            self.values[AT_FRAGMENT] = Fragment(hexadecimal(ident), offset)


def _put_header(extra: dict[str, Any], tos: str, ecn: str, ttl: str) -> None:
    """Put TOS, with the ECN bits that stand apart, and TTL or hop limit."""
    value, hops = hexadecimal(tos, 255), number(ttl, 255)
    if value is not None:
        extra["tos"] = value | _ECN.get(ecn, 0)
    if hops is not None:
        extra["ttl"] = hops
