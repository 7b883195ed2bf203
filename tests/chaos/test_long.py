"""What must never lose or double a record, for long: tox -e chaos, about 25 minutes.

PYLOG_CHAOS is the share of it that happens, 1 unless it is set. The figures are printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import databases
import effort
import netlab
import pytest
from chaos import disks, kills, peers, reloads, targets
from chaos.pipeline import EVENTS, RULES, Changes
from chaos.receivers import Brokers, Receiver

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
SHARE = float(os.environ.get("PYLOG_CHAOS", "1"))


def count(full: int) -> int:
    return max(2, round(full * SHARE))


@pytest.fixture
def alone() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        yield alone


def test_kills_with_files_data_sets_and_sqlite(alone: netlab.Namespace, tmp_path: Path) -> None:
    there = [
        targets.file(tmp_path), targets.packed(tmp_path), targets.parts(tmp_path),
        targets.parquet(tmp_path), targets.database(databases.SQLiteLab(tmp_path / "fw.sqlite")),
    ]  # fmt: skip
    chance = effort.chance("files")
    kills.of_pylog("kills, files", alone, tmp_path, there, count(100), chance)


def test_kills_with_servers(
    alone: netlab.Namespace, tmp_path: Path, postgresql: databases.PostgreSQLLab
) -> None:
    chance = effort.chance("servers")
    with (
        Receiver(alone, chance) as tcp,
        Receiver(alone, chance, octets=True) as syslog,
        Brokers(alone, "fw") as brokers,
    ):
        there = [targets.database(postgresql), targets.lines(tcp), targets.syslog(syslog),
                 targets.kafka(brokers)]  # fmt: skip
        kills.of_pylog("kills, servers", alone, tmp_path, there, count(100), chance)


def test_kills_with_flows_and_rulesets(alone: netlab.Namespace, tmp_path: Path) -> None:
    chance = effort.chance("flows")
    with Receiver(alone, chance) as receiver:
        there = [targets.file(tmp_path), targets.parts(tmp_path), targets.lines(receiver)]
        kills.of_pylog("kills, flows and rulesets", alone, tmp_path, there, count(40), chance,
                       sources=EVENTS, segment_size="300k", changes=Changes(alone))  # fmt: skip


def test_kills_of_databases(
    alone: netlab.Namespace,
    tmp_path: Path,
    postgresql: databases.PostgreSQLLab,
    mysql: databases.MySQLLab,
) -> None:
    there = [targets.database(postgresql), targets.database(mysql), targets.file(tmp_path)]
    servers, chance = [postgresql.server, mysql.server], effort.chance("databases")
    kills.of_databases("kills of databases", alone, tmp_path, there, servers, count(50), chance)


def test_full_disks_of_the_journal(alone: netlab.Namespace, tmp_path: Path) -> None:
    disks.of_the_journal("full journal", alone, tmp_path, count(15), effort.chance("journal"))


def test_full_disks_of_outputs(alone: netlab.Namespace, tmp_path: Path) -> None:
    disks.of_outputs("full outputs", alone, tmp_path, count(10), effort.chance("outputs"))


def test_bad_receivers(alone: netlab.Namespace, tmp_path: Path) -> None:
    manners = (*peers.MANNERS, "deaf")
    chance = effort.chance("peers")
    peers.all_bad("bad receivers", alone, tmp_path, 180 * SHARE, chance, manners=manners)


def test_reloads_in_a_flood(alone: netlab.Namespace, tmp_path: Path) -> None:
    reloads.many("reloads", alone, tmp_path, count(150), effort.chance("reloads"))
