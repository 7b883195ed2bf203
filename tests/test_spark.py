"""Spark in local mode reads what one process does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samples

from pylog.record import KINDS

pytest.importorskip("pyspark.sql.datasource")
pytest.importorskip("pyarrow")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java 17", allow_module_level=True)

import parts
import pyarrow as pa
import tables
from pyspark.sql import SparkSession

import pylog
import pylog.spark
from pylog.table import schema

ROOT = Path(__file__).resolve().parents[1]
NFLOG = samples.FIXTURES / "nflog/seq.bin"


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    os.environ["PYSPARK_PYTHON"] = sys.executable  # the workers' Python has to have pylog, too
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC").getOrCreate()
    )  # fmt: skip
    spark.dataSource.register(pylog.spark.DataSource)
    yield spark
    spark.stop()


def rows(frame: Any, kind: str) -> list[dict[str, Any]]:
    """The rows of a frame as those of a table have them, in the order of the records."""
    table = frame.toArrow()
    if kind == "flow":  # decimals, where a table has numbers of 64 bits
        kinds = {name: schema(kind).field(name).type for name in ("packets", "bytes")}
        table = table.cast(
            pa.schema([f.with_type(kinds.get(f.name, f.type)) for f in table.schema])
        )
    found = tables.plain(table)
    for row in found:
        for name in ("timestamp", "observed"):
            row[name] = None if row[name] is None else row[name] * 1000
    return found


@pytest.mark.parametrize(("dump", "kind"), [
    ("nflog/seq.bin", "packet"), ("ipl/damaged.bin", "loss"),
    ("ipl/v5-1-2-lp64le-nat.all.bin", "flow"),
])  # fmt: skip
def test_a_frame_has_the_rows_of_one_process(spark: Any, dump: str, kind: str) -> None:
    path = samples.FIXTURES / dump
    frame = spark.read.format("pylog").option("kind", kind).option("n", 4).load(str(path))
    assert frame.rdd.getNumPartitions() > 1
    assert rows(frame, kind) == parts.whole(path, kind)


def test_a_filter_is_applied_to_every_partition(spark: Any) -> None:
    reader = spark.read.format("pylog").option("n", 4).option("where", "seq in 10..19 or mark & 1")
    found = rows(reader.load(str(NFLOG)), "packet")
    assert found == [row for row in parts.whole(NFLOG, "packet")
                     if row["seq"] in range(10, 20) or (row["mark"] or 0) & 1]  # fmt: skip
    assert found
    with pytest.raises(Exception, match="no field 'sqe'; did you mean seq"):
        spark.read.format("pylog").option("where", "sqe == 1").load(str(NFLOG)).count()


def test_several_paths_are_read_in_their_order(spark: Any, tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.bin"
    gaps.write_bytes(parts.numbered(list(range(0, 900, 3))))
    dumps = tmp_path / "dumps.bin"
    dumps.write_bytes(parts.netlink_with_dumps_inside())
    frame = spark.read.format("pylog").option("n", 9).load([str(gaps), str(dumps)])
    assert rows(frame, "packet") == [
        row | {"origin": str(dump)} for dump in (gaps, dumps) for row in parts.whole(dump, "packet")
    ]


def test_a_schema_says_what_is_read(spark: Any) -> None:
    frame = spark.read.format("pylog").schema("saddr STRING, dport INT").load(str(NFLOG))
    expected = pylog.read_table(NFLOG, columns=["saddr", "dport"])
    assert frame.toArrow().to_pylist() == expected.to_pylist()


def test_its_types_are_those_that_spark_has(spark: Any) -> None:
    frames = {
        kind: spark.read.format("pylog").option("kind", kind).load(str(NFLOG)) for kind in KINDS
    }
    assert {kind: frame.columns for kind, frame in frames.items()} == {
        kind: schema(kind).names for kind in KINDS
    }
    fields = json.loads(frames["loss"].schema.json())["fields"]
    types = {field["name"]: field["type"] for field in fields}
    assert (types["count"], types["seq"]) == ("decimal(20,0)", "long")


def test_the_example_of_the_documentation_prints_what_it_says() -> None:
    page = (ROOT / "docs/analysis.md").read_text()
    (code,) = re.findall(r"^```python\n([^`]*pyspark.*?)^```", page, re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.stdout.splitlines() == re.findall(r"^# prints: (.*)$", code, re.M), done.stderr


def test_what_is_wrong_is_an_error(spark: Any) -> None:
    from pyspark.errors import AnalysisException

    with pytest.raises(AnalysisException, match="No such file"):
        spark.read.format("pylog").load("/nothing/at.all").count()
    with pytest.raises(AnalysisException, match="no kind of record 'all'"):
        spark.read.format("pylog").option("kind", "all").load(str(NFLOG))
