"""The attributes of conntrack's messages: entries, expectations, statistics and nfacct objects.

NFLOG has an entry in NFULA_CT if the group asks for it, by the same table. The numbers and names
are those of linux/netfilter/nfnetlink_conntrack.h, nfnetlink_acct.h and nf_conntrack_common.h, the
sizes of values those of nf_conntrack_netlink.c, nf_conntrack_proto_*.c and nfnetlink_acct.c in
net/netfilter.
"""

from __future__ import annotations

from typing import Any

from construct import Int8ub, Int16ub, Int32sb, Int32ub, Int64ub, Struct

from pylog.errors import DecodeError
from pylog.formats.netlink import (
    IPV4_ADDRESS,
    IPV6_ADDRESS,
    OCTETS,
    PADDING,
    TEXT,
    Table,
    to_dict,
)

CT_NEW, CT_DELETE, CT_STATS_CPU, CT_STATS = 0x100, 0x102, 0x104, 0x105
"""IPCTNL_MSG_CT_NEW, DELETE, GET_STATS_CPU and GET_STATS, with the subsystem."""
EXP_NEW, EXP_DELETE, EXP_STATS_CPU = 0x200, 0x202, 0x203
"""IPCTNL_MSG_EXP_NEW, DELETE and GET_STATS_CPU."""
ACCT_NEW, ACCT_OVERQUOTA = 0x700, 0x704
"""NFNL_MSG_ACCT_NEW and OVERQUOTA; an event that a quota is passed has the first."""

