"""The attributes of nftables' messages: the tables that say what every number means.

Each entity of a ruleset has a table {number: (name, type)} under the kernel's names, as
pylog.formats.netlink reads and builds them; `FIELDS` names the record's field that an attribute
becomes. All values are big-endian, and nesting is known from the number only: the kernel never sets
NLA_F_NESTED here. Expressions have tables of their own (formats.nft_expressions).

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c and nf_tables_trace.c. The
attributes 18 to 21 of a trace and 19 of a set are newer than that header.
"""

from __future__ import annotations

from construct import Int8ub, Int16ub, Int32sb, Int32ub, Int64ub

from pylog.formats.netlink import OCTETS, PADDING, TEXT, Table

# enum nf_tables_msg_types, with the subsystem in the upper byte of nlmsg_type
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE = 0xA00, 0xA01, 0xA02
NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN, NFT_MSG_DELCHAIN = 0xA03, 0xA04, 0xA05
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE = 0xA06, 0xA07, 0xA08
NFT_MSG_NEWSET, NFT_MSG_GETSET, NFT_MSG_DELSET = 0xA09, 0xA0A, 0xA0B
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = 0xA0C, 0xA0D, 0xA0E
NFT_MSG_NEWGEN, NFT_MSG_GETGEN, NFT_MSG_TRACE = 0xA0F, 0xA10, 0xA11
NFT_MSG_NEWOBJ, NFT_MSG_GETOBJ, NFT_MSG_DELOBJ = 0xA12, 0xA13, 0xA14
NFT_MSG_NEWFLOWTABLE, NFT_MSG_GETFLOWTABLE, NFT_MSG_DELFLOWTABLE = 0xA16, 0xA17, 0xA18

NLM_F_DUMP_INTR, NLM_F_APPEND = 0x10, 0x800

LISTING_SEQ = 0x70796C67
"""The nlmsg_seq in pylog's own listings of a ruleset. Only these are sure to be complete: what they
lack is not in the kernel."""

