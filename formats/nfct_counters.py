"""What statistics and nfacct objects say, as CounterRecords.

An nfacct object has a name, packets and bytes, and may have a quota. The statistics of conntrack
are numbers of other things, and stay in `extra` under the kernel's names; those of a CPU have its
number in nfgenmsg.res_id.

Sources: net/netfilter/nfnetlink_acct.c, ctnetlink_ct_stat_cpu_fill_info and
ctnetlink_stat_ct_fill_info in net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.nfct_attributes import ACCT_FLAGS, names_of


def object_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a CounterRecord from the attributes of an nfacct object, which are used up."""
    made: dict[str, Any] = {"name": fields.pop("NFACCT_NAME", None)}
    for field, name in (
        ("packets", "NFACCT_PKTS"), ("bytes", "NFACCT_BYTES"), ("quota", "NFACCT_QUOTA")
    ):  # fmt: skip
        if name in fields:
            made[field] = int(fields.pop(name))
    if "NFACCT_FLAGS" in fields:
        made["flags"] = names_of(fields.pop("NFACCT_FLAGS"), ACCT_FLAGS)
    made["extra"] = fields or None
    return made


def statistics_fields(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The same of statistics, which have nothing but numbers."""
    return {"name": name, "extra": fields or None}
