"""A packet with the rule that logged it.

The rule is not in the kernel's message: pylog.join derives it from records of the ruleset and of
traces. The fields have a type of their own, a subclass of PacketRecord, so that packets of which
nobody asks for the rule cost nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pylog.record.fields import Field, fields_of
from pylog.record.kinds import PacketRecord


class JoinedRecord(PacketRecord, frozen=True, gc=False, tag="packet"):
    """A packet that NFLOG logged, with the rule of nftables that logged it, as far as that is sure.

    Either `rule_handle` and the names are set, or `rule_unknown` says why not.
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


JOINED = {
    name: field
    for name, field in fields_of(JoinedRecord).items()
    if name not in PacketRecord.__struct_fields__
}
"""The fields of the rule, which only a join gives."""
