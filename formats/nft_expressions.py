"""Expressions of nftables rules, sets and elements as JSON-ready mappings.

A rule is a list of expressions, small instructions on registers. Each has a kernel name and its own
attributes, which EXPRESSIONS declares as formats.netlink's tables do. `expressions` reads a list
by these tables and puts words in the place of enum values (WORDS). An expression, attribute or
value that is not in the tables is kept as hex or as its number.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nft_*.c, linux/netfilter/xt_NFLOG.h and
linux/netfilter_bridge/ebt_nflog.h.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from construct import (
    Bytes,
    Int8ub,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32ub,
    Int32ul,
    Int64ub,
    Struct,
)

from pylog.errors import DecodeError
from pylog.formats.netlink import OCTETS, PADDING, TEXT, Table, scan, text, to_dict
from pylog.formats.nft_words import WORDS
from pylog.formats.plan import Plan

NFTA_LIST_ELEM = 1
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
_DEEPEST = 4
"""How deep expressions may stand in expressions. The kernel allows one level (dynset, inner)."""

VERDICT: Table = {1: ("verdict", Int32sb), 2: ("chain", TEXT)}
"""enum nft_verdict_attributes."""
DATA: Table = {1: ("value", OCTETS), 2: ("verdict", VERDICT)}
"""enum nft_data_attributes: the value of a register, or a verdict."""

COUNTER: Table = {1: ("bytes", Int64ub), 2: ("packets", Int64ub), 3: ("pad", PADDING)}
LIMIT: Table = {
    1: ("rate", Int64ub),
    2: ("unit", Int64ub),  # seconds
    3: ("burst", Int32ub),
    4: ("type", Int32ub),
    5: ("flags", Int32ub),  # NFT_LIMIT_F_INV
    6: ("pad", PADDING),
}
QUOTA: Table = {
    1: ("bytes", Int64ub),
    2: ("flags", Int32ub),  # NFT_QUOTA_F_INV, NFT_QUOTA_F_DEPLETED
    3: ("pad", PADDING),
    4: ("consumed", Int64ub),
}
CONNLIMIT: Table = {1: ("count", Int32ub), 2: ("flags", Int32ub)}
SYNPROXY: Table = {1: ("mss", Int16ub), 2: ("wscale", Int8ub), 3: ("flags", Int32ub)}

_XT: Table = {1: ("extension", TEXT), 2: ("revision", Int32ub), 3: ("info", OCTETS)}

EXPRESSIONS: dict[str, Table] = {
    "payload": {
        1: ("dreg", Int32ub),
        2: ("base", Int32ub),
        3: ("offset", Int32ub),
        4: ("len", Int32ub),
        5: ("sreg", Int32ub),
        6: ("csum_type", Int32ub),
        7: ("csum_offset", Int32ub),
        8: ("csum_flags", Int32ub),
    },
    "cmp": {1: ("sreg", Int32ub), 2: ("op", Int32ub), 3: ("data", DATA)},
    "bitwise": {
        1: ("sreg", Int32ub),
        2: ("dreg", Int32ub),
        3: ("len", Int32ub),
        4: ("mask", DATA),
        5: ("xor", DATA),
        6: ("op", Int32ub),
        7: ("data", DATA),
        8: ("sreg2", Int32ub),
    },
    "range": {1: ("sreg", Int32ub), 2: ("op", Int32ub), 3: ("from", DATA), 4: ("to", DATA)},
    "lookup": {
        1: ("set", TEXT),
        2: ("sreg", Int32ub),
        3: ("dreg", Int32ub),
        4: ("set_id", Int32ub),
        5: ("flags", Int32ub),
    },
    "immediate": {1: ("dreg", Int32ub), 2: ("data", DATA)},
    "byteorder": {
        1: ("sreg", Int32ub),
        2: ("dreg", Int32ub),
        3: ("op", Int32ub),
        4: ("len", Int32ub),
        5: ("size", Int32ub),
    },
    "meta": {1: ("dreg", Int32ub), 2: ("key", Int32ub), 3: ("sreg", Int32ub)},
    "ct": {
        1: ("dreg", Int32ub),
        2: ("key", Int32ub),
        3: ("direction", Int8ub),
        4: ("sreg", Int32ub),
    },
    "log": {
        1: ("group", Int16ub),
        2: ("prefix", TEXT),
        3: ("snaplen", Int32ub),
        4: ("queue_threshold", Int16ub),
        5: ("level", Int32ub),
        6: ("flags", Int32ub),
    },
    "counter": COUNTER,
    "limit": LIMIT,
    "quota": QUOTA,
    "connlimit": CONNLIMIT,
    "reject": {1: ("type", Int32ub), 2: ("code", Int8ub)},
    "nat": {
        1: ("type", Int32ub),
        2: ("family", Int32ub),
        3: ("sreg_addr_min", Int32ub),
        4: ("sreg_addr_max", Int32ub),
        5: ("sreg_proto_min", Int32ub),
        6: ("sreg_proto_max", Int32ub),
        7: ("flags", Int32ub),
    },
    "masq": {
        1: ("flags", Int32ub),
        2: ("sreg_proto_min", Int32ub),
        3: ("sreg_proto_max", Int32ub),
    },
    "redir": {
        1: ("sreg_proto_min", Int32ub),
        2: ("sreg_proto_max", Int32ub),
        3: ("flags", Int32ub),
    },
    "tproxy": {1: ("family", Int32ub), 2: ("sreg_addr", Int32ub), 3: ("sreg_port", Int32ub)},
    "queue": {
        1: ("num", Int16ub),
        2: ("total", Int16ub),
        3: ("flags", Int16ub),
        4: ("sreg", Int32ub),
    },
    "dup": {1: ("sreg_addr", Int32ub), 2: ("sreg_dev", Int32ub)},
    "fwd": {1: ("sreg_dev", Int32ub), 2: ("sreg_addr", Int32ub), 3: ("nfproto", Int32ub)},
    "dynset": {
        1: ("set", TEXT),
        2: ("set_id", Int32ub),
        3: ("op", Int32ub),
        4: ("sreg_key", Int32ub),
        5: ("sreg_data", Int32ub),
        6: ("timeout", Int64ub),  # milliseconds
        7: ("expression", OCTETS),
        8: ("pad", PADDING),
        9: ("flags", Int32ub),
        10: ("expressions", OCTETS),
    },
    "objref": {
        1: ("type", Int32ub),
        2: ("object", TEXT),
        3: ("sreg", Int32ub),
        4: ("set", TEXT),
        5: ("set_id", Int32ub),
    },
    "exthdr": {
        1: ("dreg", Int32ub),
        2: ("type", Int8ub),
        3: ("offset", Int32ub),
        4: ("len", Int32ub),
        5: ("flags", Int32ub),
        6: ("op", Int32ub),
        7: ("sreg", Int32ub),
    },
    "fib": {1: ("dreg", Int32ub), 2: ("result", Int32ub), 3: ("flags", Int32ub)},
    "rt": {1: ("dreg", Int32ub), 2: ("key", Int32ub)},
    "socket": {1: ("key", Int32ub), 2: ("dreg", Int32ub), 3: ("level", Int32ub)},
    "xfrm": {
        1: ("dreg", Int32ub),
        2: ("key", Int32ub),
        3: ("direction", Int8ub),
        4: ("spnum", Int32ub),
    },
    "osf": {1: ("dreg", Int32ub), 2: ("ttl", Int8ub), 3: ("flags", Int32ub)},
    "tunnel": {1: ("key", Int32ub), 2: ("dreg", Int32ub), 3: ("mode", Int32ub)},
    "numgen": {
        1: ("dreg", Int32ub),
        2: ("modulus", Int32ub),
        3: ("type", Int32ub),
        4: ("offset", Int32ub),
    },
    "hash": {
        1: ("sreg", Int32ub),
        2: ("dreg", Int32ub),
        3: ("len", Int32ub),
        4: ("modulus", Int32ub),
        5: ("seed", Int32ub),
        6: ("offset", Int32ub),
        7: ("type", Int32ub),
    },
    "synproxy": SYNPROXY,
    "last": {1: ("set", Int32ub), 2: ("msecs", Int64ub), 3: ("pad", PADDING)},
    "inner": {
        1: ("num", Int32ub),
        2: ("type", Int32ub),
        3: ("flags", Int32ub),
        4: ("hdrsize", Int32ub),
        5: ("expression", OCTETS),
    },
    "notrack": {},
    "flow_offload": {1: ("flowtable", TEXT)},
    "match": _XT,
    "target": _XT,
}  # fmt: skip
"""The attributes of each expression: enum nft_payload_attributes and its like."""

_VERDICTS = {
    -5: "return", -4: "goto", -3: "jump", -2: "break", -1: "continue",
    0: "drop", 1: "accept", 2: "stolen", 4: "repeat",
}  # fmt: skip
NF_QUEUE = 3


def verdict(fields: dict[str, Any]) -> dict[str, Any]:
    """A verdict in words, from the fields of VERDICT: `verdict`, and `chain` or `queue`.

    NF_QUEUE has the number of the queue in the upper 16 bits.
    """
    code = fields.get("verdict")
    if code is None or code in _VERDICTS:
        return fields if code is None else {**fields, "verdict": _VERDICTS[code]}
    if code >= 0 and code & 0xFF == NF_QUEUE:
        return {**fields, "verdict": "queue", "queue": code >> 16}
    return fields


LOGGERS = ("NFLOG", "nflog", "LOG")
"""Targets that log: of xtables, ebtables and xtables."""


@cache
def log_info(order: str, extension: str) -> Plan:
    """The layout of what a target that logs keeps in `info`, in the machine's order."""
    if extension != "LOG":  # struct xt_nflog_info, struct ebt_nflog_info
        u32, u16 = (Int32ul, Int16ul) if order == "<" else (Int32ub, Int16ub)
        return Plan(Struct("snaplen" / u32, "group" / u16, "queue_threshold" / u16, "flags" / u16,
                           "_pad" / Bytes(2), "prefix" / Bytes(64)))  # fmt: skip
    # struct xt_log_info
    return Plan(Struct("level" / Int8ub, "flags" / Int8ub, "prefix" / Bytes(30)))


