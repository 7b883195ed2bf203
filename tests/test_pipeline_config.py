"""The configuration of pipelines: `pylog check`, and the stages of a stack."""

from __future__ import annotations

import os
from pathlib import Path

import inprocess
import places
import pytest

from pylog.pipeline.config import ConfigError, parsed
from pylog.pipeline.drawing import drawn
from pylog.pipeline.stages import Settings, Stages
from pylog.record import LossRecord
from pylog.testing import packet

GOOD = """
[pylog]
journal = "/var/lib/pylog"
metrics = "127.0.0.1:9470"

[sources.fw]
from = "nflog:5,6"
throughput = true
actions = { 'drop*' = "block" }

[sources.old]
from = "fw.dump"

[[stacks]]
name = "to memory"
from = ["fw", "old"]
where = 'prefix startswith "drop"'
set = { action = "block", extra.site = "oslo" }
drop = ["payload"]
every = 10
rate = "100/s"
dedup = "1s"
to = "memory"
target = { env = "TARGET" }
password = { file = "/etc/pylog/password" }

[[stacks]]
name = "archive"
from = "fw"
to = "json.gz"
target = "/srv/fw"
partition = "day"
rename = { saddr = "src" }
"""

DRAWN = """\
journal /var/lib/pylog, at most 10 GB
metrics at 127.0.0.1:9470

fw: nflog:5,6 [throughput], drop* = block
  ├─ to memory
  │    of fw, old
  │    where prefix startswith "drop"
  │    set action = 'block', extra.site = 'oslo'
  │    drop payload
  │    every 10. record
  │    at most 100 records/s
  │    without repetitions within 1 s
  │    -> memory { env = TARGET } [password = { file = /etc/pylog/password }] (exactly once)
  └─ archive
       -> json.gz data set /srv/fw [rename = {'saddr': 'src'}] (exactly once)
          parts by day, complete after 128 MB or 5 m

old: fw.dump
  └─ to memory, as above"""


def test_a_configuration_is_drawn_without_opening_or_reading_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TARGET", "memory:geheim")
    with places.registered() as targets:
        assert "\n".join(drawn(parsed(GOOD))) == DRAWN
        assert not targets


SOURCE = '[sources.fw]\nfrom = "nflog:5"\n'
STACK = '[[stacks]]\nname = "a"\nfrom = ["fw"]\ntarget = "a.jsonl"\n'


