"""The join follows a ruleset by its changes: the rules are those of a ruleset read anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import effort
import msgspec
import pytest

from pylog import join as joins
from pylog.formats import nft_jumps, nft_log_history, nft_spans
from pylog.formats.nft_log_history import LogHistory
from pylog.formats.nft_loggers import Loggers
from pylog.formats.nft_model import Model
from pylog.join import Join
from pylog.record import PacketRecord, Record, RulesetRecord
from pylog.record.joined import JoinedRecord

OPS = (
    ("new_rule",) * 8 + ("del_rule",) * 3 + ("new_chain",) * 4 + ("del_chain",) * 2
    + ("new_set_element",) * 3 + ("del_set_element", "new_set", "del_set", "new_table")
    + ("del_table", "new_gen", "packet") + ("new_gen", "packet") * 3
)  # fmt: skip
NS = 100_000_000


class Anew(LogHistory):
    """The log rules as each version of the ruleset has them, all of them read again."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.former: dict[int, Loggers] = {}
        self.seen: tuple[Any, int] = (self.listed(), 0)

    def listed(self) -> Any:
        return [
            (statement, logger.identity, id(logger.rule),
             {(base.hook, *(base.devices or ())) for base in logger.bases})
            for statement, rules in Loggers(self.model) for logger in rules if logger.bases
        ]  # fmt: skip

    @property
    def changes(self) -> int:
        now = (self.listed(), super().changes)
        assert now[0] == self.seen[0] or now[1] > self.seen[1], "a change that was not counted"
        self.seen = now
        return now[1]

    def begin(self) -> int:
        version = super().begin()
        self.former[version] = Loggers(self.model)
        return version

    def candidates(
        self, packet: PacketRecord, versions: Sequence[int], model: Model
    ) -> list[tuple[int, RulesetRecord]]:
        return [
            (at, logger.rule)
            for at, version in enumerate(versions)
            for logger in self.former.get(version, Loggers(model)).candidates(packet)
        ]


def anew(**settings: Any) -> Join:
    join, logs = Join(**settings), Anew()
    join.model = logs.model = Model(watches=logs)
    join._logs = logs
    return join


def entity(op: str, **fields: Any) -> RulesetRecord:
    return RulesetRecord("nftables", "nft-le", op=op, **fields)


def log(prefix: str) -> dict[str, Any]:
    return {"name": "log", "group": 5, "prefix": prefix}


