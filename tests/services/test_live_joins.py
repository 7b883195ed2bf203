"""`pylog run` on the running kernel: packets get their rule and flow, also after a restart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM
from typing import Any

import netlab
import pytest
from netlab import until

REASON = netlab.missing("nft", "conntrack")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

HERE = "127.0.0.1"
RULES = """table inet t {
  chain c { type filter hook input priority 0;
    ct state new udp dport 9 log prefix "new " group 5
    udp dport 10 log prefix "in " group 5 drop
    udp dport 11 log prefix "other " group 5 drop
  }
}
"""
CONFIGURATION = """
[pylog]
journal = "{0}/j"

[sources.fw]
from = "nflog:5"
qthresh = 1

[sources.rules]
from = "nftables:"

[sources.flows]
from = "nfct:"

[[stacks]]
name = "packets"
from = ["fw", "rules", "flows"]
rules = true
with_flows = true
where = 'kind == packet'
target = "{0}/packets.jsonl"

[[stacks]]
name = "flows"
from = "flows"
flows = true
where = 'kind == flow and dport == 9'
target = "{0}/flows.jsonl"
"""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def deliver(alone: netlab.Namespace, config: Path, count: int) -> None:
    """Run pylog while packets come, until `count` runs of them are delivered."""
    folder = config.parent
    with open(folder / "messages", "ab") as messages:
        process: subprocess.Popen[bytes] = alone.start(
            sys.executable, "-P", "-m", "pylog", "run", str(config), stderr=messages
        )
    until((folder / "j" / "pylog.sock").exists, "pylog run has begun", 60)
    for port in (9, 10, 11):
        alone.sender(HERE, port, count=3, rate=100).wait(30)
    until(lambda: len(rows(folder / "packets.jsonl")) == 9 * count, "packets", 30)
    alone.run("conntrack", "-D", "-p", "udp", "--dport", "9")
    until(lambda: len(rows(folder / "flows.jsonl")) == count, "the ends of flows", 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (folder / "messages").read_text()


def test_packets_have_their_rule_and_flow_and_flows_are_one_record(tmp_path: Path) -> None:
    config = tmp_path / "fw.toml"
    config.write_text(CONFIGURATION.format(tmp_path))
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        alone.socket(AF_INET, SOCK_DGRAM).bind((HERE, 9))
        for count in (1, 2):
            deliver(alone, config, count)
    for row in rows(tmp_path / "packets.jsonl"):
        assert f'log prefix "{row["prefix"]}" group 5' in row["rule_text"], row
        if row["dport"] == 9:
            assert row["rule_chain"] == "c" and row["flow_direction"] == "original", row
            assert isinstance(row["flow_id"], int), row
    for flow in rows(tmp_path / "flows.jsonl"):
        assert (flow["event"], flow["end_reason"]) == ("end", "removed") and "start" in flow
