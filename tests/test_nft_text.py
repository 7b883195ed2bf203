"""The text of nftables rules and other entities, beside what nft printed of them."""

from __future__ import annotations

import json
import lzma
import random
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import effort
import pytest
from msgspec.structs import replace

import pylog
from pylog.errors import DecodeError
from pylog.formats.netlink import scan
from pylog.formats.nft_declarations import priority
from pylog.formats.nft_expressions import expressions
from pylog.formats.nft_rule import rule_text
from pylog.formats.nft_text import elements_text, record_text
from pylog.record import RulesetRecord

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "nft"
Key = tuple[Any, ...]


def no_sets(name: str) -> None:
    """No set is there."""


@cache
def rules() -> list[dict[str, Any]]:
    """Rules with the text of `nft list ruleset`."""
    lines = lzma.decompress((FIXTURES / "rules.jsonl.xz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def made(**fields: Any) -> RulesetRecord:
    return RulesetRecord(source="nftables", layout="nft-le", **fields)


def text_of(rule: dict[str, Any], **options: Any) -> str:
    sets = {
        name: (made(flags=flags, extra=extra), elements)
        for name, (flags, extra, elements) in rule.get("sets", {}).items()
    }
    text = rule_text(rule["expressions"], rule["family"], sets.get, **options)
    return f'{text} comment "{rule["comment"]}"' if "comment" in rule else text


@cache
def changes() -> list[RulesetRecord]:
    """The records of the long recording."""
    with pylog.open(FIXTURES / "changes.cat.xz") as reader:
        return [record for record in reader if isinstance(record, RulesetRecord)]


def printed() -> dict[Key, list[str]]:
    """What nft printed of the rules in it, by family, table, chain and handle."""
    found: dict[Key, list[str]] = defaultdict(list)
    text = lzma.decompress((FIXTURES / "changes.rules.txt.xz").read_bytes()).decode()
    for line in text.splitlines():
        match = re.fullmatch(
            r"(?:add|insert) rule (\S+) (\S+) (\S+) (?:handle \d+ )?(.*) # handle (\d+)", line
        )
        assert match is not None, line
        family, table, chain, words, handle = match.groups()
        found[family, table, chain, int(handle)].append(words)
    return found


def test_rules_are_written_as_nft_lists_them() -> None:
    wrong, right = [], 0
    for rule in rules():
        text = text_of(rule, interfaces={2: "f1", 3: "f0", 4: "d1", 5: "d0"}.get)
        if text == rule["text"]:
            right += 1
        elif "[" not in text:
            wrong.append((rule["family"], rule["text"], text))
    # its set is that of the event, in which the order is another than in the listing
    assert wrong in ([], [("inet", "tcp flags { syn, syn | ack }", "tcp flags { syn | ack, syn }")])
    assert right / len(rules()) > 0.97


def test_rules_of_a_recording_are_written_as_nft_monitor_prints_them() -> None:
    wanted, right, all_rules = printed(), 0, 0
    for record in changes():
        words = wanted.get((record.family, record.table, record.chain, record.handle))
        if record.op != "new_rule" or not words:
            continue
        all_rules += 1
        assert record.text is not None
        if record.text in words:
            words.remove(record.text)
            right += 1
        else:
            assert "[" in record.text, (words, record.text)
    assert all_rules > 300
    assert right / all_rules > 0.95


@pytest.mark.parametrize(
    "text",
    [
        "table inet doc { comment \"office firewall; owner: net-ops\"; }",
        "table ip asleep { flags dormant; }",
        "chain ip filt forw { type filter hook forward priority filter - 5; policy accept; }",
        "chain inet filt ing"
        ' { type filter hook ingress device "f0" priority filter - 1; policy accept; }',
        'chain ip filt web { comment "80 and 443"; }',
        "set inet filt v6 { type ipv6_addr; flags interval; auto-merge; }",
        "set inet filt tmo { type ipv4_addr; size 1000; timeout 1h; gc-interval 10s; }",
        "set inet filt dync"
        " { type ipv4_addr . inet_service; size 128; flags dynamic; counter; }",
        "map inet filt vm { type ipv4_addr : verdict; flags interval; }",
        "map inet filt cmap { type ipv4_addr : counter; }",
        "element inet filt conci { 10.0.0.0/24 . 1-1023 }",
        'element inet filt p2m { 80 comment "web" : 0x00000020 }',
        "element inet filt nat1 { 80 : 10.1.1.1 . 8080 }",
        "element inet filt vm { [from] 10.0.0.0 : drop }",
        "element ip filt cam { * : 0x00000063 }",
        "counter inet filt c1 { packets 0 bytes 0 }",
        "quota inet filt q1 { over 10 mbytes }",
        "limit inet filt l1 { rate 5/second burst 10 packets }",
        'ct helper inet filt h1 { type "ftp" protocol tcp; l3proto ip; }',
        "ct timeout inet filt t1"
        " { protocol tcp; l3proto ip; policy = { established : 1m40s, close : 4s }; }",
        "ct expectation inet filt e1"
        " { protocol tcp; dport 5432; timeout 1h; size 12; l3proto ip; }",
        "synproxy inet filt sp1 { mss 1400 wscale 5 timestamp; }",
    ],
)  # fmt: skip
def test_other_entities_are_written_as_their_declarations(text: str) -> None:
    assert any(record.text == text for record in changes())


@pytest.mark.parametrize(
    ("family", "hook", "value", "text"),
    [
        ("ip", "prerouting", -100, "dstnat"), ("inet", "output", -95, "dstnat + 5"),
        ("ip6", "input", -100, "-100"), ("inet", "ingress", -100, "-100"),
        ("ip", "postrouting", 90, "srcnat - 10"), ("ip", "input", 100, "srcnat"),
        ("inet", "prerouting", 100, "100"), ("ip", "forward", -150, "mangle"),
        ("bridge", "prerouting", -300, "dstnat"), ("bridge", "output", -300, "-300"),
        ("bridge", "output", 110, "out + 10"), ("bridge", "input", 100, "100"),
        ("bridge", "postrouting", 300, "srcnat"), ("bridge", "input", 300, "300"),
        ("arp", "input", 100, "100"), ("netdev", "ingress", -5, "filter - 5"),
    ],
)  # fmt: skip
def test_a_priority_has_a_name_only_where_nft_uses_it(
    family: str, hook: str, value: int, text: str
) -> None:
    assert priority(value, family, hook) == text


@pytest.mark.parametrize("family", ["ip", "ip6", "inet", "bridge", "netdev", "arp"])
def test_an_interface_type_implies_the_link_header_in_every_family(family: str) -> None:
    rule: list[dict[str, Any]] = [
        {"name": "meta", "key": "iiftype", "dreg": 1},
        {"name": "cmp", "sreg": 1, "op": "eq", "data": "0100"},
        {"name": "payload", "dreg": 1, "base": "link", "offset": 6, "len": 6},
        {"name": "cmp", "sreg": 1, "op": "eq", "data": "001122334455"},
    ]
    assert rule_text(rule, family, no_sets) == "ether saddr 00:11:22:33:44:55"


def snat(low: str, high: str, family: str = "ip") -> str:
    return rule_text(
        [
            {"name": "immediate", "dreg": 1, "data": low},
            {"name": "immediate", "dreg": 2, "data": high},
            {"name": "nat", "type": "snat", "family": family, "sreg_addr_min": 1,
             "sreg_addr_max": 2, "flags": 1},
        ],
        family,
        no_sets,
    )  # fmt: skip


def test_a_range_of_addresses_that_is_a_network_is_written_as_one() -> None:
    assert snat("01010100", "010101ff") == "snat to 1.1.1.0/24"
    assert snat("00000000", "ffffffff") == "snat to 0.0.0.0/0"
    assert snat("01010101", "01010102") == "snat to 1.1.1.1-1.1.1.2"
    assert snat("01010102", "01010101") == "snat to 1.1.1.2-1.1.1.1"
    low, high = "fe80" + "0" * 28, "fe80" + "0" * 27 + "f"
    assert snat(low, high, "ip6") == "snat to fe80::/124"


def test_a_map_to_ranges_of_addresses_is_not_one_to_ports() -> None:
    declared = made(flags=11, extra={"NFTA_SET_DATA_TYPE": 7, "NFTA_SET_DATA_LEN": 8})
    sets = {"__map0": (declared, [{"key": "01010101", "data": "0202020202020209"}])}
    rule: list[dict[str, Any]] = [
        {"name": "payload", "dreg": 1, "base": "network", "offset": 12, "len": 4},
        {"name": "lookup", "set": "__map0", "sreg": 1, "dreg": 1},
        {"name": "nat", "type": "snat", "family": "ip", "sreg_addr_min": 1, "sreg_addr_max": 9,
         "flags": 1},
    ]  # fmt: skip
    text = "snat ip to ip saddr map { 1.1.1.1 : 2.2.2.2-2.2.2.9 }"
    assert rule_text(rule, "ip", sets.get) == text


def test_names_of_interfaces_are_those_of_the_caller() -> None:
    load = {"name": "meta", "key": "oif", "dreg": 1}
    rule = [load, {"name": "cmp", "sreg": 1, "op": "eq", "data": "07000000"}]
    assert rule_text(rule, "inet", no_sets) == "oif [7]"
    assert rule_text(rule, "inet", no_sets, interfaces={7: "eth7"}.get) == 'oif "eth7"'
    rule[1]["data"] = "01000000"
    assert rule_text(rule, "inet", no_sets) == 'oif "lo"'
    rule[1]["data"] = "00000007"
    assert rule_text(rule, "inet", no_sets, order=">") == "oif [7]"


def test_elements_of_a_set_are_written_as_nft_lists_them() -> None:
    numbers = {"NFTA_SET_KEY_TYPE": 13, "NFTA_SET_KEY_LEN": 2}
    ports = made(op="new_set", name="p", flags=4, extra=numbers)
    ends: list[dict[str, Any]] = [
        {"key": "0000", "flags": 1}, {"key": "0016"}, {"key": "0017", "flags": 1},
        {"key": "0050", "comment": "x"}, {"key": "005b", "flags": 1}, {"key": "ffff"},
    ]  # fmt: skip
    assert elements_text(ports, ends) == ["22", '80-90 comment "x"', "65535"]
    numbers = {"NFTA_SET_KEY_TYPE": 20, "NFTA_SET_KEY_LEN": 4}
    interfaces = made(op="new_set", name="i", flags=0, extra=numbers)
    elements: list[dict[str, Any]] = [{"key": "01000000"}, {"key": "05000000"}]
    assert elements_text(interfaces, elements) == ['"lo"', "[5]"]
    assert elements_text(made(op="new_set", name="i", extra={}), elements) == ["[2 elements]"]
    vlans = made(op="new_set", family="ip", table="t", name="v",
                 extra={"NFTA_SET_KEY_TYPE": 4, "NFTA_SET_KEY_LEN": 2})  # fmt: skip
    assert record_text(vlans, no_sets) == "set ip t v { type [key]; }"


def test_the_key_of_a_set_that_is_not_there_is_written_if_it_is_one_field() -> None:
    load = {"name": "payload", "base": "network", "offset": 12, "len": 4, "dreg": 1}
    more = {"name": "payload", "base": "network", "offset": 16, "len": 4, "dreg": 9}
    lookup = {"name": "lookup", "set": "s", "sreg": 1, "flags": 0, "inverted": False}
    assert rule_text([load, lookup], "ip", no_sets) == "ip saddr @s"
    assert rule_text([load, more, lookup], "ip", no_sets) == "[lookup set s flags 0]"
    sets: dict[str, Any] = {"s": (made(flags=0, extra={"NFTA_SET_KEY_LEN": 8}), [])}
    assert rule_text([load, more, lookup], "ip", sets.get) == "ip saddr . ip daddr @s"


def test_numbers_in_the_order_of_the_machine_are_read_as_its_user_data_says() -> None:
    """`ct zone set iif map { "lo" : 5 }`, and a set of `typeof meta length`."""
    host = {"NFTA_SET_USERDATA": "000401000000010401000000060400000000"}
    big = {"NFTA_SET_USERDATA": "000402000000010402000000060400000000"}
    zones = {"NFTA_SET_KEY_TYPE": 20, "NFTA_SET_KEY_LEN": 4, "NFTA_SET_DATA_TYPE": 4}
    element = {"key": "01000000", "data": "0500"}
    for order, number in ((host, 5), (big, 1280), ({}, 1280)):
        declared = made(op="new_set", name="m", flags=8, extra=zones | order)
        assert elements_text(declared, [element]) == [f'"lo" : {number}']
        record = made(op="new_set_element", name="m", elements=[element])
        text = record_text(record, {"m": (declared, [])}.get)
        assert text is not None and text.endswith(f'm {{ "lo" : {number} }}')
    lengths = {"NFTA_SET_KEY_TYPE": 4, "NFTA_SET_KEY_LEN": 4}
    declared = made(op="new_set", name="l", extra=lengths | host)
    assert elements_text(declared, [{"key": "2c010000"}]) == ["300"]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("02 12", "syn | ack, syn"),
        ("12 02", "syn, syn | ack"),
        ("12 02 06 03 01", "fin, fin | syn, syn | rst, syn, syn | ack"),
        ("06 12 02 10 18 3f",
         "fin | syn | rst | psh | ack | urg, syn, syn | ack, syn | rst, psh | ack, ack"),
    ],
)  # fmt: skip
def test_flags_with_the_same_lowest_bit_stand_as_nft_lists_them(keys: str, text: str) -> None:
    """The order of nft 1.1.3, for the elements in the order of the kernel's listing."""
    rule = [
        {"name": "meta", "key": "l4proto", "dreg": 1},
        {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"},
        {"name": "payload", "base": "transport", "offset": 13, "len": 1, "dreg": 1},
        {"name": "lookup", "set": "__set0", "sreg": 1, "flags": 0, "inverted": False},
    ]
    sets = {"__set0": (made(flags=3), [{"key": key} for key in keys.split()])}
    assert rule_text(rule, "inet", sets.get) == f"tcp flags {{ {text} }}"


def test_a_meter_is_a_set_that_only_its_rule_has() -> None:
    load = {"name": "payload", "base": "network", "offset": 12, "len": 4, "dreg": 1}
    limit = {"name": "limit", "rate": 3, "unit": 1, "burst": 5, "type": "packets", "flags": 0}
    add = {"name": "dynset", "set": "m", "op": "add", "sreg_key": 1, "expressions": [limit]}
    words = "{ ip saddr limit rate 3/second burst 5 packets }"
    size = {"NFTA_SET_DESC": {"NFTA_SET_DESC_SIZE": 9}}
    for flags, extra, text in ((0x20, {}, "add @m"), (0x21, {}, "meter m"),
                               (0x21, size, "meter m size 9")):  # fmt: skip
        sets: dict[str, Any] = {"m": (made(flags=flags, extra=extra), [])}
        assert rule_text([load, add], "ip", sets.get) == f"{text} {words}"
    assert rule_text([load, add], "ip", no_sets) == "[dynset set m op add key ip saddr]"


def test_an_anonymous_set_is_sorted_only_in_a_listing() -> None:
    rule = [
        {"name": "meta", "key": "l4proto", "dreg": 1},
        {"name": "cmp", "sreg": 1, "op": "eq", "data": "06"},
        {"name": "payload", "base": "transport", "offset": 2, "len": 2, "dreg": 1},
        {"name": "lookup", "set": "__set0", "sreg": 1, "flags": 0, "inverted": False},
    ]
    sets = {"__set0": (made(flags=3), [{"key": "01bb"}, {"key": "0050"}])}
    assert rule_text(rule, "inet", sets.get) == "tcp dport { 80, 443 }"
    assert rule_text(rule, "inet", sets.get, listed=False) == "tcp dport { 443, 80 }"
    assert rule_text(rule, "inet", no_sets) == "[payload tcp dport]"
    many = [{"key": f"{i:04x}"} for i in range(5000)]
    sets = {"__set0": (made(flags=3), many)}
    assert rule_text(rule, "inet", sets.get) == "tcp dport { [5000 elements] }"


def test_what_has_no_text_is_shown_by_its_name() -> None:
    def text(*rule: dict[str, Any]) -> str:
        return rule_text(list(rule), "inet", no_sets)

    drop = {"name": "immediate", "dreg": 0, "verdict": "drop"}
    assert text({"name": "new", "data": "00"}, drop) == "[new data 00] drop"
    assert text({"name": "log", "unknown": [[9, "00"]]}, drop) == "[log] drop"
    assert text({"name": "match", "extension": "recent", "info": ""}, drop) == "[match recent] drop"
    logs = {"name": "target", "extension": "nflog", "group": 5, "prefix": "x"}
    assert text(logs) == "[target nflog group 5 prefix x]"
    assert text({"name": "cmp", "sreg": 1, "op": "eq", "data": "06"}) == "[cmp op eq data 06]"
    hour = {"name": "meta", "key": "hour", "dreg": 1}
    assert text(hour, {"name": "cmp", "sreg": 1, "op": "eq", "data": "01000000"}) == "[meta hour 1]"
    assert text({"name": "log", "prefix": 'a"b\n', "group": 1}) == "[log group 1]"
    jump = {"name": "immediate", "dreg": 0, "verdict": "jump", "chain": "__chain1"}
    assert text(jump) == "[jump __chain1]"


def compared(key: str, size: int, *bounds: tuple[str, int]) -> list[dict[str, Any]]:
    """A key of meta in network order beside bounds."""
    return [
        {"name": "meta", "key": key, "dreg": 1},
        {"name": "byteorder", "sreg": 1, "dreg": 1, "op": "hton", "len": size, "size": size},
        *({"name": "cmp", "sreg": 1, "op": op, "data": value.to_bytes(size).hex()}
          for op, value in bounds),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (compared("hour", 4, ("ge", 28800), ("le", 61200)), "[meta hour 28800-61200]"),
        (compared("hour", 4, ("lt", 100), ("gt", 200)), "[meta hour != 100-200]"),
        (compared("time", 8, ("ge", 1767225600 * 10**9)), "[meta time >= 1767225600]"),
        ([{"name": "osf", "dreg": 1, "ttl": 9},
          {"name": "cmp", "sreg": 1, "op": "eq", "data": "4c696e75"}], "[osf ttl 9 0x4c696e75]"),
        ([{"name": "tunnel", "dreg": 1, "key": "id"}, {"name": "lookup", "set": "s", "sreg": 1}],
         "[tunnel id] @s"),
        ([{"name": "payload", "base": "transport", "offset": 2, "len": 2, "dreg": 1},
          {"name": "meta", "key": "mark", "sreg": 1}], "[meta mark set @th,16,16]"),
        ([{"name": "exthdr", "dreg": 1, "type": 77, "offset": 1, "len": 1, "op": "ipv6"},
          {"name": "cmp", "sreg": 1, "op": "eq", "data": "07"}], "[exthdr"),
    ],
)  # fmt: skip
def test_words_in_brackets_show_a_change(rule: list[dict[str, Any]], text: str) -> None:
    written = rule_text(rule, "inet", no_sets)
    assert written == text or (text == "[exthdr" and written.startswith(text) and "7" in written)
    for fields in rule:
        if fields.get("name") == "cmp":
            changed = [{**e, "data": "33" + e["data"][2:]} if e is fields else e for e in rule]
            assert rule_text(changed, "inet", no_sets) != written


