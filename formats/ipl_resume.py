"""Where records of IPFilter go on in another layout: a dump may follow one of another machine.

After damage records of any layout with a magic may begin. Many layouts find their records alike, so
they are grouped as `_Frame`: one stream walks the chain of records for all of them, and only then
each layout is tried on the bytes of the chain. This keeps random bytes with a magic in them cheap.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pylog.errors import DecodeError
from pylog.formats import Needle, Stream, ipl_layouts
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_stream import MAX_RECORD, IplStream, any_bytes, small_number
from pylog.formats.ipl_trial import Trial, same_records
from pylog.formats.plan import BYTEORDER

CHAIN = 3
"""This many records in a chain are proof of another layout."""
ENOUGH = 16
"""At most this many are used to tell which layout it is."""


class _Frame:
    """Layouts whose records are found alike, so that one of their streams finds them for all.

    layouts   the layouts, each with its log
    stream    of the first layout
    """

    def __init__(self, layout: Layout, log: str) -> None:
        self.layouts: list[tuple[Layout, str]] = []
        self.stream = IplStream(layout, log)
        dsize = layout.plan(log).places["ipl_dsize"]
        self._dsize, self._head = slice(dsize.offset, dsize.offset + dsize.size), dsize.offset + 8
        self._order = BYTEORDER[layout.abi.order]
        self._sizes = {
            self.stream.magics[i]: (
                layout.plan(log).size,
                [layout.plan(log).places[name].offset for name in ("fl_hlen", "fl_plen")]
                if log == "ipf"
                else [],
            )
            for i, log in enumerate(self.stream.logs)
        }
        self._magics = tuple(self.stream.magics)
        self._magic_size = len(self._magics[0])

    @staticmethod
    def key(layout: Layout, log: str) -> tuple[Any, ...]:
        """What layouts must agree in: byte order, magics, sizes and the places of the lengths."""
        parts: list[Any] = [layout.abi.order, layout.host_order_ip]
        for own in layout.logs if layout.version.magic_tells_log else (log,):
            plan = layout.plan(own)
            names = ("ipl_dsize", "fl_hlen", "fl_plen")
            parts += [own, layout.magic(own), plan.size]
            parts += [(plan.places[n].offset, plan.places[n].size)
                      for n in names if n in plan.places]  # fmt: skip
        return tuple(parts)

    def chain(self, data: bytes, pos: int, final: bool) -> int | None:
        """Where the chain of records that begins at `pos` ends; `pos` if it is too short.

        None: more data is needed to tell.
        """
        size, count, at = len(data), 0, pos
        if not data.startswith(self._magics, pos):
            return pos
        head = data[pos : pos + self._head]
        if len(head) < self._head:
            return pos if final else None
        dsize = int.from_bytes(head[self._dsize], self._order)
        following = pos + dsize
        fixed, lengths = self._sizes[head[: self._magic_size]]
        if pos + fixed <= size:
            rest = dsize - fixed
            for offset in lengths:
                rest -= data[pos + offset]
            if rest < 0 or rest & 0xFF or (rest and not lengths):
                return pos
        if following + self._magic_size <= size and not data.startswith(self._magics, following):
            return pos  # the cheapest test
        while count < ENOUGH:
            try:
                end = self.stream.measure(data, at)
            except DecodeError:
                return at if count >= CHAIN else pos
            if end > size:
                break
            count, at = count + 1, end
            if at == size:
                break
        if count == ENOUGH:
            return at
        if not final:
            return None
        return at if count >= CHAIN - 1 or (count and at == size) else pos


@cache
def _frames() -> list[_Frame]:
    frames: dict[tuple[Any, ...], _Frame] = {}
    for layout in ipl_layouts.layouts():
        if layout.version.has_magic:
            for log in ("ipf",) if layout.version.magic_tells_log else layout.logs:
                frame = frames.setdefault(_Frame.key(layout, log), _Frame(layout, log))
                frame.layouts.append((layout, log))
    return list(frames.values())


@cache
def _jumps() -> dict[tuple[bytes, int, int, int], list[_Frame]]:
    """The frames by the letters of the magic, their place, and start and end of ipl_dsize."""
    jumps: dict[tuple[bytes, int, int, int], list[_Frame]] = {}
    for frame in _frames():
        layout, log = frame.stream.layout_value, frame.stream.log
        letters = b"LPI" if layout.abi.order == "<" else b"IPL"
        at, dsize = layout.magic(log).index(letters), layout.plan(log).places["ipl_dsize"]
        key = letters, at, dsize.offset, dsize.offset + dsize.size
        jumps.setdefault(key, []).append(frame)
    return jumps


def resumes() -> list[Needle]:
    """What any record with a magic has: three letters, and a small number as ipl_dsize."""
    sizes: dict[tuple[bytes, int, bytes], set[bytes]] = {}
    within = 0
    for frame in _frames():
        layout = frame.stream.layout_value
        order, dsize = layout.abi.order, layout.plan(frame.stream.log).places["ipl_dsize"]
        letters = b"LPI" if order == "<" else b"IPL"
        for magic in frame.stream.magics:
            at = magic.index(letters)
            beside = rb"(?=[MNS])" if order == ">" else rb"(?<=[MNS]LPI)"
            gap = dsize.offset - at - len(letters)
            sizes.setdefault((letters, at, beside), set()).add(
                any_bytes(gap) + small_number(dsize.size, MAX_RECORD, order)
            )
            within = max(within, dsize.offset + dsize.size - at)
    return [
        Needle(re.compile(letters + beside + b"(?=%b)" % b"|".join(sorted(own)), re.S), at, within)
        for (letters, at, beside), own in sizes.items()
    ]


def resume(data: bytes, pos: int, final: bool, before: Stream) -> list[Stream] | None:
    """The streams of the layouts that read the records at `pos` best, and alike.

    If layouts tie but read the records differently, one with the ABI of `before` is preferred: most
    often the same machine wrote both, with another release of IPFilter.
    """
    trials: list[Trial] = []
    size, likely = len(data), list[_Frame]()
    for (letters, at, start, stop), frames in _jumps().items():
        if not data.startswith(letters, pos + at):
            continue
        if pos + stop > size:
            if not final:
                return None
            continue
        order: Any = "little" if letters == b"LPI" else "big"
        following = pos + at + int.from_bytes(data[pos + start : pos + stop], order)
        if following + 3 > size or data.startswith(letters, following):
            likely += frames
    for frame in likely:
        end = frame.chain(data, pos, final)
        if end is None:
            return None
        if end > pos:
            records = data[pos:end]
            tried = [Trial(layout, log, records, True) for layout, log in frame.layouts]
            trials += [t for t in tried if t.explained * 2 > len(records)]
    if not trials:
        return []
    rank = max(trial.rank for trial in trials)
    abi = before.layout_value.abi if isinstance(before, IplStream) else None
    top = sorted((t for t in trials if t.rank == rank), key=lambda t: t.layout.abi != abi)
    return [IplStream(t.layout, t.log) for t in top if same_records(top[0], t)]