LIST = 1
"""NFTA_LIST_ELEM: what every element of a list is."""
VERDICT: Table = {
    1: ("NFTA_VERDICT_CODE", Int32sb),
    2: ("NFTA_VERDICT_CHAIN", TEXT),
}
DATA: Table = {1: ("NFTA_DATA_VALUE", OCTETS), 2: ("NFTA_DATA_VERDICT", VERDICT)}
GENERATION: Table = {
    1: ("NFTA_GEN_ID", Int32ub),
    2: ("NFTA_GEN_PROC_PID", Int32ub),
    3: ("NFTA_GEN_PROC_NAME", TEXT),
}
TABLE: Table = {
    1: ("NFTA_TABLE_NAME", TEXT),
    2: ("NFTA_TABLE_FLAGS", Int32ub),
    3: ("NFTA_TABLE_USE", Int32ub),
    4: ("NFTA_TABLE_HANDLE", Int64ub),
    5: ("NFTA_TABLE_PAD", PADDING),
    6: ("NFTA_TABLE_USERDATA", OCTETS),
    7: ("NFTA_TABLE_OWNER", Int32ub),
}
HOOK: Table = {
    1: ("NFTA_HOOK_NUM", Int32ub),
    2: ("NFTA_HOOK_PRIORITY", Int32sb),
    3: ("NFTA_HOOK_DEV", TEXT),
    4: ("NFTA_HOOK_DEVS", OCTETS),
}
FLOWTABLE_HOOK: Table = {
    1: ("NFTA_FLOWTABLE_HOOK_NUM", Int32ub),
    2: ("NFTA_FLOWTABLE_HOOK_PRIORITY", Int32sb),
    3: ("NFTA_FLOWTABLE_HOOK_DEVS", OCTETS),
}
CHAIN: Table = {
    1: ("NFTA_CHAIN_TABLE", TEXT),
    2: ("NFTA_CHAIN_HANDLE", Int64ub),
    3: ("NFTA_CHAIN_NAME", TEXT),
    4: ("NFTA_CHAIN_HOOK", HOOK),
    5: ("NFTA_CHAIN_POLICY", Int32ub),
    6: ("NFTA_CHAIN_USE", Int32ub),
    7: ("NFTA_CHAIN_TYPE", TEXT),
    8: ("NFTA_CHAIN_COUNTERS", {
        1: ("NFTA_COUNTER_BYTES", Int64ub),
        2: ("NFTA_COUNTER_PACKETS", Int64ub),
        3: ("NFTA_COUNTER_PAD", PADDING),
    }),
    9: ("NFTA_CHAIN_PAD", PADDING),
    10: ("NFTA_CHAIN_FLAGS", Int32ub),
    11: ("NFTA_CHAIN_ID", Int32ub),
    12: ("NFTA_CHAIN_USERDATA", OCTETS),
}  # fmt: skip
RULE: Table = {
    1: ("NFTA_RULE_TABLE", TEXT),
    2: ("NFTA_RULE_CHAIN", TEXT),
    3: ("NFTA_RULE_HANDLE", Int64ub),
    4: ("NFTA_RULE_EXPRESSIONS", OCTETS),
    5: ("NFTA_RULE_COMPAT", {1: ("NFTA_RULE_COMPAT_PROTO", Int32ub),
                             2: ("NFTA_RULE_COMPAT_FLAGS", Int32ub)}),
    6: ("NFTA_RULE_POSITION", Int64ub),
    7: ("NFTA_RULE_USERDATA", OCTETS),
    8: ("NFTA_RULE_PAD", PADDING),
    9: ("NFTA_RULE_ID", Int32ub),
    10: ("NFTA_RULE_POSITION_ID", Int32ub),
    11: ("NFTA_RULE_CHAIN_ID", Int32ub),
}  # fmt: skip
SET_DESC: Table = {
    1: ("NFTA_SET_DESC_SIZE", Int32ub),
    2: ("NFTA_SET_DESC_CONCAT", OCTETS),
}
SET_FIELD: Table = {1: ("NFTA_SET_FIELD_LEN", Int32ub)}
SET: Table = {
    1: ("NFTA_SET_TABLE", TEXT),
    2: ("NFTA_SET_NAME", TEXT),
    3: ("NFTA_SET_FLAGS", Int32ub),
    4: ("NFTA_SET_KEY_TYPE", Int32ub),
    5: ("NFTA_SET_KEY_LEN", Int32ub),
    6: ("NFTA_SET_DATA_TYPE", Int32ub),
    7: ("NFTA_SET_DATA_LEN", Int32ub),
    8: ("NFTA_SET_POLICY", Int32ub),
    9: ("NFTA_SET_DESC", SET_DESC),
    10: ("NFTA_SET_ID", Int32ub),
    11: ("NFTA_SET_TIMEOUT", Int64ub),
    12: ("NFTA_SET_GC_INTERVAL", Int32ub),
    13: ("NFTA_SET_USERDATA", OCTETS),
    14: ("NFTA_SET_PAD", PADDING),
    15: ("NFTA_SET_OBJ_TYPE", Int32ub),
    16: ("NFTA_SET_HANDLE", Int64ub),
    17: ("NFTA_SET_EXPR", OCTETS),
    18: ("NFTA_SET_EXPRESSIONS", OCTETS),
    19: ("NFTA_SET_TYPE", TEXT),
    20: ("NFTA_SET_COUNT", Int32ub),
}
ELEMENT: Table = {
    1: ("NFTA_SET_ELEM_KEY", DATA),
    2: ("NFTA_SET_ELEM_DATA", DATA),
    3: ("NFTA_SET_ELEM_FLAGS", Int32ub),
    4: ("NFTA_SET_ELEM_TIMEOUT", Int64ub),
    5: ("NFTA_SET_ELEM_EXPIRATION", Int64ub),
    6: ("NFTA_SET_ELEM_USERDATA", OCTETS),
    7: ("NFTA_SET_ELEM_EXPR", OCTETS),
    8: ("NFTA_SET_ELEM_PAD", PADDING),
    9: ("NFTA_SET_ELEM_OBJREF", TEXT),
    10: ("NFTA_SET_ELEM_KEY_END", DATA),
    11: ("NFTA_SET_ELEM_EXPRESSIONS", OCTETS),
}
ELEMENTS: Table = {
    1: ("NFTA_SET_ELEM_LIST_TABLE", TEXT),
    2: ("NFTA_SET_ELEM_LIST_SET", TEXT),
    3: ("NFTA_SET_ELEM_LIST_ELEMENTS", OCTETS),
    4: ("NFTA_SET_ELEM_LIST_SET_ID", Int32ub),
}
OBJECT: Table = {
    1: ("NFTA_OBJ_TABLE", TEXT),
    2: ("NFTA_OBJ_NAME", TEXT),
    3: ("NFTA_OBJ_TYPE", Int32ub),
    4: ("NFTA_OBJ_DATA", OCTETS),
    5: ("NFTA_OBJ_USE", Int32ub),
    6: ("NFTA_OBJ_HANDLE", Int64ub),
    7: ("NFTA_OBJ_PAD", PADDING),
    8: ("NFTA_OBJ_USERDATA", OCTETS),
}
FLOWTABLE: Table = {
    1: ("NFTA_FLOWTABLE_TABLE", TEXT),
    2: ("NFTA_FLOWTABLE_NAME", TEXT),
    3: ("NFTA_FLOWTABLE_HOOK", FLOWTABLE_HOOK),
    4: ("NFTA_FLOWTABLE_USE", Int32ub),
    5: ("NFTA_FLOWTABLE_HANDLE", Int64ub),
    6: ("NFTA_FLOWTABLE_PAD", PADDING),
    7: ("NFTA_FLOWTABLE_FLAGS", Int32ub),
}
TRACE: Table = {
    1: ("NFTA_TRACE_TABLE", TEXT),
    2: ("NFTA_TRACE_CHAIN", TEXT),
    3: ("NFTA_TRACE_RULE_HANDLE", Int64ub),
    4: ("NFTA_TRACE_TYPE", Int32ub),
    5: ("NFTA_TRACE_VERDICT", VERDICT),
    6: ("NFTA_TRACE_ID", Int32ub),
    7: ("NFTA_TRACE_LL_HEADER", OCTETS),
    8: ("NFTA_TRACE_NETWORK_HEADER", OCTETS),
    9: ("NFTA_TRACE_TRANSPORT_HEADER", OCTETS),
    10: ("NFTA_TRACE_IIF", Int32ub),
    11: ("NFTA_TRACE_IIFTYPE", Int16ub),
    12: ("NFTA_TRACE_OIF", Int32ub),
    13: ("NFTA_TRACE_OIFTYPE", Int16ub),
    14: ("NFTA_TRACE_MARK", Int32ub),
    15: ("NFTA_TRACE_NFPROTO", Int32ub),
    16: ("NFTA_TRACE_POLICY", Int32ub),
    17: ("NFTA_TRACE_PAD", PADDING),
    18: ("NFTA_TRACE_CT_ID", Int32ub),
    19: ("NFTA_TRACE_CT_DIRECTION", Int8ub),
    20: ("NFTA_TRACE_CT_STATUS", Int32ub),
    21: ("NFTA_TRACE_CT_STATE", Int32ub),
}
OBJECT_DATA: dict[int, Table] = {
    1: {
        1: ("NFTA_COUNTER_BYTES", Int64ub),
        2: ("NFTA_COUNTER_PACKETS", Int64ub),
        3: ("NFTA_COUNTER_PAD", PADDING),
    },
    2: {
        1: ("NFTA_QUOTA_BYTES", Int64ub),
        2: ("NFTA_QUOTA_FLAGS", Int32ub),
        3: ("NFTA_QUOTA_PAD", PADDING),
        4: ("NFTA_QUOTA_CONSUMED", Int64ub),
    },
    3: {
        1: ("NFTA_CT_HELPER_NAME", TEXT),
        2: ("NFTA_CT_HELPER_L3PROTO", Int16ub),
        3: ("NFTA_CT_HELPER_L4PROTO", Int8ub),
    },
    4: {
        1: ("NFTA_LIMIT_RATE", Int64ub),
        2: ("NFTA_LIMIT_UNIT", Int64ub),
        3: ("NFTA_LIMIT_BURST", Int32ub),
        4: ("NFTA_LIMIT_TYPE", Int32ub),
        5: ("NFTA_LIMIT_FLAGS", Int32ub),
        6: ("NFTA_LIMIT_PAD", PADDING),
    },
    5: {
        1: ("NFTA_CONNLIMIT_COUNT", Int32ub),
        2: ("NFTA_CONNLIMIT_FLAGS", Int32ub),
    },
    7: {
        1: ("NFTA_CT_TIMEOUT_L3PROTO", Int16ub),
        2: ("NFTA_CT_TIMEOUT_L4PROTO", Int8ub),
        3: ("NFTA_CT_TIMEOUT_DATA",
            {state: (f"CTA_TIMEOUT_{state}", Int32ub) for state in range(1, 17)}),
    },
    8: {1: ("NFTA_SECMARK_CTX", TEXT)},
    9: {
        1: ("NFTA_CT_EXPECT_L3PROTO", Int16ub),
        2: ("NFTA_CT_EXPECT_L4PROTO", Int8ub),
        3: ("NFTA_CT_EXPECT_DPORT", Int16ub),
        # the kernel writes these four bytes in its own order, see HOST_ORDER
        4: ("NFTA_CT_EXPECT_TIMEOUT", OCTETS),
        5: ("NFTA_CT_EXPECT_SIZE", Int8ub),
    },
    10: {
        1: ("NFTA_SYNPROXY_MSS", Int16ub),
        2: ("NFTA_SYNPROXY_WSCALE", Int8ub),
        3: ("NFTA_SYNPROXY_FLAGS", Int32ub),
    },
}  # fmt: skip
"""NFTA_OBJ_DATA by NFTA_OBJ_TYPE."""
HOST_ORDER = frozenset(("NFTA_CT_EXPECT_TIMEOUT",))
"""Attributes with a u32 in the byte order of the machine (nla_put_u32 in nft_ct.c)."""

