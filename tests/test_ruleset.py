"""The ruleset as of a moment, what changed between two, and the text of commits."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime
from typing import Any

import effort
import msgspec
import nftables
import pytest
import samples

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.cli import main
from pylog.formats.nft_lines import entity_line, statements
from pylog.formats.nft_model import Model, model_of
from pylog.join import Join
from pylog.lints import lints
from pylog.outputs import text
from pylog.outputs._text_trail import trail_lines
from pylog.record import LossRecord, RulesetRecord, row_of
from pylog.ruleset import Moments, changes, compared, listing, moment
from pylog.trails import Trails

NFT = samples.FIXTURES / "nft"
CHANGES = str(NFT / "changes.cat.xz")
NS = 1_000_000_000


def entity(op: str, **fields: Any) -> RulesetRecord:
    given = {"family": "inet", "table": "t", **fields}
    return RulesetRecord(source="nftables", layout="nft-le", op=op, **given)


def commit(generation: int, *records: RulesetRecord, at: int | None = None, **who: Any) -> Any:
    new_gen = RulesetRecord("nftables", "nft-le", op="new_gen")
    made = {"generation": generation, "observed_ns": at, "process": "nft", "pid": 9, **who}
    return [msgspec.structs.replace(record, **made) for record in (*records, new_gen)]


TABLE = entity("new_table", handle=1)
CHAIN = entity("new_chain", chain="in", handle=2, hook="input", type="filter", priority=0,
               policy="drop")  # fmt: skip


def rule(handle: int, words: str, **fields: Any) -> RulesetRecord:
    given = {"op": "new_rule", "change": "append", "expressions": [{"name": words}], **fields}
    return entity(chain="in", handle=handle, text=words, **given)


HISTORY = [
    *commit(5, TABLE, CHAIN, at=10 * NS),
    *commit(6, rule(3, "tcp dport 22 accept"), rule(4, "drop"), at=20 * NS),
    *commit(7, rule(3, "tcp dport 22 accept", op="del_rule", change="replace"),
            rule(3, "tcp dport 2222 accept", change="replace"), at=30 * NS),
    *commit(9, rule(4, "drop", op="del_rule", change="delete"), at=40 * NS),
]  # fmt: skip


def moments(*wanted: Any, records: Any = HISTORY) -> Moments:
    made = Moments(wanted)
    made.read(records)
    return made


def test_a_listing_is_that_of_nft() -> None:
    assert list(listing(moments(6).at(6))) == [
        "table inet t { # handle 1",
        "\tchain in { # handle 2",
        "\t\ttype filter hook input priority filter; policy drop;",
        "\t\ttcp dport 22 accept # handle 3",
        "\t\tdrop # handle 4",
        "\t}",
        "}",
    ]


def test_a_listing_is_byte_for_byte_that_of_nft() -> None:
    """nft listed the same ruleset at another time, so that its handles of tables differ."""
    with pylog.open(NFT / "snapshot.cat.gz") as reader:
        model = model_of(r for r in reader if isinstance(r, RulesetRecord))
    model.tables = {key: table for key, table in model.tables.items() if key[1] != "filt"}
    expected = gzip.decompress((NFT / "snapshot.ruleset.txt.gz").read_bytes()).decode()
    lines = [line.partition(" # handle ")[0] for line in expected.splitlines()]
    assert [line.partition(" # handle ")[0] for line in listing(model)] == lines


def test_a_replaced_rule_is_one_line() -> None:
    made = moments(6, 7, None)
    assert list(compared(made.at(6), made.at(7))) == [
        "~ rule inet t in handle 3: tcp dport 22 accept => tcp dport 2222 accept"
    ]
    assert list(compared(made.at(7), made.at(None))) == ["- rule inet t in handle 4: drop"]
    assert not list(compared(made.at(7), made.at(7)))


def test_moments_are_generations_and_times() -> None:
    times = [datetime.fromtimestamp(second, UTC) for second in (10, 25, 30, 99)]
    made = moments(5, 9, *times)
    for wanted, generation in zip(times, (5, 6, 7, 9), strict=True):
        assert made.at(wanted).generation == generation
    assert made.at(5).generation == 5 and made.at(9).generation == 9


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (4, "no generation 4: the records have 5 to 9"),
        (8, "generation 8 is lost"),
        (10, "no generation 10"),
        (datetime.fromtimestamp(9, UTC), "the records begin later, at 1970-01-01T00:00:10"),
    ],
)
def test_a_moment_that_the_records_lack_is_an_error(wanted: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        moments(wanted).at(wanted)
    with pytest.raises(ValueError, match=r"no commit|no times"):
        moments(wanted, records=[]).at(wanted)


def test_a_snapshot_is_the_beginning() -> None:
    listed = [msgspec.structs.replace(record, via="snapshot", generation=4)
              for record in (TABLE, CHAIN)]  # fmt: skip
    loss = LossRecord("nftables", "nft-le", log="ruleset", count=1, reason="generation 5 lost")
    drift = msgspec.structs.replace(rule(7, "accept"), via="relist")
    made = moments(4, 6, None, records=[*listed, *HISTORY[3:6], loss, drift])
    assert made.complete and made.at(4).generation == 4
    assert [r.handle for r in made.beginning.rules()] == []
    assert [r.handle for r in made.at(6).rules()] == [3, 4]
    assert [r.handle for r in made.at(None).rules()] == [3, 4, 7]
    assert made.lost == ["lost 1 record: generation 5 lost"]
    only = moments(4, records=listed)
    assert only.at(4).tables and only.beginning.tables


def test_a_moment_is_written_as_a_generation_or_a_time() -> None:
    assert moment("681") == 681
    assert moment("2026-11-28T19:39:30Z") == datetime(2026, 11, 28, 19, 39, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="neither a generation nor a time"):
        moment("yesterday")


def test_statements_of_a_block_are_taken_apart() -> None:
    assert statements('{ type filter hook input priority 0; policy drop; comment "a; b"; }') == [
        "type filter hook input priority 0; policy drop;", 'comment "a; b"',
    ]  # fmt: skip
    assert statements("{ type ipv4_addr; flags interval; elements = { 1.1.1.1, 2.2.2.2 } }") == [
        "type ipv4_addr", "flags interval", "elements = { 1.1.1.1, 2.2.2.2 }"
    ]  # fmt: skip
    assert statements("") == []


def test_the_command_prints_states_and_differences(capfd: Any) -> None:
    assert main(["ruleset", "--at", "1460", CHANGES]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "table ip filt { # handle 130"
    assert main(["ruleset", "--diff", "1452..1454", CHANGES]) == 0
    assert capfd.readouterr().out == "+ table ip6 filt\n+ table inet filt\n"
    assert main(["ruleset", "--to", "json", CHANGES]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {record["op"] for record in records} <= {
        "new_table", "new_chain", "new_rule", "new_set", "new_set_element", "new_obj"
    }  # fmt: skip
    assert main(["ruleset", "--at", "1", CHANGES]) == 2
    assert "no generation 1: the records have 1452 to" in capfd.readouterr().err


def written(*records: Any, colour: bool = False, rows: bool = False) -> str:
    stream = io.BytesIO()
    output = text.Output(outputs.Target(stream, None, colour))
    if rows:
        output.write_rows([row_of(record) for record in records])
    else:
        output.write(Batch(records))
    return stream.getvalue().decode()


def test_a_commit_is_a_block_with_its_author() -> None:
    who = {"uid": 0, "cmdline": "nft -f fw.nft", "cgroup": "/system.slice/fw.service"}
    block = commit(6, rule(3, "accept"), rule(4, "drop", op="del_rule"), at=10**9, **who)
    expected = (
        "1970-01-01T00:00:01.000000Z generation 6 by nft (pid 9, uid 0): nft -f fw.nft"
        " in cgroup /system.slice/fw.service\n"
        "+ rule inet t in handle 3: accept\n"
        "- rule inet t in handle 4: drop\n"
        "\n"
    )
    assert written(*block) == written(*block, rows=True) == expected
    coloured = written(*block, colour=True).splitlines()
    assert coloured[1].startswith("\x1b[32m+") and coloured[2].startswith("\x1b[31m-")


def test_changes_outside_commits_have_headings_of_their_own() -> None:
    listed = msgspec.structs.replace(TABLE, via="snapshot", generation=4)
    drift = msgspec.structs.replace(TABLE, via="relist", op="del_table")
    quota = entity("new_obj", name="q", type="quota", change="update")
    cut = msgspec.structs.replace(rule(3, "accept"), incomplete=True)
    assert written(listed, drift, quota, cut, *commit(8, TABLE)) == (
        "snapshot, generation 4\n+ table inet t\n\n"
        "no commit announced this: a later listing differs\n- table inet t\n\n"
        "outside a commit\n~ quota inet t q\n"
        "+ rule inet t in handle 3: accept\n\n"
        "generation 8 by nft (pid 9)\n+ table inet t\n\n"
    )


def test_an_empty_commit_is_its_heading() -> None:
    assert written(*commit(6)) == "generation 6 by nft (pid 9)\n\n"


def test_the_root_cgroup_is_left_out() -> None:
    assert written(*commit(6, cgroup="/")) == "generation 6 by nft (pid 9)\n\n"


def test_a_replaced_rule_whose_text_hides_the_change_says_that_it_differs() -> None:
    old, new = (
        rule(3, "[osf] accept", change="replace", op=op, expressions=[{"name": "osf", "ttl": ttl}])
        for op, ttl in (("del_rule", 7), ("new_rule", 8))
    )
    lines = written(*commit(6, old, new)).splitlines()
    assert lines[1:3] == [
        "- rule inet t in handle 3: [osf] accept",
        "+ rule inet t in handle 3: [osf] accept [the data differs]",
    ]
    same = msgspec.structs.replace(new, expressions=old.expressions)
    assert "differs" not in written(*commit(6, old, same))
    was, now = [model_of([TABLE, CHAIN, msgspec.structs.replace(r, op="new_rule", change=None)])
              for r in (old, new)]  # fmt: skip
    assert list(compared(was, now)) == [
        "~ rule inet t in handle 3: [osf] accept => [osf] accept [the data differs]"
    ]


def test_a_renamed_chain_is_written_with_its_old_name() -> None:
    sub = entity("new_chain", chain="sub", handle=9)
    new = msgspec.structs.replace(
        sub, chain="sub2", change="update", text='chain inet t sub2 { comment "c"; }'
    )
    assert '~ chain inet t sub => sub2 { comment "c"; }\n' in written(sub, new)
    assert "~ chain inet t sub2 {" in written(new)
    policy = msgspec.structs.replace(CHAIN, change="update")
    assert "=>" not in written(CHAIN, policy)
    old = model_of([TABLE, sub])
    assert list(compared(old, model_of([TABLE, sub, new]))) == [
        '~ chain inet t sub => sub2 { comment "c"; }'
    ]


def test_an_updated_table_shows_its_flags() -> None:
    asleep = msgspec.structs.replace(TABLE, flags=1, change="update")
    awake = msgspec.structs.replace(TABLE, flags=0, change="update", text="table inet t")
    assert entity_line(asleep) == "table inet t { flags dormant; }"
    assert entity_line(awake) == "table inet t [no flags]"


def numbered(name: str, keys: list[str], flags: int = 0, **fields: Any) -> list[RulesetRecord]:
    """A set of ports with elements."""
    types = {"NFTA_SET_KEY_TYPE": 13, "NFTA_SET_KEY_LEN": 2}
    return [
        entity("new_set", name=name, flags=flags, handle=len(name), extra=types),
        entity("new_set_element", name=name, elements=[{"key": key, **fields} for key in keys]),
    ]


def test_a_difference_shows_elements_and_leaves_out_sets_within_rules() -> None:
    ports = numbered("web", ["0050"])
    old = model_of([TABLE, *ports, *numbered("__set0", ["0016"], 3)])
    new = model_of([TABLE, *numbered("web", ["1f90"]), *numbered("__set11", ["0016"], 3)])
    assert list(compared(old, new)) == [
        "- element inet t web { 80 }", "+ element inet t web { 8080 }",
    ]  # fmt: skip
    records = changes(old, new)
    assert all(record.text for record in records if record.op != "del_set")
    assert {record.name for record in records} == {"web", "__set0", "__set11"}


def test_a_renamed_chain_has_its_new_name_in_the_anonymous_map_of_a_rule() -> None:
    sub = entity("new_chain", chain="sub", handle=9)
    members = numbered("__map0", ["001a"], 0xB, verdict="jump", chain="sub")
    types = {"NFTA_SET_KEY_TYPE": 13, "NFTA_SET_KEY_LEN": 2, "NFTA_SET_DATA_TYPE": 0xFFFFFF00}
    members[0] = msgspec.structs.replace(members[0], extra=types)
    load = [{"name": "payload", "base": "transport", "offset": 2, "len": 2, "dreg": 1},
            {"name": "lookup", "set": "__map0", "sreg": 1, "dreg": 0}]  # fmt: skip
    protocol = [{"name": "meta", "key": "l4proto", "dreg": 1},
                {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"}]  # fmt: skip
    using = rule(3, "tcp dport vmap { 26 : jump sub }", expressions=[*protocol, *load])
    to_sub = {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "sub"}
    jump = rule(4, "jump sub", expressions=[to_sub])
    old = model_of([TABLE, CHAIN, sub, *members, using, jump])
    new = old.copy()
    new.apply(msgspec.structs.replace(sub, chain="subber", change="update"))
    lines = list(listing(new))
    assert "\t\ttcp dport vmap { 26 : jump subber } # handle 3" in lines
    assert "\t\tjump subber # handle 4" in lines
    assert "+ rule inet t in handle 4: jump subber" in list(compared(Model(), new))


def test_control_bytes_of_names_are_escaped() -> None:
    evil = entity("new_table", table="a\x1b[2J\n")
    assert "\x1b" not in written(*commit(6, evil, process="\x1b[31m"))


@pytest.mark.parametrize("number", range(effort.number(400)))
def test_damaged_recordings_lead_to_rulesets_trails_and_rules(number: int) -> None:
    chance = effort.chance("damaged", number)
    damaged = bytearray(chance.choice(nftables_recordings()))
    for _ in range(chance.choice((1, 1, 3, 20))):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    try:
        with pylog.open(io.BytesIO(damaged)) as reader:
            records = list(reader)
    except pylog.DecodeError:
        return
    join, trails, made = Join(), Trails(), moments(None, records=records)
    given = [*join.feed(records), *join.end()]
    assert len(given) == len(records) and pylog.json_lines(given) and written(*given)
    for trail in [*trails.feed(records), *trails.end()]:
        assert all(line.isprintable() for line in trail_lines(trail, False))
    assert sum(1 for _ in listing(made.at(None))) >= sum(1 for _ in made.at(None).tables)
    assert len(list(compared(Model(), made.at(None)))) >= 0 and lints(made.at(None), {}) is not None


def nftables_recordings() -> list[bytes]:
    return [
        nftables.recording("joined")[:8000],
        nftables.recording("joined")[56000:],
        nftables.recording("snapshot"),
        (NFT / "commits.bin").read_bytes(),
        gzip.decompress((NFT / "fw.pcapng.gz").read_bytes()),
    ]


def test_without_blocks_a_change_is_one_line() -> None:
    record = commit(6, rule(3, "accept"))[0]
    assert text.line(record) == "- + rule inet t in handle 3: accept (generation 6 by nft (pid 9))"


def test_a_rule_without_text_has_the_names_of_its_expressions() -> None:
    record = entity("new_rule", chain="in", handle=3, expressions=[{"name": "fib"}], comment="c")
    assert entity_line(record) == 'rule inet t in handle 3: [fib] comment "c"'
    inserted = rule(4, "accept", change="insert", position=3)
    assert entity_line(inserted) == "rule inet t in handle 4 after 3: accept"
    assert entity_line(CHAIN) == (
        "chain inet t in { type filter hook input priority filter; policy drop; }"
    )


def test_the_recording_reads_as_blocks(capfd: Any) -> None:
    assert main(["read", CHANGES]) == 0
    lines = capfd.readouterr().out.splitlines()
    with pylog.open(CHANGES) as reader:
        commits = sum(r.op == "new_gen" for r in reader if isinstance(r, RulesetRecord))
    assert sum(line.startswith("generation ") for line in lines) == commits
    assert lines[:2] == ["generation 1452 by nft (pid 961)", "+ table ip filt"]


def test_an_empty_snapshot_is_recognized(capfd: Any, tmp_path: Any) -> None:
    kernel = nftables.Kernel(generation=2)
    begin = kernel.listing()
    data = begin + kernel.commit(kernel.table(b"a")) + kernel.commit(kernel.table(b"b", 2))
    with pylog.open(io.BytesIO(data), raw=True) as reader:
        records = [r for r in reader if isinstance(r, RulesetRecord)]
    first = records[0]
    assert (first.op, first.via, first.generation) == ("new_gen", "snapshot", 1)
    assert (first.pid, first.process, first.seq, first.raw) == (None, None, None, begin)
    assert [r.generation for r in records] == [1, 2, 2, 3, 3] and not first.incomplete
    assert written(first) == "snapshot, generation 1: the ruleset is empty\n\n"
    assert text.line(first) == "- empty snapshot (generation 1)"
    made = moments(1, 2, None, records=records)
    assert made.complete and not made.beginning and not made.at(1) and len(made.at(2).tables) == 1
    join = Join()
    join.feed(records)
    assert join.complete
    path = tmp_path / "empty.cat"
    path.write_bytes(data)
    assert main(["ruleset", "--at", "1", str(path)]) == 0
    output = capfd.readouterr()
    assert not output.out and not output.err
    assert main(["ruleset", "--diff", "..2", str(path)]) == 0
    assert capfd.readouterr().out == "+ table inet a\n"
    capture = tmp_path / "empty.pcapng"
    assert main(["convert", str(path), str(capture)]) == 0
    assert main(["ruleset", "--at", "1", str(capture)]) == 0
    assert not capfd.readouterr().out
    path.write_bytes(begin)
    assert main(["ruleset", str(path)]) == 0
    assert not capfd.readouterr().err
