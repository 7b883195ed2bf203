"""`pylog run` on the running kernel: killed at random moments, it loses and doubles nothing.

The truth is what reached the journal, as `pylog read` reads it. PYLOG_CHAOS is how often pylog is
killed: never unless it is set, because each start takes a second; 200 times by `tox -e chaos`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import effort
import inprocess
import netlab
import pytest
from netlab import until

from pylog.pipeline.reporting import asked

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

HERE, PORT = "127.0.0.1", 9
KILLS = int(os.environ.get("PYLOG_CHAOS", "0"))
RATE = 3000
RULES = """table inet t {
  chain c { type filter hook input priority 0; udp dport 9 log prefix "drop " group 5 drop; }
}
"""
CONFIGURATION = """
[pylog]
journal = "{0}/j"
segment_size = "1M"
drain = "60s"

[sources.fw]
from = "nflog:5"
qthresh = 20

[[stacks]]
name = "file"
from = ["fw"]
target = "{0}/f.jsonl"
"""
PARTS = """
[[stacks]]
name = "parts"
from = ["fw"]
where = 'prefix startswith "drop"'
to = "json"
target = "{0}/parts"
partition = "hour"
rotate_time = "0.7s"
"""


def run(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "pylog", *map(str, arguments)]


def packets(paths: Iterable[Path]) -> tuple[Counter[tuple[str, int]], list[str]]:
    """How often each packet is in files of JSON lines, and why others are missing."""
    read: Counter[tuple[str, int]] = Counter()
    losses = []
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["kind"] == "packet":
                read[row["observed"], row["seq"]] += 1
            elif "count" not in row:
                losses.append(row["reason"])
    return read, losses


def kill_something(process: subprocess.Popen[bytes], choice: int) -> None:
    """Kill pylog run; half of the times one of its stacks first."""
    if choice % 2:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            os.kill(int(children[choice % len(children)]), signal.SIGKILL)
    process.kill()
    process.wait(30)


def test_what_reached_the_journal_is_delivered_whatever_is_killed(tmp_path: Path) -> None:
    random = effort.chance("chaos")
    config, socket = tmp_path / "fw.toml", tmp_path / "j" / "pylog.sock"
    stacks = CONFIGURATION + PARTS if KILLS else CONFIGURATION
    config.write_text(stacks.format(tmp_path))
    with netlab.Namespace() as alone, open(tmp_path / "messages", "ab") as messages:
        alone.nft(RULES)
        for number in range(KILLS + 1):
            process = alone.start(*run("run", config), stderr=messages)
            until(socket.exists, "pylog run has begun", 60)
            if number % 20 == 0:
                sender = alone.sender(HERE, PORT, count=0, rate=RATE)
            if number < KILLS:
                time.sleep(random.random() * 3)
                kill_something(process, random.randrange(1000))
                socket.unlink()
        written = sum(path.stat().st_size for path in tmp_path.rglob("*.pcapng"))
        until(lambda: sum(p.stat().st_size for p in tmp_path.rglob("*.pcapng")) > written + 20_000,
              "packets", 30)  # fmt: skip
        until((tmp_path / "f.jsonl").exists, "the first records", 30)
        (tmp_path / "f.jsonl").rename(tmp_path / "f1.jsonl")
        process.send_signal(signal.SIGHUP)
        until((tmp_path / "f.jsonl").exists, "the file is opened again", 30)
        sender.kill()
        assert asked(str(socket))["healthy"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, (tmp_path / "messages").read_text()
    truth_file = tmp_path / "truth.jsonl"
    done = inprocess.text("read", "--to", "json", "-w", truth_file, tmp_path / "j/journal")
    assert done.returncode == 0, done.stderr
    truth, gaps = packets([truth_file])
    assert len(truth) > 100 and set(truth.values()) == {1}
    assert len([gap for gap in gaps if gap.startswith("pylog did not run from")]) == KILLS
    lines, _ = packets([tmp_path / "f.jsonl", tmp_path / "f1.jsonl"])
    assert not truth - lines and set(lines) == set(truth)  # at least once
    if KILLS:
        parts, part_gaps = packets((tmp_path / "parts").rglob("[!.]*.jsonl"))
        assert parts == truth  # exactly once
        assert sorted(part_gaps) == sorted(gaps)
        assert not list((tmp_path / "parts").rglob("*.part"))
    else:
        assert lines == truth
