"""A little of what tests/chaos does for long: kills, full disks, bad receivers, reloads."""

from __future__ import annotations

from pathlib import Path

import databases
import effort
import netlab
import pytest
from chaos import disks, kills, peers, reloads, targets
from chaos.pipeline import RULES
from chaos.receivers import Receiver

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def test_kills_of_pylog_lose_and_double_nothing(tmp_path: Path) -> None:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        chance = effort.chance("kills")
        with Receiver(alone, chance) as receiver:
            there = [targets.packed(tmp_path), targets.parts(tmp_path), targets.lines(receiver),
                     targets.database(databases.SQLiteLab(tmp_path / "fw.sqlite"))]  # fmt: skip
            kills.of_pylog("kills", alone, tmp_path, there, 2, chance)


def test_a_full_disk_of_the_journal_is_reported(tmp_path: Path) -> None:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        disks.of_the_journal("full journal", alone, tmp_path, 1, effort.chance("journal"))


def test_a_full_disk_of_outputs_loses_nothing(tmp_path: Path) -> None:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        disks.of_outputs("full outputs", alone, tmp_path, 1, effort.chance("disks"))


def test_bad_receivers_lose_nothing(tmp_path: Path) -> None:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        peers.all_bad("bad receivers", alone, tmp_path, 4, effort.chance("peers"))


def test_reloads_in_a_flood_touch_what_has_changed(tmp_path: Path) -> None:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        reloads.many("reloads", alone, tmp_path, 4, effort.chance("reloads"))
