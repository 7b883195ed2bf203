"""An overrun in the events of nftables: what is missing is counted, or marked, and listed again."""

from __future__ import annotations

from typing import Any

import pytest
from nftkernel import Kernel, commit, listing, made

from pylog import LossRecord, Reader
from pylog.record import RulesetRecord

OVERRUN = "receive buffer of 16384 bytes overran: 7 datagrams lost"


def shown(*pieces: bytes | str, first: int = 3) -> tuple[list[Any], Reader]:
    """What is read, each record in short: loss count, or op, table, generation and marks."""
    found: list[Any] = []
    with Reader(Kernel(pieces, first)) as reader:
        for record in reader:
            if isinstance(record, LossRecord):
                found.append((record.count, record.reason))
            elif isinstance(record, RulesetRecord):
                mark = record.via or ("incomplete" if record.incomplete else None)
                found.append((record.op, record.table, record.generation, mark))
    return found, reader


START = listing(2, "a")
FIRST = ("new_table", "a", 2, "snapshot")


def test_without_an_overrun_commits_are_complete() -> None:
    found, reader = shown(START, made(3, "b") + commit(3), made(4, "c"), commit(4))
    assert found == [
        FIRST,
        ("new_table", "b", 3, None),
        ("new_gen", None, 3, None),
        ("new_table", "c", 4, None),
        ("new_gen", None, 4, None),
    ]
    assert reader.dropped == 0 and reader.uncounted == 0


def test_a_commit_that_lacks_its_middle_is_marked() -> None:
    """Its generation is the one that is expected, so that only the overrun shows the loss."""
    found, reader = shown(
        START, made(3, "b"), OVERRUN, made(3, "d") + commit(3), made(4, "e") + commit(4)
    )
    assert found == [
        FIRST,
        (None, OVERRUN),
        ("new_table", "b", 3, "incomplete"),
        ("new_table", "d", 3, "incomplete"),
        ("new_gen", None, 3, "incomplete"),
        ("new_table", "e", 4, None),
        ("new_gen", None, 4, None),
    ]
    assert (reader.dropped, reader.uncounted) == (0, 1)
    assert isinstance(reader.backend, Kernel) and reader.backend.refreshed


def test_a_commit_that_lacks_its_beginning_is_marked() -> None:
    found, _ = shown(START, made(3, "b") + commit(3), OVERRUN, made(4, "d") + commit(4))
    assert found == [
        FIRST,
        ("new_table", "b", 3, None),
        ("new_gen", None, 3, None),
        (None, OVERRUN),
        ("new_table", "d", 4, "incomplete"),
        ("new_gen", None, 4, "incomplete"),
    ]


def test_lost_generations_are_counted_and_a_cut_commit_has_none() -> None:
    found, reader = shown(START, made(3, "b"), OVERRUN, made(6, "d") + commit(6))
    assert found == [
        FIRST,
        (None, OVERRUN),
        ("new_table", "b", None, "incomplete"),
        (3, "generations 3 to 5 lost"),
        ("new_table", "d", 6, "incomplete"),
        ("new_gen", None, 6, "incomplete"),
    ]
    assert (reader.dropped, reader.uncounted) == (3, 1)


def test_a_listing_shows_what_lost_commits_did() -> None:
    found, reader = shown(
        START, made(3, "b", 2), OVERRUN, listing(5, "a", "b", "c"), made(6, "d", 4) + commit(6)
    )
    assert found == [
        FIRST,
        (None, OVERRUN),
        ("new_table", "b", None, "incomplete"),
        (3, "generations 3 to 5 lost"),
        ("new_table", "c", None, "relist"),
        ("new_table", "d", 6, None),
        ("new_gen", None, 6, None),
    ]
    assert (reader.dropped, reader.uncounted) == (3, 1)


def test_the_answer_that_closes_a_listing_is_not_the_end_of_a_commit() -> None:
    """Otherwise the commit would be pylog's own."""
    found, _ = shown(START, made(3, "b", 2), OVERRUN, listing(3, "a", "b"))
    assert found == [
        FIRST,
        (None, OVERRUN),
        ("new_table", "b", None, "incomplete"),
        (1, "generation 3 lost"),
    ]


def test_an_overrun_after_a_listing_marks_the_next_commit() -> None:
    found, _ = shown(START, made(3, "b", 2) + commit(3), listing(3, "a", "b"), OVERRUN,
                    made(4, "d", 3) + commit(4))  # fmt: skip
    assert found[-3:] == [
        (None, OVERRUN),
        ("new_table", "d", 4, "incomplete"),
        ("new_gen", None, 4, "incomplete"),
    ]


@pytest.mark.parametrize("names", [("a", "b"), ("a",), ()])
def test_an_equal_listing_changes_nothing(names: tuple[str, ...]) -> None:
    found, _ = shown(listing(2, *names), listing(2, *names))
    empty = [] if names else [("new_gen", None, 2, "snapshot")]
    assert found == [("new_table", name, 2, "snapshot") for name in names] + empty
