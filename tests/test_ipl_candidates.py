"""Detection tries every layout of ipl of which a trial finds records, however damaged they are."""

from __future__ import annotations

from pathlib import Path

import effort
import pytest

from pylog.formats import ipl_layouts
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_trial import Trial, candidates

FIXTURES = sorted((Path(__file__).parent.parent / "fixtures/ipl").glob("*.bin"))
SIZES = (0, 1, 4, 9)


def damaged(data: bytes, name: str) -> bytes:
    """The beginning of the data, with bytes changed, left out and put in at random places."""
    chance = effort.chance(name)
    octets = bytearray(data[: chance.randrange(200, 4000)])
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(octets))
        octets[at : at + chance.choice(SIZES)] = chance.randbytes(chance.choice(SIZES))
    return bytes(octets)


def others(chosen: list[tuple[Layout, str]], least: int) -> list[tuple[Layout, str]]:
    """Layouts with a magic that are not chosen."""
    every = [
        (x, log)
        for x in ipl_layouts.layouts()
        if x.version.has_magic
        for log in (("ipf",) if x.version.magic_tells_log else x.logs)
    ]
    return effort.sample([pair for pair in every if pair not in chosen], least)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("path", effort.sample(FIXTURES, least=5), ids=lambda path: path.stem)
def test_a_layout_that_is_no_candidate_has_no_records(path: Path, lenient: bool) -> None:
    data = damaged(path.read_bytes(), path.name)
    for final in (False, True):
        for layout, log in others(candidates(ipl_layouts.layouts(), data, lenient), 20):
            assert not Trial(layout, log, data, final, lenient).messages, (layout.name, log)


def test_most_layouts_are_no_candidates_of_a_log() -> None:
    data = next(path for path in FIXTURES if "v5-1-2-ilp32be-filter" in path.name).read_bytes()
    assert 0 < len(candidates(ipl_layouts.layouts(), data)) < 30
