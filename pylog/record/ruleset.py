"""Kinds of record that nftables gives: changes of the ruleset, and steps of packets through it.

The kernel multicasts both: NFNLGRP_NFTABLES has the objects that a transaction changed and then its
generation, NFNLGRP_NFTRACE the rules that a packet passed. A field that a message leaves out is
None: messages about deletions have little more than a name and a handle.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pylog.record.base import BaseRecord
from pylog.record.fields import Field

LOG = "ruleset"


class RulesetRecord(BaseRecord, frozen=True, gc=False, tag="ruleset"):
    """A change of the ruleset: an entity that a commit made, changed or deleted; or the commit.

    `op` names the entity, and which other fields are set follows from it. The records of a commit
    stand together, the one of the commit itself (`new_gen`) last.
    """

    kind: ClassVar[Literal["ruleset"]] = "ruleset"

    op: Annotated[
        str | None,
        Field(
            "new_ or del_ with table, chain, rule, set, set_element, obj or flowtable; new_gen is"
            " the commit, the last record of its group, or with `via` snapshot, that there was"
            " nothing",
            "word",
            since=3,
        ),
    ] = None
    change: Annotated[
        str | None,
        Field("what the change does: append, insert, replace, update or delete", "word", since=3),
    ] = None
    generation: Annotated[
        int | None,
        Field(
            "the generation that the commit made; absent for a change outside a commit",
            "u32",
            since=3,
        ),
    ] = None
    pid: Annotated[
        int | None,
        Field("the thread that committed, as the initial pid namespace numbers it", "u32", since=3),
    ] = None
    process: Annotated[
        str | None, Field("the name (comm) of the process that committed", "word", since=3)
    ] = None
    portid: Annotated[
        int | None, Field("the netlink port of the socket that committed", "u32", since=3)
    ] = None
    uid: Annotated[
        int | None,
        Field("the user of the process that committed, live, from /proc", "u32", since=3),
    ] = None
    cmdline: Annotated[
        str | None, Field("the command line of that process, live, from /proc", "word", since=3)
    ] = None
    cgroup: Annotated[
        str | None, Field("the cgroup of that process, live, from /proc", "word", since=3)
    ] = None
    via: Annotated[
        str | None,
        Field(
            "how pylog learned of it, where no commit announced it: snapshot (it was there when"
            " reading began) or relist (a later listing differs)",
            "word",
            since=3,
        ),
    ] = None
    incomplete: Annotated[
        bool | None,
        Field(
            "records of the same commit are missing, or may be, because of a loss", "bool", since=3
        ),
    ] = None
    partial: Annotated[
        bool | None,
        Field("a part of a commit that is too large to be held until its end", "bool", since=3),
    ] = None
    family: Annotated[
        str | int | None,
        Field("inet, ip, ip6, arp, bridge or netdev; or the number", "name", since=3),
    ] = None
    table: Annotated[str | None, Field("the table, by name", "word", since=3)] = None
    chain: Annotated[
        str | None, Field("the chain of a rule, or the chain itself", "word", since=3)
    ] = None
    name: Annotated[
        str | None, Field("the name of a set, of the set of elements, of an object or"
                          " flowtable", "word", since=3),
    ] = None  # fmt: skip
    handle: Annotated[
        int | None, Field("the number of the entity in its table", "u64", since=3)
    ] = None
    position: Annotated[
        int | None, Field("the handle of the rule before, where the kernel says it", "u64", since=3)
    ] = None
    type: Annotated[
        str | int | None,
        Field(
            "of a base chain: filter, nat or route; of an object: counter, quota, ct_helper,"
            " limit...",
            "name",
            since=3,
        ),
    ] = None
    hook: Annotated[
        str | int | None, Field("the hook of a base chain or flowtable", "name", since=3)
    ] = None
    priority: Annotated[int | None, Field("the priority in the hook", "i64", since=3)] = None
    policy: Annotated[
        str | int | None, Field("the policy of a base chain: accept or drop", "name", since=3)
    ] = None
    devices: Annotated[
        list[str] | None, Field("the devices of a base chain or flowtable", "json", since=3)
    ] = None
    flags: Annotated[
        int | None, Field("the flags of a table, chain or set, as in nf_tables.h", "u32", since=3)
    ] = None
    comment: Annotated[str | None, Field("the comment", "word", since=3)] = None
    expressions: Annotated[
        list[dict[str, Any]] | None,
        Field(
            "the expressions of a rule, or of a set: each with `name` and its values",
            "json",
            since=3,
        ),
    ] = None
    elements: Annotated[
        list[dict[str, Any]] | None,
        Field(
            "elements of a set: `key` and `key_end` (hex), `data`, or `verdict` and `chain`,"
            " `flags`, `timeout`, `expires`, `comment`",
            "json",
            since=3,
        ),
    ] = None
    text: Annotated[
        str | None,
        Field("the entity as an administrator writes it, in the words of nft", "word", since=3),
    ] = None

    @property
    def log(self) -> str:
        """The log that generations number."""
        return LOG


class TraceRecord(BaseRecord, frozen=True, gc=False, tag="trace"):
    """A step of a packet through the ruleset: a rule that matched, the end of a chain, a policy.

    The kernel gives the packet's headers in the first step of each base chain only.
    """

    kind: ClassVar[Literal["trace"]] = "trace"

    id: Annotated[
        str | None,
        Field("the kernel's number of the packet, in hex; it is used again", "word", since=3),
    ] = None
    type: Annotated[str | int | None, Field("rule, return or policy", "name", since=3)] = None
    family: Annotated[
        str | int | None, Field("the family of the table: inet, ip, ip6, arp, bridge, netdev",
                                "name", since=3),
    ] = None  # fmt: skip
    table: Annotated[str | None, Field("the table", "word", since=3)] = None
    chain: Annotated[str | None, Field("the chain", "word", since=3)] = None
    handle: Annotated[
        int | None, Field("the rule that matched; absent at the end of a chain", "u64", since=3)
    ] = None
    verdict: Annotated[
        str | int | None,
        Field("accept, drop, continue, jump, goto, return, queue, stolen...", "name", since=3),
    ] = None
    target: Annotated[str | None, Field("the chain of a jump or goto", "word", since=3)] = None
    policy: Annotated[
        str | int | None, Field("the policy that decided: accept or drop", "name", since=3)
    ] = None
    nfproto: Annotated[
        int | None, Field("the packet's family: 2 IPv4, 10 IPv6, 3 ARP, 7 bridge", "u32", since=3)
    ] = None
    mark: Annotated[int | None, Field("the packet's mark, if it has any", "u32", since=3)] = None
    indev: Annotated[
        str | int | None, Field("the interface it came in by: a name, or a number", "name", since=3)
    ] = None
    outdev: Annotated[
        str | int | None, Field("the interface it goes out by, as `indev`", "name", since=3)
    ] = None
    ct_id: Annotated[int | None, Field("the number of its conntrack entry", "u32", since=3)] = None
    ct_direction: Annotated[
        str | int | None, Field("its direction in that entry: original or reply", "name", since=3)
    ] = None
    ct_state: Annotated[
        str | int | None,
        Field("its state: new, established, related, invalid or untracked", "name", since=3),
    ] = None
    ct_status: Annotated[
        int | None, Field("the status bits of that entry (IPS_*)", "u32", since=3)
    ] = None
    protocol: Annotated[int | None, Field("the IP protocol's number", "u8", since=3)] = None
    saddr: Annotated[str | None, Field("source address", "address", since=3)] = None
    daddr: Annotated[str | None, Field("destination address", "address", since=3)] = None
    sport: Annotated[int | None, Field("source port", "u16", since=3)] = None
    dport: Annotated[int | None, Field("destination port", "u16", since=3)] = None
    tcp_flags: Annotated[str | None, Field("TCP flags as letters", "word", since=3)] = None
    icmp_type: Annotated[int | None, Field("the type of an ICMP message", "u8", since=3)] = None
    icmp_code: Annotated[int | None, Field("the code of an ICMP message", "u8", since=3)] = None
    length: Annotated[
        int | None, Field("bytes of the packet, as its header says", "i64", since=3)
    ] = None
    text: Annotated[
        str | None,
        Field("the rule that matched, in the words of nft, if it is known", "word", since=3),
    ] = None
    payload: Annotated[
        bytes | None, Field("the headers that the kernel copied, from the network header on",
                            "octets", since=3),
    ] = None  # fmt: skip

    @property
    def log(self) -> str:
        """The log of the ruleset, which a capture keeps together: a step is one of its rules."""
        return "ruleset"
