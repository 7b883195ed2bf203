"""Each record is in the database exactly once, whatever ends, and a refused one blocks nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import databases
import effort
import inprocess
import msgspec
import pytest

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.outputs import _sql
from pylog.record import Record
from pylog.testing import packet

LABS = ["postgresql", "mysql", "sqlite"]
ALL = effort.number(4000, 600)
"""How many records the writer of a test has."""


def records(start: int, stop: int) -> list[Record]:
    """Records with the numbers from start to stop."""
    made = packet(timestamp_ns=1)
    return [msgspec.structs.replace(made, seq=number) for number in range(start, stop)]


def write_all(lab: databases.Lab) -> None:
    """As a pipeline does: write what comes after the position, and after an error begin anew."""
    lots = random.Random()
    while True:
        with contextlib.suppress(BackendError):
            output = lab.open("a stack")
            at = int(output.position() or 0)
            while at < ALL:
                for _ in range(lots.randrange(1, 4)):
                    more = min(ALL, at + lots.randrange(1, 60))
                    output.write(Batch(records(at, more)))
                    at = more
                output.commit(str(at))
                assert output.confirmed() == str(at)
            output.close()
            return
        time.sleep(0.02)


def check_all(lab: databases.Lab) -> None:
    numbers = lab.query(f"SELECT seq FROM {lab.quoted('packet')} ORDER BY seq")[1]
    assert [number for (number,) in numbers] == list(range(ALL))


def empty(lab: databases.Lab) -> None:
    for table in ("packet", "pylog_position"):
        lab.query(f"DELETE FROM {lab.quoted(table)}")


def writer(lab: databases.Lab) -> Any:
    """A process that writes all."""
    process = multiprocessing.get_context("fork").Process(target=write_all, args=(lab,))
    process.start()
    return process


@pytest.mark.parametrize("lab", effort.sample(LABS, 1), indirect=True)
def test_a_writer_may_be_killed(lab: databases.Lab) -> None:
    lab.open("a stack").close()
    pauses = effort.chance(lab.name)
    for _ in range(effort.number(60, 2)):
        process = writer(lab)
        process.join(pauses.uniform(0.02, 0.3))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was ready before
            check_all(lab)
            empty(lab)
    write_all(lab)
    check_all(lab)


@pytest.mark.parametrize("name", effort.sample(LABS[:2], 1))
def test_a_server_may_be_killed(name: str, request: pytest.FixtureRequest) -> None:
    lab = request.getfixturevalue(name)
    lab.open("a stack").close()
    pauses = effort.chance(lab.name)
    process = writer(lab)
    for _ in range(effort.number(25, 1)):
        time.sleep(pauses.uniform(0.02, 0.4))
        lab.crash()
        if not process.is_alive():
            check_all(lab)
            empty(lab)
            process = writer(lab)
    process.join(60)
    assert process.exitcode == 0
    check_all(lab)


def test_what_was_not_committed_is_not_there(lab: databases.Lab) -> None:
    output = lab.open("a stack")
    output.write(Batch(records(0, 5)))
    output.flush()
    output.commit("5")
    output.write(Batch(records(5, 50)))
    assert (output.position(), output.confirmed(), lab.count("packet")) == ("5", "5", 5)
    output.close()
    again = lab.open("a stack")
    assert (again.position(), lab.open("another").position(), lab.count("packet")) == ("5", None, 5)


def test_of_two_writers_of_a_stack_one_fails(lab: databases.Lab) -> None:
    """Such as a process whose end the server has not noticed yet."""
    first, second = lab.open("a stack"), lab.open("a stack")
    elsewhere = lab.open("a stack", writer="another machine")
    for output, lot in ((first, records(0, 3)), (elsewhere, records(10, 11))):
        output.write(Batch(lot))
        output.commit("3")
    second.write(Batch(records(0, 3)))
    with pytest.raises(BackendError, match="another process wrote the stack 'a stack' of"):
        second.commit("3")
    second.close()
    assert (lab.open("a stack").position(), lab.count("packet")) == ("3", 4)
    first.commit("3")  # the same position again is no conflict
    first.commit("4")


def refuse_ports(lab: databases.Lab) -> None:
    """Have the database refuse packets to ports from 9000 on."""
    if lab.name == "sqlite":
        lab.query("CREATE TRIGGER t BEFORE INSERT ON packet WHEN new.dport >= 9000 BEGIN SELECT"
                  " RAISE(ABORT, 'port is wrong'); END")  # fmt: skip
    else:
        lab.query(f"ALTER TABLE {lab.quoted('packet')} ADD CONSTRAINT port CHECK (dport < 9000)")


@pytest.fixture
def statements() -> Iterator[list[int]]:
    """How many rows each statement of an output has."""
    counted: list[int] = []
    refusals = _sql.refusals

    def counting(database: Any, table: Any, rows: Any) -> Iterator[tuple[int, str]]:
        insert = database.insert

        def count(table: Any, rows: Any, start: int, stop: int) -> None:
            counted.append(stop - start)
            insert(table, rows, start, stop)

        with mock.patch.object(database, "insert", count):
            yield from refusals(database, table, rows)

    with mock.patch.object(_sql, "refusals", counting):
        yield counted


def test_a_refused_record_blocks_nothing(lab: databases.Lab, statements: list[int]) -> None:
    lab.open().close()
    refuse_ports(lab)
    count = effort.number(5000, 1200)
    bad = {17, 18, 999, 1000, count - 1}
    lot = records(0, count)
    for number in bad:
        lot[number] = packet(seq=number, dport=9000 + number)
    refused = lab.records(lot)
    assert [record.seq for record, _ in refused] == sorted(bad)
    assert lab.count("packet") == count - 5
    assert all("port" in reason for _, reason in refused), refused
    assert len(statements) < 90 and sum(statements) < count * 8


def test_all_records_may_be_refused(lab: databases.Lab, statements: list[int]) -> None:
    lab.open().close()
    refuse_ports(lab)
    refused = lab.records([packet(seq=n, dport=9001) for n in range(100)])
    assert [record.seq for record, _ in refused] == list(range(100))
    assert lab.count("packet") == 0 and len(statements) < 120


def test_a_full_disk_is_an_error_that_may_pass(tmp_path: Path) -> None:
    lab = databases.SQLiteLab(tmp_path / "fw.sqlite")
    output = lab.open("a stack")
    database = output._database._database  # type: ignore[attr-defined]
    ((pages,),) = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    output.write(Batch(records(0, 500)))
    with pytest.raises(BackendError, match=r"cannot write .*fw.sqlite: database or disk is full"):
        output.commit("500")
    output.close()
    again = lab.open("a stack")
    assert (again.position(), lab.count("packet")) == (None, 0)


def test_a_record_that_no_column_can_hold_is_refused(lab: databases.Lab) -> None:
    lot = records(0, 9)
    lot[3] = packet(seq=2**32)
    lot[5] = packet(prefix="\udc80")
    assert [record for record, _ in lab.records(lot)] == [lot[3], lot[5]]
    assert lab.count("packet") == 7


def test_postgresql_has_no_text_with_a_nul(postgresql: databases.PostgreSQLLab) -> None:
    lot: list[Record] = [packet(seq=0), packet(prefix="a\0b"), packet(extra={"a": "\0"})]
    refused = postgresql.records(lot)
    assert [record for record, _ in refused] == lot[1:]
    assert [reason for _, reason in refused] == [
        'invalid byte sequence for encoding "UTF8": 0x00',
        "unsupported Unicode escape sequence",
    ]
    assert postgresql.count("packet") == 1


def test_a_refused_row_of_columns_is_reported_as_a_record(lab: databases.Lab) -> None:
    lab.open().close()
    refuse_ports(lab)
    refused: list[tuple[Record, str]] = []
    output = lab.open(refuse=lambda *given: refused.append(given), exclude="source,layout")
    assert output.wanted is not None
    columns = Batch([packet(dport=p) for p in (80, 9001)]).columns(
        "packet", output.wanted["packet"]
    )
    output.write(Batch.of_columns({"packet": columns}))
    assert refused == []
    output.commit("2")
    ((record, _),) = refused
    assert record.kind == "packet" and (record.source, record.dport) == ("nflog", 9001)


def test_old_records_are_deleted(lab: databases.Lab) -> None:
    now = time.time_ns()
    lot: list[Record] = [packet(seq=n, timestamp_ns=now - n * 86_400 * 10**9) for n in range(9)]
    lab.records(lot, keep_days=3)
    assert sorted(row["seq"] for row in lab.rows("packet")) == [0, 1, 2]


def test_days_are_partitions_of_postgresql(postgresql: databases.PostgreSQLLab) -> None:
    now = time.time_ns()
    lot: list[Record] = [packet(seq=n, timestamp_ns=now - n * 86_400 * 10**9) for n in range(9)]
    lot.append(packet(seq=9, timestamp_ns=1))
    options = {"partitions": "day", "kind": "packet"}
    postgresql.records(lot, **options)
    assert postgresql.count("packet") == 10
    assert postgresql.count("packet_default") == 1  # 1970
    assert len(partitions(postgresql)) == 9 + 2 + 1
    postgresql.records([], keep_days=3, **options)
    assert sorted(row["seq"] for row in postgresql.rows("packet")) == [0, 1, 2, 3]
    assert len(partitions(postgresql)) == 4 + 2 + 1
    with pytest.raises(BackendError, match=r"table pylog.flow is there and has no partitions"):
        postgresql.open().close()
        postgresql.open(partitions="day")


def partitions(lab: databases.Lab) -> list[tuple[Any, ...]]:
    return lab.query("SELECT inhrelid FROM pg_inherits WHERE inhparent = 'pylog.packet'::regclass")[
        1
    ]


def test_a_role_needs_no_right_but_to_write(postgresql: databases.PostgreSQLLab) -> None:
    postgresql.open("a stack").close()
    for statement in (
        "DROP ROLE IF EXISTS writer", "CREATE ROLE writer LOGIN",
        "GRANT USAGE ON SCHEMA pylog TO writer",
        "GRANT INSERT ON ALL TABLES IN SCHEMA pylog TO writer",
        "GRANT SELECT ON pylog.pylog_version TO writer",
        "GRANT SELECT, UPDATE ON pylog.pylog_position TO writer",
    ):  # fmt: skip
        postgresql.query(statement)
    address = postgresql.server.address(postgresql.database, user="writer")
    output = outputs.open("postgresql", outputs.Place(address, "a stack"))
    output.write(Batch(records(0, 3)))
    output.commit("3")
    output.close()
    assert postgresql.count("packet") == 3
    postgresql.query("REVOKE INSERT ON pylog.packet FROM writer")
    output = outputs.open("postgresql", outputs.Place(address, "a stack"))
    output.write(Batch(records(3, 4)))
    with pytest.raises(BackendError, match="permission denied for table packet"):
        output.commit("4")
    output.close()
    postgresql.query("DROP OWNED BY writer")


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer_is_an_error(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = request.getfixturevalue(name)
    monkeypatch.setattr(f"pylog.outputs._{name}_client.LONGEST_S", 0.3)
    output = lab.open("a stack")
    if name == "postgresql":  # a process for each connection
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pylog'"
        ((pid,),) = lab.query(query)[1]
    else:
        pid = lab.server.pid
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    try:
        output.write(Batch(records(0, 3)))
        with pytest.raises(BackendError, match=r"cannot write to database .*(no answer|timed out)"):
            output.commit("3")
    finally:
        os.kill(pid, signal.SIGCONT)
    output.close()
    assert lab.count("packet") == 0


@pytest.mark.parametrize(("name", "address"), [
    ("postgresql", "postgresql://me:geheim@localhost:1/fw"),
    ("postgresql", "host=localhost port=1 user=me password='ge heim' dbname=fw"),
    ("mysql", "mysql://me:geheim@localhost:1/fw"),
])  # fmt: skip
def test_errors_show_no_password(name: str, address: str) -> None:
    pytest.importorskip({"postgresql": "psycopg", "mysql": "pymysql"}[name])
    with pytest.raises(BackendError) as error:
        outputs.open(name, outputs.Place(address))
    text = str(error.value)
    assert text.startswith("cannot connect to database fw of ") and "efused" in text
    assert "heim" not in text


@pytest.mark.parametrize(("name", "address"), [
    ("postgresql", "geheim"), ("postgresql", "host=db password=ge geheim"), ("postgresql", "postgres://[geheim"),
    ("mysql", "mysql://me:geheim@host:port/fw"), ("mysql", "mysql://me:geheim@host"),
    ("mysql", "geheim"), ("mysql", "mysql://host/fw?geheim=1"), ("mysql", "mysql://[geheim/fw"),
    ("mysql", "mysql://host/fw?ssl-mode=geheim"), ("mysql", "mysql://host/fw?geheim"),
])  # fmt: skip
def test_what_is_no_address_is_not_repeated(name: str, address: str) -> None:
    pytest.importorskip({"postgresql": "psycopg", "mysql": "pymysql"}[name])
    with pytest.raises(ValueError) as error:
        outputs.check_address(name, address)
    assert "geheim" not in str(error.value) and "target" in str(error.value)


def test_the_server_is_verified_if_it_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("pylog.outputs._postgresql_client")
    monkeypatch.delenv("PGSSLMODE", raising=False)
    for address, mode in [
        ("postgresql://db.example/fw", "verify-full"), ("host=db.example dbname=fw", "verify-full"),
        ("host=localhost,db.example dbname=fw", "verify-full"),
        ("hostaddr=192.0.2.1", "verify-full"), ("host=db.example sslmode=require", "require"),
        ("postgresql:///fw", None), ("host=/run/postgresql dbname=fw", None),
        ("postgresql://localhost/fw", None), ("host=127.0.0.1", None), ("service=fw", None),
    ]:  # fmt: skip
        assert client.parameters(address, None).get("sslmode") == mode, address
    client = pytest.importorskip("pylog.outputs._mysql_client")
    for address, mode in [
        ("mysql://db.example/fw", "VERIFY_IDENTITY"), ("mysql://localhost/fw", "DISABLED"),
        ("mariadb://db.example/fw?ssl-mode=required", "REQUIRED"),
        ("mysql://db/fw?unix_socket=/s", "DISABLED"), ("mysql://[::1]/fw", "DISABLED"),
    ]:  # fmt: skip
        assert client.parameters(address, None)["ssl_mode"] == mode, address
    assert client.parameters("mysql://a%40b:c%2Fd@h:3307/fw", None) | {"ssl_mode": ""} == {
        "host": "h", "port": 3307, "database": "fw", "user": "a@b", "password": "c/d",
        "unix_socket": None, "ssl_mode": "", "ssl_ca": None, "ssl_cert": None, "ssl_key": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_server_that_cannot_be_verified_is_an_error(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = request.getfixturevalue(name)
    client = f"pylog.outputs._{name}_client"
    server = lab.server
    if name == "postgresql":
        address = server.address(lab.database, host="localhost")
        verified = f"{address} sslrootcert={server.certificate}"
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    else:
        address = f"mysql://root@localhost:{server.port}/{lab.database}"
        verified = f"{address}?ssl-ca={server.certificate}"
        query = "SHOW STATUS LIKE 'Ssl_version'"
    outputs.open(name, outputs.Place(address)).close()  # of this machine
    monkeypatch.setattr(f"{client}.LOCAL", ())
    with pytest.raises(BackendError, match=r"(?i)certificate verify failed"):
        outputs.open(name, outputs.Place(address))
    database = outputs.open(name, outputs.Place(verified))._database  # type: ignore[attr-defined]
    assert database._client.rows(query)[0][-1] not in (False, "")
    other = verified.replace("localhost", "127.0.0.1")
    with pytest.raises(BackendError, match=r"does not match|127\.0\.0\.1"):
        outputs.open(name, outputs.Place(other))


@pytest.mark.parametrize(("name", "options", "problem"), [
    ("postgresql", {"columns": "dport"}, "is for one kind of record"),
    ("postgresql", {"table_prefix": 'a"b'}, "must be small letters, digits and _"),
    ("postgresql", {"schema": ""}, "schema must not be empty"),
    ("postgresql", {"indexes": "dprt"}, "no table has a column 'dprt'"),
    ("mysql", {"kind": "packet", "exclude": "dprt"}, "no column 'dprt'"),
    ("sqlite", {"keep_days": 0}, "keep_days is 0"),
])  # fmt: skip
def test_wrong_options_are_errors(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        outputs.check(name, options)


def test_sqlite_is_a_file_or_a_place(tmp_path: Path) -> None:
    log = "fixtures/ipl/v5-1-2-lp64le-filter.ipf.bin"
    path = tmp_path / "fw.sqlite"
    for _ in range(2):
        done = inprocess.text("read", "--to", "sqlite", "--target", path, log)
        assert (done.returncode, done.stderr) == (0, "")
    lab = databases.SQLiteLab(path)
    once = lab.count("packet") // 2
    assert once > 40
    for arguments, problem in [
        (("-w", tmp_path / "a.db", "--keep-days", "3"), "--keep-days is for a database that grows"),
        (("-w", tmp_path / "a.db", "--target", path), "writes to --target or to -w FILE"),
        ((), "sqlite needs a file"),
    ]:
        done = inprocess.text("read", "--to", "sqlite", *arguments, log)
        assert done.returncode == 2 and problem in done.stderr, done.stderr
    done = inprocess.text("read", "--to", "sqlite", "--target", log, log)
    assert (done.returncode, done.stderr.count("is not a database")) == (1, 1)
    done = inprocess.text("read", "-w", tmp_path / "b.db", log)
    assert databases.SQLiteLab(tmp_path / "b.db").count("packet") == once
    done = inprocess.text("read", "--to", "sqlite", "--target", tmp_path / "b.db", log)
    assert databases.SQLiteLab(tmp_path / "b.db").count("packet") == 2 * once