def jump(chain: str) -> dict[str, Any]:
    return {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": chain}


def packet(prefix: str, hook: str | None = "input", **fields: Any) -> PacketRecord:
    return PacketRecord("nflog", "nfulnl-le", group="5", prefix=prefix, hook=hook, **fields)


def program(chance: random.Random, length: int) -> list[Record]:
    """Commits and packets at random; most of them fit together, and many do not."""
    records: list[Record] = []
    pick = chance.choice
    snapshot = chance.randrange(10)
    timed = chance.random() < 0.7
    for at in range(length):
        op = pick(OPS)
        if op == "packet":
            records.append(packet(
                pick("xy"), pick(("input", "output", None)), indev=pick(("a", "b", None)),
                extra={"nfgen_family": pick((2, 2, 10))},
                observed_ns=at * NS if timed and chance.random() < 0.9 else None,
            ))  # fmt: skip
            continue
        fields: dict[str, Any] = {
            "table": pick("tttu"), "family": "inet",
            "generation": at if chance.random() < 0.8 else None,
            "via": "snapshot" if at < snapshot else "relist" if chance.random() < 0.1 else None,
            "handle": chance.randrange(1, 7), "observed_ns": at * NS if timed else None,
        }  # fmt: skip
        if op.endswith(("chain", "rule")):
            fields["chain"] = f"c{chance.randrange(5)}"
            fields["change"] = pick((None, None, None, "replace", "update"))
        if op == "new_chain":
            fields["hook"] = pick((None, None, "input", "output"))
            fields["devices"] = pick((None, None, ["a"], ["a", "b"]))
        elif op == "new_rule" or (op == "del_rule" and pick("yn") == "y"):
            parts = [log(pick("xy")), log("x"), jump(f"c{chance.randrange(5)}"),
                     {"name": "lookup", "set": pick("mn"), "sreg": 1, "dreg": 0}]  # fmt: skip
            fields["expressions"] = chance.sample(parts, chance.randrange(3))
        elif "set" in op:
            fields["name"] = pick("mn")
            elements = [{"key": f"0{n}", "chain": f"c{chance.randrange(5)}"} for n in range(3)]
            fields["elements"] = chance.sample(elements, 2) if "element" in op else None
        records.append(entity(op, **fields))
    return records


@pytest.mark.parametrize("case", effort.sample(range(2000)))
def test_the_rules_are_those_of_a_ruleset_read_anew(
    case: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = effort.chance("join", case)
    monkeypatch.setattr(joins, "MAXIMUM_FORMER", chance.choice((1, 3, 64)))
    monkeypatch.setattr(joins, "MAXIMUM_ENDED", chance.choice((2, 10, 65536)))
    monkeypatch.setattr(nft_jumps, "_REMEMBERED", chance.choice((0, 5, 65536)))
    settings = {"at_once": chance.random() < 0.3}
    records = program(chance, 120)
    one, other = Join(**settings), anew(**settings)
    poor = chance.random() < 0.2
    for at, record in enumerate(records):
        if poor:  # to rename chains
            one.model._budget.left = other.model._budget.left = -49
        given, expected = one.feed([record]), other.feed([record])
        if chance.random() < 0.3:
            given, expected = given + one.end(), expected + other.end()
        assert given == expected, at
    assert one._logs.ended <= joins.MAXIMUM_ENDED or not one._former


def joined(records: list[Record]) -> list[JoinedRecord]:
    join = Join()
    return [r for r in [*join.feed(records), *join.end()] if isinstance(r, JoinedRecord)]


def base(chain: str = "c0", handle: int = 1, **fields: Any) -> RulesetRecord:
    return entity("new_chain", family="inet", table="t", chain=chain, handle=handle,
                  hook="input", **fields)  # fmt: skip


def rule(handle: int, *expressions: Any, chain: str = "c0", **fields: Any) -> RulesetRecord:
    return entity("new_rule", family="inet", table="t", chain=chain, handle=handle,
                  expressions=list(expressions), **fields)  # fmt: skip


def commit(generation: int, *records: RulesetRecord, at: int | None = None) -> list[Record]:
    changed = {"generation": generation, "observed_ns": at}
    return [msgspec.structs.replace(r, **changed) for r in (*records, entity("new_gen"))]


def test_a_deletion_that_names_no_expressions_removes_the_log_rule() -> None:
    start = [base(via="snapshot"), rule(7, log("x"), via="snapshot")]
    gone = entity("del_rule", family="inet", table="t", chain="c0", handle=7)
    (record,) = joined([*start, *commit(6, gone, at=1), packet("x", observed_ns=10**12)])
    assert record.rule_candidates is None and str(record.rule_unknown).startswith("no rule")


def test_a_rule_is_not_guessed_if_a_generation_that_counts_is_forgotten() -> None:
    records = [base(via="snapshot"), rule(7, log("x"), via="snapshot")]
    gone = entity("del_rule", family="inet", table="t", chain="c0", handle=7)
    changes = [*commit(6, gone, rule(8, log("x")), at=NS)]
    for n in range(70):
        changes += commit(7 + n, rule(9 + n, log("y")), at=NS + n)
    (record,) = joined([*records, *changes, packet("x", observed_ns=NS + 100)])
    assert record.rule_handle is None and "changed too much" in str(record.rule_unknown)
    (record,) = joined([*records, *changes, packet("x", observed_ns=100 * NS)])
    assert record.rule_handle == 8


def reads(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> int:
    """How many rules are read and how many chains are looked at while the records are joined."""
    count = 0

    def counted(function: Any) -> Any:
        def call(*values: Any) -> Any:
            nonlocal count
            count += 1
            return function(*values)

        return call

    with monkeypatch.context() as patch:
        for name in ("log_statements", "links", "matches"):
            patch.setattr(nft_log_history, name, counted(getattr(nft_log_history, name)))
        patch.setattr(nft_spans.Spans, "at", counted(nft_spans.Spans.at))
        joined(records)
    return count


def commits(number: int) -> list[Record]:
    records: list[Record] = [base(via="snapshot")]
    for n in range(number):
        chain = entity("new_chain", family="inet", table="t", chain=f"d{n}", handle=n + 2)
        rules = (rule(2 * n + 5000, jump(f"d{n}")), rule(2 * n + 5001, log(f"p{n}"), chain=f"d{n}"))
        records += [*commit(n, chain, *rules, at=n * NS), packet(f"p{n}", observed_ns=n * NS)]
    return records


def bases(number: int) -> list[Record]:
    records: list[Record] = [
        base(f"b{n}", n + 1, via="snapshot", devices=[f"e{n}"]) for n in range(number)
    ]
    records += [rule(n + 5000, jump("hub"), chain=f"b{n}", via="snapshot") for n in range(number)]
    for n in range(number):
        records += [rule(n + 20000, jump(f"d{n}"), chain="hub", via="snapshot"),
                    rule(n + 30000, log(f"p{n}"), chain=f"d{n}", via="snapshot")]  # fmt: skip
    return [*records, *(packet(f"p{n}", indev=f"e{n}") for n in range(number))]


@pytest.mark.parametrize("made", [commits, bases])
def test_a_commit_and_a_packet_cost_the_same_in_a_large_ruleset(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = made(300)
    assert reads(monkeypatch, records) <= 8 * len(records)
