"""`pylog run` beside ulogd2 and tcpdump: JSON files, syslog, PostgreSQL, and the journal alone.

The firewall of `live` logs each packet by two rules that differ in the group only, so both programs
of a pair read the same traffic at the same time: that gives the CPU time per record. The highest
rate is that of each program alone, by turns. A rate holds if nothing is lost, and if nearly all
work is done soon after the sender has ended; rates are a factor of STEP apart.

CPU time is that of all processes of a program. That of the PostgreSQL server stands apart.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import netlab
from contenders import Pair, Program, first, pairs
from live import WARM_UP, Lab
from measure import Missing, Row, Scale, Table, cpu_of, program

STEP = 1.3
"""The factor between two rates."""
LOWEST, STEPS = 100, 32
"""The rates begin with so many packets a second; the last is 340,000."""
NEARLY, LATE_S = 0.95, 1.5
"""How much of the work is to be done so long after the sender has ended: the kernel gathers for a
second, and commits wait for another.
"""
QUIET_S = 2.5
"""How long to wait after it."""
LOOK_S = 0.02


def rules(groups: Sequence[int]) -> str:
    """Rules that count each packet, log it to the groups, and drop it."""
    each = "ip version 4 meta mark set 0x2a"
    logs = "\n".join(f'{each} log prefix "in-drop " group {group}' for group in groups)
    return f"""table inet t {{
    chain c {{
        type filter hook prerouting priority -400;
        iifname != "f0" return
        ip version 4 counter
        {logs}
        ip version 4 drop
    }}
}}
"""


def processes(pid: int) -> list[int]:
    """A process and those that it has started, and so on."""
    there = [pid]
    for each in there:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                there += map(int, (task / "children").read_text().split())
    return there


def cpu_s(pids: Sequence[int]) -> float:
    """The CPU seconds of processes; 0 of one that has ended."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += cpu_of(pid)
    return total


def reaped_s(pid: int) -> float:
    """The CPU seconds of the children of a process that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # cutime, cstime


@dataclass(frozen=True)
class Share:
    """What a program did in a turn.

    cpu_us   CPU time for each record
    server   that of the database
    logged   packets that were logged, after the warm-up
    read     records of those that reached the destination
    rate     records/s until nearly all was done
    kept_up  whether that was soon after the sender had ended
    """

    cpu_us: float
    server: float
    logged: int
    read: int
    rate: float
    kept_up: bool

    @property
    def holds(self) -> bool:
        return self.kept_up and self.read == self.logged


class Running:
    """A program that reads its group, and what its work costs."""

    def __init__(
        self, made: Program, firewall: netlab.Namespace, folder: Path, stack: contextlib.ExitStack
    ) -> None:
        """Starts it; Missing. `stack` ends it."""
        folder.mkdir()
        self.destination = stack.enter_context(made.destination(folder, firewall))
        command = made.command(folder, self.destination)
        program(command[0])
        errors = folder / "errors"
        with errors.open("wb") as err:
            self.process = firewall.start(*command, stdout=subprocess.DEVNULL, stderr=err)
        stack.callback(self.end)
        first(self.process.pid, 1)
        netlab.until(lambda: made.group in firewall.groups() or self.process.poll() is not None,
                     made.name, 30.0)  # fmt: skip
        if self.process.poll() is not None:
            raise Missing(f"{made.name} ended at once: {errors.read_text().strip()}")
        self._own = made.own
        self._looks: list[tuple[float, float]] = []
        self._server = 0.0

    def begin(self) -> None:
        """From now on the work counts."""
        pid = self.process.pid
        self._pids = [pid] if self._own else processes(pid)
        self._server = self._server_s()
        self.look()

    def _server_s(self) -> float:
        server = self.destination.server
        return cpu_s(processes(server)) + reaped_s(server) if server else 0.0

    def look(self) -> None:
        """Note how far it is."""
        self._looks.append((time.monotonic(), cpu_s(self._pids)))

    @property
    def busy(self) -> bool:
        """Whether it worked within the last half second."""
        last_at, last = self._looks[-1]
        return last - next(c for at, c in reversed(self._looks) if at < last_at - 0.5) > 0.01

    def stop(self) -> None:
        """Nothing is left to do: end it in order."""
        self._server = self._server_s() - self._server
        netlab.stop(self.process)

    def end(self) -> None:
        """End it at once, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def share(self, logged: int, ended: float) -> Share:
        """What it did; `ended` is when the sender had ended."""
        before, after = self._looks[0][1], self._looks[-1][1]
        done = next(at for at, c in self._looks if c - before >= NEARLY * (after - before))
        took = max(done, ended) - self._looks[0][0]
        read = self.destination.count() - WARM_UP
        each = 1e6 / max(read, 1)
        return Share((after - before) * each, self._server * each, logged, read, read / took,
                     done <= ended + LATE_S)  # fmt: skip


