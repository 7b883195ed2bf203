"""The options of the source nfct, and what they select."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pylog.backends.netlink_socket import MAXIMUM_BUFFER, NETNS, RCVBUF, RCVBUF_MAX
from pylog.formats.nfct_scope import FlowScope, MaskedMark
from pylog.options import LIVE_TUNING, Option

GROUPS = {"new": (1,), "update": (2,), "destroy": (3,), "expect": (4, 6), "quota": (8,)}
"""The multicast groups of each kind of event: NFNLGRP_CONNTRACK_*, and NFNLGRP_ACCT_QUOTA."""
FAMILIES = {"ipv4": 2, "ipv6": 10}
"""nfgen_family by name."""

OPTIONS = (
    NETNS,
    Option("all_netns", bool, False, "the flows of all network namespaces that have a number"
           " (nsid) in this one, each with its `netns`"),
    # the events of a burst wait here while a listing is decoded
    RCVBUF._replace(default=MAXIMUM_BUFFER),
    RCVBUF_MAX,
    Option("events", str, "new,update,destroy", "which events: a list of new, update, destroy,"
           " expect (expected flows) and quota (quotas of nfacct objects that are passed)",
           metavar="NAMES"),
    Option("families", str, None, "only changes and traces of these families: a list of inet, ip,"
           " ip6, arp, bridge, netdev; with nfct: only flows of ipv4 or ipv6", absent="all"),
    Option("zones", str, None, "only flows in these conntrack zones: a list of numbers",
           absent="all", metavar="NUMBERS"),
    Option("marks", str, None, "only flows with one of these marks: a list of VALUE or VALUE/MASK,"
           " such as 0x10/0xff", absent="all", metavar="MARKS"),
    Option("snapshot", bool, True, "begin with a listing of what is there, the ruleset or the"
           " flows, and list it again to notice what no event announces"),
    Option("poll_s", float, 0.0, "seconds after which the flows are listed again for their"
           " counters, which are not set to zero; 0: only after losses", 0, 86400, "--poll"),
    Option("reliable", bool, False, "let the kernel send the end of a flow again until it was"
           " received; other listeners then get repeats, and flows that wait for it count against"
           " nf_conntrack_max, so a reader that hangs can make the kernel drop new flows",
           topic=LIVE_TUNING),
)  # fmt: skip


def _list(options: Mapping[str, Any], option: str) -> list[str] | None:
    """The words of an option that is a list; ValueError for an empty one."""
    if options[option] is None:
        return None
    words = [word.strip() for word in str(options[option]).split(",") if word.strip()]
    if not words:
        raise ValueError(f"{option}: the list is empty")
    return words


def names(options: Mapping[str, Any], option: str, allowed: Mapping[str, Any]) -> list[str] | None:
    words = _list(options, option)
    for word in words or ():
        if word not in allowed:
            raise ValueError(f"{option}: {word!r} is none of {', '.join(allowed)}")
    return words


def _number(option: str, text: str, most: int) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (number := int(text, 0)) <= most:
            return number
    raise ValueError(f"{option}: {text!r} is no number from 0 to {most}")


def scope_of(options: Mapping[str, Any]) -> FlowScope:
    """What the options select; ValueError."""
    families = names(options, "families", FAMILIES)
    zones = _list(options, "zones")
    marks = None
    for text in _list(options, "marks") or ():
        value, slash, mask = text.partition("/")
        mark = MaskedMark(_number("marks", value, 0xFFFFFFFF))
        if slash:
            mark = mark._replace(mask=_number("marks", mask, 0xFFFFFFFF))
        if mark.value & ~mark.mask:
            raise ValueError(f"marks: {text}: the value has bits that the mask has not")
        marks = [*(marks or ()), mark]
    numbers = None if zones is None else [_number("zones", text, 0xFFFF) for text in zones]
    return FlowScope(families, numbers, marks)
