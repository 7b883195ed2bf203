"""Kills at random moments: of pylog, of the processes of its stacks, of databases."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import databases
import netlab

from chaos.pipeline import PACKETS, Changes, Flood, Running
from chaos.seen import NOT_RUNNING, decoded, show, truth
from chaos.targets import Target, check_all

RATES = (50, 1000)
LONGEST_PAUSE_S = 4.0


def of_pylog(
    title: str,
    alone: netlab.Namespace,
    folder: Path,
    targets: Sequence[Target],
    kills: int,
    chance: random.Random,
    *,
    sources: str = PACKETS,
    segment_size: str = "1M",
    changes: Changes | None = None,
) -> None:
    """Kill pylog, or the process of a stack, so many times under load.

    changes   the load, in place of packets
    """
    settings = f'segment_size = "{segment_size}"'
    running = Running(alone, folder, settings=settings, sources=sources)
    flood = Flood(alone, chance, RATES) if changes is None else changes
    running.configure(*(target.stack for target in targets))
    of_pylog = early = 0
    running.start()
    flood.begin()
    while running.kills < kills:
        time.sleep(chance.random() * LONGEST_PAUSE_S)
        choice = chance.random()
        if choice < 0.65:  # of a stack alone, or shortly before all ends
            running.kill_worker(chance)
        if choice > 0.5 and running.kills < kills:
            running.kill()
            of_pylog += 1
            if choice > 0.9 and running.kills < kills:  # while it begins
                running.start(wait=False)
                time.sleep(chance.random() * 2)
                running.kill()
                early += 1
            running.start()
    _settle(running, flood)
    true = truth(folder, running.journal) if changes is None else decoded(running.journal)
    gaps = [reason for reason, _ in true.losses.elements() if reason.startswith(NOT_RUNNING)]
    count = sources.count("[sources.")
    assert count * of_pylog <= len(gaps) <= count * (of_pylog + early), gaps
    rows = check_all(targets, true)
    show(title, flood.sent, true, rows, kills=running.kills, of_pylog=of_pylog,
         of_pylog_while_it_began=early, of_stacks=running.kills - of_pylog - early)  # fmt: skip
    assert not list(folder.rglob("*.part"))


def _settle(running: Running, flood: Flood | Changes) -> None:
    """Let some more come, then end the flood, and pylog in order."""
    time.sleep(1)
    flood.stop()
    running.catch_up()
    running.stop()


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
    flood.begin()
    killed = dict.fromkeys((type(server).__name__ for server in servers), 0)
    while min(killed.values()) < kills:
        time.sleep(chance.random() * 1.5)
        server = min(servers, key=lambda server: killed[type(server).__name__])
        server.kill()
        killed[type(server).__name__] += 1
        time.sleep(chance.random() * 0.5)
        server.start()
    _settle(running, flood)
    true = truth(folder, running.journal)
    assert not true.losses.keys() - {k for k in true.losses if k[1] is not None}, true.losses
    rows = check_all(targets, true)
    show(title, flood.sent, true, rows, **{f"kills_of_{n}": k for n, k in killed.items()})
