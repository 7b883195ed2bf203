"""PGSQL and MYSQL of pylog ulogd fill tables as ulogd 2.0.8 did, and otherwise lose no row."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import netlab
import psycopg
import pytest
import ulogd_cases
from samples import FIXTURES

from pylog.ulogd.views import Message

CASES: dict[str, dict[str, Any]] = json.loads(
    lzma.decompress((FIXTURES / "ulogd/sql.json.xz").read_bytes())
)
DOC = Path("/usr/share/doc/ulogd2")
"""The package ulogd2 has the schemas here."""
NOW = re.compile(rb"(?m)([,\t])20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?=[,\t\n])")


class FullMariaDB(databases.MariaDBServer):
    """A server that can have functions, which needs the tables of the database mysql."""

    def prepare(self) -> None:
        self.run(
            "mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def client(self, statements: str, *options: str) -> bytes:
        """What the client prints of statements."""
        done = subprocess.run(
            ["mariadb", "--no-defaults", "-uroot", "-S", self.socket, *options],
            input=statements.encode(), stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return done.stdout


@pytest.fixture(scope="module")
def mariadb() -> Iterator[FullMariaDB]:
    server = FullMariaDB()
    if server.missing() or shutil.which("mariadb-install-db") is None:
        pytest.skip("needs mariadb-server")
    with databases.running(server):
        server.start()
        yield server


def schema(case: dict[str, Any], kind: str) -> str:
    """The statements that make the tables of a case."""
    if "schema" in case:
        return str(case["schema"])
    flat = "-flat" if 'table="ulog2"' in case["conf"] else ""
    path = DOC / f"{kind}-ulogd2{flat}.sql.gz"
    if not path.exists():
        pytest.skip(f"needs {path} of the package ulogd2")
    return gzip.open(path, "rt").read()


def configured(case: dict[str, Any], folder: Path, server: databases.Server) -> bytes:
    """The configuration of a case for a server."""
    text = case["conf"].replace("@D@", str(folder)).replace("@PG@", server.folder)
    text = text.replace("[pg1]", f"[pg1]\nport={server.port}")
    text = text.replace("dbname=ulogd", f"dbname=ulogd port={server.port}")
    return str(text).encode()


def assert_equal(case: dict[str, Any], table: str, rows: bytes) -> None:
    rows = NOW.sub(rb"\1NOW", rows)
    lines = rows.split(b"\n")
    if "schema" in case:  # whose rows were not recorded in order
        lines.sort()
    assert [len(lines), hashlib.sha256(b"\n".join(lines)).hexdigest()] == case["tables"][table]


@pytest.fixture
def ulogd(postgresql_server: databases.PostgreSQLServer) -> databases.PostgreSQLServer:
    """The server with an empty database ulogd."""
    with psycopg.connect(postgresql_server.address(), autocommit=True) as connection:
        connection.execute("drop database if exists ulogd with (force)")
        connection.execute("create database ulogd")
        if not connection.execute("select 1 from pg_roles where rolname = 'postgres'").fetchone():
            connection.execute("create role postgres superuser login")
    return postgresql_server


def rows_of(server: databases.PostgreSQLServer, table: str) -> bytes:
    """A table as COPY prints it."""
    query = f"copy (select * from {table}) to stdout csv header"
    with (
        psycopg.connect(server.address("ulogd")) as connection,
        connection.cursor().copy(query) as copy,
    ):
        return b"".join(bytes(part) for part in copy)


def prepare(server: databases.PostgreSQLServer, statements: str) -> None:
    with psycopg.connect(server.address("ulogd"), autocommit=True) as connection:
        result = connection.pgconn.exec_(statements.encode())
        assert result.status in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("pgsql")])
def test_postgresql_has_ulogds_rows(
    name: str, ulogd: databases.PostgreSQLServer, tmp_path: Path
) -> None:
    case = CASES[name]
    prepare(ulogd, schema(case, "pgsql"))
    daemon = ulogd_cases.daemon(configured(case, tmp_path, ulogd))
    with ulogd_cases.zone("UTC"):
        ulogd_cases.replay(daemon, case["input"], pace_s=case["pace_s"])
    for table in case["tables"]:
        assert_equal(case, table, rows_of(ulogd, table))
    (stack,) = daemon.stacks
    written = rows_of(ulogd, next(t for t in case["tables"] if t in ("ulog2", "mini")))
    assert stack.records - stack.lost == written.count(b"\n") - 1 > 0
    assert daemon.failed


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("mysql")])
def test_mariadb_has_ulogds_rows(
    name: str, mariadb: FullMariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQL_UNIX_PORT", mariadb.socket)
    case = CASES[name]
    mariadb.client("drop database if exists ulogd; create database ulogd")
    mariadb.client(schema(case, "mysql"), "ulogd")
    daemon = ulogd_cases.daemon(configured(case, tmp_path, mariadb))
    with ulogd_cases.zone("UTC"):
        ulogd_cases.replay(daemon, case["input"], pace_s=case["pace_s"])
    end = "" if name == "mysql-procedure" else "_bin"
    shown = f", hex(ip_saddr{end}) hex_saddr, hex(ip_daddr{end}) hex_daddr"
    for table in case["tables"]:
        more = shown if table == "ulog2" else ""
        printed = mariadb.client(f"select *{more} from {table}", "-B", "ulogd")
        assert_equal(case, table, printed.decode("utf-8", "backslashreplace").encode())


SAFE = """
[global]
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,pg1:PGSQL
[log1]
group=10
[pg1]
db="ulogd"
user="postgres"
host="@PG@"
table="mini"
procedure="INSERT"
reconnect=1
"""
MINI = "create table mini (oob_prefix varchar(40), tcp_dport integer, oob_mark bigint)"


def test_a_refused_row_is_set_aside_and_the_others_are_written(
    ulogd: databases.PostgreSQLServer, tmp_path: Path
) -> None:
    prepare(ulogd, MINI)
    messages: list[str] = []
    daemon = ulogd_cases.daemon(
        configured({"conf": SAFE}, tmp_path, ulogd), messages.append, exact=False
    )
    ulogd_cases.replay(daemon, "g10.rec")
    (route,) = daemon.routes.values()
    views = [route.source.view(record) for record in ulogd_cases.records("g10.rec")]
    prefixes = [view.packet().prefix for view in views if isinstance(view, Message)]
    shown = [text if text is None else text.decode("utf-8", "backslashreplace")
             for text in prefixes]  # fmt: skip
    with psycopg.connect(ulogd.address("ulogd")) as connection:
        stored = [row[0] for row in connection.execute("select oob_prefix from mini")]
    assert stored == [text for text in shown if text is None or len(text) <= 40]
    (stack,) = daemon.stacks
    assert stack.records == len(shown) and stack.lost == len(shown) - len(stored) > 0
    assert any("value too long" in message for message in messages) and daemon.failed


def test_statements_wait_while_the_server_is_away(
    ulogd: databases.PostgreSQLServer, tmp_path: Path
) -> None:
    prepare(ulogd, "create table mini (oob_prefix text, tcp_dport integer)")
    daemon = ulogd_cases.daemon(configured({"conf": SAFE}, tmp_path, ulogd), exact=False)

    def disturb(number: int) -> None:
        if number == 100:
            daemon.flush(daemon.stacks[0])
            ulogd.kill()
        if number == 200:
            daemon.flush(daemon.stacks[0])  # notices it
            ulogd.start()

    ulogd_cases.replay(daemon, "g10.rec", disturb)
    (stack,) = daemon.stacks
    assert rows_of(ulogd, "mini").count(b"\n") - 1 >= stack.records > 200
    assert stack.lost == 0 and not daemon.failed


@pytest.mark.parametrize("procedure", ["INSERT INTO mini", "insert", "call p", "f"])
def test_procedures_are_called(
    procedure: str, ulogd: databases.PostgreSQLServer, tmp_path: Path
) -> None:
    prepare(ulogd, MINI + ";"
            "create function f(text, integer, bigint) returns void language sql as"
            " 'insert into mini values ($1, $2, $3)';"
            "create procedure p(text, integer, bigint) language sql as"
            " 'insert into mini values ($1, $2, $3)'")  # fmt: skip
    conf = SAFE.replace('"INSERT"', f'"{procedure}"')
    daemon = ulogd_cases.daemon(configured({"conf": conf}, tmp_path, ulogd), exact=False)
    ulogd_cases.replay(daemon, "g10.rec")
    (stack,) = daemon.stacks
    assert rows_of(ulogd, "mini").count(b"\n") - 1 == stack.records - stack.lost > 200


def test_a_table_or_server_that_is_not_there_ends_the_stack(
    ulogd: databases.PostgreSQLServer, tmp_path: Path
) -> None:
    for change, reason in (
        (("mini", "maxi"), "no table or view 'maxi'"),
        (('host="@PG@"', 'host="/nonexistent"'), "connection to server on socket"),
    ):
        messages: list[str] = []
        conf = configured({"conf": SAFE.replace(*change)}, tmp_path, ulogd)
        daemon = ulogd_cases.daemon(conf, messages.append)
        with pytest.raises(Exception, match="not even a single working plugin stack"):
            daemon.start()
        assert any(reason in message for message in messages), messages


LIVE = """[global]
logfile="{folder}/own.log"
loglevel=1
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,pg1:PGSQL
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2bin1:IP2BIN,mac2str1:HWHDR,my1:MYSQL
[log1]
group={group}
netlink_qthreshold=1
[pg1]
db="{name}"
user="postgres"
host="{pg}"
port={port}
table="ulog2"
procedure="INSERT"
[my1]
db="{name}"
user="root"
pass=""
host="localhost"
table="ulog2"
procedure="INSERT"
"""
CLOCKS = {"timestamp", "oob_time_sec", "oob_time_usec"}
"""Columns that differ: on the loopback device the kernel gives no time."""


def table_of(lines: list[str], end: str) -> list[dict[str, str]]:
    """The rows of a table that is printed with its header, without clocks."""
    names = lines[0].split(end)
    return [
        {name: cell for name, cell in zip(names, line.split(end), strict=True)
         if name not in CLOCKS}
        for line in lines[1:]
    ]  # fmt: skip


@pytest.mark.parametrize("compat", ["exact", "safe"])
def test_ulogd_and_pylog_fill_tables_side_by_side(
    compat: str, ulogd: databases.PostgreSQLServer, mariadb: FullMariaDB, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two groups of the same rules, two databases with the shipped tables on each server."""
    reason = netlab.missing("nft", "ulogd") or next(
        (f"needs ulogd's {name}" for name in ("PGSQL", "MYSQL")
         if not netlab.ulogd_plugin(f"output_{name}")), "",
    )  # fmt: skip
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv("MYSQL_UNIX_PORT", mariadb.socket)
    flat = {"conf": 'table="ulog2"'}
    log = (
        "udp dport 9 log prefix \"UDP '%s' \" group {0};"
        " icmp type {{ echo-request, echo-reply }} log group {0};"
    )
    packets = 40
    with netlab.Namespace() as alone:
        alone.nft("table inet t { chain c { type filter hook input priority 0;"
                  f"{log.format(1)} {log.format(2)}\n}}\n}}\n")  # fmt: skip
        processes = []
        for group, name in ((1, "theirs"), (2, "mine")):
            with psycopg.connect(ulogd.address(), autocommit=True) as connection:
                connection.execute(f"drop database if exists {name} with (force)")
                connection.execute(f"create database {name}")
            with psycopg.connect(ulogd.address(name), autocommit=True) as connection:
                connection.pgconn.exec_(schema(flat, "pgsql").encode())
            mariadb.client(f"drop database if exists {name}; create database {name}")
            mariadb.client(schema(flat, "mysql"), name)
            folder = tmp_path / name
            folder.mkdir()
            (folder / "ulogd.conf").write_text(LIVE.format(
                folder=folder, group=group, name=name, pg=ulogd.folder, port=ulogd.port,
            ))  # fmt: skip
            own = [sys.executable, "-P", "-m", "pylog", "ulogd", f"--compat={compat}"]
            command = ["ulogd"] if group == 1 else own
            processes.append(alone.start(*command, "-c", str(folder / "ulogd.conf")))
            netlab.until(lambda f=folder: "entering main loop" in text_of(f / "own.log"),  # type: ignore[misc]
                         name, 60)  # fmt: skip
        for number in range(packets):
            alone.udp("127.0.0.1", 9, b"x" * number, mark=number)
        alone.echo("127.0.0.1", 7, b"hello")
        netlab.until(lambda: b"\t7\t" in mariadb.client(
            "select 1, icmp_echoid, 1 from ulog2", "-B", "theirs"), "the last packet")  # fmt: skip
        for process in processes:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    tables = []
    for name in ("theirs", "mine"):
        with (
            psycopg.connect(ulogd.address(name)) as connection,
            connection.cursor().copy(
                "copy (select * from ulog2) to stdout (header, format csv, delimiter E'\\t')"
            ) as copy,
        ):
            first = b"".join(bytes(part) for part in copy).decode()
        second = mariadb.client("select * from ulog2", "-B", name).decode("utf-8", "replace")
        tables.append([table_of(text.splitlines(), "\t") for text in (first, second)])
    assert tables[0] == tables[1]
    assert [len(table) for table in tables[0]] == [packets + 2] * 2


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
