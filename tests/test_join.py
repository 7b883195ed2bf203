"""The join: which rule logged a packet, by trace and by prefix, and never a guess."""

from __future__ import annotations

import csv
import gzip
import json
from typing import Any

import pytest
import samples

import pylog
from pylog.cli import main
from pylog.join import MAXIMUM_WAITING, Join
from pylog.joined import Joined
from pylog.record import (
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    json_lines,
)
from pylog.record.joined import JoinedRecord

NFT = samples.FIXTURES / "nft"
NS = 1_000_000_000


def entity(op: str, **fields: Any) -> RulesetRecord:
    given = {"family": "inet", "table": "t", **fields}
    return RulesetRecord(source="nftables", layout="nft-le", op=op, **given)


def log(prefix: str, group: int = 5) -> dict[str, Any]:
    return {"name": "log", "group": group, "prefix": prefix}


def rule(handle: int, *expressions: dict[str, Any], chain: str = "input", **fields: Any) -> Any:
    return entity("new_rule", chain=chain, handle=handle, change="append",
                  expressions=list(expressions), **fields)  # fmt: skip


def commit(generation: int, *records: RulesetRecord, at: int | None = None) -> list[Any]:
    new_gen = RulesetRecord("nftables", "nft-le", op="new_gen", generation=generation)
    changed = {"generation": generation, "observed_ns": at}
    return [_with(record, **changed) for record in (*records, new_gen)]


