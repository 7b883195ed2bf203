"""An output of a place for tests, `memory`: its targets are lists in the process of the test.

It keeps a transaction until a commit, stores positions by stream, refuses records on request, and
fails on request, as a database does.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.options import Option
from pylog.record import Record


class Target:
    """What is behind an address.

    records     that were committed
    positions   by stream
    fails       the number of calls that fail from now on
    refuses     the destination port of records that are refused
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.positions: dict[str, str] = {}
        self.fails = 0
        self.refuses: int | None = None
        self.opened = 0
        self.passwords: list[str | None] = []


TARGETS: dict[str, Target] = defaultdict(Target)


class Output(outputs.Output):
    """Keeps records in memory, exactly once."""

    def __init__(self, place: outputs.Place, *, password: str | None = None) -> None:
        self._target, self._place = TARGETS[place.address], place
        self._call()
        self._target.opened += 1
        self._target.passwords.append(password)
        self._kept: list[Record] = []

    def _call(self) -> None:
        if self._target.fails:
            self._target.fails -= 1
            raise BackendError("memory is out of order")

    def write(self, batch: Batch) -> None:
        self._call()
        for record in batch.records():
            port = self._target.refuses
            if port is not None and getattr(record, "dport", None) == port:
                self._place.refuse(record, f"port {port} is not wanted")
            else:
                self._kept.append(record)

    def flush(self) -> None:
        self._call()

    def commit(self, position: str) -> None:
        self._call()
        self._target.records += self._kept
        self._kept = []
        if self._place.stream:
            self._target.positions[self._place.stream] = position
        self._committed = position

    def position(self) -> str | None:
        return self._target.positions.get(self._place.stream)

    def close(self) -> None:
        self._kept = []


def check_address(address: str, **options: Any) -> None:
    if not address.startswith("memory:"):
        raise ValueError(f"{address!r} does not begin with memory:")


MODULE = SimpleNamespace(
    NAME="memory", Output=Output, PLACE=True, DELIVERY="exactly once", ADDRESS="memory:NAME",
    OPTIONS=(Option("password", str, None, "of no use", secret=True),),
    check_address=check_address,
)  # fmt: skip


@contextlib.contextmanager
def registered() -> Iterator[dict[str, Target]]:
    """The context in which there is an output `memory`; gives its targets by address."""
    modules = {**outputs._modules(), "memory": MODULE}
    outputs.description.cache_clear()
    TARGETS.clear()
    try:
        with mock.patch.object(outputs, "_modules", lambda: modules):
            yield TARGETS
    finally:
        outputs.description.cache_clear()
