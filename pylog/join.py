"""The join: which rule of nftables logged a packet.

Two ways lead to the rule. A trace names it: the log statement runs before the rule's trace message
is sent, so on one socket the next trace message after a packet is that rule's, if both are of the
same packet. Else the ruleset does: of the rules with the packet's group and prefix, those that the
packet can have met. Where neither gives exactly one rule, the record says why, and which rules it
can be: a join never guesses.

A packet waits for the record after it, because only that shows a trace. So a Join gives the records
in their order, but later; `waiting` says whether it holds any.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from pylog.formats.nft_log_history import LogHistory
from pylog.formats.nft_loggers import Identity, log_statements, logs
from pylog.formats.nft_model import Model
from pylog.record import LossRecord, PacketRecord, Record, RulesetRecord, TraceRecord
from pylog.record.joined import JoinedRecord, joined

SELECTIONS = ("families", "tables", "chains", "since_gen")
"""The options of nftables: that leave out records of the ruleset."""
FLUSH_NS = 1_100_000_000
"""How long the kernel holds a batch of NFLOG, with a tenth more: flushtimeout is 1 s (HZ)."""
MAXIMUM_TRAILS = 4096
"""Of so many packets at most the headers are remembered."""
MAXIMUM_WAITING = 1000
"""So many records at most wait with a packet."""
MAXIMUM_FORMER = 64
"""So many former generations at most are looked at."""
MAXIMUM_ENDED = 65536
"""So many log rules and jumps at most are held for former generations only."""
_SILENT = 65536
_COMPARED = ("saddr", "daddr", "protocol", "sport", "dport", "icmp_type", "icmp_code")


class _Former(NamedTuple):
    """An earlier generation, until when it was in force, and its version of the log rules."""

    generation: int | None
    until_ns: int | None
    version: int


class Join:
    """Gives packets of NFLOG the rule that logged them; other records pass unchanged.

    at_once    NFLOG was bound with queue threshold 1 on the socket of the ruleset, so that no
               packet comes later than it was logged
    selected   the records are a selection: the ruleset is never complete
    """

    def __init__(self, at_once: bool = False, selected: bool = False) -> None:
        self._logs = LogHistory()
        self.model = Model(watches=self._logs)
        self.complete = False
        """Whether the model has every rule: it began with a snapshot and lost nothing."""
        self._at_once, self._selected = at_once, selected
        self._held: list[Record] = []
        self._former: deque[_Former] = deque()
        self._forgotten: _Former | None = None
        self._arrived = 0  # how many former generations there were when the held packet came
        self._retired = 0
        self._changing = False
        self._steps: OrderedDict[str | None, TraceRecord] = OrderedDict()
        # by id, the last message with headers: the first of a base chain
        self._silent: set[tuple[Any, ...]] = set()
        self._learned: dict[tuple[str, str], dict[Identity, str | None]] = {}
        # by group and prefix, rules outside the model to which packets were traced
        self._seen = False

    @property
    def waiting(self) -> bool:
        """Whether a packet waits for the record after it."""
        return bool(self._held)

    def feed(self, records: Iterable[Record]) -> list[Record]:
        """Take records; gives those whose rule is clear, and all that do not wait."""
        given: list[Record] = []
        for record in records:
            if isinstance(record, PacketRecord) and record.source == "nflog":
                given += self._by_prefix()
                self._held.append(record)
                self._arrived = self._retired
            elif isinstance(record, TraceRecord):
                given += self._traced(record)
            else:
                if isinstance(record, RulesetRecord):
                    self._follow(record)
                elif isinstance(record, LossRecord):
                    given += self._by_prefix()
                    self._lost(record)
                (self._held if self._held else given).append(record)
                if len(self._held) > MAXIMUM_WAITING:
                    given += self._by_prefix()
            self._seen = True
        return given

    def end(self) -> list[Record]:
        """Give what waits; also when no record comes for a while."""
        return self._by_prefix()

    # The ruleset

    def _follow(self, record: RulesetRecord) -> None:
        if record.via is not None:
            self.complete = not self._selected
        if record.op in ("new_rule", "del_rule"):
            self._silent.discard((record.family, record.table, record.handle))
        elif record.op in ("new_table", "del_table"):
            self._silent.clear()
        if record.incomplete:
            self.complete = False
        former = None
        if record.via != "snapshot" and not self._changing:  # nothing is before a snapshot
            version = self._logs.begin()
            former = _Former(self.model.generation, record.observed_ns, version)
        changes = self._logs.changes
        self.model.apply(record)
        if former and (self._logs.changes > changes or _concerns_logging(record)):
            self._changing = True
            self._former.append(former)
            self._retired += 1
        self._forget()
        if record.op == "new_gen" or record.generation is None:
            self._changing = False

    def _forget(self) -> None:
        """Forget former generations that are too many, or too large."""
        while self._former and (
            len(self._former) > MAXIMUM_FORMER or self._logs.ended > MAXIMUM_ENDED
        ):
            self._forgotten = self._former.popleft()
            self._logs.forget(self._former[0].version if self._former else None)

    def _lost(self, record: LossRecord) -> None:
        self._steps.clear()
        self._silent.clear()
        if record.log in (None, "ruleset"):
            self.complete = False

    # By the trace

    def _traced(self, record: TraceRecord) -> list[Record]:
        rule = (record.family, record.table, record.handle)
        if record.payload is not None or record.saddr is not None:
            self._steps[record.id] = record
            self._steps.move_to_end(record.id)
            if len(self._steps) > MAXIMUM_TRAILS:
                self._steps.popitem(last=False)
        if not self._held:
            if record.handle is not None and self._seen and len(self._silent) < _SILENT:
                self._silent.add(rule)  # it matched, and logged nothing
            return [record]
        packet = self._held[0]
        assert isinstance(packet, PacketRecord)
        if record.type != "rule" or record.handle is None or not self._agrees(packet, record):
            return [*self._by_prefix(), record]
        entity = self.model.find_rule(record.family, record.table, record.handle)
        if entity is None and rule in self._silent:
            return [*self._by_prefix(), record]
        if entity is not None and not logs(entity, packet.group, packet.prefix):
            return [*self._by_prefix(), record]
        text = record.text if entity is None else entity.text
        named = joined(
            packet, rule_family=record.family, rule_table=record.table, rule_chain=record.chain,
            rule_handle=record.handle, rule_text=text, rule_match="trace",
        )  # fmt: skip
        if entity is None and len(self._learned) < MAXIMUM_TRAILS:
            statement = (packet.group or "", packet.prefix or "")
            identity = (record.family, record.table, record.chain, record.handle)
            self._learned.setdefault(statement, {})[identity] = text
        given = [named, *self._held[1:], record]
        self._held.clear()
        return given

    def _agrees(self, packet: PacketRecord, record: TraceRecord) -> bool:
        """Whether a trace message is of the packet: headers, family, hook and interfaces."""
        first = self._steps.get(record.id)
        if first is None:
            return False
        family = (packet.extra or {}).get("nfgen_family")
        if None not in (family, first.nfproto) and family != first.nfproto:
            return False
        base = self.model.find_chain(first.family, first.table, first.chain)
        if base is not None and None not in (base.hook, packet.hook) and base.hook != packet.hook:
            return False
        if packet.physindev is None and packet.physoutdev is None and family in (2, 10):
            for one, other in ((packet.indev, first.indev), (packet.outdev, first.outdev)):
                if type(one) is type(other) and one != other:
                    return False
        return _same_packet(packet, first)

    # By group and prefix

    def _by_prefix(self) -> list[Record]:
        """Give what waits; the packet with the rule that its group and prefix lead to."""
        if not self._held:
            return []
        packet, *others = self._held
        self._held.clear()
        assert isinstance(packet, PacketRecord)
        return [self._of_prefix(packet), *others]

    def _of_prefix(self, packet: PacketRecord) -> JoinedRecord:
        fitting: dict[Identity, tuple[RulesetRecord, str]] = {}
        formers = self._in_force(packet)
        forgotten = bool(formers) and formers[-1] is self._forgotten
        if forgotten:
            formers.pop()
        versions = [former.version for former in formers]
        for at, rule in self._logs.candidates(packet, versions, self.model):
            generation = formers[at].generation
            until = "" if generation is None else f" {generation}"
            why = f"same group, prefix and hook, in the ruleset until generation{until}"
            fitting.setdefault(_identity(rule), (rule, why))
        for _, rule in self._logs.candidates(packet, [self._logs.version], self.model):
            fitting[_identity(rule)] = (rule, "same group, prefix and hook")
        if len(fitting) == 1 and self.complete and not forgotten:
            ((rule, _),) = fitting.values()
            return joined(
                packet, rule_family=rule.family, rule_table=rule.table, rule_chain=rule.chain,
                rule_handle=rule.handle, rule_text=rule.text, rule_match="prefix",
            )  # fmt: skip
        if not self.complete:
            unknown = "not all of the ruleset is available: no snapshot, or records were lost"
        elif forgotten:
            unknown = "the ruleset changed too much since the packet was logged"
        elif fitting:
            unknown = f"{len(fitting)} rules fit"
        else:
            unknown = "no rule of the ruleset logs with this group and prefix at this hook"
        listed = [_candidate(name, rule.text, why) for name, (rule, why) in fitting.items()]
        if not self.complete:
            learned = self._learned.get((packet.group or "", packet.prefix or ""), {})
            for identity, text in learned.items():
                if identity not in fitting:
                    listed.append(_candidate(identity, text, "an earlier packet was traced to it"))
        return joined(packet, rule_unknown=unknown, rule_candidates=listed or None)

    def _in_force(self, packet: PacketRecord) -> list[_Former]:
        """Former generations whose rules may have logged the packet, the latest first.

        A commit is announced after it is in force, so those that ended since the packet came count.
        So do those that ended before, as long as the kernel may have held the packet. One that is
        forgotten counts too: it is the last then.
        """
        after = self._retired - self._arrived
        formers = list(reversed(self._former))
        if self._forgotten is not None:
            formers.append(self._forgotten)
        since = packet.timestamp_ns
        if since is None and packet.observed_ns is not None:
            since = packet.observed_ns - FLUSH_NS
        possible = formers[:after]
        for former in () if self._at_once else formers[after:]:
            if since is None or former.until_ns is None:  # without times: the last one only
                return formers[: after + 1]
            if former.until_ns < since:
                break
            possible.append(former)
        return possible


def _concerns_logging(record: RulesetRecord) -> bool:
    """Whether a change can concern which rules log, or what reaches them."""
    op = record.op or ""
    if op.endswith(("_table", "_chain")):
        return True
    if op.endswith("_rule"):
        return bool(log_statements(record)) or any(
            "chain" in expression or "set" in expression for expression in record.expressions or ()
        )
    return op.endswith("_element") and any("chain" in e for e in record.elements or ())


def _same_packet(packet: PacketRecord, step: TraceRecord) -> bool:
    """Whether the headers in a trace are those of a logged packet."""
    compared = 0
    for name in _COMPARED:
        one, other = getattr(packet, name), getattr(step, name)
        if one is not None and other is not None:
            if one != other:
                return False
            compared += 1
    if packet.payload and step.payload:
        size = min(len(packet.payload), len(step.payload), 20 if packet.family == "ipv4" else 40)
        if packet.payload[:size] != step.payload[:size]:
            return False
        compared += 1
    return compared > 0


def _identity(rule: RulesetRecord) -> Identity:
    return (rule.family, rule.table, rule.chain, rule.handle)


def _candidate(identity: Identity, text: str | None, why: str) -> dict[str, Any]:
    names = ("family", "table", "chain", "handle")
    shown = {**dict(zip(names, identity, strict=True)), "text": text, "why": why}
    return {name: value for name, value in shown.items() if value is not None}
