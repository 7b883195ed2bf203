"""Puts the messages of nftables in order: who changed what, in which commit, and what was lost.

The kernel sends the entities of a commit first and its NEWGEN last. Only that says which generation
it is and who made it, so records of entities wait for it. The generation's low 16 bits in each
message (res_id) show when it will not come, because it was lost: the records are then given as an
incomplete commit. Changes outside commits and packets' steps do not wait.

Listings of the ruleset (dumps, closed by an answer to GETGEN) stand among the events. The first is
the ruleset that reading begins with. Later ones are compared with what the events have led to, and
what differs becomes records: not every change is announced, see `nft_model`.

Sources: nf_tables_commit and nf_tables_dump_... in net/netfilter/nf_tables_api.c; recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec.structs import force_setattr

from pylog.formats import nft_dumps
from pylog.formats.netlink import NLM_F_MULTI
from pylog.formats.nft_attributes import LISTING_SEQ
from pylog.formats.nft_dumps import Head, Listing
from pylog.formats.nft_marks import (
    Texts,
    after,
    is_there,
    mark_replaced,
    mark_updated,
    text_budget,
)
from pylog.formats.nft_model import Model
from pylog.formats.nft_requests import is_newer
from pylog.formats.nft_scope import Scope
from pylog.record import Record, RulesetRecord, TraceRecord

Who = Callable[[int, str], Any]
"""(pid, comm) -> the process with its uid, cmdline and cgroup, or None."""


class Output(Protocol):
    """Where records go, and how losses of generations are counted."""

    def give(self, records: Iterable[Record]) -> None:
        """The records are next."""
        ...

    def give_lost_before(self, commit: RulesetRecord) -> bool:
        """Give the losses before the commit, whose `seq` is its generation; whether there are any.

        `commit.seq` is expected no longer.
        """
        ...

    def passed(self, following: int) -> None:
        """The generation `following` is expected next."""
        ...

    def give_loss(self, record: RulesetRecord, reason: str) -> None:
        """Give a loss of unknown size, where the record stands."""
        ...


class Commits:
    """Groups the records of one log by commit.

    stale   the ruleset is not certain, and should be listed again; whoever does it sets it to False
    model   the ruleset as the records given so far show it; elements of sets with a name only where
            listings may come to compare them with
    """

    def __init__(
        self,
        output: Output,
        who: Who | None = None,
        interface_name: Callable[[int], str | int] = int,
        scope: Scope | None = None,
    ) -> None:
        """
        who              says who a process is
        interface_name   the name of the interface of a number, or the number
        scope            which records are wanted; None: all
        """
        self.stale = False
        self.model = Model(anonymous_only=True)
        self._output, self._who, self._scope = output, who, scope
        self._interface_name = interface_name
        self._writing, self._comparing = text_budget(), nft_dumps.compare_budget()
        self._added = 0
        """How many entities and elements the model may have at most."""
        self._gave_part = False
        """Whether a part of the commit was given that has wanted records."""
        self._last: int | None = None
        """The generation of the ruleset in `model`."""
        self._listed = False
        """Whether the ruleset was listed, and no commit came since."""
        self._held: list[RulesetRecord] = []
        self._held_size = 0
        self._res_id: int | None = None
        """Of the commit whose records are held or were given in parts."""
        self._in_parts = False
        self._damaged = False
        """Whether a message of the next commit may be missing."""
        self._opening: RulesetRecord | None = None
        """The first message of all, if it may be an answer to GETGEN or the end of a commit."""
        self._listing: Listing | None = None
        self._awaiting: Listing | None = None
        """A listing of a later generation than the last commit's."""

    # Records in

    def add(self, record: RulesetRecord, head: Head) -> None:
        """Take the record of a message."""
        if record.op == "new_gen":
            self._generation(record, head)
        elif head.flags & NLM_F_MULTI:
            self._add_listed(record, head)
        elif record.op == "new_obj" and not head.seq and not head.portid:
            # a quota that is used up (nft_quota_obj_eval)
            force_setattr(record, "change", "update")
            self._give([record])
        else:
            self._open()
            if self._res_id is not None and head.res_id != self._res_id:
                self._cut()
            self._res_id = head.res_id
            self._held.append(record)
            self._held_size += head.size
            if nft_dumps.is_large(self._held_size, len(self._held)):
                self._give_part()

    def pass_by(self, step: TraceRecord) -> None:
        """Give a packet's step, with the text of its rule."""
        if step.handle is not None:
            rule = self.model.find_rule(step.family, step.table, step.handle)
            if rule is not None:
                force_setattr(step, "text", rule.text)
            elif self._res_id is None:  # else it may be one of the commit that is received
                self.stale = True
        if self._scope is None or self._scope(step):
            self._output.give([step])

    def damaged(self) -> None:
        """A message of the next commit may be missing."""
        self._damaged = self.stale = True

    def end(self) -> None:
        """Nothing follows: what is held becomes ready."""
        self._open()
        self._cut()
        if self._listing is not None:
            self._give_listing(self._listing, None)
            self._listing = None
        self._give_awaiting()
        self._damaged = False

    def discard(self) -> None:
        """Forget what is held, which is neither given nor lost."""
        self._held, self._held_size = [], 0
        self.damaged()

    # Commits

    def _open(self) -> None:
        """The first message of all was a commit's NEWGEN, whose entities are missing."""
        opening, self._opening = self._opening, None
        if opening is not None:
            self._damaged = True
            self._commit(opening)

    def _generation(self, record: RulesetRecord, head: Head) -> None:
        """Take a NEWGEN: the end of a commit, or an answer to GETGEN."""
        generation = record.generation
        if generation is None:
            self._damaged = True
            return
        self._open()
        # with pylog's own number it is an answer, and the commit's own NEWGEN is lost
        if self._res_id == generation & 0xFFFF and head.seq != LISTING_SEQ:
            if self._listed and self._last is not None and not is_newer(generation, self._last):
                self._forget()  # the listing contains it
            else:
                self._commit(record)
            return
        self._cut()
        if self._listing is not None or head.seq == LISTING_SEQ:
            listing, self._listing = self._listing or Listing(), None
            listing.end(record, head, is_first=self._last is None)
            self._close(listing, generation)
        elif self._last is None:
            self._opening = record
        elif is_newer(generation, self._last):
            self._damaged = True
            self._commit(record)

    def _commit(self, record: RulesetRecord) -> None:
        """Give the records that are held, as those of the commit."""
        generation = record.generation or 0
        self._pass_awaiting(generation)
        force_setattr(record, "seq", generation)
        gap = self._output.give_lost_before(record)
        gap |= self._last is not None and generation != after(self._last)
        incomplete = self._damaged or gap
        process = None
        if self._who is not None and record.pid is not None and record.process is not None:
            process = self._who(record.pid, record.process)
        elif (record.uid, record.cmdline, record.cgroup) != (None, None, None):
            process = record  # a capture says it
        held, in_parts = self._held, self._in_parts
        self._forget()
        self._damaged = False
        for each in [*held, record]:
            force_setattr(each, "generation", generation)
            force_setattr(each, "pid", record.pid)
            force_setattr(each, "process", record.process)
            force_setattr(each, "portid", record.portid)
            if incomplete:
                force_setattr(each, "incomplete", True)
            if in_parts:
                force_setattr(each, "partial", True)
            if process is not None:
                for name in ("uid", "cmdline", "cgroup"):
                    force_setattr(each, name, getattr(process, name))
        mark_replaced(held)
        held.append(record)
        self._give(held)
        self._last, self._listed = generation, False
        if incomplete:
            self.stale = True
        awaiting = self._awaiting
        if awaiting is not None and not is_newer(awaiting.generation, generation):
            self._awaiting = None
            if awaiting.generation == generation:
                self._compare(awaiting)

    def _cut(self) -> None:
        """Give the records that are held: the end of their commit was lost."""
        if self._res_id is None:
            return
        held = self._held
        self._forget()
        for record in held:
            force_setattr(record, "incomplete", True)
        mark_replaced(held)
        self._give(held)
        self.stale = True

    def _give_part(self) -> None:
        """Give the records that are held, before their commit is complete."""
        held, self._held, self._held_size = self._held, [], 0
        self._in_parts = True
        generation = None if self._last is None else after(self._last)
        certain = generation is not None and generation & 0xFFFF == self._res_id
        for record in held:
            force_setattr(record, "partial", True)
            if certain:
                force_setattr(record, "generation", generation)
        mark_replaced(held)
        self._give(held)

    def _forget(self) -> None:
        self._held, self._held_size, self._res_id, self._in_parts = [], 0, None, False

    def _give(self, records: list[RulesetRecord]) -> None:
        """Apply the records to the model, and give them with their text."""
        model, texts = self.model, Texts(self.model, self._interface_name, self._writing)
        for record in records:
            deletes = record.op is not None and record.op.startswith("del_")
            if deletes:
                texts.put(record)
            elif record.change is None and is_there(record, model):
                mark_updated(record, model)
            if not model.apply(record):
                self.stale |= self._last is not None
            if not deletes:
                texts.put(record)
            self._added += 1 if record.elements is None else len(record.elements)
        if self._added > nft_dumps.MOST_ELEMENTS:
            self._bound_model()
        self._output.give(records if self._scope is None else self._wanted(records, self._scope))

    def _bound_model(self) -> None:
        """Forget what takes too much memory: elements first, then everything."""
        model = self.model
        held = model.count_entities() + model.count_elements()  # many may have been deleted again
        if held > nft_dumps.MOST_ELEMENTS and not model.anonymous_only:
            model.forget_elements()
            held = model.count_entities() + model.count_elements()
        if held > nft_dumps.MOST_ELEMENTS:
            self.model, self.stale, held = Model(anonymous_only=True), True, 0
        self._added = min(held, nft_dumps.MOST_ELEMENTS * 3 // 4)  # counting again takes time

    def _wanted(self, records: list[RulesetRecord], scope: Scope) -> list[RulesetRecord]:
        """The records that are wanted; a commit only if one of its entities is."""
        wanted = [record for record in records if scope(record)]
        is_commit = bool(records) and records[-1].op == "new_gen"
        if is_commit and scope.named and len(wanted) == 1 and not self._gave_part:
            wanted = []
        self._gave_part = bool(wanted) and not is_commit and bool(records[0].partial)
        return wanted

    # Listings

    def _add_listed(self, record: RulesetRecord, head: Head) -> None:
        self._opening = None  # it was an answer to GETGEN
        listing = self._listing
        if listing is None:
            listing = self._listing = Listing()
        if record.op == "new_set_element":
            named = self._last is not None and self.model.anonymous_only
            if not record.elements or (named and not (record.name or "").startswith("__")):
                listing.add(None, head)  # a dump ends with none; or there is nothing to compare
                return
        if listing.given_up:
            return
        listing.add(record, head)
        if self._last is not None and nft_dumps.is_large(listing.size, len(listing.records)):
            listing.give_up()
        elif self._last is None and nft_dumps.is_large(listing.size, len(listing.records)):
            records, listing.records, listing.size = listing.records, [], 0
            for each in records:
                force_setattr(each, "via", "snapshot")
                force_setattr(each, "partial", True)
            self._give(records)

    def _close(self, listing: Listing, generation: int) -> None:
        """Take a listing that is complete, unless a commit came between its parts."""
        listing.generation = generation
        if not listing.is_of(generation):
            self.stale = True
            if self._last is None and listing.records:  # there is no other
                reason = "a commit came between the parts of this listing of the ruleset"
                self._output.give_loss(listing.records[0], reason)
        elif self._last is None:
            self._give_listing(listing, generation)
        elif listing.generation == self._last:
            self._awaiting = None
            self._compare(listing)
        elif is_newer(generation, self._last):
            self._give_awaiting()  # its commit should have come before this listing
            self._awaiting = listing
            if listing.own:  # pylog puts its listings after the events that they contain
                self._give_awaiting()

    def _give_listing(self, listing: Listing, generation: int | None) -> None:
        """The ruleset at the beginning; without a generation it may be incomplete."""
        if generation is not None and not self.model:
            self.model = Model()
        for record in listing.records:
            force_setattr(record, "via", "snapshot")
            force_setattr(record, "generation", generation)
            if generation is None:
                force_setattr(record, "incomplete", True)
        self._give(listing.records)
        self.model.finish()
        if generation is not None:
            self._last, self._listed = generation, True
            self._damaged = False
            self._output.passed(after(generation))

    def _compare(self, listing: Listing) -> None:
        """Give what differs from the listing, which is of the model's generation."""
        there = listing.ruleset(self.model.anonymous_only)
        here = nft_dumps.comparable(self.model, there, listing, self._comparing)
        if here is None:
            self.stale = True
            return
        observed_ns = listing.records[-1].observed_ns if listing.records else None
        changes = here.difference(there, "relist", observed_ns)
        for change in changes:
            if change.op is not None and change.op.startswith("del_"):
                force_setattr(change, "raw", None)  # that of the message which had made it
        if not listing.own:  # others may have asked for parts of the ruleset
            changes = [c for c in changes if c.op is not None and c.op.startswith("new_")]
        self._give(changes)
        self.model.finish()
        self.stale = False
        if listing.own:  # it shows what was lost before it
            self._damaged = False

    def _give_awaiting(self) -> None:
        """The commits up to the listing that is awaited were lost: it shows what they did."""
        awaiting, self._awaiting = self._awaiting, None
        if awaiting is None:
            return
        following = after(awaiting.generation)
        if awaiting.records:
            template = awaiting.records[-1]
            probe = RulesetRecord(
                template.source, template.layout, template.offset,
                observed_ns=template.observed_ns, seq=following, op="new_gen",
            )  # fmt: skip
            self._output.give_lost_before(probe)
        self._output.passed(following)
        self._last, self._listed = awaiting.generation, True
        self._damaged = False
        self._compare(awaiting)

    def _pass_awaiting(self, generation: int) -> None:
        """A commit comes after the one that a listing waits for, which is lost."""
        awaiting = self._awaiting
        if awaiting is not None and is_newer(generation, awaiting.generation):
            held, res_id, in_parts = self._held, self._res_id, self._in_parts
            self._give_awaiting()
            self._held, self._res_id, self._in_parts = held, res_id, in_parts
