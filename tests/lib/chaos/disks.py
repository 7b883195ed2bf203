"""Full disks: of the journal, and of outputs, on a small file system that the test makes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import databases
import netlab
from netlab import until

from chaos import targets
from chaos.pipeline import Flood, Running, wait_for
from chaos.seen import Figures, Seen, show, truth
from pylog.pipeline.journal_reader import REMOVED

FULL = "the disk was full: "
LAG_S = 5.0
"""How far stacks may lag that have caught up in a flood, on a busy machine."""


class SmallDisk:
    """A file system of so many bytes, in the mount namespace of a process that only keeps it.

    path    by which everybody reaches it
    inner   the path in that namespace, and `enter` what begins a command that is run there
    """

    def __init__(self, alone: netlab.Namespace, folder: Path, size: int) -> None:
        folder.mkdir()
        command = f"mount -t tmpfs -o size={size} none {folder} && echo ready && exec sleep 3600"
        self._holder = alone.start("sh", "-c", command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"ready\n"
        self.path = Path(f"/proc/{self._holder.pid}/root{folder}")
        self.inner = folder
        self.enter = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")
        self._filler = self.path / "filler"

    def fill(self) -> None:
        """Take all room that is left, and what becomes free."""
        with open(self._filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def free(self) -> None:
        self._filler.unlink()


def of_the_journal(
    title: str, alone: netlab.Namespace, folder: Path, rounds: int, chance: random.Random
) -> None:
    """Fill the disk of the journal, and stop a stack so that segments are removed unread.

    The kernel numbers packets: those that were delivered and those that losses count are all.
    """
    disk = SmallDisk(alone, folder / "disk", 3 << 20)
    running = Running(alone, folder, journal=disk.path / "j", settings='segment_size = "200k"')
    there = [targets.file(folder, "quick"), targets.file(folder, "slow")]
    running.configure(*(target.stack for target in there))
    flood = Flood(alone, chance, (500, 1000))
    running.start()
    flood.begin()
    for _ in range(rounds):
        running.catch_up(LAG_S)
        wait_for(lambda: running.stack("slow")["records"], "records", running, 60)  # with numbers
        slow = _process(running, "slow")
        os.kill(slow, signal.SIGSTOP)
        before = running.status()["journal"]
        end = before["end"] + 500_000  # more than a segment that the slow one has not read
        wait_for(lambda n=end: running.status()["journal"]["end"] > n, "packets", running, 60)  # type: ignore[misc]
        _until_full(running, disk, before["unwritten"])
        assert running.status()["journal"]["full"]
        time.sleep(chance.random())
        disk.free()
        wait_for(lambda: not running.status()["journal"]["full"], "room", running, 20)
        os.kill(slow, signal.SIGCONT)
        written = running.status()["journal"]["end"]
        wait_for(lambda n=written: running.status()["journal"]["end"] > n + 100_000,  # type: ignore[misc]
                 "packets after that", running, 20)  # fmt: skip
        running.catch_up(LAG_S)
    flood.stop()
    alone.udp("127.0.0.1", 9)  # the last number of all
    time.sleep(0.5)
    running.catch_up()
    journal = running.status()["journal"]
    running.stop()
    assert journal["unwritten"] > 0 and journal["removed"] > 0
    assert "cannot write the journal in" in running.said()
    rows = [_balanced(target, flood.sent) for target in there]
    slow_reasons = "".join(reason for reason, _ in there[1].read().losses)
    assert REMOVED in slow_reasons
    show(title, flood.sent, there[0].read(), rows, full=rounds, unwritten=journal["unwritten"],
         removed=journal["removed"])  # fmt: skip


def _until_full(running: Running, disk: SmallDisk, before: int) -> None:
    def is_full() -> bool:
        disk.fill()
        return bool(running.status()["journal"]["unwritten"] > before + 50_000)

    wait_for(is_full, "a full disk", running, 60)


def _balanced(target: targets.Target, sent: int) -> Figures:
    """Check that what was delivered and what losses count is what was sent."""
    seen = target.read()
    counted = sum(count * times for (_, count), times in seen.losses.items() if count is not None)
    assert len(seen.packets) + counted == sent, (target.name, len(seen.packets), counted, sent)
    assert not seen.doubled and not seen.broken
    assert any(reason.startswith(FULL) for reason, _ in seen.losses), seen.losses
    return Figures(target.name, target.promise, len(seen.packets), 0, 0, seen.losses.total())


def _process(running: Running, stack: str) -> int:
    """The process of a stack."""
    return until(lambda: running.workers(stack), f"the process of {stack}", 30)[0]


def of_outputs(
    title: str, alone: netlab.Namespace, folder: Path, rounds: int, chance: random.Random
) -> None:
    """Fill the disk of outputs; another output, and the journal, are on another disk."""
    disk = SmallDisk(alone, folder / "disk", 256 << 20)
    inner, outer = _outputs(disk.inner, disk.inner), _outputs(disk.path, folder)
    there = [each._replace(read=same.read) for each, same in zip(inner, outer, strict=True)]
    there.append(targets.file(folder, "other"))
    running = Running(alone, folder, before=disk.enter)
    running.configure(*(target.stack for target in there))
    flood = Flood(alone, chance, (50, 250))
    running.start()
    running.catch_up()
    flood.begin()
    for _ in range(rounds):
        time.sleep(0.5 + chance.random())
        disk.fill()
        wait_for(lambda: _fail(running, disk) >= len(there) - 1, "all fail", running, 60)
        other = running.stack("other")
        assert other["state"] == "running" and other["lag_s"] < 10, other
        disk.free()
        running.catch_up(LAG_S)
    flood.stop()
    running.catch_up()
    running.stop()
    assert "No space left on device" in running.said()
    shutil.copy(disk.path / "fw.sqlite", folder)  # SQLite itself would follow /proc/PID/root
    true: Seen = truth(folder, running.journal)
    rows = targets.check_all(there, true)
    show(title, flood.sent, true, rows, full=rounds)


def _outputs(folder: Path, of_sqlite: Path) -> list[targets.Target]:
    return [targets.file(folder), targets.packed(folder), targets.parts(folder),
            targets.packed_parts(folder), targets.parquet(folder),
            targets.database(databases.SQLiteLab(of_sqlite / "fw.sqlite"))]  # fmt: skip


def _fail(running: Running, disk: SmallDisk) -> int:
    """How many stacks cannot write."""
    disk.fill()
    return sum(stack["state"] == "retrying" for stack in running.status()["stacks"])
