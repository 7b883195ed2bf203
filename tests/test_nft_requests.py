"""Requests to nftables, listings and their place among events, and what a reader wants of them."""

from __future__ import annotations

import pytest

from pylog import PacketRecord
from pylog.formats import nft_attributes as nft
from pylog.formats.netlink import Table, align, build, numbered
from pylog.formats.nft_attributes import NFT_MSG_NEWGEN, NFT_MSG_NEWSET, NFT_MSG_NEWTABLE
from pylog.formats.nft_requests import (
    KINDS,
    NLM_F_DUMP,
    Listing,
    batch,
    elements_requests,
    generation_of,
    heads,
    is_newer,
    newer,
    place,
    request,
)
from pylog.formats.nft_scope import Scope
from pylog.record import RulesetRecord, TraceRecord

MULTI, INTERRUPTED = 0x2, 0x12


def message(
    kind: int, generation: int = 0, flags: int = 0, order: str = "<", table: Table = nft.TABLE,
    attrs: tuple[tuple[int, object], ...] = ((1, b"t"),),
) -> bytes:  # fmt: skip
    """A message of the kernel; by default about a table."""
    return build(table, order, kind, generation & 0xFFFF, list(attrs), family=1, flags=flags)


def commit(generation: int, order: str = "<") -> bytes:
    return message(NFT_MSG_NEWGEN, generation, order=order, table=nft.GENERATION,
                   attrs=((1, generation), (2, 99), (3, b"nft")))  # fmt: skip


def table(generation: int, flags: int = 0, order: str = "<") -> bytes:
    return message(NFT_MSG_NEWTABLE, generation, flags, order)


TRACE = message(nft.NFT_MSG_TRACE, table=nft.TRACE)
LOGGED = numbered(message(0x400), "<", 0, 0)  # of NFLOG


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_generation_is_read_in_either_byte_order(order: str) -> None:
    assert generation_of(commit(70_000, order), order) == 70_000
    assert generation_of(table(3, order=order), order) is None
    (head,) = heads(commit(70_000, order), order)
    assert (head.kind, head.generation) == (NFT_MSG_NEWGEN, 70_000 & 0xFFFF)


@pytest.mark.parametrize("size", range(0, 44, 4))
def test_a_cut_answer_has_no_generation(size: int) -> None:
    assert generation_of(commit(5)[:size], "<") is None


def test_a_request_for_elements_repeats_the_names_of_the_set() -> None:
    strange = b"s\xff\x01"
    dump = message(NFT_MSG_NEWSET, 5, MULTI, table=nft.SET, attrs=((1, b"t"), (2, strange)))
    (asked,) = elements_requests(dump + table(5, MULTI), "<")
    (head,) = heads(asked, "<")
    assert (head.kind, head.family) == (nft.NFT_MSG_GETSETELEM, 1)
    assert strange + b"\0" in asked and b"t\0" in asked
    assert [h.kind for k in KINDS for h in heads(request("<", k), "<")] == list(KINDS)
    assert NLM_F_DUMP == 0x300


def test_a_transaction_stands_between_its_ends() -> None:
    first, middle, last = batch("<", [table(0)])
    assert (first[4:6], last[4:6]) == (b"\x10\0", b"\x11\0")
    assert middle == table(0) and first[18:20] == last[18:20] == b"\0\x0a"


def test_a_listing_is_consistent_if_all_its_messages_have_one_generation() -> None:
    done = build(nft.TABLE, "<", 3, 0, [])
    listing = Listing("<", 70_000)
    listing.add(table(70_000, MULTI) + table(70_000, MULTI) + done)
    listing.add(done)
    listing.add(done + table(70_000, MULTI))
    expected = 3 * table(70_000, MULTI) + commit(70_000)
    assert listing.end(commit(70_000)) == expected


@pytest.mark.parametrize(
    ("part", "last"),
    [
        (table(5, INTERRUPTED), 5),
        (table(5, MULTI) + table(6, MULTI), 5),
        (table(4, MULTI), 5),
        (table(5, MULTI), 6),
        (table(5, MULTI), 4),
    ],
)
def test_a_listing_in_which_a_commit_came_between_is_none(part: bytes, last: int) -> None:
    listing = Listing("<", 5)
    assert listing.add(part) == (part[18:20] == b"\0\5" and not part[6] & 0x10)
    assert listing.end(commit(last)) is None


def test_a_listing_of_an_empty_ruleset_is_the_generation_alone() -> None:
    listing = Listing("<", 1)
    assert listing.end(commit(1)) == commit(1)


EVENTS = table(5) + commit(5) + TRACE + LOGGED + table(6) + table(6) + commit(6) + table(7)


def test_a_listing_stands_after_the_last_change_that_it_contains() -> None:
    after_5 = len(table(5) + commit(5))
    after_6 = len(EVENTS) - len(table(7))
    assert place(EVENTS, "<", 4) is None
    assert place(EVENTS, "<", 5) == after_5
    assert place(EVENTS, "<", 6) == after_6
    assert [place(EVENTS, "<", g) for g in (7, 100)] == [len(EVENTS)] * 2
    assert place(TRACE + LOGGED, "<", 5) is None


def test_events_that_a_listing_contains_are_left_out_and_others_stay() -> None:
    assert newer(EVENTS, "<", 4) == EVENTS
    assert newer(EVENTS, "<", 5) == TRACE + LOGGED + table(6) + table(6) + commit(6) + table(7)
    assert newer(EVENTS, "<", 6) == TRACE + LOGGED + table(7)


def test_generations_are_compared_modulo_two_to_the_32() -> None:
    assert is_newer(1, 0xFFFFFFFF) and not is_newer(0xFFFFFFFF, 1)
    assert is_newer(6, 5) and not is_newer(5, 5) and not is_newer(5, 6)
    wrapped = commit(0xFFFFFFFF) + commit(1)
    assert place(wrapped, "<", 0xFFFFFFFF) == align(len(commit(0xFFFFFFFF)))
    assert newer(wrapped, "<", 1) == b""


# What is wanted


def ruleset(**fields: object) -> RulesetRecord:
    return RulesetRecord("nftables", "nft-le", **fields)  # type: ignore[arg-type]


def test_a_scope_without_names_and_generation_wants_all() -> None:
    scope = Scope()
    assert not scope and not scope.named
    assert scope(ruleset(op="new_table")) and scope(PacketRecord("nflog", "nfulnl-le"))


def test_a_scope_compares_names_with_those_of_a_record() -> None:
    scope = Scope(families=["inet"], tables=["t", "u"], chains=["c"])
    fine = {"family": "inet", "table": "t", "chain": "c"}
    assert scope and scope.named and scope(ruleset(op="new_rule", **fine))
    for field in fine:
        assert not scope(ruleset(op="new_rule", **fine | {field: "x"}))
        assert not scope(TraceRecord("nftables", "nft-le", **fine | {field: "x"}))  # type: ignore[arg-type]
    assert not scope(ruleset(op="new_set", family="inet", table="t", name="s"))
    assert scope(ruleset(op="new_gen", generation=5))
    assert scope(PacketRecord("nflog", "nfulnl-le"))


def test_a_scope_leaves_out_changes_up_to_a_generation() -> None:
    scope = Scope(since=5)
    assert scope and not scope.named
    assert not scope(ruleset(op="new_table", generation=5))
    assert not scope(ruleset(op="new_gen", generation=5))
    assert scope(ruleset(op="new_table", generation=6))
    assert scope(ruleset(op="new_obj")) and scope(TraceRecord("nftables", "nft-le"))
