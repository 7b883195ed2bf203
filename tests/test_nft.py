"""nftables: messages become records, and records the commits that they were made in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import effort
import nftables
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from nftables import Kernel

import pylog
from pylog import DecodeError, LossRecord, RulesetRecord, TraceRecord
from pylog.cli import main
from pylog.formats import Message, nft_attributes, nft_dumps, nft_entities
from pylog.formats.nft import NftStream
from pylog.formats.nft_model import Model
from pylog.formats.nft_read import Place
from pylog.formats.scrub import Scrubber
from pylog.outputs import Target, pcapng
from pylog.scrub import Scrubbing
from pylog.table import splits

COMMITS = samples.FIXTURES / "nft/commits.bin"


def read(data: bytes, **options: Any) -> list[Any]:
    """The records of a recording."""
    with pylog.open(io.BytesIO(data), **({"layout": "nft-le"} | options)) as reader:
        return list(reader)


def ops(records: list[Any]) -> list[tuple[str | None, int | None]]:
    """What records of the ruleset say happened, in which generation."""
    return [(r.op, r.generation) for r in records if r.kind == "ruleset"]


def without_places(records: list[Any]) -> list[dict[str, Any]]:
    """Records without what depends on the file that they are in."""
    import msgspec

    different = ("offset", "observed", "layout")
    decoded = [msgspec.json.decode(pylog.to_json(record)) for record in records]
    return [{k: v for k, v in record.items() if k not in different} for record in decoded]


# Messages


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_say_the_same(order: str) -> None:
    kernel = Kernel(order)
    data = kernel.commit(
        kernel.table(b"fw", 2**40),
        kernel.chain(b"fw", b"in", 2),
        kernel.rule(b"fw", b"in", 3, b"ssh"),
    )
    table, chain, rule, commit = read(data, layout=f"nft-{'le' if order == '<' else 'be'}")
    assert (table.op, table.family, table.table, table.handle) == ("new_table", "inet", "fw", 2**40)
    assert (chain.op, chain.chain, chain.handle) == ("new_chain", "in", 2)
    assert (rule.op, rule.comment, rule.change, rule.expressions) == (
        "new_rule",
        "ssh",
        "append",
        [],
    )
    assert {(r.generation, r.pid, r.process, r.portid) for r in (table, chain, rule, commit)} == {
        (1, 99, "nft", 99)
    }
    assert pylog.open(io.BytesIO(data)).layout == f"nft-{'le' if order == '<' else 'be'}"


def test_numbers_and_words_that_nobody_knows_are_kept() -> None:
    kernel = Kernel()
    record = read(kernel.message(nft_attributes.NFT_MSG_NEWOBJ,
                                 [(1, b"t\0"), (2, b"o\0"), (3, 77), (4, b"\x08\0\x01\0abcd"),
                                  (30, b"xyz")], family=99))[0]  # fmt: skip
    assert (record.family, record.type) == (99, 77)
    assert record.extra == {"NFTA_OBJ_DATA": "0800010061626364", "unknown": [[30, "78797a"]]}


def test_user_data_that_is_no_comment_is_kept_as_hex() -> None:
    kernel = Kernel()
    for octets in (b"\xff", b"\0\x09abc", b"\5\1x", b"\0\1a\0\1b"):
        attrs = [(1, b"t\0"), (2, b"c\0"), (3, 5), (4, b""), (7, octets)]
        record = read(kernel.message(nft_attributes.NFT_MSG_NEWRULE, attrs))[0]
        assert record.comment is None and record.extra == {"NFTA_RULE_USERDATA": octets.hex()}


@given(st.binary(max_size=24), st.integers(0, 3), st.sampled_from("<>"))
def test_elements_that_are_only_a_key_read_as_all_others(key: bytes, cut: int, order: str) -> None:
    kernel = Kernel(order)
    value = kernel.attribute(1, kernel.attribute(1, kernel.attribute(1, key)))
    data = value[: len(value) - cut]
    place = Place(0, len(data))
    quick = nft_entities.only_key(data, place, order)
    if quick:
        assert quick == [{"key": key.hex()}] and len(key) % 4 == 0
    elif not cut:
        assert len(key) % 4 or not key


def test_elements_of_one_set_in_a_row_read_as_they_do_alone() -> None:
    keys = [bytes((10, 0, n, n)) for n in range(9)]
    kernel = Kernel()
    parts = [kernel.element(b"t", b"ab"[n // 3 % 2 :][:1], key) for n, key in enumerate(keys)]
    together = read(b"".join(parts))
    alone = [read(part)[0] for part in parts]
    assert without_places(together) == without_places(alone)
    assert [r.elements for r in together] == [[{"key": key.hex()}] for key in keys]


def test_expressions_in_expressions_have_an_end() -> None:
    kernel = Kernel()
    inner = b""
    for _ in range(4000):
        name, data = (
            kernel.attribute(1, b"inner\0"),
            kernel.attribute(2, kernel.attribute(5, inner)),
        )
        if len(name) + len(data) > 60000:
            break
        inner = name + data
    attrs = [(1, b"t\0"), (2, b"c\0"), (3, 5), (4, kernel.attribute(1, inner))]
    (record,) = read(kernel.message(nft_attributes.NFT_MSG_NEWRULE, attrs))
    assert record.expressions


def decode_alone(data: bytes) -> None:
    """A stream makes a record of the message, or a DecodeError."""
    for lenient in (False, True):
        stream = NftStream("<")
        stream.lenient = lenient
        for item in stream.split(data, True):
            if isinstance(item, Message):
                try:
                    record = stream.decode(data, item)
                except DecodeError:
                    continue
                assert pylog.to_json(record)


def test_every_prefix_of_real_messages() -> None:
    every = {nftables.kind(m): m for m in nftables.messages(nftables.recording("changes"))}
    every |= {nftables.kind(m) + 1: m for m in nftables.messages(nftables.recording("joined"))}
    for message in every.values():
        for size in effort.sample(range(len(message))):
            shorter = size.to_bytes(4, "little") + message[4:size]
            decode_alone(shorter + bytes(-len(shorter) % 4))


def test_every_changed_byte_of_real_messages() -> None:
    data = COMMITS.read_bytes() + nftables.recording("joined")[:1120]
    for message in effort.sample(nftables.messages(data), least=20):
        for at in effort.sample(range(len(message)), least=20):
            for value in (0, 255, message[at] ^ 1, message[at] ^ 0x80):
                decode_alone(message[:at] + bytes((value,)) + message[at + 1 :])


def test_damage_anywhere_gives_records_and_losses() -> None:
    data = COMMITS.read_bytes()
    chance = effort.chance("damage")
    for _ in range(effort.number(1000, least=30)):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        for record in read(bytes(changed)):
            assert pylog.to_json(record)


@given(st.binary(max_size=300))
def test_any_bytes_give_records_or_damage(junk: bytes) -> None:
    for message in nftables.messages(COMMITS.read_bytes())[:3]:
        for record in read(message[:20] + junk + message):
            assert pylog.to_json(record)


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_records_do_not_depend_on_how_they_are_read(size: int) -> None:
    data = nftables.recording("joined")
    expected = read(data, layout="netlink-le")
    with pylog.open(io.BytesIO(data)) as reader:
        batches = list(iter(lambda: reader.read_batch(limit=size), []))
    assert [record for batch in batches for record in batch] == expected
    with pylog.open(io.BytesIO(data)) as reader:
        rows: list[Any] = []
        reading = reader.rows()
        while batch := reading.read_batch(limit=size):
            rows += batch
    assert pylog.record.row_lines(rows) == pylog.json_lines(expected)
    assert reader.received == sum(r.kind != "loss" for r in expected)


# Commits


def commits_of(records: list[Any]) -> dict[int, list[RulesetRecord]]:
    """The records of each commit by its generation, with the commit itself."""
    found: dict[int, list[RulesetRecord]] = {}
    for record in records:
        if isinstance(record, RulesetRecord) and record.generation is not None:
            found.setdefault(record.generation, []).append(record)
    return found


def test_a_series_of_changes_has_every_generation_once_and_its_author() -> None:
    records = read(nftables.recording("changes"))
    commits = commits_of(records)
    assert list(commits) == list(range(1452, 1752))
    for commit in commits.values():
        assert [r.op for r in commit].count("new_gen") == 1 and commit[-1].op == "new_gen"
        assert len({(r.pid, r.process, r.portid) for r in commit}) == 1
    assert not any(r.incomplete or r.partial for r in records)


def test_a_replaced_rule_keeps_its_handle_and_both_halves_say_so() -> None:
    kernel = Kernel()
    first = kernel.commit(
        kernel.table(b"t"), kernel.chain(b"t", b"c", 1), kernel.rule(b"t", b"c", 2)
    )
    second = kernel.commit(kernel.rule(b"t", b"c", 2, b"", True, flags=0x800),
                           kernel.rule(b"t", b"c", 2, b"new", flags=0x800))  # fmt: skip
    changes = [(r.op, r.change) for r in read(first + second)]
    assert changes[-3:] == [("del_rule", "replace"), ("new_rule", "replace"), ("new_gen", None)]


def test_a_rule_that_is_made_and_deleted_at_once_was_not_replaced() -> None:
    kernel = Kernel()
    data = kernel.commit(
        kernel.table(b"t"),
        kernel.chain(b"t", b"c", 1),
        kernel.rule(b"t", b"c", 2),
        kernel.rule(b"t", b"c", 2, deleted=True),
    )
    assert [r.change for r in read(data)][2:4] == ["append", "delete"]


def test_a_table_that_is_made_anew_has_new_rules_with_old_handles() -> None:
    kernel = Kernel()
    whole = [kernel.table(b"t"), kernel.chain(b"t", b"c", 1), kernel.rule(b"t", b"c", 2)]
    first = kernel.commit(*whole)
    gone = kernel.message(nft_attributes.NFT_MSG_DELTABLE, [(1, b"t\0"), (4, 1)])
    second = kernel.commit(kernel.rule(b"t", b"c", 2, deleted=True), gone, kernel.table(b"t", 2),
                           kernel.chain(b"t", b"c", 1), kernel.rule(b"t", b"c", 2))  # fmt: skip
    changes = [r.change for r in read(first + second)][4:]
    assert changes == ["delete", "delete", None, None, "append", None]


def test_what_is_announced_again_with_its_handle_is_an_update() -> None:
    kernel = Kernel()
    first = kernel.commit(kernel.table(b"t"), kernel.chain(b"t", b"c", 1))
    second = kernel.commit(kernel.table(b"t"), kernel.chain(b"t", b"renamed", 1))
    assert [r.change for r in read(first + second)] == [None] * 3 + ["update", "update", None]


def test_a_chain_with_a_new_name_has_its_devices() -> None:
    def chain(name: bytes, *devices: bytes) -> bytes:
        devs = b"".join(b"\6\0\1\0" + device + bytes(2) for device in devices)
        hook = [{"nla_type": n, "value": v} for n, v in ((1, 0), (2, 5), (4, devs))]
        attrs = [(1, b"t\0"), (2, 1), (3, name), (4, hook), (5, 1)]
        return kernel.message(nft_attributes.NFT_MSG_NEWCHAIN, attrs, family=5)

    kernel = Kernel()
    table = kernel.message(nft_attributes.NFT_MSG_NEWTABLE, [(1, b"t\0")], family=5)
    data = kernel.commit(table, chain(b"c\0", b"a\0"))
    data += kernel.commit(chain(b"c\0", b"b\0")) + kernel.commit(chain(b"d\0"))
    chains = [r for r in read(data) if r.op == "new_chain"]
    assert [(r.chain, r.devices) for r in chains] == [("c", ["a"]), ("c", ["b"]), ("d", ["a", "b"])]
    assert 'devices = { "a", "b" }' in chains[2].text


def test_a_quota_that_is_used_up_belongs_to_no_commit() -> None:
    kernel = Kernel()
    first = kernel.commit(kernel.table(b"t"))
    second = [kernel.chain(b"t", b"c", 1)]
    attrs = [(1, b"t\0"), (2, b"q\0"), (3, 2), (4, b""), (6, 9)]
    kernel.generation -= 1
    quota = kernel.message(nft_attributes.NFT_MSG_NEWOBJ, attrs, seq=0, pid=0)
    kernel.generation += 1
    records = read(first + second[0] + quota + kernel.commit(kernel.chain(b"t", b"d", 2)))
    assert ops(records) == [("new_table", 1), ("new_gen", 1), ("new_obj", None), ("new_chain", 2),
                            ("new_chain", 2), ("new_gen", 2)]  # fmt: skip
    assert records[2].change == "update" and records[2].process is None


def test_generations_are_counted_modulo_2_to_the_32() -> None:
    kernel = Kernel(generation=2**32 - 1)
    parts = [kernel.commit(kernel.table(b"t", n)) for n in range(4)]
    assert [r.generation for r in read(b"".join(parts))][::2] == [2**32 - 1, 0, 1, 2]
    loss = read(b"".join([parts[0], parts[3]]))[2]
    assert isinstance(loss, LossRecord) and (loss.seq, loss.count, loss.log) == (0, 2, "ruleset")


# Losses


def three(kernel: Kernel) -> list[list[bytes]]:
    """Three commits of three messages: two entities and the end."""
    made = []
    for n in range(3):
        entities = [kernel.chain(b"t", b"c%d" % (2 * n + i), 2 * n + i + 1) for i in range(2)]
        made.append([*entities, kernel.newgen()])
        kernel.generation += 1
    return made


def test_a_commit_that_lost_its_end_is_incomplete_and_has_no_author() -> None:
    first, second, third = three(Kernel())
    records = read(b"".join([*first, *second[:1], *third]))
    assert ops(records)[3:] == [("new_chain", None), ("new_chain", 3), ("new_chain", 3),
                                ("new_gen", 3)]  # fmt: skip
    orphan, loss, *rest = records[3:]
    assert (
        orphan.incomplete and orphan.process is None and not any(r.incomplete for r in records[:3])
    )
    assert isinstance(loss, LossRecord) and (loss.seq, loss.count) == (2, 1)
    assert loss.reason == "generation 2 lost"
    assert all(r.incomplete for r in rest)  # the beginning may be lost as well


def test_a_commit_that_lost_its_entities_is_incomplete() -> None:
    first, second, third = three(Kernel())
    records = read(b"".join([*first, second[2], *third]))
    assert ops(records)[3:5] == [("new_gen", 2), ("new_chain", 3)]
    assert records[3].incomplete and not any(r.incomplete for r in records[4:])


def test_a_recording_that_begins_within_a_commit() -> None:
    first, second, third = three(Kernel())
    records = read(b"".join([first[2], *second, *third]))
    assert records[0].op == "new_gen" and records[0].incomplete
    assert not any(r.incomplete for r in records[1:])


def test_a_recording_that_ends_within_a_commit() -> None:
    first, second, _ = three(Kernel())
    records = read(b"".join([*first, *second[:2]]))
    assert ops(records)[3:] == [("new_chain", None)] * 2
    assert all(r.incomplete for r in records[3:]) and not any(r.incomplete for r in records[:3])


def test_damage_within_a_commit_makes_it_incomplete() -> None:
    first, second, third = three(Kernel())
    broken = second[0][:4] + b"\xff\xff" + second[0][6:]
    records = read(b"".join([*first, broken, *second[1:], *third]))
    kinds = [(r.kind, getattr(r, "incomplete", None)) for r in records]
    assert (
        kinds
        == [("ruleset", None)] * 3
        + [("loss", None)]
        + [("ruleset", True)] * 2
        + [("ruleset", None)] * 3
    )


def test_whatever_is_lost_no_change_gets_a_strangers_commit() -> None:
    every = nftables.messages(nftables.recording("changes"))
    full = {
        g: [(r.op, r.handle, r.chain, r.name, r.elements) for r in commit]
        for g, commit in commits_of(read(b"".join(every))).items()
    }
    chance = effort.chance("lost")
    for _ in range(effort.number(400, least=8)):
        parts, at = list[bytes](), 0
        gaps = 0
        while at < len(every):
            kept = chance.randrange(1, 120)
            parts += every[at : at + kept]
            at += kept
            while at < len(every) and nftables.kind(every[at]) != nft_attributes.NFT_MSG_NEWGEN:
                at += 1  # a loss within one commit shows in no number
            at += chance.randrange(1, 60)
            gaps += at < len(every)
        records = read(b"".join(parts))
        commits = commits_of(records)
        for generation, commit in commits.items():
            found = [(r.op, r.handle, r.chain, r.name, r.elements) for r in commit]
            if not any(r.incomplete for r in commit):
                assert found == full[generation] or generation == min(commits)
            assert [r for r in found if r in full[generation]] == found
        lost = sum(r.count or 0 for r in records if isinstance(r, LossRecord))
        seen = [r.generation for r in records if getattr(r, "op", None) == "new_gen"]
        assert lost == seen[-1] - seen[0] + 1 - len(seen)
        assert sum(
            r.op == "new_gen" and bool(r.incomplete) for c in commits.values() for r in c
        ) <= (gaps + 1)


def test_an_overflow_of_the_receive_buffer_is_counted_exactly() -> None:
    records = read(nftables.recording("overrun_small"))
    losses = [(r.seq, r.count, r.reason) for r in records if isinstance(r, LossRecord)]
    assert losses == [
        (505, 97, "generations 505 to 601 lost"),
        (607, 65, "generations 607 to 671 lost"),
    ]
    with pylog.open(io.BytesIO(nftables.recording("overrun_small"))) as reader:
        for _ in reader:
            pass
    assert reader.dropped == 162 and reader.uncounted == 0


def test_a_commit_that_is_too_large_is_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_dumps, "MOST_RECORDS", 10)
    kernel = Kernel()
    first = kernel.commit(kernel.table(b"t"))
    second = kernel.commit(*(kernel.chain(b"t", b"c%d" % n, n) for n in range(35)))
    records = read(first + second + kernel.commit(kernel.chain(b"t", b"d", 99)))
    assert ops(records)[2:] == [("new_chain", 2)] * 35 + [("new_gen", 2), ("new_chain", 3),
                                                          ("new_gen", 3)]  # fmt: skip
    assert [r.partial for r in records] == [None] * 2 + [True] * 36 + [None] * 2
    assert records[2].process is None and records[36].process == "nft"


# Listings


RULESET = (("table", b"t"), ("chain", b"t", b"c", 1), ("rule", b"t", b"c", 2, b"a"))


def test_a_listing_at_the_beginning_is_the_ruleset_that_is_there() -> None:
    kernel = Kernel(generation=8)
    data = kernel.listing(*RULESET) + kernel.commit(kernel.rule(b"t", b"c", 3, b"b"))
    records = read(data)
    assert ops(records) == [("new_table", 7), ("new_chain", 7), ("new_rule", 7), ("new_rule", 8),
                            ("new_gen", 8)]  # fmt: skip
    assert [r.via for r in records] == ["snapshot"] * 3 + [None] * 2
    assert [r.process for r in records] == [None] * 3 + ["nft"] * 2


def test_a_recorded_listing() -> None:
    records = read(nftables.recording("snapshot"))
    assert {(r.via, r.generation, r.incomplete) for r in records} == {("snapshot", 8, None)}
    counts = {op: sum(r.op == op for r in records) for op in {r.op for r in records}}
    assert counts == {"new_table": 5, "new_chain": 19, "new_rule": 33, "new_set": 27,
                      "new_set_element": 18, "new_obj": 11}  # fmt: skip


def test_a_gap_after_a_listing_is_seen() -> None:
    kernel = Kernel(generation=8)
    listing = kernel.listing(*RULESET)
    kernel.generation = 11
    records = read(listing + kernel.commit(kernel.rule(b"t", b"c", 3)))
    assert isinstance(records[3], LossRecord) and (records[3].seq, records[3].count) == (8, 3)


def test_commits_that_the_listing_contains_are_left_out() -> None:
    kernel = Kernel(generation=7)
    late = kernel.commit(kernel.rule(b"t", b"c", 2, b"a"))
    records = read(kernel.listing(*RULESET) + late + kernel.commit(kernel.rule(b"t", b"c", 3)))
    assert ops(records)[3:] == [("new_rule", 8), ("new_gen", 8)]


def test_a_later_listing_shows_what_nobody_announced() -> None:
    kernel = Kernel(generation=8)
    begin = kernel.listing(*RULESET)
    assert ops(read(begin + kernel.listing(*RULESET))) == ops(read(begin))
    other = (*RULESET[:2], ("rule", b"t", b"c", 2, b"changed"), ("rule", b"t", b"c", 9, b"new"))
    changed = read(begin + kernel.listing(*other))[3:]
    assert {(r.via, r.generation, r.process) for r in changed} == {("relist", None, None)}
    assert {r.comment for r in changed if r.op == "new_rule"} == {"changed", "new"}
    gone = read(begin + kernel.listing())[3:]
    assert ("del_table", None) in ops(gone) and {r.via for r in gone} == {"relist"}


def test_a_listing_that_pylog_did_not_ask_for_shows_no_deletions() -> None:
    kernel = Kernel(generation=8)
    begin = kernel.listing(*RULESET)
    assert len(read(begin + kernel.listing(RULESET[0], own=False))) == 3
    added = (RULESET[0], ("chain", b"t", b"more", 7))
    assert ops(read(begin + kernel.listing(*added, own=False)))[3:] == [("new_chain", None)]


def test_a_listing_that_a_commit_has_crossed_is_not_used() -> None:
    kernel = Kernel(generation=8)
    crossed = kernel.listing(*RULESET, flags=0x12)
    (loss,) = read(crossed)
    assert isinstance(loss, LossRecord) and loss.count is None and "commit" in (loss.reason or "")
    begin = kernel.listing(*RULESET)
    assert ops(read(begin + crossed)) == ops(read(begin))


def test_a_listing_after_lost_commits_shows_what_they_did() -> None:
    kernel = Kernel(generation=8)
    begin = kernel.listing(*RULESET)
    kernel.generation = 12  # 8 to 11 were lost
    listing = kernel.listing(*RULESET[:2])
    records = read(begin + listing + kernel.commit(kernel.chain(b"t", b"d", 9)))[3:]
    loss, gone, *rest = records
    assert isinstance(loss, LossRecord) and (loss.seq, loss.count) == (8, 4)
    assert (gone.op, gone.via, gone.handle) == ("del_rule", "relist", 2)
    assert ops(rest) == [("new_chain", 12), ("new_gen", 12)] and not any(r.incomplete for r in rest)


def test_a_listing_of_an_older_generation_is_not_used() -> None:
    kernel = Kernel(generation=8)
    begin, old = kernel.listing(*RULESET), kernel.listing()
    records = read(begin + kernel.commit(kernel.chain(b"t", b"d", 9)) + old)
    assert len(records) == 5


def test_an_answer_to_getgen_is_no_record() -> None:
    kernel = Kernel()
    data = kernel.commit(kernel.table(b"t"))
    kernel.generation -= 1
    assert len(read(data + kernel.newgen(b"other") * 2)) == 2


# Traces and packets


def test_steps_packets_and_changes_keep_their_order() -> None:
    data = nftables.recording("joined")
    records = read(data, layout="netlink-le")
    kinds = [r.kind for r in records]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "trace": 610,
        "packet": 46,
        "ruleset": 9,
    } or kinds.count("packet") == 46
    places = [r.offset for r in records if r.kind != "ruleset"]
    assert places == sorted(places)


def test_a_step_has_the_packet_in_the_first_message_of_a_base_chain() -> None:
    records = read(nftables.recording("joined"), layout="netlink-le")
    step = next(r for r in records if isinstance(r, TraceRecord))
    assert (step.id, step.type, step.family, step.table, step.chain, step.handle) == (
        "e13e2085", "rule", "inet", "tr", "mk", 11
    )  # fmt: skip
    assert (step.verdict, step.nfproto, step.length) == ("continue", 2, 60)
    assert step.saddr and step.daddr and step.protocol == 1 and step.icmp_type == 8
    assert step.payload is not None and len(step.payload) >= 28


# Elsewhere


def test_a_log_that_is_grouped_is_not_cut_into_splits(tmp_path: Path) -> None:
    for name in ("changes", "joined"):
        path = tmp_path / f"{name}.bin"
        path.write_bytes(nftables.recording(name))
        assert len(splits.plan(path, 8)) == 1


def test_tables_have_the_records_of_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "joined.bin"
    path.write_bytes(nftables.recording("joined"))
    records = read(nftables.recording("joined"), layout="netlink-le")
    for kind in ("ruleset", "trace", "packet"):
        table = pylog.read_table(path, kind=kind, columns=["offset"])
        expected = [r.offset for r in records if r.kind == kind]
        assert table.column("offset").to_pylist() == expected


@pytest.mark.parametrize("name", ["changes", "joined", "snapshot", "overrun_small"])
def test_a_capture_reads_back_to_the_same_records(name: str) -> None:
    data = nftables.recording(name)
    stream = io.BytesIO()
    output = pcapng.Output(Target(stream), machine=False)
    with pylog.open(io.BytesIO(data), raw=True) as reader:
        reader.pass_messages()
        from pylog.batch import Batch

        while batch := reader.read_batch():
            output.write(Batch(batch))
    output.close()
    again = read(stream.getvalue(), layout=None)
    assert without_places(again) == without_places(read(data, layout=None))


def test_reading_bytes_gives_the_messages_as_they_came() -> None:
    data = nftables.recording("changes")
    with pylog.open(io.BytesIO(data)) as reader:
        parts = list(iter(lambda: reader.read_bytes(1 << 16), b""))
    assert b"".join(parts) == data


def test_scrubbed_messages_keep_their_length_and_structure() -> None:
    scrubber = Scrubber()
    from pylog.formats import nft_scrub

    every = nftables.messages(nftables.recording("changes") + nftables.recording("snapshot"))
    for message in every:
        scrubbed = nft_scrub.scrub(message, "nft-le", scrubber)
        assert len(scrubbed) == len(message)
    data = b"".join(nft_scrub.scrub(m, "nft-le", scrubber) for m in every)
    before, after = read(b"".join(every)), read(data)
    assert [(r.op, r.handle, r.generation) for r in before] == [
        (r.op, r.handle, r.generation) for r in after
    ]
    for old, new in zip(before, after, strict=True):
        names = [[e["name"] for e in r.expressions or ()] for r in (old, new)]
        assert names[0] == names[1]
        if old.comment:
            assert set(new.comment or "") <= {"x"}


def test_no_address_of_a_step_or_element_is_left() -> None:
    from pylog.formats import nft_scrub

    scrubber = Scrubber()
    steps = [
        m for m in nftables.messages(nftables.recording("joined")) if nftables.kind(m) == 0xA11
    ]
    for message in steps:
        scrubbed = nft_scrub.scrub(message, "nft-le", scrubber)
        (old,), (new,) = read(message), read(scrubbed)
        for address in (old.saddr, old.daddr):
            assert address in (None, "127.0.0.1") or address not in (new.saddr, new.daddr)
        assert (old.sport, old.dport, old.protocol) == (new.sport, new.dport, new.protocol)
    kernel = Kernel()
    for key in (
        b"\xc0\xa8\1\7",
        bytes.fromhex("20010db8" + "00" * 11 + "09"),
        b"\xc0\xa8\1\7\0\x16\0\0",
    ):
        scrubbed = nft_scrub.scrub(kernel.element(b"t", b"s", key), "nft-le", scrubber)
        assert key[:4] not in scrubbed or key[0] == 0x20


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"0xffffffff82507f40\0", b"0x0000000000000000\0"),
        (b"ffffffff82507f40", b"0000000000000000"),
        (b"nft_set_hash_type\0", b"nft_set_hash_type\0"),
        (b"0xffffffff82507f40 [nf_tables]\0", b"0x0000000000000000 [nf_tables]\0"),
        (b"0xffffffff82507f40\0abc", b"0x0000000000000000\0\0\0\0"),
    ],
)
def test_no_kernel_pointer_is_left(before: bytes, after: bytes) -> None:
    from pylog.formats import nft_scrub

    message = Kernel().message(nft_attributes.NFT_MSG_NEWSET, [(1, b"\0"), (19, before)])
    scrubbed = nft_scrub.scrub(message, "nft-le", Scrubber())
    assert scrubbed == message.replace(before, after)


@pytest.mark.parametrize("name", ["changes", "snapshot", "joined"])
def test_scrubbed_records_have_the_text_of_a_scrubbed_capture(name: str, tmp_path: Path) -> None:
    recording, capture = tmp_path / "r.cat", tmp_path / "r.pcapng"
    recording.write_bytes(nftables.recording(name))
    assert main(["read", "--scrub", "-w", str(capture), str(recording)]) == 0
    scrubbing = Scrubbing()
    with pylog.open(recording, raw=True) as reader:
        records = [scrubbing.record(record) for record in reader]
    with pylog.open(capture) as reader:
        expected = [(r.op, r.text) for r in reader if isinstance(r, RulesetRecord)]
    assert [(r.op, r.text) for r in records if isinstance(r, RulesetRecord)] == expected


@given(st.binary(max_size=200), st.sampled_from(sorted(nft_entities.KINDS)))
def test_any_bytes_can_be_scrubbed(junk: bytes, kind: int) -> None:
    from pylog.formats import nft_scrub

    head = (20 + len(junk)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(14)
    assert len(nft_scrub.scrub(head + junk, "nft-le", Scrubber())) == 20 + len(junk)


def test_damaged_changes_lead_to_a_consistent_model() -> None:
    data, chance = nftables.recording("changes"), effort.chance("model")
    for _ in range(effort.number(60, least=3)):
        changed = bytearray(data)
        for _ in range(60):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        model = Model()
        for record in read(bytes(changed)):
            if isinstance(record, RulesetRecord):
                model.apply(record)
        for table in model.tables.values():
            listed = [handle for chain in table.chains.values() for handle in chain.handles()]
            assert len(set(listed)) == len(listed) and set(listed) <= table.rules.keys()


def test_what_would_take_too_much_memory_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_dumps, "MOST_ELEMENTS", 40)
    kernel = Kernel(generation=8)
    begin = kernel.listing(*RULESET)
    parts = [kernel.commit(kernel.chain(b"t", b"c%d" % n, n + 9)) for n in range(100)]
    assert len(read(begin + b"".join(parts))) == 203
    kernel = Kernel(generation=8)
    monkeypatch.setattr(nft_dumps, "MOST_RECORDS", 2)  # a later listing that is too large
    records = read(begin + kernel.commit(kernel.table(b"u", 2)) + kernel.listing(*RULESET))
    assert not any(r.via == "relist" for r in records)