def _with(record: Any, **fields: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(record, **fields)


def snapshot(*records: RulesetRecord) -> list[Record]:
    first = (
        entity("new_table", handle=1),
        entity("new_chain", chain="input", handle=2, hook="input", type="filter"),
        entity("new_chain", chain="forward", handle=3, hook="forward", type="filter"),
    )
    return [_with(record, via="snapshot", generation=5) for record in (*first, *records)]


PAYLOAD = bytes.fromhex("4500001e6e5b40004011b5d70a4d01010a4d0102d06a0035000a16b8780a")


def packet(prefix: str = "x", hook: str = "input", **fields: Any) -> PacketRecord:
    given: dict[str, Any] = {
        "group": "5", "prefix": prefix, "hook": hook, "family": "ipv4", "protocol": 17,
        "saddr": "10.77.1.1", "daddr": "10.77.1.2", "sport": 53354, "dport": 53,
        "payload": PAYLOAD, "extra": {"nfgen_family": 2}, "indev": "eth0",
    }  # fmt: skip
    return PacketRecord("nflog", "nfulnl-le", **given | fields)


def trace(handle: int | None, headers: bool = False, **fields: Any) -> TraceRecord:
    given: dict[str, Any] = {
        "id": "a", "type": "rule", "family": "inet", "table": "t", "chain": "input",
        "handle": handle, "verdict": "continue", "nfproto": 2,
    }  # fmt: skip
    if headers:
        given |= {"saddr": "10.77.1.1", "daddr": "10.77.1.2", "protocol": 17, "sport": 53354,
                  "dport": 53, "payload": PAYLOAD, "indev": "eth0"}  # fmt: skip
    return TraceRecord("nftables", "nft-le", **given | fields)


def joined(*records: Any) -> list[JoinedRecord]:
    join = Join()
    given = [*join.feed(records), *join.end()]
    assert len(given) == len(records) and not join.waiting
    return [record for record in given if isinstance(record, JoinedRecord)]


def test_every_packet_of_the_recording_has_the_rule_that_logged_it() -> None:
    with pylog.open(NFT / "joined.cat.gz") as reader:
        packets = [r for r in Joined(reader, Join()) if isinstance(r, JoinedRecord)]
    with open(NFT / "joined.truth.tsv") as file:
        truth = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(packets) == len(truth) == 46
    for record, true in zip(packets, truth, strict=True):
        if true["handle"] == "-":  # it was not traced, and the recording has no snapshot
            assert record.rule_handle is None and record.rule_unknown
        else:
            names = (record.rule_family, record.rule_table, record.rule_chain)
            assert names == (true["family"], true["table"], true["chain"])
            assert record.rule_handle == int(true["handle"]) and record.rule_match == "trace"


def test_the_order_of_records_stays_and_all_are_given() -> None:
    with pylog.open(NFT / "joined.cat.gz") as reader:
        records = list(reader)
    for size in (1, 7, len(records)):
        join, given = Join(), list[Record]()
        for at in range(0, len(records), size):
            given += join.feed(records[at : at + size])
        given += join.end()
        assert [r.offset for r in given] == [r.offset for r in records]


def test_the_only_rule_with_group_and_prefix_is_the_one() -> None:
    (record,) = joined(*snapshot(rule(7, log("x"), text="log ...")), packet())
    assert (record.rule_chain, record.rule_handle, record.rule_match) == ("input", 7, "prefix")
    assert record.rule_text == "log ..." and record.rule_candidates is None


def test_without_a_snapshot_a_rule_is_only_a_candidate() -> None:
    (record,) = joined(*commit(6, entity("new_table", handle=1),
                               entity("new_chain", chain="input", handle=2, hook="input"),
                               rule(7, log("x"))), packet())  # fmt: skip
    assert record.rule_handle is None and "no snapshot" in str(record.rule_unknown)
    assert record.rule_candidates and record.rule_candidates[0]["handle"] == 7


def test_several_rules_that_fit_are_candidates() -> None:
    (record,) = joined(*snapshot(rule(7, log("x")), rule(8, log("x"))), packet())
    assert record.rule_handle is None and record.rule_unknown == "2 rules fit"
    assert [c["handle"] for c in record.rule_candidates or ()] == [7, 8]
    assert all(c["why"] == "same group, prefix and hook" for c in record.rule_candidates or ())


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (rule(8, log("x"), chain="forward"), {}),
        (rule(8, log("x", group=6)), {}),
        (rule(8, log("y")), {}),
        (rule(8, {"name": "meta", "key": "iifname", "dreg": 1},
              {"name": "cmp", "sreg": 1, "op": "eq", "data": b"lo".ljust(16, b"\0").hex()},
              log("x")), {}),
        (rule(8, {"name": "meta", "key": "l4proto", "dreg": 1},
              {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"}, log("x")), {}),
        (rule(8, {"name": "payload", "base": "network", "offset": 12, "len": 4, "dreg": 1},
              {"name": "bitwise", "sreg": 1, "dreg": 1, "len": 4, "mask": "ffffff00",
               "xor": "00000000"},
              {"name": "cmp", "sreg": 1, "op": "ne", "data": "0a4d0100"}, log("x")), {}),
        (rule(8, {"name": "payload", "base": "transport", "offset": 2, "len": 2, "dreg": 1},
              {"name": "cmp", "sreg": 1, "op": "eq", "data": "0016"}, log("x")), {}),
    ],
    ids=["hook", "group", "prefix", "device", "protocol", "network", "port"],
)  # fmt: skip
def test_rules_that_the_packet_cannot_have_met_drop_out(other: Any, fields: Any) -> None:
    (record,) = joined(*snapshot(rule(7, log("x")), other), packet(**fields))
    assert record.rule_handle == 7


def test_matches_after_the_log_statement_and_unknown_values_do_not_count() -> None:
    later = rule(7, log("x"), {"name": "meta", "key": "l4proto", "dreg": 1},
                 {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"})  # fmt: skip
    (record,) = joined(*snapshot(later), packet())
    assert record.rule_handle == 7
    state = rule(7, {"name": "ct", "key": "state", "dreg": 1},
                 {"name": "cmp", "sreg": 1, "op": "eq", "data": "08000000"}, log("x"))  # fmt: skip
    (record,) = joined(*snapshot(state), packet())
    assert record.rule_handle == 7


def test_a_rule_is_reached_by_jumps_and_verdict_maps() -> None:
    jump = rule(6, {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "a"})
    lookup = rule(9, {"name": "lookup", "set": "m", "sreg": 1, "dreg": 0}, chain="a")
    records = [
        entity("new_chain", chain="a", handle=10), entity("new_chain", chain="b", handle=11),
        entity("new_set", name="m", handle=12),
        entity("new_set_element", name="m", elements=[{"key": "01", "verdict": "goto",
                                                       "chain": "b"}]),
        jump, lookup, rule(13, log("x"), chain="b"),
    ]  # fmt: skip
    (record,) = joined(*snapshot(*records), packet())
    assert (record.rule_chain, record.rule_handle) == ("b", 13)
    (record,) = joined(*snapshot(*records), packet(hook="forward"))
    assert record.rule_handle is None


def test_tables_of_iptables_log_by_targets() -> None:
    target = {"name": "target", "extension": "NFLOG", "group": 5, "prefix": "x"}
    (record,) = joined(*snapshot(rule(7, target)), packet())
    assert record.rule_handle == 7


def test_a_rule_that_a_commit_removed_counts_until_the_kernel_has_sent_its_packets() -> None:
    gone = entity("del_rule", chain="input", handle=7, change="delete", expressions=[log("x")])
    start = snapshot(rule(7, log("x")))
    changed = commit(6, gone, rule(8, log("x")), at=100 * NS)
    (record,) = joined(*start, *changed, packet(observed_ns=100 * NS + 1))
    assert record.rule_handle is None and record.rule_unknown == "2 rules fit"
    assert "until generation 5" in (record.rule_candidates or [{}])[0]["why"]
    (record,) = joined(*start, *changed, packet(observed_ns=102 * NS))
    assert record.rule_handle == 8
    (record,) = joined(*start, *changed, packet(timestamp_ns=100 * NS + 1))
    assert record.rule_handle == 8
    join = Join(at_once=True)
    given = join.feed([*start, *changed, packet(observed_ns=100 * NS + 1)]) + join.end()
    assert Join(selected=True).feed(start) and not Join(selected=True).complete
    assert given[-1].rule_handle == 8  # type: ignore[union-attr]


def test_a_commit_right_after_a_packet_may_have_been_in_force() -> None:
    gone = entity("del_rule", chain="input", handle=7, change="delete", expressions=[log("x")])
    changed = commit(6, gone, rule(8, log("x")))
    (record,) = joined(*snapshot(rule(7, log("x"))), packet(), *changed)
    assert record.rule_unknown == "2 rules fit"
    same = commit(6, rule(9, log("other")))
    (record,) = joined(*snapshot(rule(7, log("x"))), packet(), *same)
    assert record.rule_handle == 7


def test_a_trace_names_the_rule_among_several() -> None:
    start = snapshot(rule(7, log("x")), rule(8, log("x")))
    (record,) = joined(*start, packet(), trace(8, headers=True))
    assert (record.rule_handle, record.rule_match) == (8, "trace")
    (record,) = joined(*start, trace(6, headers=True), packet(), trace(8))
    assert (record.rule_handle, record.rule_match) == (8, "trace")


@pytest.mark.parametrize(
    "between",
    [
        [trace(None)],
        [trace(None, type="policy", policy="accept", verdict=None)],
        [trace(8, id="b", headers=True, saddr="10.0.0.9")],
        [trace(8, nfproto=10, headers=True)],
        [trace(8, headers=True, payload=b"E" + bytes(29))],
        [trace(8, id="c")],
        [trace(9, headers=True)],
        [LossRecord("nftables", "nft-le", log="5", count=1), trace(8, headers=True)],
    ],
    ids=["end", "policy", "address", "family", "bytes", "no headers", "logs not", "loss"],
)
def test_the_next_trace_names_no_rule_if_it_need_not_be_of_the_packet(between: list[Any]) -> None:
    start = snapshot(rule(7, log("x")), rule(8, log("x")), rule(9))
    (record,) = joined(*start, packet(), *between)
    assert record.rule_handle is None


def test_of_two_packets_the_trace_is_that_of_the_second() -> None:
    start = snapshot(rule(7, log("x")), rule(8, log("x")))
    one, two = joined(*start, packet(), packet(), trace(8, headers=True))
    assert one.rule_handle is None and two.rule_handle == 8


def test_a_rule_that_matched_without_a_packet_is_not_the_one_that_logs() -> None:
    # log ... limit: the limit is exceeded, and the next trace is that of another rule
    first = [trace(8, headers=True), trace(9)]
    (record,) = joined(*first, packet(), trace(9))
    assert record.rule_handle is None
    (record,) = joined(*first, packet(), trace(10))
    assert record.rule_handle == 10


def test_without_a_snapshot_traces_show_candidates() -> None:
    records = [packet(), trace(7, headers=True), packet(), trace(None)]
    one, two = joined(*records)
    assert one.rule_handle == 7 and two.rule_handle is None
    (candidate,) = two.rule_candidates or [{}]
    assert candidate["handle"] == 7 and "earlier packet" in candidate["why"]


def test_a_loss_of_generations_makes_the_ruleset_uncertain_until_it_is_listed_again() -> None:
    start = snapshot(rule(7, log("x")))
    loss = LossRecord("nftables", "nft-le", log="ruleset", count=3)
    (record,) = joined(*start, loss, packet())
    assert record.rule_handle is None and record.rule_candidates
    again = _with(rule(8, log("y")), via="relist")
    (record,) = joined(*start, loss, again, packet())
    assert record.rule_handle == 7


def test_records_that_wait_with_a_packet_are_bounded() -> None:
    join = Join()
    join.feed([packet()])
    given = join.feed([entity("new_table", table=f"t{n}") for n in range(MAXIMUM_WAITING + 1)])
    assert len(given) > MAXIMUM_WAITING and not join.waiting


def test_json_csv_and_text_have_the_rule(capfdbinary: Any) -> None:
    path = str(NFT / "joined.cat.gz")
    assert main(["read", "--rules", "--to", "json", path]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    rules = [line for line in lines if line["kind"] == "packet"]
    assert rules[0]["rule_table"] == "tr" and rules[0]["rule_handle"] == 19
    assert main(["read", "--rules", "--to", "csv", path]) == 0
    table = list(csv.DictReader(capfdbinary.readouterr().out.decode().splitlines()))
    assert next(row["rule_handle"] for row in table if row["kind"] == "packet") == "19"
    assert main(["read", "--rules", path]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert '"ping " by inet tr input handle 19' in text
    assert '"dns out" by ? (not all of the ruleset is available' in text
    assert (
        main(["replay", "--speed", "max", "--rules", "--columns", "rule_chain,prefix", path]) == 0
    )
    assert "input\tping \n" in capfdbinary.readouterr().out.decode()


def test_outputs_without_the_fields_are_refused(capsys: Any, tmp_path: Any) -> None:
    target = str(tmp_path / "x.pcapng")
    assert main(["read", "--rules", str(NFT / "joined.cat.gz"), "-w", target]) == 2
    problem = "--rules is for cef, csv, ecs, ipfix, json, template, text, not for pcapng"
    assert problem in capsys.readouterr().err


def test_a_joined_record_has_all_fields_of_the_packet() -> None:
    (record,) = joined(*snapshot(rule(7, log("x"))), packet())
    plain = json.loads(json_lines([packet()]))
    given = json.loads(json_lines([record]))
    assert plain.items() <= given.items()
    assert gzip.decompress((NFT / "joined.cat.gz").read_bytes())
