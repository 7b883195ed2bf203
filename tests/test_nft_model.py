"""The ruleset as a value: records applied in the order of the kernel, and differences."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog.formats import nft_renames
from pylog.formats.nft_budget import Budget
from pylog.formats.nft_devices import with_devices
from pylog.formats.nft_dumps import Listing, comparable
from pylog.formats.nft_marks import Texts
from pylog.formats.nft_model import Model, model_of
from pylog.formats.nft_order import Order
from pylog.formats.nft_renames import mentions_of
from pylog.record.ruleset import RulesetRecord


def entity(op: str, **fields: Any) -> RulesetRecord:
    given = {"family": "inet", "table": "t", **fields}
    return RulesetRecord(source="nftables", layout="nft-le", op=op, **given)


def rule(handle: int, change: str = "append", position: int | None = None,
         chain: str = "c", **fields: Any) -> RulesetRecord:  # fmt: skip
    return entity("new_rule", chain=chain, handle=handle, change=change, position=position,
                  **fields)  # fmt: skip


def gone(handle: int, change: str = "delete", chain: str = "c") -> RulesetRecord:
    return entity("del_rule", chain=chain, handle=handle, change=change)


NFT = samples.FIXTURES / "nft"
COMMIT = RulesetRecord(source="nftables", layout="nft-le", op="new_gen", generation=7)
TABLE = entity("new_table", handle=1)
CHAIN = entity("new_chain", chain="c", handle=1)


def start(*records: RulesetRecord) -> Model:
    model = Model()
    for record in (TABLE, CHAIN, *records):
        assert model.apply(record)
    return model


def order(model: Model, chain: str = "c") -> list[int | None]:
    return [record.handle for record in model.rules_of("inet", "t", chain)]


def test_rules_are_appended_inserted_at_the_head_and_put_after_a_rule() -> None:
    model = start(rule(2), rule(3), rule(4, "insert"), rule(5, "insert", 2), COMMIT)
    assert order(model) == [4, 2, 5, 3] and model.generation == 7


def test_a_position_may_name_a_rule_that_comes_later_in_the_commit() -> None:
    model = start(rule(9))
    # insert A, add B, insert C: A stands after C
    assert model.apply(rule(2, "insert", 4))
    assert model.apply(rule(3)) and order(model) == [9, 3, 2]
    assert model.apply(rule(4, "insert")) and order(model) == [4, 2, 9, 3]
    assert model.apply(COMMIT)


def test_many_inserted_rules_wait_for_one_another() -> None:
    model = start()
    for handle in range(2, 2000):
        assert model.apply(rule(handle, "insert", handle + 1))
    assert model.apply(rule(2000, "insert"))
    assert order(model) == list(range(2000, 1, -1)) and model.apply(COMMIT)


def test_a_rule_whose_predecessor_never_came_stands_at_the_end() -> None:
    model = start(rule(2), rule(3, "insert", 77))
    assert order(model) == [2, 3]
    assert not model.apply(COMMIT)
    assert order(model) == [2, 3] and model.apply(COMMIT)


def test_a_rule_that_waits_can_be_deleted() -> None:
    model = start(rule(2), rule(3, "insert", 77), gone(3), COMMIT)
    assert order(model) == [2]


@pytest.mark.parametrize("handle", [2, 3, 4])
def test_a_replaced_rule_keeps_its_place(handle: int) -> None:
    model = start(rule(2), rule(3), rule(4), COMMIT, gone(handle, "replace"))
    assert model.apply(rule(handle, "replace", comment="new"))
    assert model.apply(COMMIT) and order(model) == [2, 3, 4]
    found = model.find_rule("inet", "t", handle)
    assert found is not None and found.comment == "new"


def test_a_replaced_rule_whose_new_half_is_lost_is_gone_with_the_commit() -> None:
    model = start(rule(2), rule(3), COMMIT, gone(2, "replace"))
    assert not model.apply(COMMIT) and order(model) == [3]


def test_a_renamed_chain_keeps_its_rules_and_jumps_show_the_new_name() -> None:
    jump = [{"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "c"}]
    model = start(
        rule(2),
        entity("new_chain", chain="d", handle=5),
        rule(6, chain="d", expressions=jump),
        entity("new_set", name="m", handle=7),
        entity("new_set_element", name="m", elements=[{"key": "01", "verdict": "goto",
                                                       "chain": "c"}]),
        entity("new_chain", chain="e", handle=1, change="update"),
    )  # fmt: skip
    assert order(model, "e") == [2] and not order(model)
    changed = model.find_rule("inet", "t", 6)
    assert changed is not None and changed.expressions == [{**jump[0], "chain": "e"}]
    members = model.find_set("inet", "t", "m")
    assert members is not None and members.listed()[0]["chain"] == "e"
    renamed = model.find_rule("inet", "t", 2)
    assert renamed is not None and renamed.chain == "e"


def test_devices_are_added_and_removed_one_by_one() -> None:
    def devices(*names: str) -> dict[str, Any]:
        return {"chain": "n", "handle": 3, "devices": list(names)}

    model = start(
        entity("new_chain", **devices("a", "b")),
        entity("new_chain", **devices("c"), change="update"),
        entity("del_chain", **devices("a"), change="update"),
    )
    chain = model.find_chain("inet", "t", "n")
    assert chain is not None and chain.devices == ["b", "c"]
    assert model.apply(entity("del_chain", chain="n", handle=3, change="delete"))
    assert model.find_chain("inet", "t", "n") is None


def test_a_table_made_anew_is_empty() -> None:
    model = start(rule(2), entity("new_set", name="s", handle=3))
    assert model.apply(entity("del_table", handle=1))
    assert model.apply(entity("new_table", handle=9))
    assert not order(model) and model.find_set("inet", "t", "s") is None
    assert not model.apply(entity("new_table", handle=11))  # the deletion is missing


def test_what_does_not_fit_is_reported_and_followed() -> None:
    model = Model()
    assert not model.apply(rule(4)) and order(model) == [4]
    for record in (gone(5), entity("del_chain", chain="x", handle=8),
                   entity("del_set", name="x"), entity("new_set_element", name="x", elements=[]),
                   entity("del_obj", name="x", type="quota"), rule(4),
                   entity("del_table", table="other")):  # fmt: skip
        assert not model.apply(record), record
    assert order(model) == [4]


def test_elements_are_kept_by_key_and_flags() -> None:
    elements = [{"key": "05"}, {"key": "05", "flags": 1}, {"flags": 2, "key": None, "data": "00"},
                {"key": "06", "key_end": "09"}]  # fmt: skip
    model = start(entity("new_set", name="s", handle=3),
                  entity("new_set_element", name="s", elements=elements),
                  entity("new_set_element", name="s", elements=[{"key": "05", "timeout": 9}]),
                  entity("del_set_element", name="s", elements=[elements[1]]))  # fmt: skip
    members = model.find_set("inet", "t", "s")
    assert members is not None
    assert members.listed() == [{"key": "05", "timeout": 9}, elements[2], elements[3]]


def test_a_small_model_holds_elements_of_anonymous_sets_only() -> None:
    model = Model(anonymous_only=True)
    model.apply(TABLE)
    for name, flags in (("__set0", 3), ("s", None)):
        model.apply(entity("new_set", name=name, handle=3, flags=flags))
        model.apply(entity("new_set_element", name=name, elements=[{"key": "05"}]))
    kept = [model.find_set("inet", "t", name) for name in ("__set0", "s")]
    assert [len(members.elements) for members in kept if members] == [1, 0]


def test_a_copy_changes_independently() -> None:
    model = start(rule(2))
    other = model.copy()
    other.apply(rule(3, "insert"))
    assert order(model) == [2] and order(other) == [3, 2]


def test_what_is_counted_makes_no_difference() -> None:
    def counted(packets: int, expires: int) -> Model:
        counter = {"name": "counter", "packets": packets, "bytes": packets * 60}
        quota = {"name": "quota", "bytes": 100, "consumed": packets}
        element = {"key": "05", "expires": expires, "timeout": 9000, "expressions": [counter]}
        return start(rule(2, expressions=[counter, quota]),
                     entity("new_set", name="s", handle=3),
                     entity("new_set_element", name="s", elements=[element]))  # fmt: skip

    assert not counted(1, 5000).difference(counted(7, 100))


def test_the_difference_has_no_generation_and_says_how_it_was_learned() -> None:
    model = start(rule(2), rule(3))
    other = start(rule(2), rule(5, generation=9, process="nft", pid=3))
    records = model.difference(other, observed_ns=17)
    assert [(r.op, r.change, r.handle) for r in records] == [
        ("del_rule", "delete", 3),
        ("new_rule", "append", 5),
    ]
    for record in records:
        assert (record.generation, record.process, record.via) == (None, None, "relist")
        assert record.observed_ns == 17


STEPS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(0, 5)), max_size=40)


def program(steps: list[tuple[int, int, int]], model: Model, next_handle: int) -> Model:
    """Apply random changes that a kernel could announce."""
    for what, one, two in steps:
        next_handle += 1
        for key in (("inet", "t"), ("ip", f"u{one % 2}")):
            here: dict[str, Any] = {"family": key[0], "table": key[1]}
            table = model.tables.get(key)
            if table is None:
                model.apply(entity("new_table", handle=next_handle, **here))
                continue
            chains = sorted(str(name) for name in table.chains)
            chain = chains[two % len(chains)] if chains else None
            handles = table.chains[chain].handles() if chain else []
            at = handles[one % len(handles)] if handles else None
            if what == 0 and one == 5:
                model.apply(entity("del_table", **here))
            elif what in (1, 2) and f"c{one}" not in table.chains:
                model.apply(entity("new_chain", chain=f"c{one}", handle=next_handle, hook="ingress",
                                   devices=["a"], **here))  # fmt: skip
            elif what == 3 and chain:
                old = table.chains[chain].record
                if f"r{one}" not in table.chains:
                    model.apply(entity("new_chain", chain=f"r{one}", handle=old.handle,
                                       hook="ingress", devices=[f"d{two}"], **here))  # fmt: skip
            elif what == 4 and chain and one > 3:
                model.apply(entity("del_chain", chain=chain, **here))
            elif what in (5, 6) and chain:
                jump = [
                    {"name": "immediate", "verdict": "jump", "chain": chains[one % len(chains)]}
                ]
                model.apply(entity("new_rule", chain=chain, handle=next_handle, expressions=jump,
                                   change="append" if two % 2 else "insert", **here))  # fmt: skip
            elif what == 7 and at is not None:
                model.apply(entity("new_rule", chain=chain, handle=next_handle, position=at,
                                   change="insert", **here))  # fmt: skip
            elif what == 8 and at is not None:
                model.apply(entity("del_rule", chain=chain, handle=at, change="delete", **here))
            elif what == 9 and at is not None:
                for op in ("del_rule", "new_rule"):
                    model.apply(entity(op, chain=chain, handle=at, change="replace",
                                       comment=f"n{next_handle}", **here))  # fmt: skip
            elif what == 10:
                model.apply(entity("new_set", name=f"s{one}", handle=next_handle, **here))
            elif what == 11:
                for op, key_ in (("new_set_element", two), ("del_set_element", one)):
                    elements = [{"key": f"0{key_}"}, {"key": f"1{key_}", "data": f"{next_handle}"}]
                    model.apply(entity(op, name=f"s{one}", elements=elements, **here))
            elif what == 12:
                op = "new_obj" if two % 2 else "del_obj"
                model.apply(entity(op, name=f"o{one}", type="quota", handle=next_handle, **here))
    model.finish()
    return model


def shape(model: Model) -> Any:
    """All that a ruleset amounts to, as plain values."""
    return {
        key: (
            table.record.handle,
            {name: (chain.record.handle, sorted(chain.record.devices or ()),
                    [(handle, table.rules[handle].chain, table.rules[handle].comment,
                      table.rules[handle].expressions) for handle in chain.handles()])
             for name, chain in table.chains.items()},
            {name: (members.record.handle, members.elements)
             for name, members in table.sets.items()},
            {name: record.handle for name, record in table.objects.items()},
            len(table.rules),
        )
        for key, table in model.tables.items()
    }  # fmt: skip


@given(STEPS, STEPS, STEPS)
def test_the_difference_leads_from_one_ruleset_to_the_other(
    before: list[tuple[int, int, int]],
    one: list[tuple[int, int, int]],
    two: list[tuple[int, int, int]],
) -> None:
    common = program(before, Model(), 0)
    old, new = program(one, common.copy(), 1000), program(two, common.copy(), 2000)
    for record in old.difference(new):
        old.apply(record)
    old.finish()
    assert shape(old) == shape(new)
    assert not old.difference(new) and not new.difference(old)
    assert shape(model_of(new.records())) == shape(new)


def test_after_every_step_the_model_has_what_nft_lists() -> None:
    """fixtures/nft/changes.states.jsonl.gz: handles by name after each of nft's own steps."""
    commits: dict[int, list[RulesetRecord]] = {}
    waiting: list[RulesetRecord] = []
    with pylog.open(NFT / "changes.cat.xz") as reader:
        for record in reader:
            assert isinstance(record, RulesetRecord)
            waiting.append(record)
            if record.op == "new_gen":
                commits[record.generation or 0], waiting = waiting, []
    model, expected, before = Model(), dict[str, Any](), Model()
    for line in gzip.decompress((NFT / "changes.states.jsonl.gz").read_bytes()).splitlines():
        state = json.loads(line)
        expected |= state["changes"]
        expected = {name: value for name, value in expected.items() if value is not None}
        for generation in [g for g in commits if g <= state["gen"]]:
            for record in commits.pop(generation):
                assert model.apply(record)
        assert listed(model) == expected, state["gen"]
        for record in before.difference(model):
            before.apply(record)
        before.finish()
        assert shape(before) == shape(model), state["gen"]


