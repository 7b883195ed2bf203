"""Lines of ipfw: `ipfw: RULE ACTION PROTOCOL SOURCE DESTINATION in|out via INTERFACE`.

Source: ipfw_log in FreeBSD's ip_fw_log.c.
"""

from __future__ import annotations

import re
from typing import Any

from pylog.formats.ip_numbers import ICMP, ICMPV6, TCP, UDP, UDPLITE
from pylog.formats.textlog_fields import canonical, hexadecimal, no_values, number, port, utf8
from pylog.record import Fragment
from pylog.record.places import (
    AT_ACTION,
    AT_DADDR,
    AT_DIRECTION,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_FRAGMENT,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_INDEV,
    AT_OUTDEV,
    AT_PROTOCOL,
    AT_RULE,
    AT_SADDR,
    AT_SOURCE,
    AT_SPORT,
    Values,
)

SOURCE = "ipfw"

_LINE = re.compile(
    r"(?:ipfw: )?(-1|\d{1,10}) "
    r"(Deny|Accept|Reject|Reset|Count|Nat|Reass|Return|UNKNOWN|Refuse|Check-state|Abort"
    r"|(?:Unreach|Divert|Tee|SetFib|SetDscp|SkipTo|Pipe|Queue|Netgraph|Ngtee|Call|Altq) [\w-]+"
    r"|Eaction \S+|Forward to (?:\[[^\]]*\]|[^ :]+)(?::\d+)?) "
    r"(MAC|TCP|UDP(?:Lite)?|ICMPv6(?::\d+\.\d+)?|ICMP(?::\d+\.\d+)?|P:\d{1,3})"
    r"(?: (\S+) (\S+))??"
    r" (?:(in|out) via (\S+)|\[no if info\])"
    r"(?: \(frag ([0-9a-f]{1,8}):(-?\d+)@(\d+)(\+?)\))?\s*$"
)
_END = re.compile(r"(?:\[([0-9A-Fa-f:.]+)(?:%\w+)?\]|([0-9.]+))(?::(\d+))?$")
ACTIONS = {
    "Accept": "pass", "Deny": "block", "Reject": "block", "Reset": "block", "Unreach": "block",
    "Refuse": "block", "Abort": "block",
}  # fmt: skip
"""What becomes of a packet; other actions are their words in lower case."""
_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "UDPLite": UDPLITE, "ICMP": ICMP, "ICMPv6": ICMPV6}


def read(message: str) -> Values | None:
    """The values of a line's record; None if it is no packet that ipfw logged."""
    match = _LINE.match(message)
    if match is None:
        return None
    rule, action, what, source, destination, way, device, ident, size, offset, more = match.groups()
    values = no_values()
    extra: dict[str, Any] = {}
    values[AT_SOURCE] = SOURCE
    word = action.partition(" ")[0]
    values[AT_ACTION] = ACTIONS.get(word, word.lower())
    if word not in ("Accept", "Deny"):
        extra["action"] = utf8(action)
    if rule != "-1":
        values[AT_RULE] = number(rule)
    if way:
        values[AT_DIRECTION] = way
        values[AT_INDEV if way == "in" else AT_OUTDEV] = utf8(device)
    if what != "MAC":
        if source is None:
            return None
        _put_protocol(values, what)
        for text, at, at_port in (
            (source, AT_SADDR, AT_SPORT), (destination, AT_DADDR, AT_DPORT)
        ):  # fmt: skip
            end = _END.match(text)
            if end is None:
                return None
            values[at] = canonical[end[1] or end[2]]
            values[AT_FAMILY] = "ipv6" if end[1] else "ipv4"
            values[at_port] = port(end[3] or "")
    if ident is not None:
        six = values[AT_FAMILY] == "ipv6"
        value = hexadecimal(ident) if six else number(ident)
        values[AT_FRAGMENT] = Fragment(value, number(offset), bool(more))
        _put_size(extra, number(size))
    values[AT_EXTRA] = extra or None
    return values


def _put_size(extra: dict[str, Any], size: int | None) -> None:
    """The bytes of a fragment without its IP header, whose size no line says."""
    if size is not None:
        extra["fragment_length"] = size


def _put_protocol(values: Values, what: str) -> None:
    """Put the protocol, and the type and code of ICMP."""
    name, _, kind = what.partition(":")
    values[AT_PROTOCOL] = number(kind, 255) if name == "P" else _PROTOCOLS[name]
    if name in ("ICMP", "ICMPv6") and kind:
        first, _, second = kind.partition(".")
        values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = number(first, 255), number(second, 255)
