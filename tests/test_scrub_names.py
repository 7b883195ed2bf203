"""Scrubbed records and captures of nftables have pseudonyms in place of names, everywhere."""

from __future__ import annotations

import io
import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import nftables
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from nftables import Kernel

import pylog
from pylog.cli import main
from pylog.formats import nft_attributes, nft_scrub
from pylog.formats.nft_matches import contradiction
from pylog.formats.nft_model import Model, model_of
from pylog.formats.scrub import Scrubber
from pylog.formats.scrub_names import Pseudonyms, name_bytes
from pylog.join import Join
from pylog.joined import Joined
from pylog.record import PacketRecord, Record, RulesetRecord, TraceRecord
from pylog.record.joined import JoinedRecord
from pylog.scrub import Scrubbing

NFT = samples.FIXTURES / "nft"
RECORDINGS = ("changes", "snapshot", "joined")
PLAIN = re.compile(rb"[a-zA-Z][0-9A-Z_]*")
VOCABULARY = {"input", "output", "forward", "prerouting", "postrouting", "filter", "route"}
"""Names in the recordings that are also nft's words for hooks and types of chains."""
PREFIXES = {"fwd_", "conci"}
"""Names in the recordings that are also in log prefixes, which stay."""
NAMED = ("set", "chain", "object", "flowtable")
"""Names in expressions and elements."""


# Pseudonyms


def test_every_name_of_one_byte_has_a_pseudonym_of_its_own() -> None:
    pseudonyms = Pseudonyms(1000)
    names = [bytes([octet]) for octet in range(1, 256)]
    given = [pseudonyms.name(name) for name in names]
    assert sorted(given) == names and [pseudonyms.name(name) for name in names] == given
    assert sum(map(bool, map(PLAIN.fullmatch, given))) == 52


def test_many_short_names_have_pseudonyms_of_their_own() -> None:
    pseudonyms = Pseudonyms(5000)
    names = [bytes(pair) for pair in itertools.product(range(33, 97), repeat=2)]
    given = {pseudonyms.name(name) for name in names}
    assert len(given) == len(names) and {len(name) for name in given} == {2}
    with pytest.raises(ValueError, match="more than 5000 different names"):
        for number in range(1000):
            pseudonyms.name(b"name%d" % number)


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda name: 0 not in name)))
def test_names_and_pseudonyms_are_one_to_one(names: list[bytes]) -> None:
    pseudonyms = Pseudonyms(1000)
    given = {name: pseudonyms.name(name) for name in names}
    assert len(set(given.values())) == len(given)
    for name, pseudonym in given.items():
        assert len(pseudonym) == len(name) and pseudonym != name
        assert len(name) == 1 or PLAIN.fullmatch(pseudonym)


@pytest.mark.parametrize("name", [b"__set0", b"__map12", b"__objmap3", b"__chain7", b""])
def test_the_kernels_own_names_stay(name: bytes) -> None:
    assert Pseudonyms(9).name(name) == name


@pytest.mark.parametrize("name", [b"__set", b"__settings", b"_set0", b"x__set0"])
def test_names_that_look_like_them_do_not_stay(name: bytes) -> None:
    assert Pseudonyms(9).name(name) == b"n1".replace(b"1", b"1".rjust(len(name) - 1, b"0"))


def test_what_is_too_long_for_a_name_becomes_zeros() -> None:
    assert Pseudonyms(9).name(b"x" * 256) == bytes(256)
    assert len(Pseudonyms(9).name(b"x" * 255)) == 255


def test_the_bytes_of_a_name_follow_from_its_text() -> None:
    assert name_bytes("\\xff\\xfea\\x41é") == b"\xff\xfea\\x41\xc3\xa9"


# Recordings


@cache
def before(name: str) -> list[Any]:
    """The records of a recording, with their bytes."""
    with pylog.open(io.BytesIO(nftables.recording(name)), raw=True) as reader:
        return list(reader)


@cache
def after(name: str) -> list[Any]:
    scrubbing = Scrubbing()
    return [scrubbing.record(record) for record in before(name)]


def names(record: Record) -> list[str | None]:
    """Every name in a record, in order."""
    if isinstance(record, TraceRecord):
        return [record.table, record.chain, record.target]
    if not isinstance(record, RulesetRecord):
        return []
    found = [record.table, record.chain, record.name]
    for part in (*(record.expressions or ()), *(record.elements or ())):
        for value in (part, *part.get("expressions", ())):
            found += [value[key] for key in NAMED if isinstance(value.get(key), str)]
    return found