def listed(model: Model) -> dict[str, Any]:
    """The handles of what nft lists, by kind and name."""
    found: dict[str, Any] = {}
    for (family, name), table in model.tables.items():
        if name == "owned":  # vanishes without a message
            continue
        place = f"{family} {name}"
        found[f"table {place}"] = table.record.handle
        for chain_name, chain in table.chains.items():
            if not str(chain_name).startswith("__"):
                devices = sorted(chain.record.devices or ())
                found[f"chain {place} {chain_name}"] = [chain.record.handle, *devices]
                if chain.handles():
                    found[f"rules {place} {chain_name}"] = chain.handles()
        for set_name, members in table.sets.items():
            if not members.anonymous:
                found[f"set {place} {set_name}"] = members.record.handle
        for (kind, object_name), record in table.objects.items():
            found[f"{kind} {place} {object_name}"] = record.handle
    return found


OPS = ("new_table", "del_table", "new_chain", "del_chain", "new_rule", "del_rule", "new_gen")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPS), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4),
            st.sampled_from((None, "append", "insert", "replace", "update", "delete")),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_records_that_do_not_fit_each_other_leave_a_ruleset(
    changes: list[tuple[str, int, int, int, str | None]],
) -> None:
    model = Model()
    for op, name, handle, position, change in changes:
        chain = None if op.endswith("table") else f"c{name}"
        model.apply(entity(op, chain=chain, handle=handle or None, position=position or None,
                           change=change))  # fmt: skip
        for table in model.tables.values():
            placed = [n for held in table.chains.values() for n in held.handles()]
            assert len(placed) == len(set(placed)) and set(placed) <= set(table.rules)
    for one, other in ((model, Model()), (Model(), model)):
        for record in one.difference(other):
            one.apply(record)
    assert [record.handle for record in model.rules()] == []