_IP: Table = {
    1: ("CTA_IP_V4_SRC", IPV4_ADDRESS),
    2: ("CTA_IP_V4_DST", IPV4_ADDRESS),
    3: ("CTA_IP_V6_SRC", IPV6_ADDRESS),
    4: ("CTA_IP_V6_DST", IPV6_ADDRESS),
}
_PROTO: Table = {
    1: ("CTA_PROTO_NUM", Int8ub),
    2: ("CTA_PROTO_SRC_PORT", Int16ub),
    3: ("CTA_PROTO_DST_PORT", Int16ub),
    4: ("CTA_PROTO_ICMP_ID", Int16ub),
    5: ("CTA_PROTO_ICMP_TYPE", Int8ub),
    6: ("CTA_PROTO_ICMP_CODE", Int8ub),
    7: ("CTA_PROTO_ICMPV6_ID", Int16ub),
    8: ("CTA_PROTO_ICMPV6_TYPE", Int8ub),
    9: ("CTA_PROTO_ICMPV6_CODE", Int8ub),
}
_TUPLE: Table = {
    1: ("CTA_TUPLE_IP", _IP),
    2: ("CTA_TUPLE_PROTO", _PROTO),
    3: ("CTA_TUPLE_ZONE", Int16ub),
}
_TCP_FLAGS = Struct("flags" / Int8ub, "mask" / Int8ub)
_PROTOINFO: Table = {
    1: ("CTA_PROTOINFO_TCP", {
        1: ("CTA_PROTOINFO_TCP_STATE", Int8ub),
        2: ("CTA_PROTOINFO_TCP_WSCALE_ORIGINAL", Int8ub),
        3: ("CTA_PROTOINFO_TCP_WSCALE_REPLY", Int8ub),
        4: ("CTA_PROTOINFO_TCP_FLAGS_ORIGINAL", _TCP_FLAGS),
        5: ("CTA_PROTOINFO_TCP_FLAGS_REPLY", _TCP_FLAGS),
    }),
    2: ("CTA_PROTOINFO_DCCP", {
        1: ("CTA_PROTOINFO_DCCP_STATE", Int8ub),
        2: ("CTA_PROTOINFO_DCCP_ROLE", Int8ub),
        3: ("CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ", Int64ub),
        4: ("CTA_PROTOINFO_DCCP_PAD", PADDING),
    }),
    3: ("CTA_PROTOINFO_SCTP", {
        1: ("CTA_PROTOINFO_SCTP_STATE", Int8ub),
        2: ("CTA_PROTOINFO_SCTP_VTAG_ORIGINAL", Int32ub),
        3: ("CTA_PROTOINFO_SCTP_VTAG_REPLY", Int32ub),
    }),
}  # fmt: skip
_COUNTERS: Table = {
    1: ("CTA_COUNTERS_PACKETS", Int64ub),
    2: ("CTA_COUNTERS_BYTES", Int64ub),
    3: ("CTA_COUNTERS32_PACKETS", Int32ub),
    4: ("CTA_COUNTERS32_BYTES", Int32ub),
    5: ("CTA_COUNTERS_PAD", PADDING),
}
_SEQ_ADJ: Table = {
    1: ("CTA_SEQADJ_CORRECTION_POS", Int32ub),
    2: ("CTA_SEQADJ_OFFSET_BEFORE", Int32sb),
    3: ("CTA_SEQADJ_OFFSET_AFTER", Int32sb),
}
CTA: Table = {
    1: ("CTA_TUPLE_ORIG", _TUPLE),
    2: ("CTA_TUPLE_REPLY", _TUPLE),
    3: ("CTA_STATUS", Int32ub),
    4: ("CTA_PROTOINFO", _PROTOINFO),
    5: ("CTA_HELP", {1: ("CTA_HELP_NAME", TEXT), 2: ("CTA_HELP_INFO", OCTETS)}),
    7: ("CTA_TIMEOUT", Int32ub),
    8: ("CTA_MARK", Int32ub),
    9: ("CTA_COUNTERS_ORIG", _COUNTERS),
    10: ("CTA_COUNTERS_REPLY", _COUNTERS),
    11: ("CTA_USE", Int32ub),
    12: ("CTA_ID", Int32ub),
    14: ("CTA_TUPLE_MASTER", _TUPLE),
    15: ("CTA_SEQ_ADJ_ORIG", _SEQ_ADJ),
    16: ("CTA_SEQ_ADJ_REPLY", _SEQ_ADJ),
    17: ("CTA_SECMARK", Int32ub),
    18: ("CTA_ZONE", Int16ub),
    19: ("CTA_SECCTX", {1: ("CTA_SECCTX_NAME", TEXT)}),
    20: ("CTA_TIMESTAMP", {
        1: ("CTA_TIMESTAMP_START", Int64ub),
        2: ("CTA_TIMESTAMP_STOP", Int64ub),
        3: ("CTA_TIMESTAMP_PAD", PADDING),
    }),
    22: ("CTA_LABELS", OCTETS),
    24: ("CTA_SYNPROXY", {
        1: ("CTA_SYNPROXY_ISN", Int32ub),
        2: ("CTA_SYNPROXY_ITS", Int32ub),
        3: ("CTA_SYNPROXY_TSOFF", Int32ub),
    }),
    27: ("CTA_TIMESTAMP_EVENT", Int64ub),
}  # fmt: skip
"""enum ctattr_type, as far as the kernel writes it. The other numbers are for requests (CTA_NAT_SRC
and CTA_NAT_DST, the masks, CTA_FILTER).

Before CTA_TIMESTAMP_EVENT the kernel pads with CTA_TIMESTAMP_PAD, which has the number of
CTA_STATUS.
"""