def pseudonyms_of(name: str) -> dict[str, str]:
    """Name -> pseudonym in a recording; fails if one has two."""
    mapped: dict[str, str] = {}
    for old, new in zip(before(name), after(name), strict=True):
        for one, other in zip(names(old), names(new), strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert mapped.setdefault(one, other) == other
    return mapped


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_name_has_the_same_pseudonym_everywhere_and_no_other_name_has_it(name: str) -> None:
    mapped = pseudonyms_of(name)
    assert len(mapped) > 5 and len(set(mapped.values())) == len(mapped)
    for one, other in mapped.items():
        assert (one == other) == one.startswith("__") and len(one) == len(other)
    processes = {(old.process, new.process) for old, new in zip(before(name), after(name),
                 strict=True) if isinstance(old, RulesetRecord)}  # fmt: skip
    assert len({old for old, _ in processes}) == len({new for _, new in processes})
    assert not {old for old, _ in processes} & {new for _, new in processes} - {None}


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_name_is_left_anywhere(name: str) -> None:
    named = {one for one, other in pseudonyms_of(name).items() if one != other}
    named |= {r.process for r in before(name) if isinstance(r, RulesetRecord) and r.process}
    named = {name for name in named - VOCABULARY - PREFIXES if len(name) >= 4}
    for record in after(name):
        words = {word.decode() for word in re.findall(rb"[\w./-]{4,}", record.raw or b"")}
        words |= set(re.findall(r"[\w./-]{4,}", pylog.to_json(record).decode()))
        assert not words & named, record.offset


def structure(records: list[Any], mapped: dict[str, str]) -> list[Any]:
    """The ruleset at the end of a recording, with names as `mapped`, without values and text."""

    def new(name: Any) -> Any:
        return mapped.get(name, name)

    found: list[Any] = []
    for table in model_of([r for r in records if isinstance(r, RulesetRecord)]).tables.values():
        found.append(("table", table.record.family, new(table.record.table)))
        for name, chain in table.chains.items():
            found.append(("chain", new(name), chain.record.hook, list(chain.handles())))
        for handle, rule in table.rules.items():
            parts = [[part["name"], *(new(part.get(key)) for key in NAMED)]
                     for part in rule.expressions or ()]  # fmt: skip
            found.append(("rule", handle, new(rule.chain), parts))
        for name, members in table.sets.items():
            elements = [[new((e or {}).get(key)) for key in NAMED] for e in members.listed()]
            found.append(("set", new(name), len(members.elements), sorted(map(str, elements))))
        found.append(("objects", [(kind, new(name)) for kind, name in table.objects]))
        found.append(("flowtables", [new(name) for name in table.flowtables]))
    return found


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_scrubbed_ruleset_is_the_ruleset_with_other_names(name: str) -> None:
    mapped = pseudonyms_of(name)
    assert structure(before(name), mapped) == structure(after(name), {})


def joins(path: Path) -> list[JoinedRecord]:
    with pylog.open(path) as reader:
        return [record for record in Joined(reader, Join()) if isinstance(record, JoinedRecord)]


@pytest.mark.parametrize("name", ["joined.cat.gz", "fw.pcapng.gz"])
def test_a_scrubbed_capture_joins_packets_to_the_same_rules(name: str, tmp_path: Path) -> None:
    capture = tmp_path / "scrubbed.pcapng"
    assert main(["read", "--scrub", "-w", str(capture), str(NFT / name)]) == 0
    assert b'"cmdline"' not in capture.read_bytes()
    mapped: dict[str | None, str | None] = {}
    old, new = joins(NFT / name), joins(capture)
    for one, other in zip(old, new, strict=True):
        same = ("rule_family", "rule_handle", "rule_match", "rule_unknown", "prefix", "indev")
        assert [getattr(one, key) for key in same] == [getattr(other, key) for key in same]
        listed = zip(one.rule_candidates or (), other.rule_candidates or (), strict=True)
        pairs = [(one.rule_table, other.rule_table), (one.rule_chain, other.rule_chain),
                 *((a[key], b[key]) for a, b in listed for key in ("table", "chain"))]  # fmt: skip
        assert all(mapped.setdefault(a, b) == b for a, b in pairs)
    assert len(set(mapped.values())) == len(mapped) > 1


# Rules that log, and their packets


def scrubbed_rule(*expressions: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """The expressions of a rule after it was scrubbed; each is given by name and attributes."""
    kernel = Kernel()
    listed = b"".join(
        kernel.attribute(1, kernel.attribute(1, name + b"\0") + kernel.attribute(2, data))
        for name, data in expressions
    )
    message = kernel.message(nft_attributes.NFT_MSG_NEWRULE, [(1, b"fw\0"), (4, listed)])
    scrubbed = nft_scrub.scrub(message, "nft-le", Scrubber())
    assert len(scrubbed) == len(message)
    with pylog.open(io.BytesIO(scrubbed), layout="nft-le") as reader:
        (record,) = [record for record in reader if isinstance(record, RulesetRecord)]
    assert record.expressions is not None
    return record.expressions


def attributes(*values: tuple[int, bytes]) -> bytes:
    return b"".join(Kernel().attribute(number, value) for number, value in values)


def loads(key: int, register: int = 1) -> tuple[bytes, bytes]:
    """An expression that loads something of meta."""
    return b"meta", attributes((1, register.to_bytes(4)), (2, key.to_bytes(4)))


def compares(value: bytes) -> tuple[bytes, bytes]:
    """An expression that compares a register."""
    return b"cmp", attributes((1, b"\0\0\0\1"), (2, bytes(4)), (3, attributes((1, value))))


IIFNAME, SKUID = 6, 10


@pytest.mark.parametrize("name", [b"eth0".ljust(16, b"\0"), b"br-lan.7".ljust(16, b"\0"), b"eth",
                                  b"wlan", b"dummy0", b"tailscale"])  # fmt: skip
def test_names_of_interfaces_in_rules_stay_as_in_packets(name: bytes) -> None:
    _, compared = scrubbed_rule(loads(IIFNAME), compares(name))
    assert compared["data"] == name.hex()
    _, _, compared = scrubbed_rule(loads(IIFNAME), loads(SKUID), compares(name))
    assert (compared["data"] == name.hex()) == (len(name) == 16)  # another value was loaded


@pytest.mark.parametrize(("rule", "kept"), [
    ([(b"ct", attributes((1, b"\0\0\0\1"), (2, bytes(4)))), compares(b"\6\0\0\0")], True),
    ([(b"ct", attributes((1, b"\0\0\0\1"), (2, b"\0\0\0\x13"))), compares(b"\6\0\0\7")], False),
    ([loads(3), compares(b"\6\0\0\0")], True),
    ([loads(SKUID), compares(b"\6\0\0\0")], False),
    ([loads(3), loads(SKUID), compares(b"\6\0\0\0")], False),
    ([loads(3, 2), compares(b"\6\0\0\0")], False),
    ([loads(3), loads(SKUID, 9), compares(b"\6\0\0\0\6\0\0\1")], False),
    ([loads(3, 8), compares(b"\6\0\0\0")], True),
    ([(b"immediate", attributes((1, b"\0\0\0\1"), (2, attributes((1, b"\6\0\0\0"))))),
      (b"meta", attributes((2, b"\0\0\0\3"), (3, b"\0\0\0\1")))], True),
    ([(b"immediate", attributes((1, b"\0\0\0\1"), (2, attributes((1, b"\6\0\0\0"))))),
      (b"nat", attributes((1, bytes(4)), (3, b"\0\0\0\1")))], False),
])  # fmt: skip
def test_numbers_stay_where_the_rule_shows_that_they_are_no_addresses(
    rule: list[tuple[bytes, bytes]], kept: bool
) -> None:
    scrubbed = scrubbed_rule(*rule)
    (value,) = [part["data"] for part in scrubbed if isinstance(part.get("data"), str)]
    assert ("c612" in value) != kept


def test_names_of_interfaces_in_concatenations_stay() -> None:
    kernel, name = Kernel(), b"eth0".ljust(16, b"\0")
    scrubbed = nft_scrub.scrub(kernel.element(b"t", b"s", name + b"\xcb\0\x71\5"), "nft-le",
                               Scrubber())  # fmt: skip
    assert name + b"\xc6\x12\0\1" in scrubbed


@pytest.mark.parametrize(("extension", "info", "kept"), [
    (b"NFLOG", bytes(4) + b"\5\0\1\0\0\0" + b"ab" + b"drop: \0secret".ljust(64, b"x"),
     {"group": 5, "queue_threshold": 1, "prefix": "drop: "}),
    (b"LOG", b"\4\0" + b"fw: \0secret".ljust(30, b"x"), {"level": 4, "prefix": "fw: "}),
])  # fmt: skip
def test_a_target_that_logs_keeps_group_and_prefix(
    extension: bytes, info: bytes, kept: dict[str, Any]
) -> None:
    target = attributes((1, extension + b"\0"), (2, bytes(4)), (3, info + b"y" * 4))
    (scrubbed,) = scrubbed_rule((b"target", target))
    assert {key: scrubbed[key] for key in kept} == kept
    octets = bytes.fromhex(scrubbed["info"])
    assert len(octets) == len(info) + 4 and not any(c in octets for c in b"xyb")


def test_a_comment_of_xtables_becomes_zeros() -> None:
    match = attributes((1, b"comment\0"), (2, bytes(4)), (3, b"of a host".ljust(256, b"\0")))
    (scrubbed,) = scrubbed_rule((b"match", match))
    assert scrubbed["extension"] == "comment" and set(scrubbed["info"]) == {"0"}


NETWORK = [{"name": "payload", "dreg": 1, "base": "network", "offset": 12, "len": 4},
           {"name": "bitwise", "sreg": 1, "dreg": 1, "len": 4, "mask": "ffff0000",
            "xor": "00000000"},
           {"name": "cmp", "sreg": 1, "op": "eq", "data": "cb000000"}]  # fmt: skip
BYTES = [
    {"name": "payload", "dreg": 1, "base": "network", "offset": 12, "len": 2},
    {"name": "cmp", "sreg": 1, "op": "eq", "data": "cb00"},
]
CONTENT = [
    {"name": "payload", "dreg": 1, "base": "transport", "offset": 8, "len": 4},
    {"name": "cmp", "sreg": 1, "op": "eq", "data": "cb007105"},
]
HOST = [
    {"name": "payload", "dreg": 1, "base": "network", "offset": 12, "len": 4},
    {"name": "cmp", "sreg": 1, "op": "eq", "data": "c6120009"},
]
PORT = [
    {"name": "payload", "dreg": 1, "base": "transport", "offset": 2, "len": 2},
    {"name": "cmp", "sreg": 1, "op": "eq", "data": "0016"},
]


@pytest.mark.parametrize(("matches", "judged"), [
    (NETWORK, False), (BYTES, False), (CONTENT, False), (HOST, True), (PORT, True),
])  # fmt: skip
def test_only_what_scrubbing_keeps_is_judged_in_a_scrubbed_packet(
    matches: list[dict[str, Any]], judged: bool
) -> None:
    for source, real in ((b"\xc0\0\2\7", True), (b"\xc6\x12\0\1", False)):
        payload = bytes.fromhex("450000201234400040110000") + source + b"\xc0\0\2\1"
        payload += bytes.fromhex("9c400035000c000001020304")
        packet = PacketRecord("nflog", "nfulnl-le", family="ipv4", protocol=17, payload=payload)
        found = contradiction(matches, packet, Model(), ("inet", "t"))
        assert (found is not None) == (real or judged)


# Records without a message of their own


def test_a_deletion_that_a_listing_showed_has_the_same_pseudonyms() -> None:
    kernel = Kernel(generation=6)
    first = kernel.listing(("table", b"private"), ("table", b"other", 2))
    kernel.generation = 7
    data = first + kernel.commit(kernel.table(b"third", 3)) + kernel.listing(("table", b"other", 2))
    with pylog.open(io.BytesIO(data), layout="nft-le", raw=True) as reader:
        records = [record for record in reader if isinstance(record, RulesetRecord)]
    scrubbing = Scrubbing()
    scrubbed: list[Any] = [scrubbing.record(record) for record in records]
    assert [(r.op, r.table) for r in records if r.raw is None] == [
        ("del_table", "private"), ("del_table", "third"),
    ]  # fmt: skip
    new = {old.table: r.table for old, r in zip(records, scrubbed, strict=True) if old.raw}
    for old, record in zip(records, scrubbed, strict=True):
        assert record.table == new[old.table]
        assert old.table is None or old.table not in pylog.to_json(record).decode()


def test_user_command_line_and_cgroup_are_left_out() -> None:
    kernel = Kernel()
    data = kernel.commit(kernel.table(b"fw"), name=b"firewalld")
    with pylog.open(io.BytesIO(data), layout="nft-le", raw=True) as reader:
        records = [record for record in reader if isinstance(record, RulesetRecord)]
    scrubbing = Scrubbing()
    for record in records:
        complete = msgspec.structs.replace(record, uid=7, cmdline="nft -f /home/a", cgroup="/u")
        found: Any = scrubbing.record(complete)
        assert (found.uid, found.cmdline, found.cgroup) == (None, None, None)
        assert (found.process, found.pid) == ("p00000001", 99)


def test_joined_packets_keep_their_rule_with_pseudonyms(capsys: Any) -> None:
    arguments = ["read", "--rules", "--to", "json", str(NFT / "fw.pcapng.gz")]
    shown = []
    for option in ([], ["--scrub"]):
        assert main([*arguments, *option]) == 0
        lines = map(json.loads, capsys.readouterr().out.splitlines())
        shown.append([line for line in lines if line["kind"] == "packet"])
    for old, new in zip(*shown, strict=True):
        same = ("rule_family", "rule_handle", "rule_match", "rule_unknown")
        assert [old.get(key) for key in same] == [new.get(key) for key in same]
        rules = [(old, new, "rule_")] if "rule_table" in old else []
        listed = old.get("rule_candidates", ()), new.get("rule_candidates", ())
        rules += [(one, other, "") for one, other in zip(*listed, strict=True)]
        assert rules
        for one, other, start in rules:
            assert (one[start + "table"], other[start + "table"]) == ("fw", "n1")
            prefix = re.search('log prefix "[^"]*"', one[start + "text"])
            assert prefix and prefix[0] in other[start + "text"]
            assert "nobody else" not in other[start + "text"]
