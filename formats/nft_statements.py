"""Statements of nftables rules that need no register, in the words of nft.

Each function gives the text of one expression as formats.nft_expressions gives it, and raises
Unclear where nft's text is not certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats.nft_types import Unclear, interval

Fields = dict[str, Any]

_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit")
_LEVEL_WARN = 4
_LOG_FLAGS_ALL = 0x2F
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
NFT_LIMIT_F_INV = NFT_QUOTA_F_INV = NFT_CONNLIMIT_F_INV = 1


def quoted(word: str) -> str:
    """A string in quotation marks, as nft writes prefixes, comments and names of objects."""
    if any(ord(c) < 32 or c in '"\\' for c in word):
        raise Unclear
    return f'"{word}"'


def size(count: int) -> str:
    """A number of bytes in the largest unit that divides it: bytes, kbytes, mbytes."""
    unit = "bytes"
    for larger in ("kbytes", "mbytes"):
        if not count or count % 1024:
            break
        count, unit = count // 1024, larger
    return f"{count} {unit}"


def verdict(fields: Fields) -> str:
    """A verdict: accept, jump c."""
    word = fields["verdict"]
    if word in ("jump", "goto"):
        return f"{word} {fields['chain']}"
    if word not in ("accept", "drop", "continue", "return"):
        raise Unclear
    return str(word)


def counter(fields: Fields) -> str:
    """A counter's values."""
    return f"counter packets {fields['packets']} bytes {fields['bytes']}"


def log(fields: Fields) -> str:
    """A log statement; the kernel's log has a level, NFLOG a group."""
    text = "log"
    if fields.get("prefix"):
        text += f" prefix {quoted(fields['prefix'])}"
    if "group" in fields:
        text += f" group {fields['group']}"
        if fields.get("snaplen"):
            text += f" snaplen {fields['snaplen']}"
        if fields.get("queue_threshold"):
            text += f" queue-threshold {fields['queue_threshold']}"
        return text
    level = fields.get("level", _LEVEL_WARN)
    if level != _LEVEL_WARN:
        text += f" level {_LEVELS[level]}"
    return text + _log_flags(fields.get("flags", 0))


def _log_flags(flags: int) -> str:
    """NF_LOG_TCPSEQ, TCPOPT, IPOPT, UID, MACDECODE of linux/netfilter/nf_log.h."""
    if flags & ~_LOG_FLAGS_ALL:
        raise Unclear
    if flags == _LOG_FLAGS_ALL:
        return " flags all"
    text = ""
    if flags & 3:
        text += " flags tcp " + ",".join(w for b, w in ((1, "sequence"), (2, "options"))
                                         if flags & b)  # fmt: skip
    for bit, word in ((4, "ip options"), (8, "skuid"), (0x20, "ether")):
        text += f" flags {word}" if flags & bit else ""
    return text


def rate(fields: Fields) -> str:
    """What a limit allows, without the word limit."""
    over = "over " if fields["flags"] & NFT_LIMIT_F_INV else ""
    unit = _UNITS.get(int(fields["unit"]))
    if unit is None or fields["flags"] & ~NFT_LIMIT_F_INV:
        raise Unclear
    count, burst = int(fields["rate"]), fields["burst"]
    if fields["type"] == "packets":
        return f"rate {over}{count}/{unit}" + (f" burst {burst} packets" if burst else "")
    if fields["type"] != "bytes":
        raise Unclear
    return f"rate {over}{size(count)}/{unit}" + (f" burst {size(burst)}" if burst else "")


def limit(fields: Fields) -> str:
    """A limit."""
    return f"limit {rate(fields)}"


def quota_size(fields: Fields) -> str:
    """What a quota allows, without the word quota."""
    text = "over " if fields.get("flags", 0) & NFT_QUOTA_F_INV else ""
    text += size(int(fields["bytes"]))
    used = int(fields.get("consumed", 0))
    return text + (f" used {size(used)}" if used else "")


def quota(fields: Fields) -> str:
    """A quota."""
    return f"quota {quota_size(fields)}"


def connlimit(fields: Fields) -> str:
    """A limit of connections."""
    over = "over " if fields.get("flags", 0) & NFT_CONNLIMIT_F_INV else ""
    return f"ct count {over}{fields['count']}"


def synproxy_options(fields: Fields) -> list[str]:
    """The options of NF_SYNPROXY_OPT_* of linux/netfilter/nf_synproxy.h."""
    flags = fields["flags"]
    options = []
    if flags & 1:
        options.append(f"mss {fields['mss']}")
    if flags & 2:
        options.append(f"wscale {fields['wscale']}")
    if flags & 8:
        options.append("timestamp")
    if flags & 4:
        options.append("sack-perm")
    return options


def synproxy(fields: Fields) -> str:
    """A synproxy statement."""
    return " ".join(("synproxy", *synproxy_options(fields)))


def last(fields: Fields) -> str:
    """When the rule was used."""
    return f"last used {interval(int(fields['msecs']))}" if fields["set"] else "last used never"


def queue(fields: Fields) -> str:
    """A queue statement with numbers of its own."""
    if "sreg" in fields:
        raise Unclear
    words = [w for bit, w in ((1, "bypass"), (2, "fanout")) if fields.get("flags", 0) & bit]
    flags = f" flags {','.join(words)}" if words else ""
    first, total = fields.get("num", 0), fields.get("total", 1)
    to = f"{first}-{first + total - 1}" if total > 1 else str(first)
    return f"queue{flags} to {to}"


def notrack(fields: Fields) -> str:
    """A notrack statement."""
    return "notrack"


def flow_offload(fields: Fields) -> str:
    """A flow statement."""
    return f"flow add @{fields['flowtable']}"


def stateless(fields: Fields) -> str:
    """A statement of a set or of one that adds to a set, where values say nothing."""
    name = fields["name"]
    if name in ("counter", "last"):
        return str(name)
    return STATEMENTS[name]({**fields, "consumed": 0} if name == "quota" else fields)


_OBJECTS = {
    "counter": "counter name", "quota": "quota name", "limit": "limit name",
    "ct_helper": "ct helper set", "ct_timeout": "ct timeout set",
    "ct_expectation": "ct expectation set", "synproxy": "synproxy name",
}  # fmt: skip


def object_words(kind: Any) -> str:
    """The words before the name of an object."""
    if kind not in _OBJECTS:
        raise Unclear
    return _OBJECTS[kind]


STATEMENTS: dict[str, Callable[[Fields], str]] = {
    "counter": counter, "log": log, "limit": limit, "quota": quota, "connlimit": connlimit,
    "synproxy": synproxy, "last": last, "queue": queue, "notrack": notrack,
    "flow_offload": flow_offload,
}  # fmt: skip
