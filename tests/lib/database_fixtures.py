"""A plugin of pytest: servers of databases, one of each for all tests, started when needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import databases
import pytest

S = TypeVar("S", bound=databases.Server)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[databases.PostgreSQLServer]:
    pytest.importorskip("psycopg")
    yield from _started(databases.PostgreSQLServer())


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[databases.MariaDBServer]:
    pytest.importorskip("pymysql")
    yield from _started(databases.MariaDBServer())


def _started(server: S) -> Iterator[S]:
    if server.missing():
        pytest.skip(server.missing())
    with databases.running(server):
        server.start()
        yield server


@pytest.fixture
def postgresql(
    postgresql_server: databases.PostgreSQLServer,
) -> Iterator[databases.PostgreSQLLab]:
    lab = databases.PostgreSQLLab(postgresql_server)
    yield lab
    lab.close()


@pytest.fixture
def mysql(mariadb_server: databases.MariaDBServer) -> Iterator[databases.MySQLLab]:
    lab = databases.MySQLLab(mariadb_server)
    yield lab
    lab.close()


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Lab]:
    """A database of each kind."""
    if request.param == "sqlite":
        yield databases.SQLiteLab(tmp_path / "fw.sqlite")
    else:
        yield request.getfixturevalue(request.param)
