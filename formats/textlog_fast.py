"""The lines of the kernel's LOG that a firewall writes most, read with one pattern.

These are TCP and UDP packets with a plain prefix, in the envelopes of dmesg, syslog and journalctl.
What stands between the time and SRC= is the same for all packets of a rule and a neighbour, so it
is read by the grammar (`textlog_kernel`) once and remembered. Any other line does not fit, and the
grammar reads it. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pylog.formats.packet import TCP_FLAGS
from pylog.formats.textlog_fields import canonical
from pylog.memo import Bounded, Memo
from pylog.record.places import (
    AT_DADDR,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_LENGTH,
    AT_MARK,
    AT_PROTOCOL,
    AT_SADDR,
    AT_SPORT,
    AT_TCP_FLAGS,
    Values,
)

_N = "[0-9]+"
PATTERN = re.compile(
    r"(<[0-9]{1,3}>)?"
    r"(\[ *[0-9]+\.[0-9]{6}\] |[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} |"
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{6})?[+-][0-9]{2}:?[0-9]{2} )"
    r"((?:[!-~]+ kernel: )?)(?:\[ *[0-9]+\.[0-9]{6}\] )?"
    r"([ -<>-\[\]-~]*IN=[!-~]{0,15} OUT=[!-~]{0,15} (?:MAC=[0-9a-f:]* |MACSRC=[0-9a-f:]{17}"
    r" MACDST=[0-9a-f:]{17} MACPROTO=[0-9a-f]{4} )?)"
    r"SRC=([0-9a-f.:]+) DST=([0-9a-f.:]+) LEN=([0-9]+) "
    r"(?:TOS=0x([0-9A-F]{2}) PREC=0x([0-9A-F]{2}) TTL=([0-9]+) ID=([0-9]+) (?:DF )?|"
    r"TC=([0-9]+) HOPLIMIT=([0-9]+) FLOWLBL=([0-9]+) )"
    r"PROTO=(?:TCP SPT=([0-9]{1,5}) DPT=([0-9]{1,5}) (?:SEQ=([0-9]+) ACK=([0-9]+) )?"
    r"WINDOW=([0-9]+) RES=0x([0-9a-f]{2}) ((?:[A-Z]{3} )*)URGP=([0-9]+) |"
    r"UDP SPT=([0-9]{1,5}) DPT=([0-9]{1,5}) LEN=([0-9]+) )(?:MARK=0x([0-9a-f]+) )?\r?\n"
)
_BITS = {"ACK": 16, "RST": 4, "SYN": 2, "FIN": 1, "URG": 32, "PSH": 8, "ECE": 64, "CWR": 128}


def _flags(words: str) -> str:
    return TCP_FLAGS[sum(_BITS.get(word, 0) for word in words.split())]


class Fast:
    """Reads lines that fit the pattern."""

    def __init__(self, rule_of: Callable[[str], Values | None]) -> None:
        """
        rule_of   a line up to SRC= -> the values that it determines, but for its time; None if the
                  grammar must read such lines
        """
        self._rule_of = rule_of
        self._rules: Bounded[tuple[str, ...], Values | None] = Bounded()
        self._flags: Memo[str, str] = Memo(_flags)

    def values(self, match: re.Match[str]) -> Values | None:
        """The values of a line that fits the pattern; None if the grammar must read it."""
        (
            priority, stamp, start, rule, saddr, daddr, length, tos, prec, ttl, ident, tc, hops,
            label, sport, dport, seq, ack, window, reserved, flags, urgent,
            usport, udport, ulength, mark,
        ) = match.groups()  # fmt: skip
        # of the time only its kind matters: that of syslog, of dmesg, or with +00:00 or +0000
        key = priority, stamp[0] if stamp[0] < "A" else "M", stamp[-4], start, rule
        if stamp[0] == "[":
            key = priority, "[", "", start, rule
        try:
            shared = self._rules[key]
        except KeyError:
            shared = self._rules.keep(
                key, self._rule_of(match.string[match.start() : match.end(4)])
            )
        source, destination = canonical[saddr], canonical[daddr]
        if shared is None or source is None or destination is None:
            return None
        values = shared.copy()
        if tos is not None:
            values[AT_FAMILY] = "ipv4"
            extra = {"tos": int(tos, 16) | int(prec, 16), "ttl": int(ttl), "ip_id": int(ident)}
        else:
            values[AT_FAMILY] = "ipv6"
            extra = {"tos": int(tc), "ttl": int(hops), "flow_label": int(label)}
        values[AT_SADDR], values[AT_DADDR], values[AT_LENGTH] = source, destination, int(length)
        if sport is not None:
            values[AT_PROTOCOL] = 6
            from_, to = int(sport), int(dport)
            if seq is not None:
                extra["tcp_seq"], extra["tcp_ack"] = int(seq), int(ack)
            extra["tcp_window"] = int(window)
            extra["tcp_reserved"] = int(reserved, 16)
            extra["tcp_urgent"] = int(urgent)
            values[AT_TCP_FLAGS] = self._flags[flags]
        else:
            values[AT_PROTOCOL] = 17
            from_, to = int(usport), int(udport)
            extra["udp_length"] = int(ulength)
        if from_ > 0xFFFF or to > 0xFFFF or max(extra.values()) > 0xFFFFFFFF:
            return None
        values[AT_SPORT], values[AT_DPORT], values[AT_EXTRA] = from_, to, extra
        if mark is not None:
            values[AT_MARK] = int(mark, 16)
        return values
