"""What databases hold is what records say: every field, hostile texts, columns, older tables."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import databases
import effort
import inprocess
import msgspec
import pytest
import samples

import pylog
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.outputs import _sql_tables
from pylog.record import Record, json_ready, kinds, rfc3339, to_json
from pylog.table.rows import unnamed
from pylog.testing import packet

EVERY_KIND = ["nft/mixed.bin", "ipl/v5-1-2-lp64le-nat.all.bin", "nflog/overrun.bin"]


def as_json(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table as the JSON of its record."""
    types = _sql_tables.types(kind)
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in types and value is not None:
            found[name] = json_ready(_value(types[name], value))
    for name in types:
        if row.get(f"{name}_ns") is not None and types[name] == "time":
            found[name] = rfc3339(row[f"{name}_ns"])
    extra = found.get("extra", {})
    for name in [name for name in extra if name in types and name not in found]:
        found[name] = extra.pop(name)
    if not extra:
        found.pop("extra", None)
    return found


def _value(type_: str, value: Any) -> Any:
    if type_ == "name":
        return unnamed(value)
    if type_ == "address":
        return str(ipaddress.ip_address(str(value).partition("/")[0]))
    if type_ == "time":
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        return value
    if type_ in ("octets", "packed"):
        return bytes(value).hex()
    if type_ == "bool":
        return bool(value)
    if type_ in ("json", "fragment", "vlan", "counters"):
        held = json.loads(value) if isinstance(value, str) else value
        return _without_defaults(type_, held)
    return int(value) if isinstance(value, Decimal) or type_ == "u64" else value


def _without_defaults(type_: str, value: Any) -> Any:
    """A structure without the values that JSON leaves out."""
    if type_ == "vlan":
        return [
            {n: v for n, v in tag.items() if v or (v == 0 and n in ("id", "protocol"))}
            for tag in value
        ]
    if type_ == "fragment":
        return {n: v for n, v in value.items() if v is not None and v is not False}
    return value


def expected(record: Record) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(to_json(record))
    del made["kind"]
    for name in made.keys() & {"saddr", "daddr", "nat_saddr", "nat_daddr"}:
        made[name] = str(ipaddress.ip_address(made[name]))  # as Python writes it
    return made


def check(lab: databases.Lab, records: list[Record], **options: Any) -> None:
    """Write records, and compare the rows with their JSON."""
    refused = lab.records(records, **options)
    assert refused == []
    for kind in kinds():
        same = sorted((expected(r) for r in records if r.kind == kind), key=_text)
        rows = sorted((as_json(kind, row) for row in lab.rows(kind)), key=_text)
        assert len(rows) == len(same)
        for row, record in zip(rows, same, strict=True):
            assert row == record


def _text(row: dict[str, Any]) -> str:
    """What rows are sorted by: a database keeps no order."""
    return json.dumps(row, sort_keys=True)


def fixtures() -> list[Path]:
    every = [samples.FIXTURES / name for name in EVERY_KIND]
    others = [dump for dump in samples.dumps() if dump not in every]
    return every + effort.sample(others, 6)


def test_every_field_is_there(lab: databases.Lab) -> None:
    records: list[Record] = []
    for dump in fixtures():
        with pylog.open(dump) as reader:
            records += itertools.islice(reader, effort.number(1500))
    options = {} if lab.name == "sqlite" else {"nanoseconds": True}
    check(lab, records, **options)


HOSTILE = [
    "", "\\", "\\N", "\\.", "\\x00", "a\tb", "a\nb\r\n", "'", "''", "\\'", '"', "%s", "$1", "NULL",
    "#7", "##", "1'); DROP TABLE packet; --", "\u00e4\u20ac\U0001f525", "\u202e", "\x1b[31m",
    "x" * 70_000,
]  # fmt: skip


def hostile() -> list[Record]:
    """Packets, flows and losses with values at the ends of what their columns can hold."""
    made: list[Record] = [packet(prefix=text, indev=text, extra={text: text}) for text in HOSTILE]
    made += [packet(indev=5, hook=7, family=0x88A8, saddr=None, daddr=None, payload=b"")]
    made += [packet(payload=bytes(range(256)) * n) for n in (1, 250)]
    made += [packet(timestamp_ns=time_ns) for time_ns in (0, 1, -1, -999, 10**18 + 999, 2**63 - 1)]
    made += [packet(saddr="2001:db8::1", daddr="::ffff:192.0.2.1"), packet(saddr="::", daddr="::1")]
    made += [
        packet(mark=2**32 - 1, protocol=255, icmp_type=255, hwtype=65535, rule=-(2**63),
               length=2**63 - 1, short=True, extra={"big": 2**60, "deep": [[{"a": None}]]}),
        pylog.LossRecord("nflog", "nfulnl-le", count=2**64 - 1, seq=2**32 - 1, size=2**63 - 1),
        pylog.FlowRecord("ipl", "x", packets={"in": 2**64 - 1, "out": 0}, bytes={}),
    ]  # fmt: skip
    return made


def test_hostile_values_are_there(lab: databases.Lab) -> None:
    check(lab, hostile(), **({} if lab.name == "sqlite" else {"nanoseconds": True}))


