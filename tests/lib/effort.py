"""How many of its cases a test tries: all of them, or a random sample.

Every test that could try very many cases (examples of hypothesis, each changed byte of a message,
each place to cut a file, each fixture where that takes long) gets their number or a sample of them
from here. PYLOG_EFFORT is the share that is tried: 0.05 unless it is set, so that the tests take
minutes, and 1 where everything is to be proved (`tox -e proof`). A sample differs from run to run,
as hypothesis' examples do. PYLOG_SEED repeats a run: pytest's header shows it, and all processes of
pytest-xdist have the same one.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import hypothesis

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])

EFFORT = float(os.environ.get("PYLOG_EFFORT", "0.05"))
SEED = int(os.environ.setdefault("PYLOG_SEED", str(random.SystemRandom().randrange(2**32))))
LEAST = 4
"""At any effort so many cases are tried, if there are so many."""


SHARE = 1 / 8
"""The share of tests that take long which is tried below effort 1."""


def number(full: int, least: int = LEAST) -> int:
    """How many cases to try of as many as are tried at effort 1."""
    return max(math.ceil(full * EFFORT), min(full, least))


def sample(cases: Iterable[T], least: int = LEAST) -> list[T]:
    """All cases at effort 1, else some at random places, in their order."""
    cases = list(cases)
    count = number(len(cases), least)
    if count >= len(cases):
        return cases
    places = random.Random(f"{SEED} {len(cases)}").sample(range(len(cases)), count)
    return [cases[place] for place in sorted(places)]


def is_tried(test: str) -> bool:
    """Whether to try a test that takes long, by its id: all at effort 1, else a random eighth."""
    return EFFORT >= 1 or chance(test).random() < SHARE


def chance(*of: object) -> random.Random:
    """Random numbers for a test or one of its cases, the same again with the same seed."""
    return random.Random(f"{SEED} {of}")


def examples(full: int, **settings: Any) -> Callable[[Test], Test]:
    """Give a test of hypothesis as many examples as the effort says, of `full` at effort 1."""
    return hypothesis.settings(max_examples=number(full), **settings)


hypothesis.settings.register_profile("effort", max_examples=number(100), deadline=None)
