"""`pylog run` on the running kernel, while faketime sets its wall clock a year ahead and back."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import netlab
import pytest
from netlab import until

from pylog.pipeline.reporting import asked

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
REASON = netlab.missing("nft") or ("" if FAKETIME else "needs faketime")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

PORT = 9
CONFIGURATION = """
[pylog]
journal = "{0}/j"
journal_age = "1h"
segment_size = "1k"

[sources.fw]
from = "nflog:5"

[[stacks]]
name = "file"
from = ["fw"]
rate = "1000/s"
target = "{0}/f.jsonl"
rotate_time = "1h"

[[stacks]]
name = "days"
from = ["fw"]
to = "json"
target = "{0}/days"
partition = "day"
rotate_time = "1s"
"""


def test_each_packet_is_delivered_once_whatever_the_clock_does(tmp_path: Path) -> None:
    config, clock = tmp_path / "fw.toml", tmp_path / "clock"
    config.write_text(CONFIGURATION.format(tmp_path))
    clock.write_text("+0")
    environment = {**os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME_NO_CACHE": "1",
                   "FAKETIME_TIMESTAMP_FILE": str(clock),
                   "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    status = str(tmp_path / "j/pylog.sock")

    def are_written(count: int) -> bool:
        lines = [path.read_bytes().splitlines() for path in tmp_path.glob("f*.jsonl")]
        return sum(map(len, lines)) == count

    with netlab.Namespace() as alone, open(tmp_path / "messages", "wb") as messages:
        alone.log_udp(PORT, 5)
        process = alone.start(sys.executable, "-P", "-m", "pylog", "run", str(config),
                              stderr=messages, env=environment)  # fmt: skip
        began = Path(status).exists
        until(lambda: began() or process.poll() is not None, "pylog run has begun", 60)
        assert began(), (tmp_path / "messages").read_text()
        ports = []
        for jump in ("+0", "+365d", "-365d", "+0"):
            clock.write_text(jump)
            ports += [alone.udp("127.0.0.1", PORT, b"x" * 200) for _ in range(5)]
            until(partial(are_written, len(ports)), "records", 60)
        shown = asked(status)
        assert shown["healthy"] and shown["journal"]["removed"] == 0
        assert all(stack["lag_s"] < 60 for stack in shown["stacks"]), shown
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "messages").read_text()
    files = {"file": list(tmp_path.glob("f*.jsonl")),
             "days": list(tmp_path.glob("days/*/[!.]*.jsonl"))}  # fmt: skip
    for name, paths in files.items():
        rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        sent = Counter(row.get("sport", row["kind"]) for row in rows)
        assert sent == Counter(ports), name  # and no loss
        assert len({row["observed"][:4] for row in rows}) == 3  # the clock was set indeed
    assert len(files["file"]) == 1  # no rotation for a jump