def test_the_time_of_a_row_is_the_best_there_is(lab: databases.Lab) -> None:
    """In microseconds, cut off; in SQLite it is text."""
    before = datetime.now(UTC)
    lab.records([
        packet(timestamp_ns=1_700_000_000_123_456_999, observed_ns=5),
        packet(timestamp_ns=None, observed_ns=-1), packet(timestamp_ns=None, observed_ns=None),
    ])  # fmt: skip
    times = [str(row["time"]).replace("T", " ") for row in lab.rows("packet")]
    first, second = "2023-11-14 22:13:20.123456", "1969-12-31 23:59:59.999999"
    assert (times[0][:26], times[1][:26]) == (first, second)
    written = datetime.fromisoformat(times[2].replace("Z", "").partition("+")[0] + "+00:00")
    assert (written - before).total_seconds() < 60


@pytest.mark.parametrize("lab", effort.sample(["postgresql", "mysql", "sqlite"], 1), indirect=True)
@pytest.mark.parametrize(
    "dump",
    effort.sample(["nflog/seq.bin", "nflog/conntrack.bin", "ipl/v5-1-2-lp64le-nat.all.bin"], 1),
)
def test_read_writes_the_same_in_columns_and_in_records(lab: databases.Lab, dump: str) -> None:
    log = samples.FIXTURES / dump
    done = inprocess.text("read", "--to", lab.name, "--target", lab.address, log)
    assert (done.returncode, done.stderr) == (0, "")
    in_columns = _sorted(lab)
    for kind in kinds():
        lab.query(f"DELETE FROM {lab.quoted(kind)}")
    with pylog.open(log) as reader:
        assert lab.records(list(reader)) == []
    assert _sorted(lab) == in_columns
    assert sum(map(len, in_columns.values())) > 4


def _sorted(lab: databases.Lab) -> dict[str, list[dict[str, Any]]]:
    """All rows in the order of the log, without the times when they were written."""
    found = {kind: sorted(lab.rows(kind), key=lambda row: row["offset"]) for kind in kinds()}
    for row in [row for rows in found.values() for row in rows]:
        if row["timestamp"] is None and row["observed"] is None:
            del row["time"]
    return found


def test_columns_are_chosen_and_requested(lab: databases.Lab) -> None:
    options = {"kind": "packet", "columns": "dport,saddr,saddr_bytes,ttl", "indexes": "saddr"}
    assert lab.records([packet(saddr="192.0.2.7"), *hostile()[-2:]], **options) == []
    (row,) = lab.rows("packet")
    assert list(row) == ["dport", "saddr", "saddr_bytes", "ttl", "time"]
    mapped = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])
    assert (row["dport"], bytes(row["saddr_bytes"]), row["ttl"]) == (80, mapped, 64)


def test_older_tables_get_the_columns_that_they_lack(lab: databases.Lab) -> None:
    lab.records([packet(dport=22)], kind="packet", columns="dport,prefix")
    table = lab.quoted("packet")
    lab.query(f"ALTER TABLE {table} ADD COLUMN note text")
    lab.records([packet(dport=23, prefix="new")])
    lab.query(f"UPDATE {table} SET note = 'of the user' WHERE dport = 22")
    lab.records([packet(dport=24)], kind="packet", columns="saddr,dport")
    rows = {row["dport"]: row for row in lab.rows("packet")}
    assert [(p, row["note"], row["sport"]) for p, row in sorted(rows.items())] == [
        (22, "of the user", None), (23, None, 40000), (24, None, None),
    ]  # fmt: skip
    assert lab.count("flow") == 0 and str(rows[24]["saddr"]) == "192.0.2.1"


def test_tables_of_a_newer_pylog_are_left_alone(lab: databases.Lab) -> None:
    lab.records([packet()])
    lab.query(f"INSERT INTO {lab.quoted('pylog_version')} (version) VALUES (2)")
    with pytest.raises(BackendError, match=r"are of version 2, but this pylog writes version 1"):
        lab.open()


def test_records_become_batches_of_columns_and_back() -> None:
    """What is refused among columns is reported as a record."""
    records = [packet(dport=n) for n in range(5)]
    tables = _sql_tables.tables(kind="packet", columns="dport")
    columns = Batch(records).columns("packet", tables["packet"].read)
    assert columns.schema.names == ["dport", "source", "layout", "timestamp", "observed"]


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "postgresql.md").read_text()


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_queries_of_the_page_print_what_it_shows(postgresql: databases.PostgreSQLLab) -> None:
    (command,) = re.findall(r"^pylog (read --to postgresql .*)", PAGE, re.M)
    words = command.replace("postgresql:///fw", "TARGET").replace("fixtures", str(samples.FIXTURES))
    done = inprocess.text(*(postgresql.address if w == "TARGET" else w for w in words.split()))
    assert (done.returncode, done.stderr) == (0, "")
    queries = re.findall(r"^```sql\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?", PAGE, re.M | re.S)
    assert len(queries) == 6
    run = subprocess.run(
        ["psql", "-X", "-q", "-P", "footer=off", "-v", "ON_ERROR_STOP=1", postgresql.address],
        input="".join(query for query, _ in queries).replace("writer", f"w{os.getpid()}"),
        capture_output=True, text=True, timeout=60, env={**os.environ, "PGTZ": "UTC"},
    )  # fmt: skip
    assert run.stderr == ""
    printed = [line.rstrip() for line in run.stdout.splitlines() if line]
    assert printed == [line for _, shown in queries for line in shown.splitlines()]
