"""What schemas of security events ask of a record that no single field says: ECS, CEF.

A schema wants to know whether a flow begins or ends, what a change of the ruleset does, and both
addresses of the link.
"""

from __future__ import annotations

from typing import Any

_ARPHRD_ETHER = 1
_ETH_ALEN = 6

_STARTS = {"new", "clone"}
_ENDS = {"expire", "flush", "destroy", "purge", "remove", "killed", "orphan", "unload", "end"}


def hardware_addresses(record: Any) -> tuple[str | None, str | None]:
    """The source and destination address of the link of a packet, as hex with colons.

    Only an Ethernet header has both (struct ethhdr: h_dest, h_source).
    """
    header = record.hwheader
    if record.hwtype != _ARPHRD_ETHER or header is None or len(header) < 4 * _ETH_ALEN:
        return record.hwaddr, None
    octets = [header[at : at + 2] for at in range(0, 4 * _ETH_ALEN, 2)]
    return record.hwaddr or ":".join(octets[_ETH_ALEN:]), ":".join(octets[:_ETH_ALEN])


def end_of(flow: Any) -> str | None:
    """Which end of a flow its record is: "start" or "end"; None for what is between."""
    event = str(flow.event)
    return "start" if event in _STARTS else "end" if event in _ENDS else None


def change_of(record: Any) -> str:
    """What a change of the ruleset does: "creation", "deletion", "change", or "info" for what was
    there before.
    """
    if record.via == "snapshot":
        return "info"
    if record.change in ("replace", "update") or record.op == "new_gen":
        return "change"
    return "deletion" if (record.op or "").startswith("del_") else "creation"


def ruleset_name(family: Any, table: str | None, chain: str | None) -> str:
    """A chain, or a table, as nft names it: inet filter input."""
    return " ".join(str(part) for part in (family, table, chain) if part is not None)
