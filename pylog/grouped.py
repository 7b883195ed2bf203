"""Between decoding and the reader: logs whose messages make sense only together are grouped.

A message of nftables gets its generation and its author from the commit that it belongs to, which
ends later (formats.nft_commits). So the records of such a log wait here; all others pass. Each
interface of a capture has its own commits: it may be another machine's. A loss of generations is
counted when the commit after it is complete, and stands before the first record of that commit.

Messages of conntrack do not wait. But listings among them show which flows have ended without an
event, by what came before (formats.nfct_living).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct as CStruct
from typing import Any

from msgspec.structs import force_setattr

from pylog.formats import Message
from pylog.formats.nfct_living import MOST_FLOWS, Living
from pylog.formats.nfct_scope import FlowScope
from pylog.formats.nft_commits import Commits, Who
from pylog.formats.nft_dumps import Head
from pylog.formats.nft_scope import Scope
from pylog.losses import Losses
from pylog.notes import notes
from pylog.record import (
    CounterRecord,
    FlowRecord,
    Loss,
    LossRecord,
    Record,
    RulesetRecord,
    TraceRecord,
)

Finish = Callable[[Any, int | None], Record]
"""(a record made here, the interface that has it) -> the record as it is given."""

Wanted = Scope | FlowScope
"""Which records are wanted of a source."""

InterfaceName = Callable[[int], str | int]
"""As Decoder has it: the name of the interface of a number, or the number."""

_head = {order: CStruct(f"{order}IHHII").unpack_from for order in "<>"}


class Grouping:
    """The records of one log, of which those of the ruleset are grouped by commit, and those of
    flows compared with listings.

    ready      records to give, in order
    withheld   how many records were taken and not given
    """

    def __init__(
        self,
        losses: Losses,
        live: bool,
        who: Who | None,
        finish: Finish,
        interface_name: InterfaceName = int,
        scope: Wanted | None = None,
    ) -> None:
        self.ready: deque[Record] = deque()
        self.withheld = 0
        self._losses, self._live, self._who, self._finish = losses, live, who, finish
        self._interface_name = interface_name
        self._scope = scope if isinstance(scope, Scope) else None
        self._flow_scope = scope if isinstance(scope, FlowScope) else None
        self._living: dict[tuple[int | None, str | int | None], Living] = {}
        """By the interface of a capture, and the network namespace."""
        self._has_noted = False
        self._commits: dict[int | None, Commits] = {}
        """By the interface of a capture."""

    @property
    def stale(self) -> bool:
        """Whether the ruleset is not certain, and should be listed again. False from then on."""
        stale = False
        for commits in self._commits.values():
            stale |= commits.stale
            commits.stale = False
        return stale

    def add(
        self,
        record: Record,
        message: Message | None,
        data: bytes,
        namespace: str | int | None = None,
    ) -> None:
        """Take a record, and the message in `data` that it was made of.

        namespace   the network namespace of the message, if several are read
        """
        kind = type(record)
        if kind in (FlowRecord, CounterRecord) and record.source == "nfct" and message is not None:
            self._add_flow(record, message, data, namespace)  # type: ignore[arg-type]
        elif kind is RulesetRecord and message is not None:
            self.withheld += 1
            noted = None if message.origin is None else message.origin.process
            if noted is not None:
                for name in ("uid", "cmdline", "cgroup"):
                    force_setattr(record, name, getattr(noted, name))
            self._of(message).add(record, _read_head(record, data, message.start))  # type: ignore[arg-type]
        elif kind is TraceRecord and message is not None:
            self.withheld += 1
            commits = self._seen(message)
            if commits is None:
                self.ready.append(record)
            else:
                commits.pass_by(record)  # type: ignore[arg-type]
        else:
            if isinstance(record, Loss) and self._may_be_of_commit(record):
                self.damaged()
            if isinstance(record, Loss) and record.log in (None, "nfct"):
                self._lose_events()
            self.ready.append(record)

    def _add_flow(
        self,
        record: FlowRecord | CounterRecord,
        message: Message,
        data: bytes,
        namespace: str | int | None,
    ) -> None:
        """Take a record of conntrack; give it, unless it is a repeat or not wanted."""
        where = None if message.origin is None else message.origin.interface, namespace
        living = self._living.get(where)
        if namespace is not None:
            force_setattr(record, "netns", namespace)
        if isinstance(record, CounterRecord):
            if living is None:
                living = self._living[where] = Living()
            ended = living.mark(record, data, message.start)
            if ended is None:
                self.ready.append(record)
                return
            self.withheld += 1
            for flow in ended:
                if namespace is not None:
                    force_setattr(flow, "netns", namespace)
                if self._flow_scope is None or self._flow_scope(flow):
                    self.withheld -= 1
                    self.ready.append(self._finish(flow, where[0]))
            return
        scope = self._flow_scope
        if scope is not None and not scope.has_flow(record):
            self.withheld += 1
        elif living is None or not living.is_on:
            self._give_flow(record)
        elif living.take(record, data, message):
            self._give_flow(record)
            if living.unkept and not self._has_noted:
                self._has_noted = True
                notes.warning("more than %d flows: of the others a loss cannot show that they"
                              " ended", MOST_FLOWS)  # fmt: skip
        else:
            self.withheld += 1

    def _give_flow(self, record: FlowRecord) -> None:
        if self._flow_scope is None or self._flow_scope(record):
            self.ready.append(record)
        else:
            self.withheld += 1

    def _lose_events(self) -> None:
        """Events of flows were lost."""
        for living in self._living.values():
            living.lose()

    def damaged(self) -> None:
        """A message of the next commit may be missing."""
        for commits in self._commits.values():
            commits.damaged()

    def _may_be_of_commit(self, loss: Loss[Any, Any]) -> bool:
        """Whether messages of the ruleset may be lost that no generation shows.

        Of a live source `damaged` says so, where the overrun was.
        """
        return loss.log in (None, "ruleset") and (not self._live or loss.size is not None)

    def take(self, limit: int) -> list[Record]:
        """The next of `ready`, at most `limit`."""
        next_of = self.ready.popleft
        records = [next_of() for _ in range(min(limit, len(self.ready)))]
        kinds = list(map(type, records))
        self.withheld -= kinds.count(RulesetRecord) + kinds.count(TraceRecord)
        return records

    def give_only(self, record: Record | None) -> None:
        """Of `ready` leave losses only, and add the record that was taken last."""
        losses = [each for each in self.ready if isinstance(each, Loss) and each is not record]
        self.ready.clear()
        self.ready.extend(losses)
        self.withheld = 0
        if record is not None:
            self.ready.append(record)
            self.withheld += type(record) is RulesetRecord or type(record) is TraceRecord

    def end(self) -> None:
        """The log ends: what is held becomes ready. Another recording may follow."""
        for commits in self._commits.values():
            commits.end()
        self._commits.clear()
        self._living.clear()

    def discard(self) -> None:
        """Forget what is held and ready."""
        self.ready.clear()
        self._lose_events()
        for commits in self._commits.values():
            commits.discard()

    def _seen(self, message: Message) -> Commits | None:
        """The commits of the ruleset that a step is in, if there were any.

        A capture by pylog has the steps in an interface of their own.
        """
        interface = None if message.origin is None else message.origin.interface
        if interface not in self._commits and len(self._commits) == 1:
            (interface,) = self._commits
        return self._commits.get(interface)

    def _of(self, message: Message) -> Commits:
        interface = None if message.origin is None else message.origin.interface
        commits = self._commits.get(interface)
        if commits is None:
            output = _Output(self, interface, self._losses, self._finish)
            commits = Commits(output, self._who, self._interface_name, self._scope)
            self._commits[interface] = commits
        return commits


class _Output:
    """As nft_commits.Output, for the commits of an interface."""

    def __init__(
        self, grouping: Grouping, interface: int | None, losses: Losses, finish: Finish
    ) -> None:
        self.give: Callable[[Iterable[Record]], None] = grouping.ready.extend
        self._interface, self._losses, self._finish = interface, losses, finish

    def give_lost_before(self, commit: RulesetRecord) -> bool:
        lost = False
        while (loss := self._losses.before(commit, self._interface)) is not None:
            if loss.log == "ruleset" and loss.count and loss.seq is not None:
                last = (loss.seq + loss.count - 1) & 0xFFFFFFFF
                numbers = f"generations {loss.seq} to {last}"
                numbers = f"generation {last}" if loss.count == 1 else numbers
                force_setattr(loss, "reason", f"{numbers} lost")
                lost = True
            self.give([self._finish(loss, self._interface)])
        return lost

    def passed(self, following: int) -> None:
        self._losses.passed("ruleset", following, self._interface)

    def give_loss(self, record: RulesetRecord, reason: str) -> None:
        self._losses.uncounted += 1
        loss = LossRecord(record.source, record.layout, record.offset,
                          observed_ns=record.observed_ns, log="ruleset", reason=reason)  # fmt: skip
        self.give([self._finish(loss, self._interface)])


def _read_head(record: Any, data: bytes, start: int) -> Head:
    """The headers of the message at `start`, of which the record was made."""
    order = "<" if record.layout.endswith("le") else ">"
    size, _, flags, seq, portid = _head[order](data, start)
    return Head(size, flags, seq, portid, int.from_bytes(data[start + 18 : start + 20], "big"))