def _target(fields: dict[str, Any], order: str) -> None:
    """Adds what a target that logs says, beside its `info`."""
    extension = fields.get("extension")
    if extension not in LOGGERS:
        return
    plan = log_info(order, extension)
    info = bytes.fromhex(fields.get("info", ""))
    if len(info) >= plan.size:
        logged = dict(zip(plan.names, plan.unpack(info, 0), strict=True))
        fields.update({k: text(v) if isinstance(v, bytes) else v for k, v in logged.items()})


def _data(fields: dict[str, Any], name: str) -> None:
    """Puts the content of DATA in the place of the nested mapping: hex, or a verdict's fields."""
    value = fields[name]
    if set(value) == {"value"}:
        fields[name] = value["value"]
    elif set(value) == {"verdict"}:
        del fields[name]
        fields.update(verdict(value["verdict"]))


def expressions(
    data: bytes,
    start: int,
    end: int,
    order: str,
    base: int,
    flaws: list[DecodeError] | None = None,
    depth: int = 0,
) -> list[dict[str, Any]]:
    """The list of expressions in data[start:end], which are the elements of a nested attribute.

    Each is {"name": the kernel's name, then its fields}; numbers, strings and words as
    netlink.to_dict, values of registers as hex. An expression without a table here has its
    attributes in "data" as hex, and so has one that is damaged, if there is a list of `flaws`.

    depth   how deep the list stands in other expressions

    Raises DecodeError for lengths that do not fit; within an expression only without `flaws`.
    """
    listed = []
    for number, at, stop in scan(data, start, end, order, base):
        if number == NFTA_LIST_ELEM:
            listed.append(expression(data, at, stop, order, base, flaws, depth))
        else:
            listed.append({"name": "", "attribute": number, "data": data[at:stop].hex()})
    return listed


