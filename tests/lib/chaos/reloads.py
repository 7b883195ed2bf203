"""SIGHUP again and again in a flood: stacks come, go and change; others go on untouched."""

from __future__ import annotations

import random
import time
from pathlib import Path

import databases
import netlab

from chaos import targets
from chaos.pipeline import Flood, Running, wait_for
from chaos.seen import show, truth

MARK = "set = {{ extra.site = 'n{}' }}"


def many(
    title: str, alone: netlab.Namespace, folder: Path, reloads: int, chance: random.Random
) -> None:
    """Reload so many times. A stack that comes back goes on where it was."""
    steady = [targets.file(folder, "steady"), targets.parts(folder, "parts")]
    changing = targets.parts(folder, "changing")
    database = targets.database(databases.SQLiteLab(folder / "fw.sqlite"))
    guest = targets.parts(folder, "guest")
    running, flood = Running(alone, folder), Flood(alone, chance, (100, 800))
    stacks = [target.stack for target in steady]
    every = [*stacks, changing.stack, database.stack, guest.stack]
    running.configure(*every)
    running.start()
    running.catch_up()
    flood.begin()
    untouched = set(running.workers("steady", "parts"))
    wrong = 0
    for number in range(reloads):
        now = [*stacks, f"{changing.stack}\n{MARK.format(number)}"]
        now += [database.stack] if chance.random() < 0.7 else []
        now += [guest.stack] if chance.random() < 0.5 else []
        chance.shuffle(now)
        if chance.random() < 0.1:
            now.append('name = "wrong"\ntarget = 5')
            wrong += 1
        running.configure(*now)
        running.reload()
        time.sleep(chance.random() * 0.8)
        assert untouched <= set(running.workers()), "a stack that did not change was started again"
    running.configure(*every)
    running.reload()
    wait_for(lambda: running.stack("guest") and running.stack("sqlite"), "all stacks", running, 30)
    time.sleep(1)
    flood.stop()
    running.catch_up()
    running.stop()
    true = truth(folder, running.journal)
    assert not true.losses.keys() - {k for k in true.losses if k[1] is not None}, true.losses
    rows = targets.check_all([*steady, changing, database, guest], true)
    assert not rows[0].duplicates
    assert "the configuration stays as it was" in running.said() or not wrong
    show(title, flood.sent, true, rows, reloads=reloads + 1, of_them_wrong=wrong)
