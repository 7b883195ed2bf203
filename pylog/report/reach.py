"""How many ports and addresses each source has tried, about, in bounded memory.

A source that tries many is a scan, or a machine of one's own that is infected. Exact counts of
distinct values would grow with the log, so each source has two HyperLogLog sketches (Flajolet and
others, 2007) of REGISTERS bytes: small counts are nearly exact, others off by a tenth or so.
Packets that answer something are left out as far as they show it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pylog.report.arrays import coded, numbers
from pylog.report.timeline import Numbers

REGISTERS = 256
_REGISTER_BITS = 8
_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)
KEPT = 10_000
"""So many sources are held: those that have tried most. Twice as many are held in between."""
ABSENT = 1 << 16
"""In place of a port that is not there."""
_TCP, _UDP = 6, 17
_SERVERS = 1024
"""A packet from a port below to one that is not is taken for the answer of a server."""


class Tried(NamedTuple):
    """What a source has tried: how many ports and how many addresses, about."""

    source: str
    ports: int
    addresses: int


class Reach:
    """Sketches by source."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._sketches = np.zeros((2, 0, REGISTERS), np.uint8)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add packets: saddr, daddr, sport, dport, protocol, tcp_flags."""
        sources = coded(batch.column("saddr"))
        ports = numbers(batch.column("dport"), ABSENT)
        rows = np.flatnonzero(self._opens(batch, ports) & (sources.codes < len(sources.values) - 1))
        if not len(rows):
            return
        used, codes = np.unique(sources.codes[rows], return_inverse=True)
        names = [sources.values[code] for code in used.tolist()]
        places = self._placed(names)[codes]
        at = ports[rows]
        self._sketch(0, places[at != ABSENT], _mixed(at[at != ABSENT].astype(np.uint64)))
        targets = coded(batch.column("daddr"))
        seen = np.unique(targets.codes[rows]).tolist()
        hashes = np.zeros(len(targets.values), np.uint64)
        for code in seen:
            hashes[code] = zlib.crc32(str(targets.values[code]).encode())
        self._sketch(1, places, _mixed(hashes[targets.codes[rows]]))
        self._limit()

    @staticmethod
    def _opens(batch: pa.RecordBatch, ports: Numbers) -> Numbers:
        """Which packets may open something, as far as they show it."""
        protocols = numbers(batch.column("protocol"), -1)
        flags = coded(batch.column("tcp_flags"))
        syn = np.array([text is not None and "S" in text and "A" not in text
                        for text in flags.values])  # fmt: skip
        answers = (numbers(batch.column("sport"), ABSENT) < _SERVERS) & (ports >= _SERVERS)
        is_other = (protocols != _TCP) & (protocols != _UDP)
        opens: Numbers = (
            is_other | ((protocols == _TCP) & syn[flags.codes]) | ((protocols == _UDP) & ~answers)
        )
        return opens

    def merge(self, other: Reach) -> None:
        """Add the sketches of another part."""
        if not other._places:
            return
        places = self._placed(list(other._places))
        theirs = other._sketches[:, list(other._places.values())]
        self._sketches[:, places] = np.maximum(self._sketches[:, places], theirs)
        self._limit()

    def most(self, least: int, count: int) -> Iterator[Tried]:
        """The sources that have tried so many ports or addresses at least: `count` of them, those
        that have tried most first.
        """
        estimates = self._estimates()
        widest = estimates.max(axis=0) if len(self._places) else np.zeros(0)
        names = list(self._places)
        order = sorted(
            np.flatnonzero(widest >= least).tolist(), key=lambda i: (-widest[i], names[i])
        )
        for i in order[:count]:
            ports, addresses = (_rounded(value) for value in estimates[:, i].tolist())
            yield Tried(names[i], ports, addresses)

    def _placed(self, names: list[str]) -> Numbers:
        """The places of sources, which are new ones for those that have none."""
        places = np.array([self._places.setdefault(name, len(self._places)) for name in names])
        missing = len(self._places) - self._sketches.shape[1]
        if missing > 0:
            more = np.zeros((2, max(missing, self._sketches.shape[1]), REGISTERS), np.uint8)
            self._sketches = np.concatenate((self._sketches, more), axis=1)
        return places

    def _sketch(self, which: int, places: Numbers, hashes: Any) -> None:
        registers = (hashes & np.uint64(REGISTERS - 1)).astype(np.int64)
        rest = hashes >> np.uint64(_REGISTER_BITS) | np.uint64(1 << 40)
        lowest = rest & (~rest + np.uint64(1))  # the lowest bit that is set
        ranks = (np.frexp(lowest.astype(np.float64))[1]).astype(np.uint8)
        cells = np.unique((places * REGISTERS + registers) << 8 | ranks)
        flat = self._sketches[which].reshape(-1)
        np.maximum.at(flat, cells >> 8, (cells & 0xFF).astype(np.uint8))

    def _estimates(self) -> Any:
        """The counts of all sources: shape (2, sources), ports and addresses."""
        sketches = self._sketches[:, : len(self._places)]
        estimates = (_ALPHA * REGISTERS**2) / np.exp2(-sketches.astype(np.float32)).sum(axis=2)
        zeros = (sketches == 0).sum(axis=2)
        few = (estimates <= 2.5 * REGISTERS) & (zeros > 0)
        return np.where(few, REGISTERS * np.log(REGISTERS / np.maximum(zeros, 1)), estimates)

    def _limit(self) -> None:
        """Forget the sources that have tried least, when there are too many."""
        if len(self._places) <= 2 * KEPT:
            return
        widest = self._estimates().max(axis=0)
        kept = np.sort(np.argsort(-widest, kind="stable")[:KEPT])
        names = list(self._places)
        self._places = {names[i]: place for place, i in enumerate(kept.tolist())}
        self._sketches = self._sketches[:, kept]


def _mixed(values: Any) -> Any:
    """Hashes of 64 bits (the finalizer of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _rounded(count: float) -> int:
    """A count with no more digits than it is sure of: two from 100 on."""
    rounded = round(count)
    return rounded if rounded < 100 else int(round(rounded, 2 - len(str(rounded))))