@pytest.mark.parametrize(("text", "problem"), [
    ("", "there is no [[stacks]]"),
    ("[pylog", "Expected ']' at the end of a table declaration (at end of document)"),
    ("[stack]\n" + SOURCE + STACK, "no table [stack]; did you mean stacks?"),
    ("[pylog]\njurnal = 'x'\n" + SOURCE + STACK, "[pylog]: no key jurnal; did you mean journal?"),
    ("[pylog]\ndrain = 'x'\n" + SOURCE + STACK, "[pylog]: drain is not valid: 'x' is no time"),
    ("[pylog]\nmetrics = 9470\n" + SOURCE + STACK, "[pylog]: metrics is 9470, but must be HOST"),
    ("[pylog]\njournal_size = '1M'\n" + SOURCE + STACK, "segment_size is larger"),
    (SOURCE + "throughputt = true\n" + STACK, "[sources.fw]: no key throughputt; did you mean"),
    (SOURCE + "throughput = 'yes'\n" + STACK, "throughput is 'yes', but must be True"),
    (SOURCE + "latency = true\nthroughput = true\n" + STACK, "latency and throughput exclude"),
    ('[sources.fw]\nfrom = "nflog:a"\n' + STACK, "[sources.fw]: nflog:a: 'a' is no group"),
    ("[sources.fw]\n" + STACK, "[sources.fw]: from is missing"),
    ("[sources.fw]\nform = 'nflog:5'\n" + STACK, "[sources.fw]: no key form; did you mean from?"),
    ("[sources]\nfw = 'nflog:5'\n" + STACK, "is 'nflog:5', but must be a table, with from = "),
    (SOURCE.replace("nflog", "nflogg") + STACK, "[sources.fw]: from: no source nflogg; did"),
    ("sources = 5\n" + STACK, "[sources]: must be a table of tables"),
    ("stacks = 5\n" + SOURCE, "[[stacks]]: must be tables with two brackets"),
    (SOURCE + STACK + STACK, "stack 'a': another stack has the same name"),
    (SOURCE + STACK + STACK.replace('"a"', '"b"'), "two stacks write to a.jsonl"),
    (SOURCE + STACK.replace('["fw"]', '["fv"]'), "stack 'a': from: no source fv; there is fw"),
    (SOURCE + STACK.replace('["fw"]', "[]"), "stack 'a': from is [], but must name a source"),
    (SOURCE + STACK + "colums = 'x'", "stack 'a': no key colums; did you mean columns?"),
    (SOURCE + STACK + "columns = 'x'", "stack 'a': no column 'x'"),
    (SOURCE + STACK + "where = 'dport == '", "stack 'a': where: the expression ends, but"),
    (SOURCE + STACK + "where = 'dprt'\nevery = 0", "stack 'a': where: no field 'dprt'; did you"),
    (SOURCE + STACK + "colums = 'x'\nset = { acton = 'x' }", "set: no column acton; did you mean"),
    (SOURCE + STACK + "partition = 'day'", "to is missing: what is to be written into the folder"),
    (SOURCE + STACK + "set = { acton = 'block' }", "set: no column acton; did you mean action?"),
    (SOURCE + STACK + "set = { dport = 'x' }", "set: dport is 'x', but must be a whole number"),
    (SOURCE + STACK + "set = { kind = 'loss' }", "set: kind says what a record is"),
    (SOURCE + STACK + "drop = ['nothing']", "drop: no column nothing"),
    (SOURCE + STACK + "every = 0", "every is 0, but must be a whole number above 0"),
    (SOURCE + STACK + "rate = '100'", "rate is not valid: '100' is no rate"),
    (SOURCE + STACK + "rename = { saddr = 'daddr' }", "rename gives daddr to two columns"),
    (SOURCE + STACK + "start = '2026-11-01'", "there is no journal"),
    ("[pylog]\njournal='x'\n" + SOURCE + STACK + "start = 'nov'", "start is 'nov', but must be"),
    (SOURCE + STACK + "partition = 'week'", "partition is 'week', but must be one of day, hour"),
    (SOURCE + STACK.replace("a.jsonl", "a.parquet"), "complete when it is closed"),
    (SOURCE + STACK.replace("a.jsonl", "a.xz"), ".xz is not written"),
    (SOURCE + STACK + "to = 'jsn'", "no output 'jsn'; did you mean json?"),
    (SOURCE + STACK + "to = 'memory'", "target: 'a.jsonl' does not begin with memory:"),
    (SOURCE + STACK.replace("a.jsonl", "memory:a") + "to = 'memory'\nrotate_size = '1M'",
     "rotate_size is of files"),
    (SOURCE + STACK.replace("a.jsonl", "memory:a") + "to = 'memory'\npassword = 'geheim'",
     'password is secret: name its place, as { file = "/etc/pylog/password" }'),
    (SOURCE + STACK.replace("a.jsonl", "memory://me:geheim@host/") + "to = 'memory'",
     "has a password in it"),
])  # fmt: skip
def test_an_error_names_the_table_the_key_and_what_was_meant(text: str, problem: str) -> None:
    with places.registered(), pytest.raises(ConfigError) as caught:
        parsed(text, "fw.toml")
    assert all(line.startswith("fw.toml: ") for line in caught.value.problems)
    assert problem in str(caught.value), caught.value
    assert "geheim" not in str(caught.value)


def test_check_reports_all_errors_and_draws(tmp_path: Path) -> None:
    path = tmp_path / "fw.toml"
    path.write_text(SOURCE + STACK + "x = 1\ny = 2\n")
    done = inprocess.text("check", path)
    assert done.returncode == 2 and done.stderr.count("no key") == 2 and not done.stdout
    path.write_text(SOURCE + STACK)
    done = inprocess.text("check", path)
    assert done.returncode == 0 and "fw: nflog:5\n  └─ a\n" in done.stdout, done.stderr
    assert not inprocess.text("check", "-q", path).stdout
    done = inprocess.text("check", tmp_path / "none.toml")
    assert done.returncode == 1 and "No such file" in done.stderr
    assert os.listdir(tmp_path) == ["fw.toml"]


def test_stages_change_and_leave_out_records_and_never_losses() -> None:
    loss = LossRecord("nflog", "nfulnl-le", count=3)
    second = 10**9
    records = [packet(sport=n, timestamp_ns=n * second // 4) for n in range(1, 9)]
    stages = Stages(Settings(where="sport > 2", set={"action": "block", "extra.site": "oslo"},
                             drop=["payload", "extra.nfgen_family"], every=2))  # fmt: skip
    passed = stages.apply([loss, *records])
    assert passed[0] is loss and stages.left_out == {"where": 2, "every": 3}
    read = [(r.sport, r.action, r.payload, r.extra) for r in passed[1:]]  # type: ignore[union-attr]
    assert read == [(n, "block", None, {"site": "oslo"}) for n in (3, 5, 7)]
    rated = Stages(Settings(rate=1.0)).apply([loss, *records])
    assert [getattr(r, "sport", None) for r in rated] == [None, 1, 5]
    same = [packet(timestamp_ns=second * n // 2, seq=n) for n in range(6)]
    single = Stages(Settings(dedup=1.0)).apply([*same, loss, packet(dport=81), loss])
    assert [getattr(r, "seq", "loss") for r in single] == [0, 2, 4, None, None, None]
    back = Stages(Settings(dedup=1.0)).apply([same[4], same[0]])  # the clock was set
    assert len(back) == 2
