"""The unit of `pylog service` in a systemd, and metrics as promtool reads them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import inprocess
import netlab
import pipelines
import pytest
import systemd
from netlab import until

import pylog
from pylog.testing import Nflog, packet

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CONFIGURATION = """
[pylog]
journal = "/var/lib/pylog"
drain = "5s"

[sources.fw]
from = "nflog:5"

[[stacks]]
name = "file"
from = ["fw"]
to = "json"
target = "/var/log/pylog/f.jsonl"
"""
RULES = """add table inet t
add chain inet t c { type filter hook input priority 0; }
add rule inet t c udp dport 9 log prefix "five " group 5 drop
add rule inet t c udp dport 10 log prefix "six " group 6 drop
"""
MORE = f"""[Service]
Environment=PYTHONPATH={Path(pylog.__file__).resolve().parents[1]}
StandardOutput=file:/run/messages
StandardError=append:/run/messages
"""
"""What the unit of a test has beside that of pylog: where the modules are, and no journald."""


def printed(*arguments: object) -> str:
    done = inprocess.text("service", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What systemd says about the unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize(
    "config", ["", *sorted(p.name for p in (DOCS / "examples").glob("*.toml"))]
)
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path, config: str) -> None:
    unit = tmp_path / "pylog.service"
    unit.write_text(printed(*([DOCS / "examples" / config] if config else [])))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_the_exposure_is_what_the_documentation_says(tmp_path: Path) -> None:
    unit = tmp_path / "pylog.service"
    unit.write_text(printed())
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    stated = re.search(r"exposure level ([\d.]+)", (DOCS / "service.md").read_text())
    assert exposure and stated and float(exposure[1]) <= float(stated[1])


# The unit in a systemd


def test_the_service_runs_with_one_privilege_and_its_stacks_with_none(tmp_path: Path) -> None:
    if reason := systemd.missing():
        pytest.skip(reason)
    config = tmp_path / "fw.toml"
    config.write_text(CONFIGURATION)
    with systemd.Machine() as machine:
        served = machine.root / "srv/fw.toml"
        served.write_text(CONFIGURATION)
        machine.install("pylog.service", printed(config).replace(str(config), "/srv/fw.toml"), MORE)
        started = machine.systemctl("start", "pylog")
        messages = machine.root / "run/messages"
        assert started.returncode == 0, (
            messages.read_text() if messages.exists() else started,
            machine.show("pylog", "Result", "ExecStartPre", "ExecStart"),
        )
        assert machine.run("nft", RULES).returncode == 0

        def send(port: int) -> None:
            sent = f"for i in 1 2 3; do echo x > /dev/udp/127.0.0.1/{port}; done"
            assert machine.run("bash", "-c", sent).returncode == 0

        def records() -> list[str]:
            file = machine.root / "var/log/private/pylog/f.jsonl"
            return file.read_text().splitlines() if file.exists() else []

        def state() -> tuple[str, str]:
            shown = machine.show("pylog", "ActiveState", "SubState")
            return shown["ActiveState"], shown["SubState"]

        assert state() == ("active", "running")
        send(9)
        until(lambda: len(records()) == 3, "records", 60)
        capabilities = _capabilities(machine)
        receiver, stack = capabilities[0], capabilities[1]
        assert len(capabilities) == 2
        for own in (receiver, stack):
            assert (
                own["Uid"] not in ("", "0") and own["NoNewPrivs"] == "1" and own["Seccomp"] == "2"
            )
            assert all(int(own[name], 16) == 0 for name in ("CapInh", "CapAmb"))
        assert int(receiver["CapPrm"], 16) == int(receiver["CapEff"], 16) == 1 << 12
        assert int(stack["CapPrm"], 16) == int(stack["CapEff"], 16) == 0
        until(lambda: "3        3" in _status(machine), "figures of the stack")  # they come later
        mode = (machine.root / "var/lib/private/pylog/pylog.sock").stat().st_mode & 0o777
        assert mode == 0o600

        served.write_text(CONFIGURATION.replace("nflog:5", "nflog:5,6"))  # needs the privilege
        assert machine.systemctl("reload", "pylog").returncode == 0
        state_file = "/proc/net/netfilter/nfnetlink_log"
        until(lambda: "\n    6 " in machine.run("cat", state_file).stdout, "group 6", 30)
        send(10)
        until(lambda: sum('"six "' in line for line in records()) == 3, "the other group", 60)
        served.write_text("[sources")
        assert machine.systemctl("reload", "pylog").returncode == 1  # and nothing has changed
        assert state() == ("active", "running")
        served.write_text(CONFIGURATION)
        machine.install("pylog.service", (machine.root / "run/units/pylog.service").read_text(),
                        f"{MORE}WatchdogSec=3\nRestartSec=100ms\n")  # fmt: skip
        assert machine.systemctl("restart", "pylog").returncode == 0
        pid = int(machine.show("pylog", "MainPID")["MainPID"])
        time.sleep(4)
        assert machine.show("pylog", "MainPID")["MainPID"] == str(pid)  # it is fed
        machine.run("kill", "-STOP", str(pid))  # as if the loop hung
        until(lambda: machine.show("pylog", "NRestarts")["NRestarts"] == "1", "a restart", 60)
        until(lambda: state() == ("active", "running"), "again", 60)
        send(9)
        until(lambda: sum('"five "' in line for line in records()) == 6, "records", 60)
        assert machine.systemctl("stop", "pylog").returncode == 0
        shown = machine.show("pylog", "Result", "ExecMainStatus")
        assert shown == {"Result": "success", "ExecMainStatus": "0"}, messages.read_text()


def _status(machine: systemd.Machine) -> str:
    asked = machine.run("env", MORE.splitlines()[1].partition("=")[2], sys.executable, "-P", "-m",
                        "pylog", "status", "/srv/fw.toml")  # fmt: skip
    assert asked.returncode == 0, asked
    return asked.stdout


def _capabilities(machine: systemd.Machine) -> list[dict[str, str]]:
    """What /proc says about the processes of the service: the receiver's first."""
    path = "/sys/fs/cgroup/system.slice/pylog.service/cgroup.procs"
    found = []
    for pid in machine.run("cat", path).stdout.split():
        for task in machine.run("sh", "-c", f"cat /proc/{pid}/task/*/status").stdout.split("Name:"):
            if task:
                rows = (line.partition(":") for line in task.splitlines())
                found.append({name: value.split()[0] if value.split() else ""
                              for name, _, value in rows})  # fmt: skip
    return found


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
def test_root_keeps_one_privilege_and_stacks_keep_none(tmp_path: Path) -> None:
    config = tmp_path / "fw.toml"
    config.write_text(
        CONFIGURATION.replace("/var/lib/pylog", f"{tmp_path}/j")
        .replace("/var/log/pylog", str(tmp_path))
        .replace("drain", 'metrics = "127.0.0.1:0"\ndrain')
    )
    with netlab.Namespace() as alone, open(tmp_path / "messages", "wb") as messages:
        process = alone.start(sys.executable, "-P", "-m", "pylog", "run", str(config),
                              stderr=messages)  # fmt: skip
        folder = Path(f"/proc/{process.pid}/task")
        began = (tmp_path / "j/pylog.sock").exists
        until(lambda: began() or process.poll() is not None, "pylog run has begun", 60)
        assert began(), (tmp_path / "messages").read_text()
        until(lambda: (folder / str(process.pid) / "children").read_text(), "a stack")
        until(lambda: len(list(folder.iterdir())) > 1, "the thread of metrics")
        assert [_effective(task) for task in folder.iterdir()] == [1 << 12] * 2
        stack = (folder / str(process.pid) / "children").read_text().split()[0]
        until(lambda: not any(_effective(task) for task in Path(f"/proc/{stack}/task").iterdir()),
              "no privilege", 30)  # fmt: skip
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _effective(task: Path) -> int:
    return int((task / "status").read_text().split("CapEff:")[1].split()[0], 16)


# Metrics


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
def test_promtool_finds_no_fault_with_the_metrics(tmp_path: Path) -> None:
    text = CONFIGURATION.replace("/var/lib/pylog", f"{tmp_path}/j")
    text = text.replace("/var/log/pylog", str(tmp_path))
    text = text.replace("drain", 'metrics = "127.0.0.1:0"\ndrain')
    text = text.replace('to = "json"', 'to = "json"\nwhere = "sport > 2"')
    with Nflog() as kernel, pipelines.running(text, kernel) as (run, end):
        until(lambda: kernel.groups() == [5], "a group")
        for number in range(5):
            kernel.log(packet(sport=number), group=5)
        until(lambda: run.stacks["file"].counts.written == 2, "records")
        shown: Any = urllib.request.urlopen(f"http://{run.metrics}/metrics", timeout=10).read()
        assert end() == 0
    assert shown.count(b"# TYPE pylog_") >= 25
    done = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True,
                          timeout=60, env={**os.environ, "LC_ALL": "C"})  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
