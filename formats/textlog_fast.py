"""The lines of the kernel's LOG that a firewall writes most, read with one pattern.

These are TCP and UDP packets with a plain prefix, in the envelopes of dmesg, syslog and journalctl.
What stands between the time and SRC= is the same for all packets of a rule and a neighbour, so it
is read by the grammar (`textlog_kernel`) once and remembered. Any other line does not fit, and the
grammar reads it. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pylog.formats.packet import TCP_FLAGS
from pylog.formats.textlog_fields import canonical
from pylog.formats.textlog_kernel import FLAGS
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

_ADDRESS = r"([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f:]+)"
MOST_SEEN = 65536
"""So many addresses are remembered."""
OCTETS = frozenset(map(str, range(256)))
"""The parts of an IPv4 address as the kernel writes it, and as records have it."""
PATTERN = re.compile(
    r"(<[0-9]{1,3}>)?"
    r"(\[ *[0-9]+\.[0-9]{6}\] |[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} |"
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{6})?[+-][0-9]{2}:?[0-9]{2} )"
    r"((?:[!-~]+ kernel: )?)(?:\[ *[0-9]+\.[0-9]{6}\] )?"
    r"([ -<>-\[\]-~]*IN=[!-~]{0,15} OUT=[!-~]{0,15} (?:MAC=[0-9a-f:]* |MACSRC=[0-9a-f:]{17}"
    r" MACDST=[0-9a-f:]{17} MACPROTO=[0-9a-f]{4} )?)"
    rf"SRC={_ADDRESS} DST={_ADDRESS} LEN=([0-9]{{1,9}}) "
    r"(TOS=0x[0-9A-F]{2} PREC=0x[0-9A-F]{2} TTL=[0-9]{1,3}|TC=[0-9]{1,3} HOPLIMIT=[0-9]{1,3})"
    r" (?:ID|FLOWLBL)=([0-9]{1,7}) (?:DF )?PROTO=(TCP|UDP) SPT=([0-9]{1,5}) DPT=([0-9]{1,5}) "
    r"(?:SEQ=([0-9]{1,10}) ACK=([0-9]{1,10}) )?"
    r"(WINDOW=[0-9]{1,5} RES=0x[0-9a-f]{2} (?:[A-Z]{3} )*URGP=[0-9]{1,5}|LEN=[0-9]{1,5}) "
    r"(?:MARK=0x([0-9a-f]{1,8}) )?\r?\n"
)


def _network(words: str) -> dict[str, int]:
    """What TOS=, PREC= and TTL= say, or TC= and HOPLIMIT=."""
    values = [word.partition("=")[2] for word in words.split()]
    if len(values) == 3:
        return {"tos": int(values[0], 16) | int(values[1], 16), "ttl": int(values[2])}
    return {"tos": int(values[0]), "ttl": int(values[1])}


def _transport(words: str) -> tuple[dict[str, int], str | None]:
    """What WINDOW= and the words after it say, with the TCP flags; or LEN= of UDP."""
    first, *others = words.split()
    value = int(first.partition("=")[2])
    if not others:
        return {"udp_length": value}, None
    extra = {"tcp_window": value}
    reserved, urgent = int(others[0].partition("=")[2], 16), int(others[-1].partition("=")[2])
    extra |= {n: v for n, v in (("tcp_reserved", reserved), ("tcp_urgent", urgent)) if v}
    return extra, TCP_FLAGS[sum(FLAGS.get(word, 0) for word in set(others[1:-1]))]


class Fast:
    """Reads lines that fit the pattern."""

    def __init__(self, rule_of: Callable[[str], Values | None]) -> None:
        """
        rule_of   a line up to SRC= -> the values that it determines, but for its time; None if the
                  grammar must read such lines
        """
        self._rule_of = rule_of
        self._rules: Bounded[tuple[Any, ...], Values | None] = Bounded()
        self._networks: Memo[str, dict[str, int]] = Memo(_network)
        self._seen: set[str] = set()
        """IPv4 addresses in the form that records have."""
        self._transports: Memo[str, tuple[dict[str, int], str | None]] = Memo(_transport)

    def values(self, match: re.Match[str]) -> Values | None:
        """The values of a line that fits the pattern; None if the grammar must read it."""
        (
            priority, stamp, start, rule, saddr, daddr, length, network, ident, protocol, sport,
            dport, seq, ack, transport, mark,
        ) = match.groups()  # fmt: skip
        # of the time only its kind matters, which its length and first character show
        key = start, rule, priority, len(stamp), stamp[0]
        try:
            shared = self._rules[key]
        except KeyError:
            beginning = match.string[match.start() : match.end(4)]
            shared = self._rules.keep(key, self._rule_of(beginning))
        more, flags = self._transports[transport]
        from_, to = int(sport), int(dport)
        if (
            shared is None
            or from_ > 0xFFFF
            or to > 0xFFFF
            or (flags is None) != (protocol == "UDP")
        ):
            return None
        values = shared.copy()
        if network[1] == "O":
            seen = self._seen
            if saddr not in seen and not self._is_address(saddr):
                return None
            if daddr not in seen and not self._is_address(daddr):
                return None
            values[AT_FAMILY] = "ipv4"
            extra = {**self._networks[network], "ip_id": int(ident), **more}
        else:
            saddr, daddr = canonical[saddr], canonical[daddr]
            if saddr is None or daddr is None:
                return None
            values[AT_FAMILY] = "ipv6"
            extra = {**self._networks[network], "flow_label": int(ident), **more}
        values[AT_SADDR], values[AT_DADDR], values[AT_LENGTH] = saddr, daddr, int(length)
        values[AT_PROTOCOL] = 17 if flags is None else 6
        values[AT_SPORT], values[AT_DPORT], values[AT_TCP_FLAGS] = from_, to, flags
        if seq is not None:
            extra["tcp_seq"], extra["tcp_ack"] = int(seq), int(ack)
        if mark is not None:
            values[AT_MARK] = int(mark, 16)
        values[AT_EXTRA] = extra
        return values

    def _is_address(self, text: str) -> bool:
        """Whether text of the pattern is an IPv4 address as records have it; it is remembered."""
        parts = text.split(".")
        if not OCTETS.issuperset(parts) or len(parts) != 4:
            return False
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(text)
        return True
