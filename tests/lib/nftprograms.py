"""Random programs of changes for nft, and what nft lists of the ruleset that they lead to.

A program is a list of transactions. Each is made for the ruleset that the ones before it have led
to, so that most succeed: rules are replaced and deleted by handles that exist. Some fail on
purpose, as those of an administrator do.
"""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import netlab

from pylog.formats.nft_model import Model

FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")
HOOKS = {
    "inet": ("prerouting", "input", "forward", "output", "postrouting"),
    "ip": ("prerouting", "input", "output"), "ip6": ("input", "forward"),
    "arp": ("input", "output"), "bridge": ("input", "forward", "output"), "netdev": (),
}  # fmt: skip
RULES = (
    "counter accept", "counter drop", "meta mark 5 counter", "meta mark set 7",
    'comment "it is so"', 'log prefix "a b" group 5 comment "ä"', "log group 6 snaplen 96",
    "limit rate 5/second accept", "meta length { 40, 50-60 } drop", "queue", "jump sub",
)  # fmt: skip


def listing(namespace: netlab.Namespace) -> list[dict[str, Any]]:
    """What nft lists, in JSON."""
    listed = json.loads(namespace.run("nft", "-j", "-a", "list", "ruleset"))["nftables"]
    return [entry for entry in listed if "metainfo" not in entry]


def of_kind(listed: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entry[kind] for entry in listed if kind in entry]


def transaction(chance: random.Random, listed: list[dict[str, Any]]) -> str:
    """A transaction of up to five commands for that ruleset."""
    return "\n".join(command(chance, listed) for _ in range(chance.choice((1, 1, 1, 2, 5))))


def command(chance: random.Random, listed: list[dict[str, Any]]) -> str:
    """A command of nft."""
    tables = of_kind(listed, "table")
    if not tables or chance.random() < 0.08:
        return f"add table {chance.choice(FAMILIES)} t{chance.randrange(2)}"
    table = chance.choice(tables)
    where = f"{table['family']} {table['name']}"

    def own(kind: str) -> list[dict[str, Any]]:
        found = of_kind(listed, kind)
        return [e for e in found if (e["family"], e["table"]) == (table["family"], table["name"])]

    chains, rules, sets = own("chain"), own("rule"), own("set")
    kind = chance.choices(
        ("table", "chain", "delete chain", "rename", "rule", "at rule", "set", "delete set",
         "element", "counter", "flush", "wrong"),
        (1, 4, 2, 1, 12, 8, 3, 1, 8, 2, 1, 1),
    )[0]  # fmt: skip
    if kind == "table":
        remake = f"\nadd table {where}" if chance.random() < 0.5 else ""
        return f"delete table {where}{remake}"
    if kind == "chain" or not chains:
        name = f"c{chance.randrange(4)}" if chance.random() < 0.8 else "sub"
        hooks = HOOKS[str(table["family"])]
        if name == "sub" or not hooks or chance.random() < 0.4:
            return f"add chain {where} {name}"
        hook, priority = chance.choice(hooks), chance.randrange(-300, 300)
        policy = chance.choice(("accept", "drop"))
        existing = next((c for c in chains if c["name"] == name and "hook" in c), None)
        if existing is not None:
            hook, priority = existing["hook"], existing["prio"]
        return (f"add chain {where} {name} {{ type filter hook {hook} priority {priority};"
                f" policy {policy}; }}")  # fmt: skip
    chain = chance.choice(chains)["name"]
    if kind == "delete chain":
        return f"delete chain {where} {chain}"
    if kind == "rename":
        return f"rename chain {where} {chain} r{chance.randrange(3)}"
    if kind == "rule" or (kind == "at rule" and not rules):
        verb = chance.choice(("add", "add", "insert"))
        return f"{verb} rule {where} {chain} {chance.choice(RULES)}"
    if kind == "at rule":
        rule = chance.choice(rules)
        at = f"rule {where} {rule['chain']}"
        return chance.choice((
            f"delete {at} handle {rule['handle']}",
            f"replace {at} handle {rule['handle']} {chance.choice(RULES)}",
            f"add {at} position {rule['handle']} {chance.choice(RULES)}",
            f"insert {at} position {rule['handle']} {chance.choice(RULES)}",
        ))  # fmt: skip
    name = f"s{chance.randrange(3)}"
    if kind == "set":
        return f'add set {where} {name} {{ type inet_service; comment "of ports"; }}'
    if kind == "delete set":
        return f"delete set {where} {name}"
    if kind == "element" and sets:
        own_set = chance.choice(sets)
        ports = ", ".join(str(chance.randrange(1, 40)) for _ in range(3))
        elements = own_set.get("elem", [])
        if elements and chance.random() < 0.4:
            ports = str(chance.choice(elements))
            return f"delete element {where} {own_set['name']} {{ {ports} }}"
        return f"add element {where} {own_set['name']} {{ {ports} }}"
    if kind == "counter":
        verb = chance.choice(("add", "add", "delete"))
        return f"{verb} counter {where} k{chance.randrange(2)}"
    if kind == "flush":
        return chance.choice((f"flush chain {where} {chain}", f"flush table {where}"))
    return f"delete rule {where} {chain} handle 9999"


def run(namespace: netlab.Namespace, script: str) -> bool:
    """Carry out a transaction; whether it succeeded."""
    asked = ["ip", "netns", "exec", namespace.name, "nft", "-f", "-"]
    done = subprocess.run(asked, input=script, text=True, capture_output=True, timeout=30)
    return done.returncode == 0


def summary(listed: list[dict[str, Any]]) -> dict[str, Any]:
    """A listing of nft, as `summary_of` gives a model."""
    tables = {(t["family"], t["name"]): t["handle"] for t in of_kind(listed, "table")}
    chains = {
        (c["family"], c["table"], c["name"]): (c["handle"], c.get("hook"), c.get("prio"),
                                                c.get("policy"))
        for c in of_kind(listed, "chain")
    }  # fmt: skip
    rules: dict[Any, list[Any]] = {key: [] for key in chains}
    for rule in of_kind(listed, "rule"):
        key = (rule["family"], rule["table"], rule["chain"])
        rules[key].append((rule["handle"], rule.get("comment")))
    sets = {
        (s["family"], s["table"], s["name"]): (s["handle"], sorted(map(str, s.get("elem", []))))
        for s in of_kind(listed, "set")
    }
    counters = {(c["family"], c["table"], c["name"]): c["handle"]
                for c in of_kind(listed, "counter")}  # fmt: skip
    return {"tables": tables, "chains": chains, "rules": rules, "sets": sets, "counters": counters}


def summary_of(model: Model) -> dict[str, Any]:
    """The ruleset of a model."""
    tables = {key: table.record.handle for key, table in model.tables.items()}
    chains, rules, sets, counters = {}, {}, {}, {}
    for key, table in model.tables.items():
        for name, chain in table.chains.items():
            made = chain.record
            chains[*key, name] = (made.handle, made.hook, made.priority, made.policy)
            rules[*key, name] = [(h, table.rules[h].comment) for h in chain.handles()]
        for name, found in table.sets.items():
            if not found.anonymous:
                ports = [str(int(e["key"], 16)) for e in found.listed()]
                sets[*key, name] = (found.record.handle, sorted(ports))
        for (_, name), made in table.objects.items():
            counters[*key, name] = made.handle
    return {"tables": tables, "chains": chains, "rules": rules, "sets": sets, "counters": counters}