def test_operations_on_operations_do_not_grow_without_end() -> None:
    double = {"name": "bitwise", "op": "xor", "sreg": 1, "sreg2": 1, "dreg": 1, "len": 4}
    rule = [{"name": "meta", "key": "mark", "dreg": 1}, *[double] * 120,
            {"name": "cmp", "sreg": 1, "op": "eq", "data": "00000000"}]  # fmt: skip
    assert len(rule_text(rule, "inet", no_sets)) < 120
    assert rule_text([double] * 3000, "inet", no_sets) == "[3000 expressions]"


def test_sizes_that_no_kernel_has_cost_nothing() -> None:
    size = {"len": 0xFFFFFFFF, "offset": 0xFFFFFFFF, "base": "network"}
    mask = {"name": "bitwise", "sreg": 1, "dreg": 1, "op": "mask_xor", "mask": "f0", "xor": "00"}
    for rule in (
        [{"name": "payload", "dreg": 1, **size}, mask,
         {"name": "cmp", "sreg": 1, "op": "eq", "data": "00"}],
        [{"name": "immediate", "dreg": 1, "data": "00"}, {"name": "payload", "sreg": 1, **size}],
        [{"name": "exthdr", "dreg": 1, "type": 2, "op": "tcp_option", **size}, mask,
         {"name": "cmp", "sreg": 1, "op": "eq", "data": "00"}],
        [{"name": "ct", "key": "state", "dreg": 1},
         {"name": "cmp", "sreg": 1, "op": "eq", "data": "ff" * 60000}],
    ):  # fmt: skip
        assert rule_text(rule, "ip", no_sets).startswith("[")


