"""The text of rules beside `nft list ruleset`: random rules that nft makes and the kernel dumps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import effort
import netlab
import nft_rules
import pytest

import pylog
from pylog.record import RulesetRecord

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))

Key = tuple[object, ...]
_CHANGED = re.compile(
    r"tcp flags [&!=]|tcp doff|0xffff0000|frag-off|code |iiftype|limit rate \S+/|limit rate over "
    r"\S+/|th dport|esp|meta l4proto|ct protocol"
)
"""Rules that nft before 1.1 writes in other words than nft 1.1, which pylog follows."""
_HOOKS = {"netdev": 'type filter hook ingress device "lo" priority 0'}


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        yield made


def _is_old() -> bool:
    text = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v(\d+)\.(\d+)", text)
    assert version is not None
    return (int(version[1]), int(version[2])) < (1, 1)


def _prepare(namespace: netlab.Namespace) -> None:
    for family in nft_rules.FAMILIES:
        hook = _HOOKS.get(family, "type filter hook input priority 0")
        namespace.nft(
            f"add table {family} t\nadd chain {family} t web\nadd chain {family} t sub\n"
            f"add chain {family} t c {{ {hook}; }}\n"
        )
    namespace.nft(nft_rules.SETS)


def _load(namespace: netlab.Namespace, rules: list[tuple[str, str]]) -> int:
    """Adds the rules that nft accepts; how many those are."""
    if not rules:
        return 0
    try:
        namespace.nft("".join(f"add rule {family} t c {rule}\n" for family, rule in rules))
    except (subprocess.CalledProcessError, AssertionError):
        if len(rules) == 1:
            return 0
        half = len(rules) // 2
        return _load(namespace, rules[:half]) + _load(namespace, rules[half:])
    return len(rules)


def _listed(namespace: netlab.Namespace) -> dict[Key, str]:
    """The text of every rule by family and handle."""
    found: dict[Key, str] = {}
    family = ""
    for line in namespace.run("nft", "-a", "list", "ruleset").splitlines():
        table = re.match(r"table (\S+) ", line)
        family = table[1] if table else family
        rule = re.fullmatch(r"\t\t(.+) # handle (\d+)", line)
        if rule:
            found[family, int(rule[2])] = rule[1]
    return found


@pytest.mark.parametrize("number", range(effort.number(20, 2)))
def test_random_rules_have_the_text_of_nft(namespace: netlab.Namespace, number: int) -> None:
    chance, is_old = effort.chance("nft rules", number), _is_old()
    rules = [(family, nft_rules.rule(chance, family)) for family in nft_rules.FAMILIES * 25]
    if is_old:
        rules = [rule for rule in rules if not _CHANGED.search(rule[1])]
    _prepare(namespace)
    loaded = _load(namespace, rules)
    assert loaded > len(rules) / 2
    listed, right, seen = _listed(namespace), 0, 0
    with pylog.open("nftables:", netns=namespace.name) as reader:
        while seen < loaded:
            record = reader.read(timeout=10)
            if not isinstance(record, RulesetRecord) or record.op != "new_rule":
                continue
            seen += 1
            wanted = listed[record.family, record.handle]
            assert record.text is not None
            if record.text == wanted:
                right += 1
            else:
                assert "[" in record.text, (record.family, wanted, record.text)
    assert right / seen > 0.95
