"""Positions of stacks: as text, and how a file begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylog.pipeline.positions import MOST_HASHED, Beginning, Position, parsed


def test_a_position_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 300)
    begins = Beginning.of(str(path))
    assert begins is not None and begins.size == MOST_HASHED
    position = Position("0f", 7, {"a": 1, "b c": 22}, {"b c": begins})
    assert parsed(str(position)) == position
    assert parsed("0f:7;1 a;22 b c") == position._replace(begins={})


@pytest.mark.parametrize("text", ["0f:7;1/ a", "0f:7;1/3-x a", "0f:7;/3-0123456789abcdef a", "x"])
def test_other_text_is_no_position(text: str) -> None:
    assert parsed(text) is None


def test_a_file_begins_alike_when_it_grows_and_otherwise_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert Beginning.of(str(path)) is None
    path.write_bytes(b"one\n")
    begins = Beginning.of(str(path))
    assert begins is not None
    path.write_bytes(b"one\ntwo\n")
    assert begins.begins(str(path))
    path.write_bytes(b"two\n")
    assert not begins.begins(str(path))
    path.unlink()
    assert not begins.begins(str(path))
