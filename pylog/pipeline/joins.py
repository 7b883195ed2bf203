"""The joins of a stack, before its filter: packets with their rule or flow, and whole flows.

`rules` and `with_flows` give packets of NFLOG the fields of `pylog read --rules` and
`--with-flows`; `flows` makes one record of the events of a flow. A stack joins what its own sources
give: it needs those that have the ruleset or the flows. `joined_feeds` does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pylog import backends, outputs
from pylog.outputs._named import with_joined
from pylog.record.joined import FLOW, RULE

_RULESET, _FLOWS = ("nftables",), ("nfct",)
_NEEDED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "rules": ("the ruleset", _RULESET, "nftables:"),
    "with_flows": ("the flows", _FLOWS, "nfct:"),
    "flows": ("events of flows", (*_FLOWS, "ipl"), "nfct:"),
}
"""By join: what it needs, the live sources that have it, and the one to suggest."""


_ONLY = {"nfct:": "flow", "nftables:": "ruleset"}
"""Sources without packets, and the kind of record that they give."""


class Settings(NamedTuple):
    """The joins that a stack has, as its configuration says.

    active_timeout   seconds
    """

    rules: bool = False
    with_flows: bool = False
    flows: bool = False
    active_timeout: float | None = None
    flow_limit: int | None = None

    @property
    def any(self) -> bool:
        return self.rules or self.with_flows or self.flows

    def words(self) -> list[str]:
        """The joins that are on, by name."""
        return [name for name in _NEEDED if getattr(self, name)]


class Read(NamedTuple):
    """A source of a stack: what it reads, and its options."""

    address: str
    options: Mapping[str, Any]


def source_name(address: str) -> str | None:
    """The name of a live source, as nflog; None for a file."""
    named = backends.named(address) if backends.is_live(address) else None
    return None if named is None else named[0]


def completed(settings: Settings, to: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an output, with what the joins of its stack decide: the columns of CSV."""
    made = dict(options)
    if to == "csv" and options.get("columns") is None:
        fields = {**(RULE if settings.rules else {}), **(FLOW if settings.with_flows else {})}
        if fields:
            made["columns"] = with_joined(fields)
    return made


def only_kind(settings: Settings, addresses: Sequence[str], to: str) -> str | None:
    """The kind of record of a file with one kind, if it is certain that there are no packets; None:
    the output decides.
    """
    description = outputs.description(to)
    if description.place or all(option.name != "kind" for option in description.options):
        return None
    kinds = {"flow" if settings.flows else _ONLY.get(address) for address in addresses}
    return kinds.pop() if len(kinds) == 1 else None


def check(settings: Settings, sources: Sequence[Read], to: str, options: Any) -> Iterator[str]:
    """What is wrong with the joins of a stack.

    to, options   of its output
    """
    for name in ("active_timeout", "flow_limit"):
        if getattr(settings, name) is not None and not settings.flows:
            yield f"{name} needs flows = true"
    if not settings.any:
        return
    words = settings.words()
    live = [own for source in sources if (own := source_name(source.address)) is not None]
    for word in words:
        what, needed, suggested = _NEEDED[word]
        if word == "with_flows" and any(source.options.get("conntrack") for source in sources):
            continue  # each packet has its flow
        if len(live) == len(sources) and not set(live) & set(needed):
            yield (
                f'{word}: no source of the stack has {what}: add one with from = "{suggested}",'
                " and name it in the stack's from"
            )
    if outputs.needs_raw(to, options):
        yield f"{words[0]} is not for {to}, which is made of the kernel's own records"
    elif (settings.rules or settings.with_flows) and not outputs.shows_joins(to, options):
        listed = ", ".join(outputs.showing_joins())
        yield f"{words[0]}: {to} has no fields for it; these outputs and formats have: {listed}"
    for source in sources:
        events = source.options.get("events")
        if settings.flows and events is not None and "destroy" not in str(events):
            yield f"flows needs the events destroy, but {source.address} has events = {events!r}"
