"""The differences between the releases of ipmon, as one table of change points.

A row has what a release changed; everything else is as in the row before. So a release between two
rows prints as the older of them. The rows come from the sources of all releases; the programs of
3.4.35, 4.1.0, 4.1.13, 4.1.35, 5.0.3, 5.0.6, 5.1.0 and 5.1.2 were run, and their text compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from pylog.formats import ipl_names
from pylog.formats.ipl_layouts import Layout, named

REASONS: Mapping[int, str] = {
    **{number: word for number, word in ipl_names.REASONS_51.items() if word},
    15: "natv4_out-fail", 16: "natv4_in-fail", 17: "natv6_out-fail", 18: "natv6_in-fail",
}  # fmt: skip
"""The words of ipmon for fl_breason; from 15 on it uses the numbers of 5.1.0."""


def _upper(words: Mapping[int, str], *but: int) -> dict[int, str]:
    """The words in upper case, as ipmon writes them, without those of the numbers in `but`."""
    return {number: word.upper() for number, word in words.items() if number not in but}


_NL_CLONE_4, _NL_DESTROY_4 = 0xFFFD, 0xFFFC
_NAT_34 = _upper(ipl_names.NAT_KINDS | ipl_names.NAT_EVENTS_4, _NL_CLONE_4, _NL_DESTROY_4)
_NAT_41 = _upper(ipl_names.NAT_KINDS | ipl_names.NAT_EVENTS_4, _NL_DESTROY_4)
_NAT_4125 = _upper(ipl_names.NAT_KINDS | ipl_names.NAT_EVENTS_4)
_NAT_51 = _upper(ipl_names.NAT_KINDS_5)
_ACTIONS_51 = _upper(ipl_names.NAT_EVENTS_5)
_STATE_34 = {0: "NEW", 0xFFFF: "EXPIRE", 0xFFFE: "FLUSH", 0xFFFD: "REMOVE"}
_STATE_41 = {**_STATE_34, 1: "CLONED", 0xFFFC: "INTERMEDIATE", 0xFFFB: "KILLED"}

_FR_INOUT = 0xC000
"""FR_INQUE and FR_OUTQUE of 4.1: every rule in a kernel has one of these flags."""

_OLD = " frag {more}{dont}{size}@{offset}"
_NEW = " (frag {id}:{size}@{offset}{more}{dont})"


class Release(NamedTuple):
    """How ipmon prints from one change point on.

    name         the first release that prints so
    layout       the version of the records that it came with, see ipl_layouts
    severity_letter_style   one letter for the action, which S replaces and upper case marks as not
                 logged by the rule; from 4.0 on S comes before it
    logbody      the bit of fl_flags that a rule with `log body` has
    rules_16bit  group and rule as 16-bit numbers, of which -1 is 0
    units        the interface's unit is shown after its name
    four_letters the interface as four letters of its name, and its unit
    prints_as_3_4_0   the text of 3.4.0: numbers for ICMP types, ports of every quoted packet, a
                 blank after the length, no words for ICMPv6; it takes ip_len of a little-endian
                 kernel in the wrong byte order
    quoted       the byte order in which the length in an ICMP error is read: guessed takes network
                 order up to 1500, and the machine's above
    fragments    how a fragment's place is shown, and within an ICMP error
    payload_6    IPv6 lengths are without the header
    walks_ipv6_extensions   IPv6 extension headers are passed over and count as header
    shows_marks  tags and what the filter noticed are shown
    reasons      words for fl_breason
    nat          words for nl_type
    nat_actions  words for nl_action, from 5.0 on
    nat_protocol the peer's protocol is shown, before 5.0
    nat_gap      what comes before the protocol, from 5.0 on
    state        words for isl_type
    established  the number of the TCP state above which an expired state is called closed
    all_ends     states of protocols without ports or types show their addresses too
    directions   counters of each direction
    reports_gaps gaps in the sequence numbers are shown
    networks     names of networks are looked up where a host has none
    """

    name: str = "3.4.0"
    layout: str = "3.4.0"
    severity_letter_style: bool = True
    logbody: int = 0x20
    rules_16bit: bool = True
    units: bool = True
    four_letters: bool = True
    prints_as_3_4_0: bool = True
    quoted: Literal["network", "machine", "guessed"] = "machine"
    fragments: tuple[str, str] = (_OLD, "")
    payload_6: bool = True
    walks_ipv6_extensions: bool = False
    shows_marks: bool = False
    reasons: Mapping[int, str] = {}
    nat: Mapping[int, str] = {1: "MAP", 2: "RDR", 0xFFFF: "EXPIRE"}
    nat_actions: Mapping[int, str] = {}
    nat_protocol: bool = False
    nat_gap: str = ""
    state: Mapping[int, str] = _STATE_34
    established: int = 4
    all_ends: bool = False
    directions: bool = False
    reports_gaps: bool = False
    networks: bool = False
    protocol_0: str = "hopopt"


_CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("3.4.29", {
        "layout": "3.4.35", "logbody": 0x80000, "rules_16bit": False, "prints_as_3_4_0": False,
        "quoted": "network", "fragments": (_OLD, _OLD), "nat": _NAT_34, "protocol_0": "ip",
    }),
    ("3.4.35", {"fragments": (_NEW, _NEW), "payload_6": False}),
    ("4.1.0", {  # which branched off before 3.4.35
        "layout": "4.1.0", "severity_letter_style": False, "logbody": 0x10000,
        "four_letters": False, "quoted": "guessed", "fragments": (_OLD, _OLD), "payload_6": True,
        "shows_marks": True, "nat": _NAT_41, "state": _STATE_41, "established": 5,
        "directions": True,
    }),
    ("4.1.3", {"fragments": (_NEW, _NEW[1:]), "payload_6": False, "all_ends": True}),
    ("4.1.13", {"units": False}),
    ("4.1.16", {"state": {**_STATE_41, 0xFFF9: "UNLOAD"}}),
    ("4.1.20", {"layout": "4.1", "established": 4}),
    ("4.1.25", {"walks_ipv6_extensions": True, "nat": _NAT_4125, "nat_protocol": True}),
    ("5.0.0", {
        "layout": "5.0.0", "nat": {**_NAT_51, 1: "NAT"}, "networks": True,
        "nat_actions": {n: word for n, word in _ACTIONS_51.items() if word != "PURGE"},
    }),
    ("5.0.3", {"layout": "5.0.3"}),
    ("5.0.5", {"layout": "5.0.5"}),
    ("5.0.6", {"layout": "5.0.6", "reports_gaps": True}),
    ("5.1.0", {"layout": "5.1.2", "reasons": REASONS}),
    ("5.1.2", {"nat": _NAT_51, "nat_actions": _ACTIONS_51, "nat_gap": " "}),
)  # fmt: skip
_LAST = {(3, 4): 35, (4, 1): 35, (5, 0): 7, (5, 1): 2}
"""The last release of each series."""


def _releases() -> dict[str, Release]:
    row = Release()
    rows = {row.name: row}
    for name, changes in _CHANGES:
        rows[name] = row = row._replace(name=name, **changes)
    return rows


RELEASES: Final = _releases()
"""The rows by the first release that prints so; the oldest first."""

_ALIKE = {"4.1-illumos": "4.1", "4.1-solaris": "4.1"}
"""Versions whose own ipmon was not compared, and the version as which they are printed."""


def release_of(layout: Layout) -> Release:
    """The newest ipmon that came with a layout; for older layouts that of 3.4.0."""
    version = _ALIKE.get(layout.version.name, layout.version.name)
    rows = [row for row in RELEASES.values() if row.layout == version]
    return rows[-1] if rows else RELEASES["3.4.0"]


def layout_for(release: Release) -> Layout:
    """The layout of the IPFilter that an ipmon came with, without fields that it reads wrongly."""
    return named(
        f"ipl-{release.layout}-lp64be" + ("-nounit" if release.severity_letter_style else "")
    )


def shows_unit(f: Mapping[str, Any]) -> bool:
    """Whether a packet record of 4.1 is from a kernel that keeps an interface's number in fl_unit.

    The name then has no number. Later kernels have it in the name and never set fl_unit. A unit 0
    counts if another field is set that only kernels set: a pointer, or the direction of the rule.
    """
    unit = f.get("fl_unit")
    if unit is None or unit >= 0x8000 or not f["fl_ifname"].split(b"\0", 1)[0].isalpha():
        return False
    return bool(unit or f["ipl_next"] or f["fl_flags"] & _FR_INOUT)


def release_named(name: str) -> Release:
    """How a release prints: "4.1.20", "master", or the version of a layout; ValueError."""
    number = _number(name)
    if number is not None and number[2] <= _LAST.get(number[:2], -1):
        return [row for row in RELEASES.values() if (_number(row.name) or number) <= number][-1]
    try:
        return release_of(named(f"ipl-{name}-lp64le"))
    except ValueError:
        series = "; ".join(
            f"{major}.{minor}.0, ..., {major}.{minor}.{last}"
            for (major, minor), last in _LAST.items()
        )
        raise ValueError(
            f"no ipmon {name!r}; there are {series}; master; and the versions of layouts"
        ) from None


def _number(release: str) -> tuple[int, int, int] | None:
    """The three numbers of a release such as "4.1.20", or None."""
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})", release)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
