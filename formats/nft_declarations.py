"""Declarations of tables, chains, sets, objects and flowtables in the words of nft.

Each function writes one record as a line: `chain ip t c { type filter hook input priority filter;
policy accept; }`. A deletion has little more than the name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats.nft_attributes import OBJECTS
from pylog.formats.nft_elements import extra
from pylog.formats.nft_read import user_data
from pylog.formats.nft_statements import quota_size, quoted, rate, stateless, synproxy_options
from pylog.formats.nft_types import PROTOCOLS, Unclear, interval
from pylog.record import RulesetRecord

_TABLE_FLAGS = ((1, "dormant"), (2, "owner"), (4, "persist"))
_SET_FLAGS = ((2, "constant"), (0x20, "dynamic"), (4, "interval"), (0x10, "timeout"))
NFT_SET_MAP, NFT_SET_TIMEOUT, NFT_SET_OBJECT = 0x8, 0x10, 0x40
NFT_CHAIN_HW_OFFLOAD = 2
_NFT_SET_POL_MEMORY = 1
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50,
               "srcnat": 100}  # fmt: skip
_BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_HOOKS: dict[str, tuple[str, ...]] = {
    "dstnat": ("prerouting", "output"), "srcnat": ("input", "postrouting"),
}  # fmt: skip
_BRIDGE_HOOKS: dict[str, tuple[str, ...]] = {
    "dstnat": ("prerouting",), "out": ("output",), "srcnat": ("postrouting",),
}  # fmt: skip
"""Names of priorities that nft writes only at these hooks."""
_NEAR = 10
"""How far from a named priority nft still writes the name and a difference."""
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}

_TCP_STATES = {
    1: ("syn_sent", 120), 2: ("syn_recv", 60), 3: ("established", 432000), 4: ("fin_wait", 120),
    5: ("close_wait", 60), 6: ("last_ack", 30), 7: ("time_wait", 120), 8: ("close", 10),
    9: ("syn_sent2", 120), 10: ("retrans", 300), 11: ("unack", 300),
}  # fmt: skip
_UDP_STATES = {1: ("unreplied", 30), 2: ("replied", 180)}
_STATES = {6: _TCP_STATES, 17: _UDP_STATES}
"""The states of a ct timeout by protocol, with the seconds that nft takes for granted."""


def _where(record: RulesetRecord, name: str | None) -> str:
    return f"{record.family} {record.table} {name}"


def _block(head: str, statements: list[str]) -> str:
    return f"{head} {{ {'; '.join(statements)}; }}" if statements else head


def _comment(record: RulesetRecord) -> list[str]:
    if record.comment is None:
        return []
    try:
        return [f"comment {quoted(record.comment)}"]
    except Unclear:
        return ["[comment]"]


def _words(flags: int, words: tuple[tuple[int, str], ...]) -> str:
    return ",".join(word for bit, word in words if flags & bit)


def table(record: RulesetRecord) -> str:
    """A table with its flags."""
    flags = _words(record.flags or 0, _TABLE_FLAGS)
    statements = [f"flags {flags}"] if flags else []
    return _block(f"table {record.family} {record.table}", statements + _comment(record))


def priority(value: int, family: str, hook: str | int) -> str:
    """A priority by the nearest name that the hook has: filter, srcnat + 5, or a number."""
    names = _BRIDGE_PRIORITIES if family == "bridge" else _PRIORITIES
    if family in ("arp", "netdev"):
        names = {"filter": 0}
    hooks = _BRIDGE_HOOKS if family == "bridge" else _HOOKS
    for name, base in names.items():
        if name in hooks and hook not in hooks[name]:
            continue
        if value == base:
            return name
        if abs(value - base) <= _NEAR:
            return f"{name} {'+' if value > base else '-'} {abs(value - base)}"
    return str(value)


def _devices(devices: list[str] | None) -> str:
    if not devices:
        return ""
    if len(devices) == 1:
        return f" device {quoted(devices[0])}"
    return f" devices = {{ {', '.join(quoted(device) for device in sorted(devices))} }}"


def chain(record: RulesetRecord) -> str:
    """A chain; a base chain with type, hook, priority and policy."""
    statements = []
    if record.hook is not None and record.priority is not None:
        kind = f"type {record.type} " if record.type is not None else ""
        at = priority(record.priority, str(record.family), record.hook)
        statements.append(f"{kind}hook {record.hook}{_devices(record.devices)} priority {at}")
    if (record.flags or 0) & NFT_CHAIN_HW_OFFLOAD:
        statements.append("flags offload")
    if record.policy is not None:
        statements.append(f"policy {record.policy}")
    return _block(f"chain {_where(record, record.chain)}", statements + _comment(record))


def set_declaration(record: RulesetRecord, key: str, data: str | None) -> str:
    """A set or map.

    key    the types of keys
    data   the types of what a map gives; None for a set, or for a map of objects
    """
    flags = record.flags or 0
    kind = "map" if flags & (NFT_SET_MAP | NFT_SET_OBJECT) else "set"
    if flags & NFT_SET_OBJECT:
        number = extra(record, "NFTA_SET_OBJ_TYPE")
        data = str(OBJECTS.get(number, number)).replace("_", " ")
    statements = [f"type {key} : {data}" if data is not None else f"type {key}"]
    if extra(record, "NFTA_SET_POLICY") == _NFT_SET_POL_MEMORY:
        statements.append("policy memory")
    size = (extra(record, "NFTA_SET_DESC") or {}).get("NFTA_SET_DESC_SIZE")
    if size:
        statements.append(f"size {size}")
    timeout = int(extra(record, "NFTA_SET_TIMEOUT") or 0)
    # nft takes the flag for granted if there is a timeout, unless it writes other flags
    if _words(flags & ~(NFT_SET_TIMEOUT if timeout else 0), _SET_FLAGS):
        statements.append(f"flags {_words(flags, _SET_FLAGS)}")
    if timeout:
        statements.append(f"timeout {interval(timeout)}")
    if _merges(record):
        statements.append("auto-merge")
    collection = extra(record, "NFTA_SET_GC_INTERVAL")
    if collection:
        statements.append(f"gc-interval {interval(int(collection))}")
    statements += _comment(record)
    if record.expressions:
        statements.append(" ".join(_stateless(e) for e in record.expressions))
    return _block(f"{kind} {_where(record, record.name)}", statements)


def _merges(record: RulesetRecord) -> bool:
    """Whether ranges that touch become one: user data of nft, type 2, a number of the machine."""
    data = extra(record, "NFTA_SET_USERDATA")
    parts = user_data(bytes.fromhex(data)) if isinstance(data, str) else None
    return any((parts or {}).get(2, b""))


def _stateless(fields: dict[str, Any]) -> str:
    try:
        return stateless(fields)
    except (Unclear, KeyError, TypeError, ValueError):
        return f"[{fields.get('name')}]"


def _counter(data: dict[str, Any]) -> list[str]:
    return [f"packets {data['NFTA_COUNTER_PACKETS']} bytes {data['NFTA_COUNTER_BYTES']}"]


def _quota(data: dict[str, Any]) -> list[str]:
    return [quota_size({"bytes": data["NFTA_QUOTA_BYTES"], "flags": data.get("NFTA_QUOTA_FLAGS", 0),
                        "consumed": data.get("NFTA_QUOTA_CONSUMED", 0)})]  # fmt: skip


def _limit(data: dict[str, Any]) -> list[str]:
    kind = {0: "packets", 1: "bytes"}.get(data["NFTA_LIMIT_TYPE"], "")
    return [rate({"rate": data["NFTA_LIMIT_RATE"], "unit": data["NFTA_LIMIT_UNIT"],
                  "burst": data["NFTA_LIMIT_BURST"], "flags": data["NFTA_LIMIT_FLAGS"],
                  "type": kind})]  # fmt: skip


def _protocols(data: dict[str, Any], prefix: str) -> tuple[str, str]:
    """The words of the transport protocol and of the network protocol."""
    l4, l3 = data[f"{prefix}_L4PROTO"], data[f"{prefix}_L3PROTO"]
    return f"protocol {PROTOCOLS.get(l4, l4)}", f"l3proto {_FAMILIES.get(l3, l3)}"


def _helper(data: dict[str, Any]) -> list[str]:
    protocol, network = _protocols(data, "NFTA_CT_HELPER")
    return [f"type {quoted(data['NFTA_CT_HELPER_NAME'])} {protocol}", network]


def _timeout(data: dict[str, Any]) -> list[str]:
    statements = list(_protocols(data, "NFTA_CT_TIMEOUT"))
    states = _STATES.get(data["NFTA_CT_TIMEOUT_L4PROTO"], {})
    changed = [
        f"{name} : {interval(seconds * 1000)}"
        for number, (name, default) in states.items()
        if (seconds := data.get("NFTA_CT_TIMEOUT_DATA", {}).get(f"CTA_TIMEOUT_{number}", default))
        != default
    ]
    if changed:
        statements.append(f"policy = {{ {', '.join(changed)} }}")
    return statements


def _expectation(data: dict[str, Any]) -> list[str]:
    protocol, network = _protocols(data, "NFTA_CT_EXPECT")
    return [protocol, f"dport {data['NFTA_CT_EXPECT_DPORT']}",
            f"timeout {interval(int(data['NFTA_CT_EXPECT_TIMEOUT']))}",
            f"size {data['NFTA_CT_EXPECT_SIZE']}", network]  # fmt: skip


def _synproxy(data: dict[str, Any]) -> list[str]:
    return [" ".join(synproxy_options({
        "mss": data.get("NFTA_SYNPROXY_MSS"), "wscale": data.get("NFTA_SYNPROXY_WSCALE"),
        "flags": data["NFTA_SYNPROXY_FLAGS"],
    }))]  # fmt: skip


_OBJECTS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "counter": _counter, "quota": _quota, "limit": _limit, "ct_helper": _helper,
    "ct_timeout": _timeout, "ct_expectation": _expectation, "synproxy": _synproxy,
}  # fmt: skip
_INLINE = ("counter", "quota", "limit")
"""Objects whose only statement nft ends without a semicolon."""


def objects(record: RulesetRecord) -> str:
    """A named counter, quota, limit, conntrack helper and the like."""
    head = f"{str(record.type).replace('_', ' ')} {_where(record, record.name)}"
    data, write = extra(record, "NFTA_OBJ_DATA"), _OBJECTS.get(str(record.type))
    if record.op == "del_obj" or not isinstance(data, dict):
        return head
    if write is None:
        return f"{head} {{ [{record.type}] }}"
    try:
        statements = write(data)
    except (Unclear, KeyError, TypeError, ValueError):
        return f"{head} {{ [{record.type}] }}"
    if record.type in _INLINE:
        return f"{head} {{ {' '.join(_comment(record) + statements)} }}"
    return _block(head, statements + _comment(record))


def flowtable(record: RulesetRecord) -> str:
    """A flowtable with its devices."""
    statements = []
    if record.hook is not None and record.priority is not None:
        at = priority(record.priority, "netdev", record.hook)
        statements.append(f"hook {record.hook} priority {at}")
    if record.devices:
        statements.append(f"devices = {{ {', '.join(record.devices)} }}")
    if (record.flags or 0) & 2:  # NFT_FLOWTABLE_COUNTER
        statements.append("counter")
    return _block(f"flowtable {_where(record, record.name)}", statements)
