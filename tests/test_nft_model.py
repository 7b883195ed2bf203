"""The ruleset as a value: records applied in the order of the kernel, and differences."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog.formats.nft_model import Model, model_of
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
