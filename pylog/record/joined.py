"""A packet with the rule that logged it, and with the flow that it belongs to.

The rule is not in the kernel's message: pylog.join derives it from records of the ruleset and of
traces. The flow is there only if the group asks for it: else pylog.flows.join derives it from
records of conntrack. The fields have a type of their own, a subclass of PacketRecord, so that
packets of which nobody asks for them cost nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pylog.record.fields import Field, fields_of
from pylog.record.kinds import PacketRecord


class JoinedRecord(PacketRecord, frozen=True, gc=False, tag="packet"):
    """A packet that NFLOG logged, with its rule of nftables and its flow, as far as they are sure.

    Of a rule either `rule_handle` and the names are set, or `rule_unknown` says why not. Of a flow
    either `flow_match` is set, or `flow_unknown`. Fields of what was not joined are all None.
    """

    rule_family: Annotated[
        str | int | None, Field("the family of the table of the rule that logged it", "name")
    ] = None
    rule_table: Annotated[str | None, Field("the table of that rule", "word")] = None
    rule_chain: Annotated[str | None, Field("the chain of that rule", "word")] = None
    rule_handle: Annotated[int | None, Field("the handle of that rule", "u64")] = None
    rule_text: Annotated[
        str | None, Field("that rule in the words of nft, where the log has it", "word")
    ] = None
    rule_match: Annotated[
        str | None,
        Field(
            "how it was matched: trace (the packet's trace names it) or prefix (it is the only"
            " rule with this prefix and group that the packet can have met)",
            "word",
        ),
    ] = None
    rule_unknown: Annotated[str | None, Field("why the rule is not named", "word")] = None
    rule_candidates: Annotated[
        list[dict[str, Any]] | None,
        Field("the rules that it can be: `family`, `table`, `chain`, `handle`, `text`, `why`",
              "json"),
    ] = None  # fmt: skip

    flow_id: Annotated[
        int | None, Field("the kernel's number of the conntrack entry of its flow", "u32")
    ] = None
    flow_state: Annotated[
        str | int | None,
        Field(
            "the flow's state when the packet was logged: that of TCP or SCTP; of other protocols"
            " UNREPLIED, REPLIED or ASSURED; absent where times do not show which",
            "name",
        ),
    ] = None
    flow_age: Annotated[
        float | None,
        Field("seconds from the start of the flow to the packet; absent if its start is not in the"
              " log", "f64"),
    ] = None  # fmt: skip
    flow_direction: Annotated[
        str | None,
        Field("original for a packet in the direction of the flow's first one, reply for others;"
              " of an ICMP error that of the packet that it quotes", "word"),
    ] = None  # fmt: skip
    nat_saddr: Annotated[
        str | None,
        Field("the packet's source address on the other side of the translation, if the flow is"
              " translated", "address"),
    ] = None  # fmt: skip
    nat_daddr: Annotated[str | None, Field("its destination address on that side", "address")] = (
        None
    )
    nat_sport: Annotated[int | None, Field("its source port on that side", "u16")] = None
    nat_dport: Annotated[int | None, Field("its destination port on that side", "u16")] = None
    flow_match: Annotated[
        str | None,
        Field(
            "how the flow was matched: kernel (NFULA_CT names it) or ends (it is the only flow with"
            " these addresses and ports at that time)",
            "word",
        ),
    ] = None
    flow_unknown: Annotated[str | None, Field("why the flow is not named", "word")] = None
    flow_candidates: Annotated[
        list[dict[str, Any]] | None,
        Field("the flows that it can be: `id`, `zone`, `netns`, `start`", "json"),
    ] = None


JOINED = {
    name: field
    for name, field in fields_of(JoinedRecord).items()
    if name not in PacketRecord.__struct_fields__
}
"""The fields of the rule and of the flow, which only a join gives."""
RULE = {name: field for name, field in JOINED.items() if name.startswith("rule_")}
"""Those of the rule."""
FLOW = {name: field for name, field in JOINED.items() if name not in RULE}
"""Those of the flow."""


def joined(packet: PacketRecord, **fields: Any) -> JoinedRecord:
    """The packet with fields of a rule or a flow, besides those that it has."""
    names = packet.__struct_fields__
    return JoinedRecord(**{name: getattr(packet, name) for name in names} | fields)
