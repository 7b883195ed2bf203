"""Names of the numbers in IPFilter's log records, by version.

Nothing without a name is lost: a flag word becomes the names of its bits and a number with the
remaining bits, and an event or reason without a name stays a number. Sources: ip_fil.h, ip_nat.h,
ip_state.h and ipl.h of the versions named, and ipmon.c for the words that people see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from pylog.formats.ipl_layouts import Version

NONE32 = 0xFFFFFFFF
"""None in fields of 32 bits: no rule, no group, no unit."""

FAMILIES = {2: "ipv4", **dict.fromkeys((10, 24, 26, 28, 30), "ipv6")}
"""fl_family: AF_INET is the same everywhere; AF_INET6 is that of Linux, of NetBSD and OpenBSD, of
illumos, of FreeBSD, or of Darwin."""

# fl_flags of 3.4.29 and later 3.x

_FLAGS_3429 = {
    0x1: "FR_BLOCK", 0x2: "FR_PASS", 0x4: "FR_OUTQUE", 0x8: "FR_INQUE", 0x10: "FR_LOG",
    0x20: "FR_NOTSRCIP", 0x40: "FR_NOTDSTIP", 0x80: "FR_RETRST", 0x100: "FR_RETICMP",
    0x200: "FR_NOMATCH", 0x400: "FR_ACCOUNT", 0x800: "FR_KEEPFRAG", 0x1000: "FR_KEEPSTATE",
    0x2000: "FR_INACTIVE", 0x4000: "FR_QUICK", 0x8000: "FR_FASTROUTE", 0x10000: "FR_CALLNOW",
    0x20000: "FR_DUP", 0x40000: "FR_LOGORBLOCK", 0x80000: "FR_LOGBODY", 0x100000: "FR_LOGFIRST",
    0x200000: "FR_AUTH", 0x400000: "FR_PREAUTH", 0x800000: "FR_DONTCACHE",
    0x1000000: "FF_OPTIONS", 0x2000000: "FF_TCPUDP", 0x4000000: "FF_FRAG", 0x8000000: "FF_SHORT",
    0x10000000: "FF_LOGPASS", 0x20000000: "FF_LOGBLOCK", 0x40000000: "FF_LOGNOMATCH",
    0x80000000: "FF_BLOCKNONIP",
}  # fmt: skip

# 3.4.0 and older: four bits have other meanings

_FLAGS_3 = _FLAGS_3429 | {
    0x20: "FR_LOGBODY", 0x40: "FR_LOGFIRST", 0x80000: "FR_NOTSRCIP", 0x100000: "FR_NOTDSTIP",
}  # fmt: skip

# 4.x and 5.x: the low four bits are a command (see _COMMANDS), the rest flags

_FLAGS_4 = {
    0x10: "FR_LOG", 0x20: "FR_CALLNOW", 0x40: "FR_NOTSRCIP", 0x80: "FR_NOTDSTIP",
    0x100: "FR_QUICK", 0x200: "FR_KEEPFRAG", 0x400: "FR_KEEPSTATE", 0x800: "FR_FASTROUTE",
    0x1000: "FR_RETRST", 0x2000: "FR_RETICMP", 0x4000: "FR_OUTQUE", 0x8000: "FR_INQUE",
    0x10000: "FR_LOGBODY", 0x20000: "FR_LOGFIRST", 0x40000: "FR_LOGORBLOCK", 0x80000: "FR_DUP",
    0x100000: "FR_FRSTRICT", 0x200000: "FR_STSTRICT", 0x400000: "FR_NEWISN",
    0x800000: "FR_NOICMPERR", 0x1000000: "FR_STATESYNC", 0x8000000: "FR_NOMATCH",
    0x10000000: "FF_LOGPASS", 0x20000000: "FF_LOGBLOCK", 0x40000000: "FF_LOGNOMATCH",
    0x80000000: "FF_BLOCKNONIP",
}  # fmt: skip
_FLAGS_5 = _FLAGS_4 | {0x80000: "FR_STLOOSE", 0x2000000: "FR_COPIED", 0x4000000: "FR_INACTIVE"}

_COMMANDS_4 = ("FR_CALL", "FR_BLOCK", "FR_PASS", "FR_AUTH", "FR_PREAUTH", "FR_ACCOUNT", "FR_SKIP",
               "FR_DIVERT")  # fmt: skip
_COMMANDS_5 = ("", "FR_BLOCK", "FR_PASS", "FR_AUTH", "FR_PREAUTH", "FR_ACCOUNT", "FR_SKIP", "",
               "FR_DECAPSULATE", "FR_CALL")  # fmt: skip

# fl_lflags: the FI_* bits of what the filter found

_LFLAGS_3 = {0x1: "FI_OPTIONS", 0x2: "FI_TCPUDP", 0x4: "FI_FRAG", 0x8: "FI_SHORT"}
_LFLAGS_4 = {
    0x1: "FI_TCPUDP", 0x2: "FI_OPTIONS", 0x4: "FI_FRAG", 0x8: "FI_SHORT", 0x10: "FI_NATED",
    0x20: "FI_MULTICAST", 0x40: "FI_BROADCAST", 0x80: "FI_MBCAST", 0x100: "FI_STATE",
    0x200: "FI_BADNAT", 0x400: "FI_BAD", 0x800: "FI_OOW", 0x1000: "FI_ICMPERR",
    0x2000: "FI_FRAGBODY", 0x4000: "FI_BADSRC", 0x8000: "FI_LOWTTL", 0x10000: "FI_V6EXTHDR",
    0x20000: "FI_COALESCE", 0x40000: "FI_NEWNAT", 0x80000: "FI_MOREFRAG",
    0x20000000: "FI_NOCKSUM", 0x40000000: "FI_DONTCACHE", 0x80000000: "FI_IGNORE",
}  # fmt: skip
_LFLAGS_5 = _LFLAGS_4 | {
    0x80000: "FI_ICMPQUERY", 0x100000: "FI_ENCAP", 0x200000: "FI_AH", 0x10000000: "FI_DOCKSUM",
    0x40000000: "FI_NOWILD",
}  # fmt: skip
_LFLAGS_ILLUMOS = _LFLAGS_4 | {
    0x40000: "FI_ICMPQUERY", 0x80000: "FI_NEWNAT", 0x100000: "FI_MOREFRAG",
    0x10000000: "FI_NEG_OOW",
}  # fmt: skip


@cache
def _bits(table_id: str) -> tuple[dict[int, str], tuple[str, ...]]:
    """The flag names and the commands of a structure generation."""
    return {
        "flags 3": (_FLAGS_3, ()), "flags 3.4.29": (_FLAGS_3429, ()),
        "flags 4": (_FLAGS_4, _COMMANDS_4), "flags 5": (_FLAGS_5, _COMMANDS_5),
        "lflags 3": (_LFLAGS_3, ()), "lflags 4": (_LFLAGS_4, ()), "lflags 5": (_LFLAGS_5, ()),
        "lflags illumos": (_LFLAGS_ILLUMOS, ()),
    }[table_id]  # fmt: skip


def bit_names(table_id: str, value: int) -> list[str | int]:
    """The names of the bits (and the command) that are set, then a number with unnamed bits."""
    table, commands = _bits(table_id)
    names: list[str | int] = []
    if commands:
        command = value & 0xF
        if command < len(commands) and commands[command]:
            names.append(commands[command])
            value &= ~0xF
    for bit, name in table.items():
        if value & bit:
            names.append(name)
            value &= ~bit
    if value:
        names.append(value)
    return names


def bits(table_id: str, words: Iterable[str | int]) -> tuple[int, list[str | int]]:
    """The inverse of `bit_names`: the number, and the names that have no bit in the table.

    Only one command fits: FR_PASS, which ipmon tests first, or else the first.
    """
    table, commands = _bits(table_id)
    numbers = {name: bit for bit, name in table.items()}
    given = list(words)
    named = [word for word in given if word in commands and word not in numbers]
    command = "FR_PASS" if "FR_PASS" in named else next(iter(named), None)
    value = commands.index(str(command)) if command is not None else 0
    unknown = []
    for word in given:
        if word in numbers:
            value |= numbers[str(word)]
        elif word != command:
            unknown.append(word)
    return value, unknown


# fl_breason: why the kernel blocked. 5.1.1 and later set it; 5.0 had other numbers from 9 on.

_REASONS = (
    None, "log-or-block_1", "pps-rate", "jumbogram", "makefrip-fail", "state_add-fail",
    "updateipid-fail", "log-or-block_2", "decap-fail",
)  # fmt: skip
REASONS_51: dict[int, str | None] = dict(enumerate((
    *_REASONS, "auth_new-fail", "auth_captured", "coalesce-fail", "pullup-fail", "auth-feedback",
    "bad-frag", "natv4", "natv6",
)))  # fmt: skip
REASONS_50: dict[int, str | None] = dict(enumerate(_REASONS)) | {
    10: "bad-frag", 11: "nat-out", 12: "nat-in", 13: "nat",
}  # fmt: skip

# nl_type of 3.x and 4.x (an event in place of the kind, but for a new entry); nl_action and
# nl_type of 5.x

NAT_KINDS = {1: "map", 2: "rdr", 3: "bimap", 4: "mapblock"}
NL_EXPIRE, NL_FLUSH = 0xFFFF, 0xFFFE
"""In all versions."""
NAT_EVENTS_4 = {NL_EXPIRE: "expire", NL_FLUSH: "flush", 0xFFFD: "clone", 0xFFFC: "destroy"}
NAT_EVENTS_5 = {
    0: "new", 1: "clone", 0xFFFC: "purge", 0xFFFD: "destroy", NL_FLUSH: "flush",
    NL_EXPIRE: "expire",
}  # fmt: skip
NAT_KINDS_5 = NAT_KINDS | {
    prefix | kind: f"{word}_{NAT_KINDS[kind]}"
    for prefix, word in ((0x8, "rwr"), (0x10, "enc"), (0x20, "div"))
    for kind in (1, 2)
}
"""Also NAT_REWRITE 8, NAT_ENCAP 0x10 and NAT_DIVERTUDP 0x20, in ipmon's short words."""

