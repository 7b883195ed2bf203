"""Which headers a rule of nftables speaks of, and which of its matches go without saying.

nft adds a match of the protocol before a match in its header: `tcp dport 22` becomes two. When it
lists a rule it leaves those out again, under conditions that depend on the family and on what
stands between. Context keeps what nft keeps for this: the header at each base, and the match that
is a dependency of a base.

Source: the behaviour of nft 1.1.3, compared rule by rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pylog.formats.nft_headers import (
    HEADERS,
    L4PROTO,
    LINK,
    NETWORK,
    START,
    TRANSPORT,
    UPPER,
    Header,
)
from pylog.formats.nft_types import Unclear
from pylog.formats.nft_values import Constant, Loaded, Payload

_LEVELS = {LINK: 1, NETWORK: 2, TRANSPORT: 3, "inner": 4}
_MIXED = ("inet", "bridge", "netdev")
"""Families whose packets are of several network protocols."""
_META_LEVELS = {"nfproto": 1, "protocol": 1, "l4proto": 2}
_CT_LEVELS = {"l3proto": 1, "protocol": 2, "src_ip": 2, "dst_ip": 2, "src_ip6": 2, "dst_ip6": 2}
_PROTOCOL_KEYS = {("meta", "iiftype"), ("meta", "nfproto"), ("meta", "protocol"),
                  ("meta", "l4proto"), ("ct", "l3proto"), ("ct", "protocol")}  # fmt: skip
_VLAN = 0x8100
_ECHO, _ECHO6, _ECHO_REPLY6 = 8, 128, 129


@dataclass(slots=True, eq=False)
class Match:
    """A comparison: of `left` with bytes, a range of bytes or a set.

    text      when it is clear; "" when the match goes without saying
    source    the name of the expression that loads `left`, for a match that stays unclear
    """

    op: str
    left: Any
    right: Any
    source: str = ""
    text: str | None = None


class Context:
    """The headers and dependencies up to a statement of a rule."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.headers: dict[str, str] = {}
        self._dependencies: dict[int, Match] = {}
        self._stacked: list[Header] = []
        self._icmp_type: int | None = None
        self._stored_icmp_type: int | None = None
        base, name = START.get(family, (LINK, ""))
        self.headers[base] = name

    # Headers

    def header(self, payload: Payload) -> tuple[Header | None, int]:
        """The header that a payload's base has now, and how many bits precede it at that base."""
        header = HEADERS.get(self.headers.get(payload.base, ""))
        if header is None or payload.base != LINK or not self._stacked:
            return header, 0
        below = sum(stacked.bits for stacked in self._stacked)
        if payload.offset < below:
            raise Unclear  # nft does not tell the headers apart well
        return header, below

    def _fits_icmp(self, icmp_type: int | None) -> bool:
        if icmp_type is None or self._icmp_type is None:
            return True
        return icmp_type == self._icmp_type

    def complete(self, payload: Payload) -> None:
        """Finds the field that the payload is, if it is exactly one."""
        if payload.field is not None:
            return
        if payload.base == TRANSPORT and self.headers.get(TRANSPORT) == "?":
            raise Unclear
        header, below = self.header(payload)
        candidates = [header] if header is not None else []
        if payload.base == TRANSPORT:
            candidates.append(HEADERS["th"])
        for header in candidates:
            for field in header.fields:
                place = payload.offset - below, payload.bits
                if (field.offset, field.bits) == place and self._fits_icmp(field.icmp_type):
                    payload.header, payload.field = header, field
                    return

    def split(self, payload: Payload) -> list[Payload]:
        """The fields that adjacent bits consist of; the last may be the beginning of one."""
        header, below = self.header(payload)
        if header is None:
            self.complete(payload)
            return [payload]
        parts = []
        if payload.base == TRANSPORT and self.headers.get(TRANSPORT) == "?":
            raise Unclear
        offset, left = payload.offset, payload.bits
        for field in header.fields:
            if field.offset != offset - below or not self._fits_icmp(field.icmp_type):
                continue
            size = min(field.bits, left)
            parts.append(Payload(payload.base, offset, size, header, field))
            offset, left = offset + size, left - size
            if not left:
                return parts
        rest = Payload(payload.base, offset, left)
        if not parts:
            self.complete(rest)
        return [*parts, rest]

    def trim(self, payload: Payload, mask: int) -> int | None:
        """Narrows a payload to the fields that a mask selects; the shift of values, or None."""
        if not mask:
            return None
        header, below = self.header(payload)
        if header is None:
            return None
        lowest = (mask & -mask).bit_length() - 1
        highest = lowest
        while mask >> highest & 1:
            highest += 1
        start = payload.offset + payload.bits - highest
        offset, left, size = start, payload.bits, 0
        for field in header.fields:
            if field.offset != offset - below:
                continue
            if field.bits > left:
                return None
            left, offset, size = left - field.bits, offset + field.bits, size + field.bits
            if not left:
                return None
            if lowest + size == highest:
                if mask >> highest:
                    raise Unclear  # a mask with gaps
                payload.offset, payload.bits = start, size
                payload.header = payload.field = None
                return lowest
        return None

    def learn(self, match: Match, value: int) -> None:
        """Notes the header that a match of a key implies."""
        left = match.left
        if isinstance(left, Payload):
            assert left.header is not None
            name = UPPER.get(left.header.name, {}).get(value)
            if name is not None:
                upper = HEADERS[name]
                if upper.base == left.base:
                    self._stacked.append(left.header)
                self.headers[upper.base] = name
            elif left.header.name in ("icmp", "icmpv6"):
                self._icmp_type = value or _ECHO
        elif isinstance(left, Loaded) and left.source == "meta":
            self._learn_meta(left.key, value)
        elif isinstance(left, Loaded) and (left.source, left.key) == ("ct", "l3proto"):
            if self.family == "inet":
                self.headers[NETWORK] = UPPER["inet"].get(value, "unknown")
        elif isinstance(left, Loaded) and (left.source, left.key) == ("ct", "protocol"):
            name = L4PROTO.get(value)
            if self.headers.get(NETWORK) and name is not None:
                self.headers[TRANSPORT] = name

    def stacks(self, match: Match) -> bool:
        """Whether the match of a key names another header at the same base."""
        left = match.left
        header = HEADERS.get(self.headers.get(left.base, ""))
        if header is None or not isinstance(match.right, Constant):
            return False
        name = UPPER.get(header.name, {}).get(int.from_bytes(match.right.data, "big"))
        return name is not None and HEADERS[name].base == header.base

    def note_icmp(self, icmp_type: int | None) -> None:
        """A set of ICMP types was matched; its first element is this."""
        if icmp_type and self._icmp_type is None:
            self._icmp_type = icmp_type

    def _learn_meta(self, key: str, value: int) -> None:
        if key == "iiftype":
            self.headers[LINK] = "ether" if value == 1 else "unknown"
        elif key == "nfproto":
            start = START.get(self.family, (LINK, ""))[1]
            name = {2: "ip", 10: "ip6"}.get(value, "unknown")
            if name != start:
                self.headers[NETWORK] = name if self.family == "inet" else "unknown"
        elif key == "l4proto":
            self.headers[TRANSPORT] = L4PROTO.get(value, "unknown")
        elif key == "protocol" and self.family in ("netdev", "bridge"):
            name = UPPER["ether"].get(value, "unknown")
            if name == "vlan":
                raise Unclear
            self.headers[NETWORK] = name

    # Dependencies

    def dependency(self, level: int) -> Match | None:
        """The match that may go without saying because of something at this level."""
        match = self._dependencies.get(level)
        return self._dependencies.get(4) if match is None and level == 3 else match

    def release(self, level: int) -> None:
        """Leaves the dependency out of the text."""
        for at in (level, 4) if level == 3 else (level,):
            match = self._dependencies.pop(at, None)
            if match is not None:
                match.text = ""
                return

    def reset(self) -> None:
        """A statement with an effect stands between: matches before it must stay."""
        self._dependencies.clear()

    def store(self, match: Match, level: int, value: int) -> None:
        """Notes that the match is a dependency of the level above its own."""
        if isinstance(match.left, Payload) and match.left.header is not None:
            name = match.left.header.name
            if name == "icmp":
                self._stored_icmp_type = value or _ECHO
                if self._stored_icmp_type == _ECHO:
                    return
            elif name == "icmpv6":
                self._stored_icmp_type = value
                if value in (_ECHO6, _ECHO_REPLY6):
                    return
        self._dependencies[level + 1] = match

    def kill(self, payload: Payload) -> None:
        """Leaves out the dependency that a match of this payload implies."""
        level = _LEVELS.get(payload.base, 4)
        match = self.dependency(level)
        if match is not None and payload.header is not None and self._implied(match, payload):
            self.release(level)

    def _implied(self, match: Match, payload: Payload) -> bool:
        left = match.left
        if self.family in _MIXED and isinstance(left, Payload) and left.header is not None:
            if left.header.name in ("ip", "ip6") and payload.base == TRANSPORT:
                return False
            if match.op == "eq" and payload.base == left.base:
                if payload.is_key:
                    return False
                if payload.base == LINK:
                    return self._implied_link(match)
        if payload.base != TRANSPORT:
            return True
        if payload.header is not None and payload.header.name == "th":
            payload.header = payload.field = None
            return False
        if not isinstance(left, Payload) or left.base != TRANSPORT or left.header is None:
            return True
        if left.header.name in ("icmp", "icmpv6"):
            needed = payload.field.icmp_type if payload.field is not None else None
            return (
                needed is not None
                and left.header is payload.header
                and needed == self._stored_icmp_type
            )
        return True

    @staticmethod
    def _implied_link(match: Match) -> bool:
        assert match.left.header is not None
        if match.left.header.name == "vlan":
            return False
        if match.left.header.name == "ether" and isinstance(match.right, Constant):
            return int.from_bytes(match.right.data, "big") == _VLAN
        return True

    def compare_key(self, match: Match, value: int) -> None:
        """A match of a key of meta or ct with a value."""
        left = match.left
        is_protocol = (left.source, left.key) in _PROTOCOL_KEYS
        if is_protocol:
            self.learn(match, value)
        levels = {"meta": _META_LEVELS, "ct": _CT_LEVELS}.get(left.source, {})
        level = levels.get(left.key, 0)
        if level >= 3:
            return
        if self.dependency(level) is not None and self._key_implies(left, value):
            self.release(level)
        if is_protocol:
            self.store(match, level, value)

    def _key_implies(self, key: Loaded, value: int) -> bool:
        """Whether a match of this key says what the dependency of the network header does."""
        match = self.dependency(2)
        if match is None:
            return True
        left = match.left
        source = (left.source, left.key) if isinstance(left, Loaded) else ("", "")
        if source == ("meta", "nfproto"):
            protocol = {2: "ip", 10: "ip6"}.get(match.right.data[0])
        elif source == ("meta", "protocol") or (
            isinstance(left, Payload) and left.base == LINK and left.is_key
        ):
            protocol = {0x0800: "ip", 0x86DD: "ip6"}.get(int.from_bytes(match.right.data, "big"))
        else:
            return True
        if self.family not in _MIXED:
            return protocol == self.family
        if key.source == "meta":
            if key.key != "l4proto":
                return True
            return protocol == {1: "ip", 58: "ip6"}.get(value, "")
        return protocol == {"src_ip": "ip", "dst_ip": "ip", "src_ip6": "ip6",
                            "dst_ip6": "ip6"}.get(key.key)  # fmt: skip

    # Other statements

    def extension(self, kind: str) -> None:
        """A match of an extension header or option implies its protocol."""
        level = {"tcp_option": 3, "ipv6": 2, "ip_option": 2}.get(kind)
        if level is not None and self.dependency(level) is not None:
            self.release(level)

    def reject(self, kind: str) -> str | None:
        """A reject statement: leaves out what it implies; the network protocol it speaks of."""
        if self.family in ("ip", "ip6"):
            if kind == "tcp_reset" and self.dependency(3) is not None:
                self.release(3)
            return self.family
        if self.family not in _MIXED or kind == "icmpx":
            return None
        name = self.headers.get(NETWORK)
        if self.dependency(2) is not None:
            self.release(2)
        return name if name in ("ip", "ip6") else None
