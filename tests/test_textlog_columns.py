"""Text logs in columns: the same tables as of the records, whatever the lines are."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path
from typing import Any

import effort
import inprocess
import oracles
import pytest

pytest.importorskip("pyarrow")

import pylog
from pylog import engine
from pylog.formats.columns.textlog import TextColumns, TextRows
from pylog.formats.textlog_shapes import DIGITS, shape_of
from pylog.table.schemas import on_request, schema

LINES = "text/lines.tar.xz"
TEXTS = [text for name, text in oracles.members(LINES).items() if name.endswith(".txt")]
EVERY = [line for text in TEXTS for line in text.split(b"\n")]
CUT = [line.partition(b" SRC=")[::2] for line in EVERY if b" SRC=" in line]
HEADS = [head for head, _ in CUT]
REGULAR = [text for _, text in CUT if shape_of(text.translate(None, DIGITS))]
COLUMNS = [*schema("packet").names, *on_request("packet")]
TIMES: list[dict[str, Any]] = [{}, {"log_tz": "UTC"}, {"log_tz": "Europe/Oslo", "year": 2024}]
NUMBERS = (b"0", b"1", b"007", b"255", b"256", b"65535", b"65536", b"99999999", b"100000000",
           b"4294967295", b"4294967296", b"10000000000", b"123456789012")  # fmt: skip


class Counted:
    """Counts the lines that are read by columns."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.regular = 0
        read = TextColumns.read

        def counting(reader: TextColumns, data: bytes, pos: int, stop: int) -> TextRows | None:
            rows = read(reader, data, pos, stop)
            if rows is not None:
                self.regular += len(rows.starts) - len(rows.irregular)
            return rows

        patch.setattr(TextColumns, "read", counting)


def tables(data: bytes, **options: Any) -> list[dict[str, list[dict[str, Any]]]]:
    """The rows of all kinds, by columns and by records."""
    found = []
    for by_columns in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not by_columns:
                patch.setattr(TextColumns, "read", lambda *_: None)
            found.append({
                kind: pylog.read_table(
                    io.BytesIO(data), kind=kind, layout="text",
                    columns=COLUMNS if kind == "packet" else None, **options,
                ).to_pylist()
                for kind in ("packet", "flow", "loss")
            })  # fmt: skip
    return found


def mixed(rng: random.Random) -> bytes:
    """Regular lines of a few forms, and lines that are changed, cut, repeated, or of others."""
    heads, texts = rng.sample(HEADS, 2), rng.sample(REGULAR, 3)
    often = rng.choice((1, 4, 20))
    lines = []
    for _ in range(rng.choice((40, 150))):
        head, text = rng.choice(heads), rng.choice(texts)
        line = head + b" SRC=" + text
        at, kind = rng.randrange(len(line) + 1), rng.randrange(6 * often)
        if kind == 0:
            octet = bytes([rng.choice(b"0123456789abcdef.: =\r\nX\xff")])
            line = line[:at] + octet + line[at + rng.randrange(2) :]
        elif kind == 1:
            line = rng.choice(EVERY)
        elif kind == 2:
            start = re.match(rb"(?:\S+ ){0,4}", head)
            line = (start[0] if start else b"") + b"last message repeated 3 times"
        elif kind == 3:
            line = line[:at]
        elif kind == 4:
            line = head + b" SRC=" + re.sub(rb"(?<==)\d+", lambda _: rng.choice(NUMBERS), text)
        elif kind == 5:
            octets = b".".join(rng.choice(NUMBERS[:6]) for _ in range(rng.choice((3, 4, 4, 4, 5))))
            line = head + b" SRC=" + octets + text[text.find(b" ") :]
        lines.append(line)
    return b"\n".join(lines) + rng.choice((b"", b"\n"))


@pytest.mark.parametrize("seed", effort.sample(range(160), least=8))
def test_columns_are_those_of_the_records(seed: int) -> None:
    rng = random.Random(seed)
    data = mixed(rng)
    by_columns, by_records = tables(data, **rng.choice(TIMES))
    assert by_columns == by_records


LOG = (
    "IN=eth0 OUT= MAC=02:50:01:00:00:01:02:50:01:00:00:02:08:00 SRC=192.0.2.{n} DST=198.51.100.1"
    " LEN=60 TOS=0x00 PREC=0xC0 TTL=64 ID={n} DF PROTO=TCP SPT=4000 DPT=22 SEQ=4294967295 ACK=0"
    " WINDOW=64240 RES=0x00 SYN URGP=0 UID=0 GID=1000 MARK=0x{n:x} "
)


