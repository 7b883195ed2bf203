"""What the releases of ipmon print differently: one row of facts for each.

Dumps and texts of ipmon 3.4.0, 3.4.29, 3.4.35, 4.1.0, 4.1.13, 4.1.35, 5.0.3, 5.0.6, 5.1.0, 5.1.2
and of its later master branch were compared; a release between two is as the older of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pylog.formats import ipl_names
from pylog.formats.ipl_layouts import Layout, named

REASONS: Mapping[int, str] = {
    **{number: word for number, word in ipl_names.REASONS_51.items() if word},
    15: "natv4_out-fail", 16: "natv4_in-fail", 17: "natv6_out-fail", 18: "natv6_in-fail",
}  # fmt: skip
"""fl_breason in ipmon's words, which from 15 on are those of 5.1.0's numbers."""

_NAT_KINDS = {1: "MAP", 2: "RDR", 3: "BIMAP", 4: "MAPBLOCK"}
_NAT_3 = {1: "MAP", 2: "RDR", 0xFFFF: "EXPIRE"}
_NAT_34 = {**_NAT_KINDS, 0xFFFF: "EXPIRE", 0xFFFE: "FLUSH"}
_NAT_4 = {**_NAT_34, 0xFFFD: "CLONE", 0xFFFC: "DESTROY"}
_NAT_51 = {number: word.upper() for number, word in ipl_names.NAT_KINDS_5.items()}
_NAT_50 = {**_NAT_51, 1: "NAT"}
_STATE_3 = {0: "NEW", 0xFFFF: "EXPIRE", 0xFFFE: "FLUSH", 0xFFFD: "REMOVE"}
_STATE_4 = {
    **_STATE_3, 1: "CLONED", 0xFFFC: "INTERMEDIATE", 0xFFFB: "KILLED", 0xFFF9: "UNLOAD",
}  # fmt: skip


class Edition(NamedTuple):
    """How one release of ipmon prints.

    letters_3    one letter for the action, which S replaces and upper case marks as not logged by
                 the rule; from 4.0 on S comes before it
    logbody      the bit of fl_flags that a rule with `log body` has
    rules_16     group and rule as 16-bit numbers, of which -1 is 0
    units        the interface's unit is shown after its name
    four_letters the interface as four letters of its name, and its unit
    early        the text of 3.4.0: numbers for ICMP types, ports of every quoted packet, a blank
                 after the length, no words for ICMPv6; it takes ip_len of a little-endian kernel
                 in the wrong byte order
    fragments    how a fragment's place is told, and within an ICMP error
    payload_6    IPv6 lengths are without the header
    walks        IPv6 extension headers are passed over and count as header
    marks        tags and what the filter found are shown
    reasons      words for fl_breason
    nat          words for nl_type
    nat_protocol the peer's protocol is shown, before 5.0
    nat_gap      what comes before the protocol, from 5.0 on
    state        words for isl_type
    directions   counters of each direction
    missed       gaps in the sequence numbers are told
    networks     names of networks are looked up where a host has none
    """

    release: str
    letters_3: bool
    logbody: int
    rules_16: bool
    units: bool
    four_letters: bool
    early: bool
    fragments: tuple[str, str]
    payload_6: bool
    walks: bool
    marks: bool
    reasons: Mapping[int, str]
    nat: Mapping[int, str]
    nat_protocol: bool
    nat_gap: str
    state: Mapping[int, str]
    directions: bool
    missed: bool
    networks: bool
    protocol_0: str = "ip"


_OLD = " frag {mark}{size}@{offset}"
_NEW = " (frag {id}:{size}@{offset}{more}{dont})"
_340 = Edition(
    "3.4.0", letters_3=True, logbody=0x20, rules_16=True, units=True, four_letters=True, early=True,
    fragments=(_OLD, ""), payload_6=True, walks=False, marks=False, reasons={}, nat=_NAT_3,
    nat_protocol=False, nat_gap="", state=_STATE_3, directions=False, missed=False, networks=False,
    protocol_0="hopopt",
)  # fmt: skip
_3429 = _340._replace(
    release="3.4.29", logbody=0x80000, rules_16=False, early=False, fragments=(_OLD, _OLD),
    nat=_NAT_34, protocol_0="ip",
)  # fmt: skip
_3435 = _3429._replace(release="3.4.35", fragments=(_NEW, _NEW))
_410 = _3429._replace(
    release="4.1.0", letters_3=False, logbody=0x10000, four_letters=False, marks=True, nat=_NAT_4,
    state=_STATE_4, directions=True,
)  # fmt: skip
_4113 = _410._replace(release="4.1.13", units=False, fragments=(_NEW, _NEW[1:]), payload_6=False)
_4135 = _4113._replace(release="4.1.35", walks=True, nat_protocol=True)
_503 = _4135._replace(release="5.0.3", nat=_NAT_50, networks=True)
_506 = _503._replace(release="5.0.6", missed=True)
_510 = _506._replace(release="5.1.0", reasons=REASONS)
_512 = _510._replace(release="5.1.2", nat=_NAT_51, nat_gap=" ")

EDITIONS = {
    row.release: row for row in (_340, _3429, _3435, _410, _4113, _4135, _503, _506, _510, _512)
}

_OF_VERSION = {
    "5.1.2": _512, "5.0.6": _506, "5.0.5": _503, "5.0.3": _503, "5.0.0": _503, "4.1": _4135,
    "4.1-illumos": _4135, "4.1-solaris": _4135, "3.4.35": _3435,
}  # fmt: skip


def edition_of(layout: Layout) -> Edition:
    """The newest release of ipmon that came with a layout; 3.4.0 for all that are older."""
    return _OF_VERSION.get(layout.version.name, _340)


def layout_for(edition: Edition) -> Layout:
    """The layout of the IPFilter that an ipmon came with, without what ipmon reads wrongly."""
    release = "3.4.35" if edition.release == "3.4.29" else edition.release
    return named(f"ipl-{release}-lp64be" + ("-nounit" if edition.letters_3 else ""))


def is_410(layout: Layout, ifname: bytes, unit: int | None) -> bool:
    """Whether a packet record is of 4.1.0's time: then the name of an interface lacks its number.

    From 4.1.13 on it has it, and fl_unit is never set.
    """
    name = ifname.split(b"\0", 1)[0]
    return layout.version.name == "4.1" and unit is not None and unit < 0x8000 and name.isalpha()


def edition(release: str) -> Edition:
    """The row of a release, "4.1.0" or "master"; ValueError with those that there are."""
    if release in EDITIONS:
        return EDITIONS[release]
    try:
        return edition_of(named(f"ipl-{release}-lp64le"))
    except ValueError:
        raise ValueError(
            f"no ipmon {release!r}; there are {', '.join(EDITIONS)} and the versions of layouts"
        ) from None