EXPECT: Table = {
    1: ("CTA_EXPECT_MASTER", _TUPLE),
    2: ("CTA_EXPECT_TUPLE", _TUPLE),
    3: ("CTA_EXPECT_MASK", _TUPLE),
    4: ("CTA_EXPECT_TIMEOUT", Int32ub),
    5: ("CTA_EXPECT_ID", Int32ub),
    6: ("CTA_EXPECT_HELP_NAME", TEXT),
    7: ("CTA_EXPECT_ZONE", Int16ub),
    8: ("CTA_EXPECT_FLAGS", Int32ub),
    9: ("CTA_EXPECT_CLASS", Int32ub),
    10: ("CTA_EXPECT_NAT", {
        1: ("CTA_EXPECT_NAT_DIR", Int32ub),
        2: ("CTA_EXPECT_NAT_TUPLE", _TUPLE),
    }),
    11: ("CTA_EXPECT_FN", TEXT),
}  # fmt: skip
"""enum ctattr_expect."""
STATS: Table = {
    1: ("CTA_STATS_GLOBAL_ENTRIES", Int32ub),
    2: ("CTA_STATS_GLOBAL_MAX_ENTRIES", Int32ub),
}
"""enum ctattr_stats_global."""
STATS_CPU: Table = {
    1: ("CTA_STATS_SEARCHED", Int32ub),
    2: ("CTA_STATS_FOUND", Int32ub),
    3: ("CTA_STATS_NEW", Int32ub),
    4: ("CTA_STATS_INVALID", Int32ub),
    5: ("CTA_STATS_IGNORE", Int32ub),
    6: ("CTA_STATS_DELETE", Int32ub),
    7: ("CTA_STATS_DELETE_LIST", Int32ub),
    8: ("CTA_STATS_INSERT", Int32ub),
    9: ("CTA_STATS_INSERT_FAILED", Int32ub),
    10: ("CTA_STATS_DROP", Int32ub),
    11: ("CTA_STATS_EARLY_DROP", Int32ub),
    12: ("CTA_STATS_ERROR", Int32ub),
    13: ("CTA_STATS_SEARCH_RESTART", Int32ub),
    14: ("CTA_STATS_CLASH_RESOLVE", Int32ub),
    15: ("CTA_STATS_CHAIN_TOOLONG", Int32ub),
}
"""enum ctattr_stats_cpu; older kernels send more of them."""
EXPECT_STATS_CPU: Table = {
    1: ("CTA_STATS_EXP_NEW", Int32ub),
    2: ("CTA_STATS_EXP_CREATE", Int32ub),
    3: ("CTA_STATS_EXP_DELETE", Int32ub),
}
"""enum ctattr_expect_stats."""
ACCT: Table = {
    1: ("NFACCT_NAME", TEXT),
    2: ("NFACCT_PKTS", Int64ub),
    3: ("NFACCT_BYTES", Int64ub),
    4: ("NFACCT_USE", Int32ub),
    5: ("NFACCT_FLAGS", Int32ub),
    6: ("NFACCT_QUOTA", Int64ub),
    8: ("NFACCT_PAD", PADDING),
}
"""enum nfnl_acct_type."""

_STATUS = (
    "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "DST_NAT", "SEQ_ADJUST",
    "SRC_NAT_DONE", "DST_NAT_DONE", "DYING", "FIXED_TIMEOUT", "TEMPLATE", "UNTRACKED", "HELPER",
    "OFFLOAD", "HW_OFFLOAD",
)  # fmt: skip
_TCP_STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
               "TIME_WAIT", "CLOSE", "SYN_SENT2")  # fmt: skip
_SCTP_STATES = ("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT",
                "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
                "HEARTBEAT_ACKED")  # fmt: skip
_DCCP_STATES = ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT",
                "IGNORE", "INVALID")  # fmt: skip
STATES = {"TCP": _TCP_STATES, "DCCP": _DCCP_STATES, "SCTP": _SCTP_STATES}
"""The names of states by the protocol in the attribute's name."""
EXPECT_FLAGS = ("PERMANENT", "INACTIVE", "USERSPACE")
ACCT_FLAGS = ("QUOTA_PKTS", "QUOTA_BYTES", "OVERQUOTA")
INFO = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED_REPLY", 4: "RELATED_REPLY",
        5: "NEW_REPLY", 7: "UNTRACKED"}  # fmt: skip
"""enum ip_conntrack_info, the value of NFULA_CT_INFO."""


def names_of(bits: int, names: tuple[str, ...] = _STATUS) -> list[str | int]:
    """The names of the bits that are set, from bit 0 on; bits without a name as one number."""
    listed: list[str | int] = [name for i, name in enumerate(names) if bits >> i & 1]
    rest = bits >> len(names) << len(names)
    return [*listed, rest] if rest else listed


def entry(
    data: bytes,
    start: int,
    end: int,
    order: str,
    base: int,
    flaws: list[DecodeError] | None = None,
) -> dict[str, Any]:
    """A conntrack entry as a JSON-ready mapping under the kernel's names.

    Raises DecodeError, and adds to `flaws`, as netlink.to_dict. CTA_STATUS is a list of the IPS_
    names, and a number for bits without a name. The states of TCP, DCCP and SCTP are names.
    """
    fields = to_dict(CTA, data, start, end, order, base, flaws)
    if "CTA_STATUS" in fields:
        fields["CTA_STATUS"] = names_of(fields["CTA_STATUS"])
    protoinfo = fields.get("CTA_PROTOINFO", {})
    for protocol, states in STATES.items():
        info = protoinfo.get(f"CTA_PROTOINFO_{protocol}", {})
        name = f"CTA_PROTOINFO_{protocol}_STATE"
        if info.get(name, len(states)) < len(states):
            info[name] = states[info[name]]
    return fields