ISL_NEW, ISL_EXPIRE = 0, 0xFFFF
STATE_EVENTS = {
    ISL_NEW: "new", 1: "clone", 2: "statechange", ISL_EXPIRE: "expire", 0xFFFE: "flush",
    0xFFFD: "remove", 0xFFFC: "intermediate", 0xFFFB: "killed", 0xFFFA: "orphan", 0xFFF9: "unload",
}  # fmt: skip

# isl_state: 4.1.20 moved CLOSED to the end. illumos and Solaris, which took 4.1.9, never did.

_ESTABLISHED_ON = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "LAST_ACK", "FIN_WAIT_2",
                   "TIME_WAIT")  # fmt: skip
TCP_STATES_3 = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", *_ESTABLISHED_ON)
TCP_STATES_41 = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "HALF_ESTAB", *_ESTABLISHED_ON)
TCP_STATES_4 = ("LISTEN", "SYN_SENT", "SYN_RECEIVED", "HALF_ESTAB", *_ESTABLISHED_ON, "CLOSED")

NAT_DIRECTIONS = ("in", "out")
STATE_DIRECTIONS = ("forward_in", "forward_out", "backward_in", "backward_out")
"""What the counters of these records count, in order; a single counter is the "total"."""


class Words(NamedTuple):
    """The names that a version has for the numbers in its records.

    flags, lflags   names of the tables of bits, for `bit_names` and `bits`
    """

    flags: str
    lflags: str
    reasons: Mapping[int, str | None]
    tcp_states: tuple[str, ...]


@cache
def words(version: Version) -> Words:
    """The words of a version."""
    if version.major >= 5:
        reasons = REASONS_51 if version.name == "5.1.2" else REASONS_50
        return Words("flags 5", "lflags 5", reasons, TCP_STATES_4)
    if version.major == 4:
        lflags = "lflags illumos" if version.name == "4.1-illumos" else "lflags 4"
        states = TCP_STATES_4 if version.name == "4.1" else TCP_STATES_41
        return Words("flags 4", lflags, {}, states)
    flags = "flags 3.4.29" if version.ipflog == "3.4.29" else "flags 3"
    return Words(flags, "lflags 3", {}, TCP_STATES_3)


def number(table: Mapping[int, str | None], word: str | int | None) -> int | None:
    """The number that a table has for a word, or None; a number stands for itself."""
    if isinstance(word, int):
        return word
    return next((value for value, name in table.items() if name == word), None)