class Listed:
    """What Order does, with a plain list."""

    def __init__(self) -> None:
        self.placed: list[int] = []
        self.late: dict[int, list[int]] = {}

    def handles(self) -> list[int]:
        return [*self.placed, *(handle for late in self.late.values() for handle in late)]

    def place(self, handle: int, change: str, position: int | None) -> None:
        if position is None:
            self._put(handle, 0 if change == "insert" else len(self.placed))
        elif position in self.placed:
            self._put(handle, self.placed.index(position) + 1)
        else:
            self.late.setdefault(position, []).append(handle)

    def _put(self, handle: int, at: int) -> int:
        self.placed.insert(at, handle)
        at += 1
        for late in self.late.pop(handle, ()):
            at = self._put(late, at)
        return at

    def remove(self, handle: int) -> bool:
        if handle in self.placed:
            self.placed.remove(handle)
            return True
        for position, late in list(self.late.items()):
            if handle in late:
                late.remove(handle)
                if not late:
                    del self.late[position]
                return True
        return False

    def finish(self) -> bool:
        complete = not self.late
        self.placed, self.late = self.handles(), {}
        return complete


@given(
    st.lists(
        st.tuples(st.sampled_from(("append", "insert", "after", "after", "remove", "finish")),
                  st.integers(1, 9), st.integers(1, 9)),
        max_size=60,
    )
)  # fmt: skip
def test_the_order_of_rules_is_that_of_a_list(steps: list[tuple[str, int, int]]) -> None:
    order_, expected = Order(), Listed()
    for what, handle, position in steps:
        if what == "finish":
            assert order_.finish() == expected.finish()
        elif what == "remove":
            assert order_.remove(handle) == expected.remove(handle)
        elif handle not in expected.handles():
            change, at = ("insert", position) if what == "after" else (what, None)
            order_.place(handle, change, at)
            expected.place(handle, change, at)
        assert list(order_) == expected.handles() and len(order_) == len(expected.handles())
        assert list(order_.copy()) == expected.handles()


