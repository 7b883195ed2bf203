"""Listings of the ruleset among the messages of nftables, while they are received.

A listing is the answers to dumps of all kinds of entities. It counts only if no commit came between
its parts: all messages have the low 16 bits of the same generation, and none has NLM_F_DUMP_INTR.

Source: nf_tables_dump_... in net/netfilter/nf_tables_api.c; recordings.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import force_setattr

from pylog.formats.nft_attributes import LISTING_SEQ, NLM_F_DUMP_INTR
from pylog.formats.nft_budget import Budget
from pylog.formats.nft_model import Model
from pylog.record import RulesetRecord

MOST_BYTES, MOST_RECORDS = 1 << 26, 200_000
"""A commit or listing with more messages is given in parts: so many records take about 150 MB."""

MOST_ELEMENTS = 1 << 19
"""A model with more elements and entities is not held: first the elements of sets with a name are
forgotten, which only listings are compared with, then all."""


def is_large(size: int, count: int) -> bool:
    """Whether so many records, of messages with so many bytes, must not be held any longer."""
    return size > MOST_BYTES or count >= MOST_RECORDS


class Head(NamedTuple):
    """The headers of a message: nlmsg_len, nlmsg_flags, nlmsg_seq, nlmsg_pid and res_id."""

    size: int
    flags: int
    seq: int
    portid: int
    res_id: int


class Listing:
    """A listing that is being received.

    own   all requests were pylog's own, so the listing lacks nothing
    """

    def __init__(self) -> None:
        self.records: list[RulesetRecord] = []
        self.size = 0
        self.own = True
        self._res_ids: set[int] = set()
        self._interrupted = False
        self.generation = 0

    def add(self, record: RulesetRecord | None, head: Head) -> None:
        """Add a message; None: only its header counts."""
        self.own &= head.seq == LISTING_SEQ
        self._interrupted |= bool(head.flags & NLM_F_DUMP_INTR)
        self._res_ids.add(head.res_id)
        if record is not None:
            self.records.append(record)
            self.size += head.size

    def end(self, answer: RulesetRecord, head: Head, is_first: bool) -> None:
        """Add the answer to GETGEN that closes it.

        The first listing of an empty ruleset is the answer alone. It becomes a record, which shows
        that nothing was there.
        """
        self.add(None, head._replace(res_id=(answer.generation or 0) & 0xFFFF))
        if is_first and self.own and not self.records and not self.given_up:
            for name in ("pid", "process", "portid"):
                force_setattr(answer, name, None)  # of whoever made the generation
            self.records.append(answer)

    @property
    def given_up(self) -> bool:
        """Whether it is too large, so that it is not used."""
        return self._interrupted and not self.records

    def give_up(self) -> None:
        """Forget it; what is added is not held any more."""
        self.records, self._interrupted = [], True

    def is_of(self, generation: int) -> bool:
        """Whether all messages show the ruleset of that generation."""
        return not self._interrupted and self._res_ids <= {generation & 0xFFFF}

    def ruleset(self, anonymous_only: bool) -> Model:
        """The ruleset that it shows."""
        model = Model(anonymous_only)
        for record in self.records:
            model.apply(record)
        model.finish()
        return model


def compare_budget() -> Budget:
    """How many entities may be compared with listings of others, which show a part of them."""
    return Budget(1 << 20, 50, 5)


def comparable(model: Model, there: Model, listing: Listing, budget: Budget) -> Model | None:
    """The part of the model that a listing is compared with; None if that costs too much.

    A listing by pylog is as large as the ruleset, or the ruleset shrinks to it.
    """
    for record in listing.records:
        budget.earn(record)
    if listing.own:
        return model
    part = model.only(there.tables)
    return part if budget.spend(part.count_entities() + part.count_elements()) else None