def expression(
    data: bytes,
    start: int,
    end: int,
    order: str,
    base: int,
    flaws: list[DecodeError] | None = None,
    depth: int = 0,
) -> dict[str, Any]:
    """One expression: NFTA_EXPR_NAME and NFTA_EXPR_DATA in data[start:end]; as `expressions`."""
    try:
        name, at, stop = "", end, end
        for number, first, last in scan(data, start, end, order, base):
            if number == NFTA_EXPR_NAME:
                name = text(data[first:last])
            elif number == NFTA_EXPR_DATA:
                at, stop = first, last
    except DecodeError as error:
        if flaws is None:
            raise
        flaws.append(error)
        return {"name": "", "data": data[start:end].hex()}
    table = EXPRESSIONS.get(name)
    if table is None or depth > _DEEPEST:
        return {"name": name, "data": data[at:stop].hex()}
    try:
        fields = to_dict(table, data, at, stop, order, base, flaws)
        _nested(table, fields, data, at, stop, order, base, flaws, depth)
    except DecodeError as error:
        if flaws is None:
            raise
        flaws.append(error)
        return {"name": name, "data": data[at:stop].hex()}
    for field, words in WORDS.get(name, {}).items():
        if field in fields:
            fields[field] = words.get(fields[field], fields[field])
    for field in [field for field, value in fields.items() if isinstance(value, dict)]:
        if field != "expression":
            _data(fields, field)
    if name == "lookup" and "flags" in fields:
        fields["inverted"] = bool(fields["flags"] & 1)  # NFT_LOOKUP_F_INV
    elif name == "target":
        _target(fields, order)
    return {"name": name, **fields}


def _nested(
    table: Table,
    fields: dict[str, Any],
    data: bytes,
    start: int,
    end: int,
    order: str,
    base: int,
    flaws: list[DecodeError] | None,
    depth: int,
) -> None:
    """Reads the expressions in an expression: of dynset `expressions`, of inner `expression`.

    dynset has a single one in an attribute of its own; it becomes a list too.
    """
    if "expression" not in fields and "expressions" not in fields:
        return
    for number, at, stop in scan(data, start, end, order, base):
        name = table.get(number, ("", None))[0]
        if name == "expressions":
            fields[name] = expressions(data, at, stop, order, base, flaws, depth + 1)
        elif name == "expression":
            fields[name] = expression(data, at, stop, order, base, flaws, depth + 1)
    if table is EXPRESSIONS["dynset"] and "expression" in fields:
        fields.setdefault("expressions", []).insert(0, fields.pop("expression"))
