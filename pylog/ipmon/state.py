"""A state record as a line of ipmon's text.

STATE:WORD SOURCE -> DESTINATION PR PROTOCOL COUNTERS

The word is the type of the record, or CLOSE for an established TCP connection that expired. A new
state has no counters yet. Releases differ in words and in TCP states; `release.py` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec.structs import replace

from pylog.formats.ip_numbers import ICMP, ICMPV6, TCP, UDP
from pylog.formats.ipl_layouts import named
from pylog.formats.ipl_names import ISL_EXPIRE, ISL_NEW, TCP_STATES_4, TCP_STATES_41
from pylog.ipmon.names import Names, protocol
from pylog.ipmon.nat import signed
from pylog.ipmon.release import Release
from pylog.record import FlowRecord, Record


def line(
    f: Mapping[str, Any], order: Literal["little", "big"], release: Release, names: Names
) -> str:
    """The line after the time, of the fields of the record under their C names.

    order   the byte order of the machine that wrote the record, and so of ICMP types in isl_ps
    """
    kind = f["isl_type"]
    word = f"STATE:{release.state[kind]}" if kind in release.state else f"Type: {kind}"
    state = max(f.get("isl_state", b"\0"))
    if kind == ISL_EXPIRE and f["isl_p"] == TCP and state > release.established:
        word = "STATE:CLOSE"
    text = f"{word} {_ends(f, order, release, names)}"
    if f.get("isl_tag"):
        text += f" tag {f['isl_tag']}"
    return text + ("" if kind == ISL_NEW else _counters(f))


def _ends(
    f: Mapping[str, Any], order: Literal["little", "big"], release: Release, names: Names
) -> str:
    number, ps = f["isl_p"], f["isl_ps"]
    name = protocol(number) if number else release.protocol_0
    width = 4 if f.get("isl_v", 4) == 4 else 16
    source, destination = (names.host(f[end][:width]) for end in ("isl_src", "isl_dst"))
    if number in (TCP, UDP):
        sport, dport = (names.port(int.from_bytes(p), name) for p in (ps[:2], ps[2:]))
        return f"{source},{sport} -> {destination},{dport} PR {name}"
    if number in (ICMP, ICMPV6):
        word = "icmp" if number == ICMP else "icmpv6"
        return f"{source} -> {destination} PR {word} {int.from_bytes(ps[:2], order)}"
    return f"{source} -> {destination} PR {name}" if release.all_ends else ""


_WAYS = (("Forward", 0, 1), ("Backward", 2, 3))


def _counters(f: Mapping[str, Any]) -> str:
    if "isl_pkts" in f:
        return f" Pkts {signed(f['isl_pkts'])} Bytes {signed(f['isl_bytes'])}"
    text = ""
    for way, into, out in _WAYS:
        p, b = ([signed(f[f"isl_{what}.{i}"]) for i in (into, out)] for what in ("pkts", "bytes"))
        text += f" {way}: Pkts in {p[0]} Bytes in {b[0]} Pkts out {p[1]} Bytes out {b[1]}"
    return text


_RENAMED = dict(zip(TCP_STATES_4, TCP_STATES_41, strict=True))


def as_of(record: Record, release: Release) -> Record:
    """The record with its TCP states named as in the release that wrote it.

    Only state records of layout 4.1 change, whose bytes do not show the release: for a release from
    4.1.0 to 4.1.19 the layout becomes 4.1.0.
    """
    extra = (record.extra if isinstance(record, FlowRecord) else None) or {}
    if "isl_state" not in extra or release.layout != "4.1.0":
        return record
    layout = named(record.layout)
    if layout.version.name != "4.1":
        return record
    extra = extra | {"isl_state": [_RENAMED.get(state, state) for state in extra["isl_state"]]}
    return replace(record, layout=named(f"ipl-4.1.0-{layout.abi.name}").name, extra=extra)
