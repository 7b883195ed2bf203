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
        "2 rules log to group 5, to which nobody listens: inet t in handle 10",
        "1 rule logs to group 6, which ulogd (process 9, portid 9) holds",
    ]
    assert not lints(model)


def test_doctor_examines_a_recording(capfd: Any) -> None:
    path = str(samples.FIXTURES / "nft" / "joined.cat.gz")
    assert main(["doctor", path]) == 0
    assert "note" in capfd.readouterr().out
