"""The example configuration of a laboratory runs into PostgreSQL."""

from __future__ import annotations

import re
from pathlib import Path

import databases
import pipelines
import pytest
from pipelines import until

from pylog.testing import Nflog, packet

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("lab", ["postgresql"], indirect=True)
def test_the_laboratory(lab: databases.Lab, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "examples" / "lab.toml").read_text()
    text = re.sub(r"(password|keep_days) = .*\n", "", text)  # the records are old
    text = text.replace("/var/lib/pylog", f"{tmp_path}/j")
    text = text.replace("postgresql://pylog@db.lab.example/fw", lab.address)
    text = text.replace('"nfct:"', f'"{ROOT}/fixtures/nfct/kinds.bin"')
    with Nflog() as kernel, pipelines.running(text, kernel) as (run, end):
        until(lambda: kernel.groups())
        for number in range(5):
            kernel.log(packet(sport=number, saddr="127.0.0.1" if number == 3 else "192.0.2.1"))
        until(lambda: len(run.stacks) == 2 and run.stacks["packets"].counts.written == 4)
        until(lambda: run.stacks["connections"].counts.state == "ended")
        assert end() == 0
    assert [row["sport"] for row in lab.rows("packet")] == [0, 1, 2, 4]
    flows = lab.rows("flow")
    assert flows and {row["event"] for row in flows} >= {"end"}
    assert lab.count("pylog_position") == 2