class Counted(int):
    """A handle that counts how often it is compared or looked up."""

    steps = 0

    def __eq__(self, other: object) -> bool:
        Counted.steps += 1
        return int.__eq__(self, other)

    def __hash__(self) -> int:
        Counted.steps += 1
        return int.__hash__(self)


def inserted(handles: list[Counted], chance: random.Random) -> list[RulesetRecord]:
    return [rule(handle, "insert", chance.choice(handles[:n]) if n else None)
            for n, handle in enumerate(handles)]  # fmt: skip


def deleted(handles: list[Counted], chance: random.Random) -> list[RulesetRecord]:
    return [*map(rule, handles), *map(gone, chance.sample(handles, len(handles)))]


def waiting(handles: list[Counted], chance: random.Random) -> list[RulesetRecord]:
    late = [rule(handle, "insert", Counted(handle + 100_000)) for handle in handles]
    return [*late, *map(gone, chance.sample(handles, len(handles)))]


def in_vain(handles: list[Counted], chance: random.Random) -> list[RulesetRecord]:
    late = Counted(100_000)
    return [each for handle in handles for each in (rule(handle, "insert", late), COMMIT)]


def replaced(handles: list[Counted], chance: random.Random) -> list[RulesetRecord]:
    changes = [
        each
        for handle in chance.sample(handles, len(handles))
        for each in (gone(handle, "replace"), rule(handle, "replace"), COMMIT)
    ]
    return [*map(rule, handles), *changes]


