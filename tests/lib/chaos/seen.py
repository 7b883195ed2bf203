"""What was delivered, as sets that are compared: packets by time of receipt and number, and losses.

Both together are unlike for all packets of a test, whatever was restarted between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import inprocess
import msgspec

from pylog.origins import NOWHERE
from pylog.pipeline.decoding import Decoding, Wanted
from pylog.pipeline.feeds import JournalFeed
from pylog.pipeline.journal_reader import JournalReader
from pylog.pipeline.parsing import Piece
from pylog.record import row_of

Key = tuple[str, int]
PLACE = ("offset", "origin", "host", "uid", "cmdline", "cgroup", "text")
"""What depends on how a record was read, and on what was seen before it."""
CONCLUDED = ("relist", "repair")
"""Records that pylog concludes from a listing and what it has seen before, maybe before a kill."""
NOT_RUNNING = "pylog did not run from "
"""The beginning of the reason of such losses."""


class Row(msgspec.Struct):
    """What a comparison needs of a record in JSON."""

    kind: str
    observed: str = ""
    seq: int = -1
    count: int | None = None
    reason: str | None = None


_decode = msgspec.json.Decoder(Row).decode


@dataclass
class Seen:
    """What is in an output, or in the journal.

    packets   how often each is there, and each record of another source by its text
    losses    how often each is there, by its reason and count
    broken    lines that are no record
    """

    packets: Counter[Key] = field(default_factory=Counter)
    losses: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    broken: int = 0

    def line(self, line: bytes) -> None:
        """Take a record in JSON."""
        try:
            row = _decode(line)
        except msgspec.MsgspecError:
            self.broken += 1
            return
        if row.kind == "loss":
            self.losses[row.reason or "", row.count] += 1
        elif row.kind == "packet":
            self.packets[row.observed, row.seq] += 1
        else:  # of another source, where no number is unlike all others
            shape = msgspec.json.decode(line)
            if shape.get("via") in CONCLUDED:
                return
            for name in PLACE:
                shape.pop(name, None)
            self.packets[msgspec.json.encode(shape).decode(), 0] += 1

    def lines(self, lines: Iterable[bytes]) -> Seen:
        for line in lines:
            self.line(line)
        return self

    def files(self, paths: Iterable[Path]) -> Seen:
        """Take files of JSON lines."""
        for path in paths:
            with open(path, "rb") as file:
                self.lines(file)
        return self

    @property
    def doubled(self) -> int:
        """How many packets are there more than once, in excess."""
        return self.packets.total() - len(self.packets)


class Figures(NamedTuple):
    """The figures of an output, for people."""

    output: str
    promise: str
    delivered: int
    missing: int
    duplicates: int
    losses: int

    def __str__(self) -> str:
        return (
            f"{self.output:12} {self.promise:14} delivered {self.delivered:8,}  missing"
            f" {self.missing}  duplicates {self.duplicates:6,}  losses {self.losses}"
        )


def truth(folder: Path, journal: Path) -> Seen:
    """What is in a journal, as `pylog read` reads it."""
    path = folder / "truth.jsonl"
    done = inprocess.text("read", "--to", "json", "--force", "-w", path, journal / "journal")
    assert done.returncode == 0, done.stderr
    with open(path, "rb") as lines:
        check_numbers(row for row in map(_decode, lines) if row.kind in ("packet", "loss"))
    seen = Seen().files([path])
    path.unlink()
    assert not seen.broken
    return seen


def decoded(journal: Path) -> Seen:
    """What is in a journal, as a stack reads it that nothing interrupts."""
    reader = JournalReader(journal)
    wanted: dict[str, Wanted] = {}
    while (placed := reader.read()) is not None:
        names = {each.content.info.name for each in placed if isinstance(each.content, Piece)}
        wanted |= dict.fromkeys(names, Wanted(NOWHERE))
    reader.close()
    feed = JournalFeed(journal, Decoding(wanted), list(wanted))
    feed.seek(feed.reader.first())
    seen = Seen()
    while (lot := feed.read()) is not None:
        seen.lines(msgspec.json.encode(row_of(record)) for record in lot.records)
    feed.close()
    return seen


def check_numbers(rows: Iterable[Row]) -> None:
    """Check that the kernel's numbers go on by one, but for what losses count, and begin anew only
    where a loss says why.
    """
    expected, lost, is_anew = 0, 0, False
    for row in rows:
        if row.kind == "loss":
            lost += row.count or 0
            is_anew |= (row.reason or "").startswith((NOT_RUNNING, "the source was "))
            continue
        assert row.seq == expected + lost or (is_anew and row.seq == lost), (
            f"{row.seq} at {row.observed}, but {expected} was expected, and losses count {lost}"
        )
        expected, lost, is_anew = row.seq + 1, 0, False


def compared(output: str, promise: str, own: Seen, true: Seen) -> Figures:
    """Check what an output has against the truth."""
    missing = true.packets - own.packets
    assert not missing, f"{output}: {len(missing)} packets are missing: {sorted(missing)[:5]}"
    foreign = own.packets.keys() - true.packets.keys()
    assert not foreign, f"{output}: {len(foreign)} packets never were: {sorted(foreign)[:5]}"
    unreported = true.losses - own.losses
    assert not unreported, f"{output}: losses are not reported: {unreported}"
    assert not own.losses.keys() - true.losses.keys(), (
        f"{output}: losses never were: {own.losses.keys() - true.losses.keys()}"
    )
    doubled = own.packets - true.packets
    if promise == "exactly once":
        assert not doubled, f"{output}: {doubled.total()} records are there twice"
        assert own.losses == true.losses, f"{output}: {own.losses - true.losses} are there twice"
    assert not own.broken, f"{output}: {own.broken} lines are broken"
    return Figures(output, promise, own.packets.total(), len(missing), doubled.total(),
                   own.losses.total())  # fmt: skip


def show(title: str, sent: int, true: Seen, rows: Sequence[Figures], **more: object) -> None:
    """Print the figures of a scenario."""
    words = "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in more.items())
    print(f"\n{title}: {words}")
    counted = sum(count * times for (_, count), times in true.losses.items() if count is not None)
    print(f"  sent {sent:,}  in the journal {len(true.packets):,}  losses reported"
          f" {true.losses.total()}, of which counted {counted:,} packets")  # fmt: skip
    for row in rows:
        print(f"  {row}", flush=True)
