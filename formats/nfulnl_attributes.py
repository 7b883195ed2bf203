"""NFLOG's attributes and config messages, as linux/netfilter/nfnetlink_log.h declares them.

A log message has NFULA_* attributes (ATTRIBUTES), a config message NFULA_CFG_* attributes (CONFIG).
formats.netlink parses and builds messages by these tables.
"""

from __future__ import annotations

from typing import Any

from construct import Bytes, Default, Int8ub, Int16ub, Int32ub, Int64ub, Struct

from pylog.formats import nfct_attributes
from pylog.formats.netlink import NFNL_SUBSYS_ULOG, OCTETS, TEXT, Table, build
from pylog.formats.plan import Plan

NFULNL_MSG_PACKET = NFNL_SUBSYS_ULOG << 8
NFULNL_MSG_CONFIG = NFNL_SUBSYS_ULOG << 8 | 1


def _pad(size: int) -> Any:
    return "_pad" / Default(Bytes(size), bytes(size))


VLAN: Table = {1: ("NFULA_VLAN_PROTO", Int16ub), 2: ("NFULA_VLAN_TCI", Int16ub)}
ATTRIBUTES: Table = {
    1: ("NFULA_PACKET_HDR", Struct("hw_protocol" / Int16ub, "hook" / Int8ub, _pad(1))),
    2: ("NFULA_MARK", Int32ub),
    3: ("NFULA_TIMESTAMP", Struct("sec" / Int64ub, "usec" / Int64ub)),
    4: ("NFULA_IFINDEX_INDEV", Int32ub),
    5: ("NFULA_IFINDEX_OUTDEV", Int32ub),
    6: ("NFULA_IFINDEX_PHYSINDEV", Int32ub),
    7: ("NFULA_IFINDEX_PHYSOUTDEV", Int32ub),
    8: ("NFULA_HWADDR", Struct("hw_addrlen" / Int16ub, _pad(2), "hw_addr" / Bytes(8))),
    9: ("NFULA_PAYLOAD", OCTETS),
    10: ("NFULA_PREFIX", TEXT),
    11: ("NFULA_UID", Int32ub),
    12: ("NFULA_SEQ", Int32ub),
    13: ("NFULA_SEQ_GLOBAL", Int32ub),
    14: ("NFULA_GID", Int32ub),
    15: ("NFULA_HWTYPE", Int16ub),
    16: ("NFULA_HWHEADER", OCTETS),
    17: ("NFULA_HWLEN", Int16ub),
    18: ("NFULA_CT", nfct_attributes.CTA),
    19: ("NFULA_CT_INFO", Int32ub),
    20: ("NFULA_VLAN", VLAN),
    21: ("NFULA_L2HDR", OCTETS),
}  # fmt: skip
"""enum nfulnl_attr_type."""

NFULA_HWADDR, NFULA_HWTYPE, NFULA_HWHEADER = 8, 15, 16
NFULA_CT, NFULA_VLAN, NFULA_L2HDR = 18, 20, 21

CONFIG: Table = {
    1: ("NFULA_CFG_CMD", Int8ub),  # NFULNL_CFG_CMD_*
    2: ("NFULA_CFG_MODE", Struct("copy_range" / Int32ub, "copy_mode" / Int8ub, _pad(1))),
    3: ("NFULA_CFG_NLBUFSIZ", Int32ub),  # bytes
    4: ("NFULA_CFG_TIMEOUT", Int32ub),  # 1/100 s
    5: ("NFULA_CFG_QTHRESH", Int32ub),  # records
    6: ("NFULA_CFG_FLAGS", Int16ub),  # NFULNL_CFG_F_*
}  # fmt: skip
"""enum nfulnl_attr_config."""

NFULNL_CFG_CMD_BIND, NFULNL_CFG_CMD_UNBIND = 1, 2
NFULNL_CFG_CMD_PF_BIND, NFULNL_CFG_CMD_PF_UNBIND = 3, 4
NFULNL_COPY_NONE, NFULNL_COPY_META, NFULNL_COPY_PACKET = 0, 1, 2
NFULNL_CFG_F_SEQ, NFULNL_CFG_F_SEQ_GLOBAL, NFULNL_CFG_F_CONNTRACK = 1, 2, 4

_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
HOOKS = {
    2: _INET_HOOKS,  # NFPROTO_IPV4
    10: _INET_HOOKS,  # NFPROTO_IPV6
    1: _INET_HOOKS,  # NFPROTO_INET
    7: _INET_HOOKS[:5],  # NFPROTO_BRIDGE
    5: ("ingress", "egress"),  # NFPROTO_NETDEV
    3: ("input", "output", "forward"),  # NFPROTO_ARP
}
"""Hook names by nfgen_family; the number is the index."""

DIRECTIONS = {
    "prerouting": "in", "input": "in", "ingress": "in", "forward": "forward",
    "output": "out", "postrouting": "out", "egress": "out",
}  # fmt: skip


def _readers() -> dict[int, tuple[str, int, Any]]:
    """number -> (name, size, unpack) of the attributes of fixed size; size -1 for raw bytes."""
    readers: dict[int, tuple[str, int, Any]] = {}
    for number, (name, kind) in ATTRIBUTES.items():
        if isinstance(kind, dict) or kind is OCTETS or kind is TEXT:
            readers[number] = (name, -1, None)
        else:
            plan = Plan(kind if isinstance(kind, Struct) else Struct("value" / kind))
            readers[number] = (name, plan.size, plan.unpack)
    return readers


READERS = _readers()
"""How NfulnlStream.decode reads each attribute."""


def config(order: str, group: int, attrs: dict[str, Any], **head: int) -> bytes:
    """A config message, e.g. config("<", 5, {"NFULA_CFG_CMD": NFULNL_CFG_CMD_BIND}, flags=5).

    attrs   by their names in CONFIG, in the order in which they are sent
    head    family, flags, seq, pid
    """
    numbers = {name: number for number, (name, _) in CONFIG.items()}
    pairs = [(numbers[name], value) for name, value in attrs.items()]
    return build(CONFIG, order, NFULNL_MSG_CONFIG, group, pairs, **head)
