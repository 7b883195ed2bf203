"""The example configurations of the docs run: with doubles for the kernel, and a peer for the SIEM.

That of the laboratory, which needs PostgreSQL, is in tests/services.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import inprocess
import pipelines
import pytest
import syslogs
from pipelines import lines, until

from pylog.pipeline import stack as stack_module
from pylog.testing import Nflog, packet

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "IDLE_COMMIT_S", 0.02)


@pytest.fixture
def kernel() -> Iterator[Nflog]:
    with Nflog() as kernel:
        yield kernel


def example(name: str, folder: Path, **other: str) -> str:
    """A configuration whose paths are in a folder, and with other texts for some."""
    text = (EXAMPLES / f"{name}.toml").read_text()
    places = {"/var/lib/pylog": f"{folder}/j", "/var/log": str(folder), "/srv": str(folder)}
    for old, new in {**places, **other}.items():
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_is_a_valid_configuration_that_a_page_shows(path: Path) -> None:
    done = inprocess.text("check", path)
    assert done.returncode == 0 and "journal /var/lib/pylog" in done.stdout, done.stderr
    shown = f"```{{literalinclude}} examples/{path.name}"
    assert any(shown in page.read_text() for page in (ROOT / "docs").glob("*.md"))


def test_the_home_router(tmp_path: Path, kernel: Nflog) -> None:
    with pipelines.running(example("home-router", tmp_path), kernel) as (_, end):
        until(lambda: kernel.groups())
        for port in (22, 22, 80, 22):
            kernel.log(packet(dport=port, prefix="drop in "))
        until(lambda: len(lines(tmp_path / "pylog/attempts.log")) == 1)
        assert end() == 0
    (part,) = (tmp_path / "pylog/dropped").rglob("date=2023-11-14/*.jsonl.gz")
    rows = [json.loads(row) for row in gzip.decompress(part.read_bytes()).splitlines()]
    assert [row["dport"] for row in rows] == [22, 22, 80, 22]
    assert b" block in eth0 tcp " in lines(tmp_path / "pylog/attempts.log")[0]


@pytest.mark.skipif(syslogs.program("openssl") is None, reason="needs openssl")
def test_the_firewall_of_a_company(tmp_path: Path, kernel: Nflog) -> None:
    certificates = syslogs.Certificates(tmp_path)
    peer = syslogs.Peer.tcp(certificates.server(clients=True))
    text = example(
        "siem", tmp_path, **{
            "siem.example:6514": f"localhost:{peer.address[1]}",
            '"nftables:"': f'"{ROOT}/fixtures/nft/fw.pcapng.gz"',
            "/etc/pylog/ca.pem": certificates["ca.pem"],
            "/etc/pylog/fw1.pem": certificates["client.pem"],
            "/etc/pylog/fw1.key": certificates["client.key"],
        }
    )  # fmt: skip
    with pipelines.running(text, kernel) as (_, end):
        until(lambda: kernel.groups())
        for prefix in ("drop in ", "accept "):
            kernel.log(packet(prefix=prefix, group="5"))
        kernel.lose(3)
        kernel.log(packet(prefix="drop in ", group="5"))
        until(lambda: sum(data.count(b"pylog.packet") for data in peer.data) >= 2)
        assert end() == 0
    peer.close()
    documents = [json.loads(each) for each in re.findall(rb"packet - (\{.*?\}\n?)(?=\d+ <|$)",
                                                         bytes(peer.data[0]))]  # fmt: skip
    ours = [d for d in documents if d["source"]["ip"] == "192.0.2.1"]
    assert [d["event"]["action"] for d in ours] == ["block", "block"]
    assert all("pylog" in d and "rule_unknown" in d["pylog"] for d in ours)
    assert b" loss - {" in peer.data[0] and b" ruleset - {" in peer.data[0]


def test_the_data_set_of_research(tmp_path: Path, kernel: Nflog) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    with pipelines.running(example("research", tmp_path), kernel) as (run, end):
        until(lambda: kernel.groups())
        for number in range(3):
            kernel.log(packet(group="7", sport=number, dport=22, tcp_flags="S"))
        kernel.lose(5, group=7)
        kernel.log(packet(group="7", sport=9))
        until(lambda: len(run.stacks) == 3 and run.stacks["losses"].counts.written == 1)
        assert end() == 0
    data = tmp_path / "telescope"
    packets = pq.read_table(data / "packets").to_pylist()
    assert [row["sport"] for row in packets] == [0, 1, 2, 9]
    assert all(json.loads(row["extra"])["site"] == "north" and row["indev"] is None
               for row in packets)  # fmt: skip
    assert [row["count"] for row in pq.read_table(data / "losses").to_pylist()] == [5]
    (part,) = (data / "ssh").rglob("date=2023-11-14/*.jsonl.gz")
    rows = [json.loads(line) for line in gzip.decompress(part.read_bytes()).splitlines()]
    assert [row.get("sport") for row in rows if row["kind"] == "packet"] == [0, 1, 2]
