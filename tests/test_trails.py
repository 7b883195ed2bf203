"""Trails: the steps of each packet, put together from messages that interleave."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import samples

import pylog
from pylog.cli import main
from pylog.outputs._text_trail import trail_lines
from pylog.record import LossRecord, Record, RulesetRecord, TraceRecord
from pylog.trails import MAXIMUM_OPEN, QUIET_NS, QUIET_STEPS, Trail, Trails, trail_object

JOINED = samples.FIXTURES / "nft" / "joined.cat.gz"


def step(chain: str, handle: int | None = None, verdict: str = "continue", **fields: Any) -> Any:
    given: dict[str, Any] = {
        "id": "a", "type": "rule", "family": "inet", "table": "t", "chain": chain,
        "handle": handle, "verdict": verdict, "nfproto": 2,
    }  # fmt: skip
    return TraceRecord("nftables", "nft-le", **given | fields)


def first(chain: str, *more: Any, **fields: Any) -> Any:
    headers: dict[str, Any] = {
        "saddr": "192.0.2.1", "daddr": "192.0.2.2", "protocol": 6, "sport": 1, "dport": 2,
        "payload": b"E", "indev": "eth0",
    }  # fmt: skip
    return step(chain, *more, **headers | fields)


def policy(chain: str, word: str = "accept", **fields: Any) -> Any:
    return step(chain, None, None, type="policy", policy=word, **fields)  # type: ignore[arg-type]


def trails(*records: Record, in_order: bool = False) -> list[Trail]:
    made = Trails(in_order=in_order)
    return [*made.feed(records), *made.end()]


def test_the_recording_is_55_complete_trails() -> None:
    with pylog.open(JOINED) as reader:
        records = list(reader)
    made = trails(*records, in_order=True)
    assert len(made) == 55 and not any(trail.incomplete for trail in made)
    assert Counter(trail.verdict for trail in made) == {"drop": 28, "accept": 27}
    steps = [s for trail in made for s in trail.steps]
    assert len(steps) == sum(isinstance(r, TraceRecord) for r in records) == 598
    assert made[0].id == "e13e2085" and made[0].by is not None and made[0].by.handle == 19
    again = trails(*records)
    assert sorted(map(repr, again)) == sorted(map(repr, made))


def test_jumps_and_returns_are_followed() -> None:
    (trail,) = trails(
        first("in", 1, "jump", target="a"), step("a", 2, "goto", target="b"), step("b", 3),
        step("b"), step("in", 4, "jump", target="a"), step("a", 5, "return"), step("in"),
        policy("in", "drop"),
    )  # fmt: skip
    assert not trail.incomplete and trail.verdict == "drop"
    assert trail.by is not None and trail.by.policy == "drop"
    assert [s.depth for s in trail.steps] == [0, 1, 1, 1, 0, 1, 0, 0]


def test_after_a_goto_from_a_base_chain_its_policy_follows() -> None:
    (trail,) = trails(first("in", 1, "goto", target="a"), step("a"), policy("in"))
    assert not trail.incomplete and trail.verdict == "accept"


def test_a_jump_to_a_renamed_chain_shows_its_name() -> None:
    def made(op: str, **fields: Any) -> RulesetRecord:
        return RulesetRecord("nftables", "nft-le", op=op, family="inet", table="t", **fields)

    jump = {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "sub"}
    ruleset = [
        made("new_table"), made("new_chain", chain="in", handle=1),
        made("new_chain", chain="sub", handle=2),
        made("new_rule", chain="in", handle=4, text="jump sub", expressions=[jump]),
        made("new_chain", chain="subber", handle=2, change="update"),
    ]  # fmt: skip
    (trail,) = trails(*ruleset, step("in", 4, "jump", target="subber"))
    assert trail.steps[0].text == "jump subber"


def test_a_number_that_comes_again_is_another_packet() -> None:
    one, two = trails(
        first("pre", 1), step("pre"), policy("pre"), first("in", 2, "accept"),
        first("pre", 1, sport=9), step("pre"), policy("pre"), first("in", 2, "accept"),
    )  # fmt: skip
    assert (one.sport, two.sport) == (1, 9) and len(one.steps) == len(two.steps) == 4


def test_after_a_drop_the_number_is_another_packet() -> None:
    one, two = trails(first("in", 1, "drop"), first("out", 2, "accept"))
    assert (one.verdict, two.verdict) == ("drop", "accept")


def test_a_base_chain_of_an_earlier_hook_begins_a_trail() -> None:
    def chain(name: str, hook: str) -> RulesetRecord:
        return RulesetRecord("nftables", "nft-le", op="new_chain", family="inet", table="t",
                             chain=name, handle=sum(name.encode()), hook=hook)  # fmt: skip

    hooks = [chain("out", "output"), chain("post", "postrouting"), chain("pre1", "prerouting")]
    records = [first("out"), policy("out"), first("post"), policy("post"), first("pre1", 1, "drop")]
    one, two = trails(*hooks, *records)
    assert one.steps[0].hook == "output" and two.steps[0].hook == "prerouting"
    # without the ruleset the interfaces show it
    out = {"indev": None, "outdev": "lo"}
    records[0], records[2] = first("out", **out), first("post", **out)
    assert len(trails(*records)) == 2


def test_a_packet_that_never_leaves_does_not_hold_up_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pylog.trails.MAXIMUM_ENDED", 3)
    made = Trails(in_order=True)
    given = list(made.feed([first("in", 1)]))
    for n in range(100):
        given += made.feed([first("in", 2, "drop", id=f"b{n}"), step("in", 3)])
        assert len(made._begun) <= 4
    assert {t.id for t in given} >= {f"b{n}" for n in range(90)} and given[0].id == "a"


def test_interleaved_packets_are_kept_apart() -> None:
    records = [first("in", 1), first("in", 1, id="b", sport=7), step("in"), step("in", id="b"),
               policy("in", "drop", id="b"), policy("in")]  # fmt: skip
    assert [t.id for t in trails(*records)] == ["b", "a"]
    assert [t.id for t in trails(*records, in_order=True)] == ["a", "b"]


@pytest.mark.parametrize(
    "records",
    [
        [step("in", 1), step("in"), policy("in")],
        [first("in", 1, "jump", target="a"), policy("other")],
        [first("in", 1), LossRecord("nftables", "nft-le", count=1), policy("in")],
        [first("in", 1, "jump", target="a"), step("in", 2, "accept")],
        [first("in", 1), first("other", 2, "accept")],
        [first("in", 1)],
    ],
    ids=["no headers", "policy of another chain", "loss", "no return", "no verdict", "no end"],
)
def test_missing_steps_are_noticed(records: list[Record]) -> None:
    (trail,) = trails(*records)
    assert trail.incomplete


def test_trails_end_when_the_packet_has_left() -> None:
    made = Trails()
    assert not list(made.feed([first("in", 1, "accept", observed_ns=5)]))
    assert not made.left(QUIET_NS) and made.waiting
    assert len(made.left(QUIET_NS + 6)) == 1 and not made.waiting
    given = list(made.feed([first("in", 1, "accept")]))
    given += made.feed(step("in", id="b") for _ in range(QUIET_STEPS + 1))
    assert [t.id for t in given] == ["a"]


def test_memory_is_bounded() -> None:
    made = Trails()
    given = list(made.feed(first("in", 1, id=f"{n:08x}") for n in range(MAXIMUM_OPEN * 2)))
    assert len(given) >= MAXIMUM_OPEN


def test_text_and_json_of_a_trail() -> None:
    (trail,) = trails(first("in", 1, "jump", target="a", observed_ns=10**9),
                      step("a", 2, text="tcp dport 2 accept", verdict="accept"))  # fmt: skip
    assert list(trail_lines(trail, False)) == [
        "1970-01-01T00:00:01.000000Z a eth0 tcp 192.0.2.1:1 -> 192.0.2.2:2: accept by inet t a"
        " handle 2: tcp dport 2 accept",
        "  inet t in",
        "    handle 1 -> jump a",
        "      a handle 2: tcp dport 2 accept",
    ]
    shape = trail_object(trail)
    assert shape["kind"] == "trail" and shape["observed"] == "1970-01-01T00:00:01.000000Z"
    assert shape["by"]["handle"] == 2 and shape["steps"][1]["depth"] == 1


def test_names_from_the_log_are_escaped() -> None:
    (trail,) = trails(first("in\x1b[31m", 1, "drop", text="\n"))
    assert all(line.isprintable() for line in trail_lines(trail, False))


def test_the_command_writes_trails(capfd: Any) -> None:
    assert main(["trace", str(JOINED)]) == 0
    text = capfd.readouterr().out
    assert text.startswith("e13e2085 #2 icmp 10.77.1.2 -> 10.77.1.1 type 8 code 0 len 60: accept by"
                           " inet tr input handle 19")  # fmt: skip
    assert main(["trace", "--to", "json", "-n", "3", str(JOINED)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["verdict"] == "accept"


@pytest.mark.parametrize(
    ("words", "error"),
    [(["--dport", "5"], "--dport is for --add"), (["--add"], "--add is for a live source")],
)
def test_wrong_use_is_reported(words: list[str], error: str, capsys: Any) -> None:
    assert main(["trace", *words, str(JOINED)]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nftables:"], "nftables: has no traces: write nftables:+trace\n"),
        (["nflog:5"], "nflog:5 has no traces: write nftables:+trace, or nftables:+trace+nflog:5"),
        (["nftables:+nflog:5"], "write nftables:+trace+nflog:5"),
        (["--add", "--proto", "foo"], "--proto is 'foo', but must be a number"),
        (["--add", "--proto", "icmp", "--dport", "9"], "--dport is 9, but icmp has no ports"),
        (["--add", "--dport", "0"], "--dport is 0, but must be 1 to 65535"),
        (["--add", "--saddr", "::1", "--daddr", "192.0.2.1"],
         "--saddr ::1 and --daddr 192.0.2.1 are of different families"),
    ],
)  # fmt: skip
def test_what_cannot_be_traced_is_refused_at_once(
    words: list[str], error: str, capsys: Any
) -> None:
    assert main(["trace", *words]) == 2
    assert error in capsys.readouterr().err


def test_ports_are_numbers_or_services(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("socket.getservbyname", {"ssh": 22}.__getitem__)
    assert main(["trace", "--dport", "ssh", str(JOINED)]) == 2  # understood: --add is missing
    monkeypatch.setattr("socket.getservbyname", _no_service)
    with pytest.raises(SystemExit):
        main(["trace", "--dport", "nosuch", str(JOINED)])
    assert "'nosuch' is neither a number nor a service" in capsys.readouterr().err


def _no_service(name: str) -> int:
    raise OSError("service/proto not found")


def test_a_recording_without_traces_is_noted(capsys: Any) -> None:
    assert main(["trace", str(JOINED.with_name("snapshot.cat.gz"))]) == 0
    output = capsys.readouterr()
    assert not output.out and "no traces in it" in output.err
    assert main(["trace", "-n", "0", str(JOINED)]) == 0


@pytest.mark.parametrize("command", ["trace", "ruleset"])
def test_the_help_has_only_options_that_can_apply(command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "--netns" in text and "--tables" in text and "--window" in text
    assert not any(option in text for option in ("--qthresh", "--copy-range", "--latency"))


def test_a_live_source_without_its_colon_is_pointed_out(capsys: Any) -> None:
    assert main(["read", "nftables", "--netns", "x"]) == 2
    assert "the live source is written nftables:\n" in capsys.readouterr().err
