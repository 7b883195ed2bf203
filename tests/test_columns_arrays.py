"""Rows that agree get the same code, whatever their sums are."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numpy")

import numpy as np

from pylog.formats.columns.arrays import alike

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


def check(pairs: list[tuple[int, int]]) -> None:
    codes, rows = alike([np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])])
    assert [pairs[row] for row in rows.tolist()] == list(dict.fromkeys(pairs[i] for i in rows))
    assert [pairs[rows[code]] for code in codes.tolist()] == pairs


@given(PAIRS)
def test_rows_have_the_code_of_an_equal_example(pairs: list[tuple[int, int]]) -> None:
    check(pairs)


@given(PAIRS)
def test_rows_with_equal_sums_are_told_apart(pairs: list[tuple[int, int]]) -> None:
    def same_sums(_: str, rows: object, factors: object) -> object:
        return np.zeros(len(rows), np.uint64)  # type: ignore[arg-type]

    with mock.patch.object(np, "einsum", same_sums):
        check(pairs)
