"""Kills at random moments: of pylog, of the processes of its stacks, of databases."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import databases
import netlab
from chaos.pipeline import Flood, Running
from chaos.seen import Seen, show, truth
from chaos.targets import Target, check_all

RATES = (100, 1500)
NOT_RUNNING = "pylog did not run from"


def of_pylog(
    title: str,
    alone: netlab.Namespace,
    folder: Path,
    targets: Sequence[Target],
    kills: int,
    chance: random.Random,
) -> None:
    """Kill pylog, or the process of a stack, so many times under load."""
    running, flood = Running(alone, folder, settings='segment_size = "1M"'), Flood(
        alone, chance, RATES
    )  # fmt: skip
    running.configure(*(target.stack for target in targets))
    alone_killed = 0
    running.start()
    while running.kills < kills:
        flood.go_on()
        time.sleep(chance.random() * 3)
        choice = chance.random()
        if choice < 0.6:  # of a stack alone, or shortly before all ends
            running.kill_worker(chance)
            alone_killed += 1
        if choice > 0.4 and running.kills < kills:
            running.kill()
            running.start()
    flood.go_on()
    _settle(running, flood)
    true = truth(folder, running.journal)
    gaps = [reason for reason, _ in true.losses.elements() if reason.startswith(NOT_RUNNING)]
    assert len(gaps) == running.starts - 1, gaps
    check_numbers(true)
    rows = check_all(targets, true)
    show(title, flood.sent, true, rows, kills=running.kills, of_pylog=running.starts - 1,
         of_stacks=alone_killed)  # fmt: skip
    assert not list(folder.rglob("*.part"))


def _settle(running: Running, flood: Flood) -> None:
    """Let some more come, then end the flood, and pylog in order."""
    time.sleep(1)
    flood.stop()
    running.catch_up()
    running.stop()


def check_numbers(true: Seen) -> None:
    """Packets of a session have all numbers up to the last, but for those that losses count."""
    sizes = re.compile(r"sequence number (\d+), but expected (\d+)")
    for (reason, count), times in true.losses.items():
        match = sizes.search(reason)
        if match is not None:
            assert count == int(match[1]) - int(match[2]), (reason, count, times)


def of_databases(
    title: str,
    alone: netlab.Namespace,
    folder: Path,
    targets: Sequence[Target],
    servers: Sequence[databases.Server],
    kills: int,
    chance: random.Random,
) -> None:
    """Kill the servers of databases so many times each under load, and start them again."""
    running, flood = Running(alone, folder), Flood(alone, chance, RATES)
    running.configure(*(target.stack for target in targets))
    running.start()
    killed = dict.fromkeys((server.binary for server in servers), 0)
    while min(killed.values()) < kills:
        flood.go_on()
        time.sleep(chance.random() * 1.5)
        server = min(servers, key=lambda server: killed[server.binary])
        server.kill()
        killed[server.binary] += 1
        with contextlib.suppress(AssertionError):
            time.sleep(chance.random() * 0.5)
        server.start()
    _settle(running, flood)
    true = truth(folder, running.journal)
    assert not true.losses.keys() - {k for k in true.losses if k[1] is not None}, true.losses
    rows = check_all(targets, true)
    show(title, flood.sent, true, rows, **{f"kills_of_{n}": k for n, k in killed.items()})