def lines(count: int = 100, stamp: str = "Nov 28 20:57:17 fw kernel: ") -> list[str]:
    return [f"{stamp}{LOG.format(n=n)}\n" for n in range(count)]


def test_regular_lines_are_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    six = LOG.replace("192.0.2.{n}", "2001:0db8:0000:0000:0000:0000:0000:00{n:02x}").replace(
        "198.51.100.1", "fe80:0000:0000:0000:0000:0000:0000:0001"
    ).replace("TOS=0x00 PREC=0xC0 TTL=64 ID={n} DF ", "TC=0 HOPLIMIT=64 FLOWLBL=7 ")  # fmt: skip
    text = "".join(lines()) + "".join(f"[  6538.552255] {six.format(n=n)}\n" for n in range(100))
    table = pylog.read_table(io.BytesIO(text.encode()), layout="text", columns=COLUMNS)
    assert table.num_rows == 200 and counted.regular >= 190
    row = table.to_pylist()[150]
    assert (row["saddr"], row["mark"], row["tcp_seq"]) == ("2001:db8::32", 50, 2**32 - 1)


def test_a_line_that_is_repeated_counts_for_the_line_before_it() -> None:
    every = lines()
    every.insert(51, "Nov 28 20:57:18 fw last message repeated 5 times\n")
    every.append("Nov 28 20:57:18 fw last message repeated 2 times\n")
    by_columns, by_records = tables("".join(every).encode())
    assert by_columns == by_records
    counts = [row["count"] for row in by_columns["packet"]]
    assert counts[50] == 6 and counts[-1] == 3 and counts.count(None) == 98


def test_a_loss_between_regular_lines_is_in_its_table() -> None:
    every = lines()
    every.insert(50, ["14/11/2023", "22:14:21.123457", "missed 3 ipf log entries: 1 4\n"][2])
    by_columns, by_records = tables("".join(every).encode())
    assert by_columns == by_records
    assert [row["count"] for row in by_columns["loss"]] == [3]


def test_years_of_columns_are_those_of_the_records() -> None:
    every = [line for month in ("Nov", "Dec", "Jan", "Dec", "Jan", "Mar") for line in
             lines(60, f"{month} 05 12:00:00 fw kernel: ")]  # fmt: skip
    every[70] = every[70].replace("DF", "MF")
    by_columns, by_records = tables("".join(every).encode(), log_tz="UTC", year=2025)
    assert by_columns == by_records
    assert {row["timestamp"].year for row in by_columns["packet"]} == {2025, 2026}


def test_lines_name_the_host_and_the_file_is_the_origin(tmp_path: Any) -> None:
    path = tmp_path / "fw.log"
    path.write_text("".join(lines()))
    table = pylog.read_table(path, layout="text", origin=True, columns=["host", "origin"])
    assert set(table["host"].to_pylist()) == {"fw"}
    assert set(table["origin"].to_pylist()) == {str(path)}


def test_a_header_field_that_is_too_large_is_left_out() -> None:
    line = LOG.format(n=1).replace("TTL=64", "TTL=700").replace("WINDOW=64240", "WINDOW=99999")
    (row,) = pylog.read_table(
        io.BytesIO(f"{line}\n".encode()), columns=["ttl", "tcp_window", "ip_id"]
    ).to_pylist()
    assert row == {"ttl": None, "tcp_window": None, "ip_id": 1}


@pytest.mark.parametrize("to", ["json", "csv", "text"])
@pytest.mark.parametrize("times", [(), ("--log-tz", "UTC", "--year", "2026")])
def test_lines_of_columns_are_those_of_the_records(
    to: str, times: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"{to}{times}")
    stamps = ("Nov 28 20:57:17 fw kernel: ", "Nov  8 20:{n:02}:{n:02} fw kernel: PF ",
              "[{n:5}.{n:06}] drop ", "2026-11-28T20:57:17.{n:06}+01:00 fw kernel: ")  # fmt: skip
    path = tmp_path / "fw.log"
    every = [f"{rng.choice(stamps).format(n=n % 60)}{LOG.format(n=n % 200)}\n" for n in range(300)]
    path.write_bytes("".join(every).encode() + mixed(rng))
    found = []
    for least in (0, 1 << 60):
        monkeypatch.setattr(engine, "OF_FILE", least)
        words = ("read", str(path), "--layout", "text", "--to", to, *times, "-v")
        done = inprocess.run(*words)
        assert (b"decoded by columns" in done.stderr) == (least == 0)
        found.append(done.stdout)
    assert found[0] == found[1] and found[0].count(b"\n") > 300