@pytest.mark.parametrize("made", [inserted, deleted, waiting, in_vain, replaced])
def test_a_change_of_a_rule_costs_the_same_in_a_long_chain(made: Any) -> None:
    model = start()
    records = made([Counted(n) for n in range(2, 3000)], random.Random(1))
    Counted.steps = 0
    for record in records:
        model.apply(record)
    assert Counted.steps <= 30 * len(records)


def jump(chain: str) -> list[dict[str, Any]]:
    return [{"name": "immediate", "dreg": 0, "verdict": "jump", "chain": chain}]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts in its only item the rules and elements that are rewritten."""
    count = [0]

    def counted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            count[0] += 1
            return function(*arguments)

        return call

    for name in ("renamed", "rewritten"):
        function = counted(getattr(nft_renames, name))
        monkeypatch.setattr(f"pylog.formats.nft_tables.{name}", function)
    return count


def renames(number: int, first: int = 0) -> list[RulesetRecord]:
    return [entity("new_chain", chain=f"r{n}", handle=1, change="update")
            for n in range(first, first + number)]  # fmt: skip


def test_a_rename_rewrites_only_what_names_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [rule(n, chain="d", expressions=jump("e")) for n in range(100, 1100)]
    elements = [{"key": f"{n:04x}", "chain": "e"} for n in range(1000)]
    model = start(
        entity("new_chain", chain="d", handle=2), *others, rule(3),
        rule(4, chain="d", expressions=jump("c")),
        entity("new_set", name="m", handle=5),
        entity("new_set_element", name="m", elements=[*elements, {"key": "ff", "chain": "c"}]),
    )  # fmt: skip
    count = counting(monkeypatch)
    assert all([model.apply(record) for record in renames(100)])
    assert count[0] == 300
    found = model.find_rule("inet", "t", 4)
    assert found is not None and found.expressions == jump("r99")


def test_a_chain_that_is_renamed_without_end_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    model._budget.left = 0
    elements = [{"key": "01", "chain": "c"}, {"key": "02", "chain": "d"}]
    content = [
        TABLE, CHAIN, *(rule(n, expressions=jump("c")) for n in range(100, 600)),
        entity("new_chain", chain="d", handle=2), rule(3, chain="d", expressions=jump("c")),
        rule(4, chain="d"), entity("new_set", name="m", handle=5),
        entity("new_set_element", name="m", elements=elements),
    ]  # fmt: skip
    for record in content:
        assert model.apply(record)
    count = counting(monkeypatch)
    fits = [model.apply(record) for record in renames(2000)]
    assert count[0] <= 50 * (len(content) + len(fits)) and fits.count(False) == 1
    assert not order(model, "r1999") and order(model, "d") == [4]
    members = model.find_set("inet", "t", "m")
    assert members is not None and members.listed() == [{"key": "02", "chain": "d"}]
    assert model.find_chain("inet", "t", "r1999") is not None and model.apply(COMMIT)


def test_a_ruleset_whose_chains_are_exchanged_with_each_commit_stays_certain() -> None:
    model = start()
    for generation in range(30):
        first = 1000 * (generation + 1)
        records = [
            entity("new_chain", chain="next", handle=first),
            *(rule(first + n, chain="next", expressions=jump("next")) for n in range(1, 500)),
            *(gone(record.handle or 0) for record in model.rules_of("inet", "t", "c")),
            entity("del_chain", chain="c", handle=0, change="delete"),
            entity("new_chain", chain="c", handle=first, change="update"), COMMIT,
        ]  # fmt: skip
        assert all([model.apply(record) for record in records])
        assert len(order(model)) == 499


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("new_chain", "new_chain", "del_chain", "new_rule", "new_rule",
                             "del_rule", "new_set", "del_set", "new_set_element",
                             "del_set_element", "new_gen")),
            st.integers(0, 3), st.integers(0, 4), st.integers(0, 3),
            st.sampled_from((None, "append", "insert", "replace", "update", "delete")),
        ),
        max_size=40,
    ),
    st.booleans(),
)  # fmt: skip
def test_the_index_of_chains_is_that_of_the_content(
    changes: list[tuple[str, int, int, int, str | None]], poor: bool
) -> None:
    model = Model()
    for op, name, handle, other, change in changes:
        if poor:
            model._budget.left = -49
        before = model.copy()
        chain = f"c{name}" if op.endswith(("chain", "rule")) else None
        elements = [{"key": f"0{handle}", "chain": f"c{other}"}] if "element" in op else None
        expressions = [{"name": "x", "expressions": jump(f"c{other}")}] if "rule" in op else None
        fits = model.apply(entity(op, chain=chain, handle=handle or None, change=change,
                                  name=f"s{name % 2}", elements=elements, expressions=expressions,
                                  position=other or None))  # fmt: skip
        for table in model.tables.values():
            placed = {n: key for key, held in table.chains.items() for n in held.handles()}
            assert placed == {n: record.chain for n, record in table.rules.items()}
            handles = [held.record.handle for held in table.chains.values() if held.record.handle]
            assert len(handles) == len(set(handles))
            if table._mentions is not None:
                fresh = mentions_of(table.rules, [(n, s.elements) for n, s in table.sets.items()])
                for field in ("_rules", "_chains", "_costs", "_sets", "_elements"):
                    assert getattr(table._mentions, field) == getattr(fresh, field), field
            old = before.tables.get(("inet", "t"))
            was = None if old is None else old.chain_by_handle(handle or None)
            if op == "new_chain" and was is not None and was.record.chain != chain:
                assert str(was.record.chain) not in str(table.rules) + str(
                    [s.elements for s in table.sets.values()]
                )
                if fits:
                    assert old is not None and len(table.rules) == len(old.rules)
        for one, two in ((before.copy(), model.copy()), (model.copy(), before.copy())):
            for record in one.difference(two):
                one.apply(record)


def test_chains_that_have_exchanged_their_names_are_compared_in_one_pass() -> None:
    def ruleset(shift: int) -> Model:
        return model_of([
            TABLE,
            *(entity("new_chain", chain=f"c{n + shift}", handle=n + 1) for n in range(300)),
            *(rule(n + 1000, chain=f"c{n + shift}", expressions=jump(f"c{shift}"))
              for n in range(300)),
        ])  # fmt: skip

    old, new = ruleset(0), ruleset(1000)
    records = old.difference(new)
    assert [record.op for record in records] == ["new_chain"] * 300
    for record in records:
        assert old.apply(record)
    assert shape(old) == shape(new)


def test_devices_do_not_accumulate() -> None:
    held = CHAIN
    for n in range(2000):
        held = with_devices(entity("new_chain", chain="c", devices=[f"d{n}"]), held.devices)
    assert held.devices is not None and len(held.devices) == 512


def test_chains_and_rules_that_are_gone_leave_nothing() -> None:
    model = start(*renames(3))
    for n in range(10, 500):
        for record in (entity("new_chain", chain=f"x{n}", handle=n, change=None),
                       rule(n + 1000, "insert", 7, chain=f"x{n}", expressions=jump("r2")),
                       entity("del_chain", chain=f"x{n}", handle=n, change="delete")):  # fmt: skip
            assert model.apply(record)
    table = model.tables["inet", "t"]
    assert len(table.unfinished) == 0 and len(table._names) == 1 and not table.rules
    assert table._mentions is not None and not table._mentions.rules("r2")


def test_a_budget_grows_with_messages_and_their_elements() -> None:
    budget = Budget(10, 50, 5)
    assert budget.spend(10) and not budget.spend(1)
    budget.earn(entity("new_set_element", elements=[{"key": "01"}] * 4))
    assert budget.left == 70 and budget.copy().left == 70


def test_a_set_that_many_rules_name_is_written_out_for_a_part_of_them() -> None:
    lookup = [{"name": "meta", "key": "mark", "dreg": 1},
              {"name": "lookup", "set": "__set0", "sreg": 1}]  # fmt: skip
    elements = [{"key": f"{n:08x}"} for n in range(1000)]
    model = start(entity("new_set", name="__set0", handle=2, flags=3),
                  entity("new_set_element", name="__set0", elements=elements))  # fmt: skip
    texts = Texts(model, budget=Budget(10_000, 64, 16))
    written = []
    for n in range(200):
        record = rule(n + 10, expressions=lookup)
        texts.put(record)
        written.append(len(record.text or ""))
    assert written[0] > 1000 and sum(size > 1000 for size in written) <= 22
    assert 0 < written[-2] < 100


def test_listings_of_others_are_compared_with_a_part_of_the_ruleset() -> None:
    rules = [rule(n) for n in range(100, 200)]
    model = start(*rules, entity("new_table", handle=1, table="u"))
    listing = Listing()
    listing.own = False
    budget = Budget(150, 0, 0)
    small, large = model_of([entity("new_table", handle=1, table="u")]), model_of([TABLE])
    part = comparable(model, small, listing, budget)
    assert part is not None and list(part.tables) == [("inet", "u")] and budget.left == 149
    assert comparable(model, large, listing, budget) is not None
    assert comparable(model, large, listing, budget) is None
    listing.own = True
    assert comparable(model, large, listing, budget) is model
