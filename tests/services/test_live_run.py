"""`pylog run` on the running kernel: what reached the journal, as `pylog read` reads it, is what an
output has. What happens when it is killed is in test_chaos.py.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import inprocess
import netlab
import pytest
from netlab import until

from pylog.pipeline.reporting import asked

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

HERE, PORT = "127.0.0.1", 9
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


def run(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "pylog", *map(str, arguments)]


def packets(paths: Iterable[Path]) -> Counter[tuple[str, int]]:
    """How often each packet is in files of JSON lines."""
    read: Counter[tuple[str, int]] = Counter()
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            assert row["kind"] == "packet"
            read[row["observed"], row["seq"]] += 1
    return read


def test_what_reached_the_journal_is_delivered(tmp_path: Path) -> None:
    config, socket = tmp_path / "fw.toml", tmp_path / "j" / "pylog.sock"
    config.write_text(CONFIGURATION.format(tmp_path))
    with netlab.Namespace() as alone, open(tmp_path / "messages", "ab") as messages:
        alone.nft(RULES)
        process = alone.start(*run("run", config), stderr=messages)
        until(socket.exists, "pylog run has begun", 60)
        sender = alone.sender(HERE, PORT, count=0, rate=RATE)
        until(lambda: sum(p.stat().st_size for p in tmp_path.rglob("*.pcapng")) > 20_000, "packets",
              30)  # fmt: skip
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
    truth = packets([truth_file])
    assert len(truth) > 100 and set(truth.values()) == {1}
    assert packets([tmp_path / "f.jsonl", tmp_path / "f1.jsonl"]) == truth
