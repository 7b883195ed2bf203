"""The numbers in pflog's headers and their words, by system.

The systems agree in the first numbers and differ in those that they added later. A number without
a word stays a number.

Source: net/pfvar.h (PF_PASS..., PFRES_NAMES) of OpenBSD, FreeBSD, NetBSD, DragonFly and XNU.
"""

from __future__ import annotations

from pylog.formats.pflog_layouts import OLD, SHORT, Layout

ACTIONS = (
    "pass", "block", "scrub", "noscrub", "nat", "nonat", "binat", "nobinat", "rdr", "nordr",
    "synproxy-drop",
)  # fmt: skip
"""What all systems have from 0 on."""
LATER_ACTIONS: dict[str, tuple[str, ...]] = {
    "openbsd": ("defer", "match", "divert", "rt", "afrt"),
    "freebsd": ("defer", "match"),
    "darwin": ("dummynet", "nodummynet", "nat64", "nonat64"),
}
"""What follows them, by system."""

REASONS = (
    "match", "bad-offset", "fragment", "short", "normalize", "memory", "bad-timestamp",
    "congestion", "ip-option", "proto-cksum", "state-mismatch", "state-insert", "state-limit",
    "src-limit", "synproxy",
)  # fmt: skip
LATER_REASONS: dict[str, tuple[str, ...]] = {
    "openbsd": ("translate", "no-route"),
    "freebsd": ("map-failed",),
    "netbsd": ("state-locked",),
    "darwin": ("dummynet", "invalid-port"),
}
EARLY_REASONS = {OLD: 6, SHORT: 9}
"""How many of the reasons the systems had that wrote short headers."""

DIRECTIONS = {1: "in", 2: "out"}
"""0 is both; see also FORWARD."""
FORWARD = 3
"""PF_FWD of OpenBSD."""
OLD_DIRECTIONS = {0: "in", 1: "out"}
"""The numbers of the oldest headers (pflog-28-old)."""

_SYSTEM = {"": "", "old": "", "npf": "netbsd"}


def _system(layout: Layout) -> str:
    return _SYSTEM.get(layout.system, layout.system)


def actions(layout: Layout) -> tuple[str, ...]:
    """The actions of a layout, by their numbers."""
    return ACTIONS + LATER_ACTIONS.get(_system(layout), ())


def reasons(layout: Layout) -> tuple[str, ...]:
    """The reasons of a layout, by their numbers."""
    if layout.size in EARLY_REASONS:
        return REASONS[: EARLY_REASONS[layout.size]]
    return REASONS + LATER_REASONS.get(_system(layout), ())


def directions(layout: Layout) -> dict[int, str]:
    """The directions of a layout, by their numbers; those without a word are left out."""
    if layout.system == "old":
        return OLD_DIRECTIONS
    return DIRECTIONS | {FORWARD: "forward"} if _system(layout) == "openbsd" else DIRECTIONS


def word(words: tuple[str, ...], number: int) -> str | int:
    """The word for a number, or the number."""
    return words[number] if number < len(words) else number
