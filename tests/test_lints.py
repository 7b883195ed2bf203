"""Remarks on log rules: what a reader of the log cannot rely on."""

from __future__ import annotations

from typing import Any

import pytest
import samples

from pylog.cli import main
from pylog.formats.nft_model import Model, model_of
from pylog.lints import lints
from pylog.record import RulesetRecord

DROP = {"name": "immediate", "dreg": 0, "verdict": "drop"}
ACCEPT = {"name": "immediate", "dreg": 0, "verdict": "accept"}
REJECT = {"name": "reject", "type": "icmpx", "code": 1}
MATCH = {"name": "meta", "key": "l4proto", "dreg": 1}


def entity(op: str, **fields: Any) -> RulesetRecord:
    given = {"family": "inet", "table": "t", **fields}
    return RulesetRecord(source="nftables", layout="nft-le", op=op, **given)


def log(prefix: str | None, group: int = 5) -> dict[str, Any]:
    return {"name": "log", "group": group, **({} if prefix is None else {"prefix": prefix})}


def ruleset(*rules: list[dict[str, Any]], chain: str = "in", policy: str = "accept") -> Model:
    return model_of([
        entity("new_table", handle=1),
        entity("new_chain", chain="in", handle=2, hook="input", policy=policy),
        entity("new_chain", chain="out", handle=3, hook="output", policy="accept"),
        entity("new_chain", chain="sub", handle=4),
        *(entity("new_rule", chain=chain, handle=n, change="append", expressions=expressions)
          for n, expressions in enumerate(rules, 10)),
    ])  # fmt: skip


def test_rules_with_the_same_group_prefix_and_hook() -> None:
    (text,) = lints(ruleset([log("x")], [log("x"), ACCEPT], [log("y")], [log("x", group=6)]))
    assert text == (
        'these rules cannot be distinguished in the log, because they have group 5, prefix "x" and'
        " hook input in common: inet t in handle 10; inet t in handle 11"
    )
    (text,) = lints(ruleset([log(None)], [log("")]))
    assert "no prefix" in text
    other = ruleset([log("x")])
    other.apply(entity("new_rule", chain="out", handle=30, change="append", expressions=[log("x")]))
    assert not lints(other)  # at another hook
    assert not lints(ruleset([log("x")], [log("x")], chain="sub"))  # which nothing reaches


def port(number: int, op: str = "eq") -> list[dict[str, Any]]:
    return [
        {"name": "meta", "key": "l4proto", "dreg": 1},
        {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"},
        {"name": "payload", "dreg": 1, "base": "transport", "offset": 2, "len": 2},
        {"name": "cmp", "sreg": 1, "op": op, "data": number.to_bytes(2).hex()},
    ]


def device(name: str, wildcard: bool = False) -> list[dict[str, Any]]:
    data = name.encode() if wildcard else name.encode().ljust(16, b"\0")
    return [{"name": "meta", "key": "iifname", "dreg": 1},
            {"name": "cmp", "sreg": 1, "op": "eq", "data": data.hex()}]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (port(22), port(23), False),
        (port(22), port(22), True),
        (port(22), port(22, "ne"), False),
        (port(22), port(23, "ne"), True),
        (port(22, "ne"), port(23, "ne"), True),
        (port(22), [MATCH], True),
        (device("eth0"), device("eth1"), False),
        (device("eth", True), device("eth1"), True),
        (device("eth", True), device("wlan0"), False),
        ([{"name": "ct", "key": "state", "dreg": 1}, *port(1)[1:2]], port(23), True),
    ],
)
def test_rules_that_exclude_each_other_can_be_distinguished(
    one: Any, other: Any, alike: bool
) -> None:
    assert bool(lints(ruleset([*one, log("x")], [*other, log("x")]))) == alike


def test_rules_between_which_a_packet_is_not_clear_are_named_together() -> None:
    rules = [port(22), port(23), port(22), port(24), port(23), port(25)]
    texts = lints(ruleset(*([*match, log("x")] for match in rules)))
    assert [text.partition("common: ")[2] for text in texts] == [
        "inet t in handle 10; inet t in handle 12", "inet t in handle 11; inet t in handle 14"
    ]  # fmt: skip
    many = ruleset(*([*port(n), log("x")] for n in range(200)))
    assert not lints(many)


@pytest.mark.parametrize("prefix", ["accept: ", "fw-ALLOW ", "passed", "[permit]"])
def test_prefixes_that_say_accept_on_rules_that_drop(prefix: str) -> None:
    (text,) = lints(ruleset([MATCH, log(prefix), DROP]))
    assert text == f'the prefix "{prefix}" is misleading: inet t in handle 10 has the verdict drop'
    (text,) = lints(ruleset([MATCH, log(prefix), REJECT]))
    assert text.endswith("has the verdict reject")
    assert not lints(ruleset([log(prefix), ACCEPT]))
    assert not lints(ruleset([log("not " + prefix), DROP]))
    assert not lints(ruleset([log("accept or drop"), DROP]))


@pytest.mark.parametrize("prefix", ["drop: ", "fw-DROP ", "[denied]", "Rejected ", "in_block "])
def test_prefixes_that_say_drop_on_rules_that_do_not(prefix: str) -> None:
    (text,) = lints(ruleset([MATCH, log(prefix), ACCEPT]))
    assert (
        text == f'the prefix "{prefix}" is misleading: inet t in handle 10 has the verdict accept'
    )
    (text,) = lints(ruleset([MATCH, log(prefix)]))
    assert text.endswith("inet t in handle 10 has no verdict")


@pytest.mark.parametrize(
    "rules",
    [
        [[log("drop"), DROP]],
        [[log("drop"), REJECT]],
        [[MATCH, log("drop")], [MATCH, DROP]],
        [[MATCH, log("drop")], [log("other")], [DROP]],
        [[log("not drop"), ACCEPT]],
        [[log("dropbox "), ACCEPT]],
        [[log("drop"), {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "sub"}]],
    ],
)
def test_prefixes_that_are_right(rules: Any) -> None:
    assert not lints(ruleset(*rules))


def test_a_policy_drops_too() -> None:
    assert not lints(ruleset([log("drop")], policy="drop"))
    assert lints(ruleset([log("drop")], [MATCH, ACCEPT], policy="drop"))


def test_groups_and_their_listeners() -> None:
    model = ruleset([log("x")], [log("y")], [log("z", group=6)])
    assert lints(model, {6: "ulogd (process 9, portid 9)"}) == [
        "2 rules log to group 5, to which nobody listens: inet t in handle 10; inet t in handle 11",
        "1 rule logs to group 6, which ulogd (process 9, portid 9) holds",
    ]
    assert not lints(model)
    (text,) = lints(ruleset(*([log(str(n))] for n in range(5))), {})
    assert text.endswith(
        "inet t in handle 10; inet t in handle 11; inet t in handle 12; and 2 more"
    )


def test_doctor_examines_a_recording(capfd: Any) -> None:
    path = str(samples.FIXTURES / "nft" / "joined.cat.gz")
    assert main(["doctor", path]) == 0
    assert "note" in capfd.readouterr().out
