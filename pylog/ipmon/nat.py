"""A NAT record as a line of ipmon's text.

3.x, 4.x   @RULE NAT:WORD INSIDE <- -> OUTSIDE [PEER]
5.x        @RULE NAT:ACTION-TYPE SOURCE <- -> NEW SOURCE [DESTINATION] PROTOCOL
           @RULE NAT:ACTION-TYPE SOURCE DESTINATION <- -> NEW SOURCE NEW DESTINATION PROTOCOL
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pylog.formats.ipl_names import NAT_KINDS, NL_EXPIRE, NL_FLUSH
from pylog.ipmon.names import Names, protocol
from pylog.ipmon.release import Release

_SIMPLE = tuple(NAT_KINDS)
"""Kinds for which 5.x shows three addresses; for any other number it shows four."""


def line(f: Mapping[str, Any], release: Release, names: Names) -> str:
    """The line after the time, of the fields of the record under their C names."""
    rule = (f["nl_rule"] + 1 + 0x8000) % 0x10000 - 0x8000  # %hd
    return f"@{rule} " + (_line_5 if "nl_action" in f else _line_4)(f, release, names)


def _line_4(f: Mapping[str, Any], release: Release, names: Names) -> str:
    kind = f["nl_type"]
    number = f.get("nl_p", 0)
    name = protocol(number) if number else release.protocol_0
    width = 4 if f.get("nl_v", 4) == 4 else 16
    inside, outside, peer = (
        f"{names.host(f[f'nl_{end}ip'][:width])}"
        f",{names.port(int.from_bytes(f[f'nl_{end}port']), name)}"
        for end in ("in", "out", "orig")
    )
    word = f"NAT:{release.nat[kind]}" if kind in release.nat else f"Type: {kind}"
    shown = f" PR {name}" if release.nat_protocol else ""
    text = f"{word} {inside} <- -> {outside} [{peer}{shown}]"
    return text + (_counters(f) if kind == NL_EXPIRE else "")


def _line_5(f: Mapping[str, Any], release: Release, names: Names) -> str:
    action, kind = f["nl_action"], f["nl_type"]
    protocols, versions = f["nl_p"], f["nl_v"]
    number = protocols[0] if isinstance(protocols, bytes) else protocols
    v = versions[0] if isinstance(versions, bytes) else versions
    name = protocol(number) if number else release.protocol_0
    width = 4 if v == 4 else 16
    osrc, odst, nsrc, ndst = (
        f"{names.host(f[f'nl_{end}ip'][:width])}"
        f",{names.port(int.from_bytes(f[f'nl_{end}port']), name)}"
        for end in ("osrc", "odst", "nsrc", "ndst")
    )
    word = release.nat_actions.get(action, f"Action({action})")
    what = release.nat.get(kind, f"Type({kind})")
    text = f"NAT:{word}-{what} "
    if kind in _SIMPLE:
        text += f"{osrc} <- -> {nsrc} [{odst}]{release.nat_gap}{name}"
    else:
        text += f"{osrc} {odst} <- -> {nsrc} {ndst}{release.nat_gap}{name}"
    return text + (_counters(f) if action in (NL_EXPIRE, NL_FLUSH) else "")


def _counters(f: Mapping[str, Any]) -> str:
    if "nl_pkts" not in f and "nl_pkts.0" not in f:  # 3.1
        return ""
    if "nl_pkts" in f:
        return f" Pkts {signed(f['nl_pkts'])} Bytes {signed(f['nl_bytes'])}"
    packets, octets = ([signed(f[f"nl_{what}.{i}"]) for i in (0, 1)] for what in ("pkts", "bytes"))
    return f" Pkts {packets[0]}/{packets[1]} Bytes {octets[0]}/{octets[1]}"


def signed(counter: int) -> int:
    """A 64-bit counter as %qd prints it."""
    return counter - 2**64 if counter >> 63 else counter