class Bench(Lab):
    """The firewall, which logs to the groups of all programs of a turn."""

    def together(self, programs: Sequence[Program], rate: int, seconds: float) -> list[Share]:
        """Let programs read the same packets; Missing."""
        self._turns += 1
        firewall = self.firewall
        with contextlib.ExitStack() as stack:
            running = [
                Running(made, firewall, self.path / f"{self._turns}-{made.group}", stack)
                for made in programs
            ]
            firewall.nft(rules([made.group for made in programs]))
            stack.callback(firewall.nft, "flush ruleset")
            self.send(WARM_UP, min(rate, 10_000))
            time.sleep(QUIET_S)
            for each in running:
                each.begin()
            ended = self._watched(int(rate * seconds), rate, running)
            logged = firewall.counted()[0] - WARM_UP
            for each in running:
                each.stop()
            return [each.share(logged, ended) for each in running]

    def _watched(self, count: int, rate: int, running: Sequence[Running]) -> float:
        """Send packets, and look until all programs have nothing left to do; when the sender had
        ended.
        """
        sender, ended = self.sender(count, rate), None
        first(sender.pid, 3)
        while ended is None or time.monotonic() < ended + QUIET_S or any(r.busy for r in running):
            if ended is None and sender.poll() is not None:
                ended = time.monotonic()
            for each in running:
                each.look()
            time.sleep(LOOK_S)
        sender.communicate()
        return ended

    def highest(self, pair: Pair, seconds: float) -> list[Search]:
        """The highest rates that pylog and the other hold, each alone, by turns."""
        programs = [pair.pylog, pair.other]
        searches = [Search(pair.rate * (pair.target or 1)), Search(pair.rate)]
        while not all(search.ended for search in searches):
            for made, search in zip(programs, searches, strict=True):
                if not search.ended:
                    search.add(self.together([made], search.rate, seconds)[0])
        return searches


class Search:
    """Looks for the highest rate that holds, in steps, which are larger as long as all fail or all
    hold. A rate that does not hold is tried twice: other work of the machine may be to blame.

    best   the turn that held in which most was delivered in a second; None: none held
    """

    def __init__(self, start: float) -> None:
        rates = [LOWEST * STEP**i for i in range(STEPS)]
        self._at = min(range(STEPS), key=lambda i: abs(rates[i] - start))
        self._low, self._high, self._failed = -1, STEPS, False
        self._rates = [round(rate) for rate in rates]
        self._leap = 2
        self.best: Share | None = None

    @property
    def rate(self) -> int:
        return self._rates[self._at]

    @property
    def held(self) -> float:
        """The highest rate that held; 0: none did."""
        return 0.0 if self.best is None else self.best.rate

    @property
    def ended(self) -> bool:
        return self._high - self._low <= 1

    def add(self, share: Share) -> None:
        """The turn at `rate`."""
        if share.holds:
            self._low, self._failed = self._at, False
            if share.rate > self.held:
                self.best = share
        elif not self._failed:
            self._failed = True
            return
        else:
            self._high, self._failed = self._at, False
        if self._high == STEPS:
            self._at = min(self._low + self._leap, STEPS - 1)
        elif self._low < 0:
            self._at = max(self._high - self._leap, 0)
        else:
            self._at = (self._low + self._high) // 2
            return
        self._leap *= 2


def table(scale: Scale) -> Table:
    """CPU time per record of both programs of each pair, on the same packets."""
    made = Table("`pylog run`, the same packets for both")
    with Bench() as bench, pairs() as all_pairs:
        shares: dict[str, list[list[Share]]] = {pair.output: [] for pair in all_pairs}
        missing: dict[str, str] = {}
        for turn in range(scale.rounds):
            for pair in all_pairs:
                both = [pair.pylog, pair.other][:: 1 - 2 * (turn % 2)]
                try:
                    each = bench.together(both, pair.rate, scale.seconds)
                except Missing as error:
                    missing[pair.output] = str(error)
                else:
                    shares[pair.output].append(each[:: 1 - 2 * (turn % 2)])
        for pair in all_pairs:
            made.rows += _rows(pair, shares[pair.output], missing.get(pair.output, ""))
    return made


def _rows(pair: Pair, turns: Sequence[Sequence[Share]], missing: str) -> Iterator[Row]:
    """The rows of a pair: the other program, then pylog, compared with it."""
    names = [f"{pair.output}: {made.name}" for made in (pair.other, pair.pylog)]
    for name, place in zip(names, (1, 0), strict=True):
        row = Row(name, than="" if place else names[0], at_most=None if place else pair.at_most,
                  note=missing)  # fmt: skip
        own = [turn[place] for turn in turns]
        if own:
            row.values = [share.cpu_us for share in own]
            lost = sum(share.logged - share.read for share in own)
            row.note = f"{pair.rate:,}/s, lost {lost} of {sum(share.logged for share in own)}"
            if any(share.server for share in own):
                row.note += f"; server {statistics.median(share.server for share in own):.1f}"
        yield row


def rates(scale: Scale) -> Table:
    """The highest rates without loss."""
    made = Table("`pylog run`, the highest rate without loss, each alone", unit="records/s")
    with Bench() as bench, pairs() as all_pairs:
        for pair in (pair for pair in all_pairs if pair.rates):
            names = [f"{pair.output}: {each.name}" for each in (pair.other, pair.pylog)]
            rows = [Row(names[0]), Row(names[1], than=names[0])]
            made.rows += rows
            try:
                own, other = bench.highest(pair, scale.seconds)
            except Missing as error:
                rows[0].note = rows[1].note = str(error)
                continue
            for row, search in zip(rows, (other, own), strict=True):
                row.values = [search.held] if search.held else []
                if search.best is not None:
                    row.note = f"{search.best.cpu_us:.1f} CPU us/record"
                    row.note += f"; server {search.best.server:.1f}" if search.best.server else ""
            if pair.target is not None:
                met = "met" if own.held >= pair.target * other.held else "MISSED"
                rows[1].target = f"at least {pair.target:g} x that: {met}"
    return made