def test_damaged_expressions_never_raise() -> None:
    """Values of every kind in the place of a value, and expressions that are missing."""
    chance = random.Random(7)
    values: list[Any] = [None, "", "zz", -1, 1 << 70, {}, [], "ff" * 40, "set0", 3.5, True]
    for rule in effort.sample(rules()):
        for _ in range(8):
            changed = [dict(e) for e in rule["expressions"]]
            if not changed:
                continue
            fields = chance.choice(changed)
            fields[chance.choice(list(fields))] = chance.choice(values)
            if chance.random() < 0.3:
                changed.remove(chance.choice(changed))
            assert isinstance(text_of(rule | {"expressions": changed}), str)


def test_prefixes_and_changed_bytes_give_expressions_or_decode_errors() -> None:
    data = lzma.decompress((FIXTURES / "changes.cat.xz").read_bytes())
    chance = random.Random(11)
    for record in effort.sample([r for r in changes() if r.op == "new_rule"]):
        assert record.offset is not None
        start = record.offset
        end = start + int.from_bytes(data[start : start + 4], "little")
        found = {n: (at, stop) for n, at, stop in scan(data, start + 20, end, "<", 0)}
        octets = data[slice(*found[4])]
        cases = [octets[:cut] for cut in range(len(octets))]
        for _ in range(len(octets)):
            changed = bytearray(octets)
            changed[chance.randrange(len(octets))] = chance.randrange(256)
            cases.append(bytes(changed))
        for case in effort.sample(cases):
            flaws: list[DecodeError] = []
            for given in (None, flaws):
                try:
                    listed = expressions(case, 0, len(case), "<", 0, given)
                except DecodeError:
                    continue
                assert isinstance(rule_text(listed, "inet", no_sets), str)
                pylog.to_json(made(expressions=listed))


def test_expressions_in_expressions_are_read_only_so_deep() -> None:
    body = b""
    for _ in range(2000):
        inner = _attribute(1, b"inner\0") + _attribute(2, _attribute(5, body))
        if len(inner) > 60000:
            break
        body = inner
    (listed,) = expressions(_attribute(1, body), 0, len(body) + 4, "<", 0)
    depth = 0
    while "expression" in listed:
        listed, depth = listed["expression"], depth + 1
    assert 1 <= depth < 10
    assert listed["data"]


def _attribute(number: int, value: bytes) -> bytes:
    head = (4 + len(value)).to_bytes(2, "little") + number.to_bytes(2, "little")
    return head + value + bytes(-len(value) % 4)


def test_a_deletion_has_the_text_that_it_says() -> None:
    record = made(op="del_chain", family="ip", table="t", chain="c", handle=4)
    assert record_text(record, no_sets) == "chain ip t c"
    gone = made(op="del_obj", family="ip", table="t", name="c", type="counter")
    assert record_text(gone, no_sets) == "counter ip t c"
    assert record_text(replace(gone, op="new_gen"), no_sets) is None
    assert record_text(made(op="del_rule", family="ip"), no_sets) is None