FIELDS: dict[str, str] = {
    "NFTA_GEN_ID": "generation", "NFTA_GEN_PROC_PID": "pid", "NFTA_GEN_PROC_NAME": "process",
    "NFTA_TABLE_NAME": "table", "NFTA_TABLE_FLAGS": "flags", "NFTA_TABLE_HANDLE": "handle",
    "NFTA_CHAIN_TABLE": "table", "NFTA_CHAIN_HANDLE": "handle", "NFTA_CHAIN_NAME": "chain",
    "NFTA_CHAIN_TYPE": "type", "NFTA_CHAIN_FLAGS": "flags",
    "NFTA_RULE_TABLE": "table", "NFTA_RULE_CHAIN": "chain", "NFTA_RULE_HANDLE": "handle",
    "NFTA_RULE_POSITION": "position",
    "NFTA_SET_TABLE": "table", "NFTA_SET_NAME": "name", "NFTA_SET_FLAGS": "flags",
    "NFTA_SET_HANDLE": "handle",
    "NFTA_SET_ELEM_LIST_TABLE": "table", "NFTA_SET_ELEM_LIST_SET": "name",
    "NFTA_OBJ_TABLE": "table", "NFTA_OBJ_NAME": "name", "NFTA_OBJ_HANDLE": "handle",
    "NFTA_FLOWTABLE_TABLE": "table", "NFTA_FLOWTABLE_NAME": "name",
    "NFTA_FLOWTABLE_HANDLE": "handle", "NFTA_FLOWTABLE_FLAGS": "flags",
    "NFTA_TRACE_TABLE": "table", "NFTA_TRACE_CHAIN": "chain", "NFTA_TRACE_RULE_HANDLE": "handle",
    "NFTA_TRACE_MARK": "mark", "NFTA_TRACE_NFPROTO": "nfproto", "NFTA_TRACE_CT_ID": "ct_id",
    "NFTA_TRACE_CT_STATUS": "ct_status",
}  # fmt: skip
"""The field of the record that has the value of an attribute unchanged."""

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""nfgen_family of a table: enum nfproto."""
_INET = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
HOOKS: dict[int, tuple[str, ...]] = {
    1: _INET, 2: _INET[:5], 10: _INET[:5], 7: _INET[:5], 3: ("input", "output", "forward"),
    5: ("ingress", "egress"),
}  # fmt: skip
"""Names of NFTA_HOOK_HOOKNUM (here NFTA_HOOK_NUM) by family: enum nf_inet_hooks (NF_INET_INGRESS
is inet's alone), enum nf_br_hook_priorities, NF_ARP_IN and NF_ARP_OUT, enum nf_dev_hooks."""
OBJECTS = {
    1: "counter", 2: "quota", 3: "ct_helper", 4: "limit", 5: "connlimit", 6: "tunnel",
    7: "ct_timeout", 8: "secmark", 9: "ct_expectation", 10: "synproxy",
}  # fmt: skip
"""NFTA_OBJ_TYPE: NFT_OBJECT_..."""
POLICIES = {0: "drop", 1: "accept"}
VERDICTS = {
    -5: "return", -4: "goto", -3: "jump", -2: "break", -1: "continue", 0: "drop", 1: "accept",
    2: "stolen", 3: "queue", 4: "repeat", 5: "stop",
}  # fmt: skip
"""enum nft_verdicts, and those of linux/netfilter.h, which are the low 8 bits of a positive code:
a queue's number is in the upper 16."""
TRACE_TYPES = {1: "policy", 2: "return", 3: "rule"}
CT_DIRECTIONS = {0: "original", 1: "reply"}
CT_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
"""NF_CT_STATE_BIT: 1 << (ctinfo % IP_CT_IS_REPLY) + 1."""


def verdict_word(code: int) -> str | int:
    """The name of a verdict's code, or the code."""
    return VERDICTS.get(code if code < 0 else code & 0xFF, code)
