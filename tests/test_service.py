"""`pylog run` as a service: what it reports to systemd, metrics and /health, the unit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import inprocess
import pipelines
import places
import pytest
from pipelines import until

from pylog.errors import BackendError
from pylog.pipeline import notify, privileges, receiver, state
from pylog.pipeline import stack as stack_module
from pylog.pipeline.channel import Counts, SourceCounts
from pylog.pipeline.config import parsed
from pylog.pipeline.reporting import asked
from pylog.pipeline.unit import template, unit
from pylog.testing import Nflog, packet

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


@pytest.fixture(autouse=True)
def targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, places.Target]]:
    monkeypatch.setattr(stack_module, "IDLE_COMMIT_S", 0.02)
    monkeypatch.setattr(stack_module, "REPORT_S", 0.02)
    monkeypatch.setattr(stack_module, "PAUSES_S", (0.02, 0.1))
    with places.registered() as targets:
        yield targets


@pytest.fixture
def kernel() -> Iterator[Nflog]:
    with Nflog() as kernel:
        yield kernel


def configuration(folder: Path, more: str = "", sources: str = '"fw"') -> str:
    return f"""
[pylog]
socket = "{folder}/s"
drain = "7s"
{more}
[sources.fw]
from = "nflog:5"
[sources.dmz]
from = "nflog:6"
[[stacks]]
name = "memory"
from = [{sources}]
where = "sport != 1"
to = "memory"
target = "memory:a"
"""


class Manager:
    """A service manager: the messages that come to its socket."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.01)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def got(self, wanted: str, number: int = 1) -> bool:
        """Whether so many messages have come that begin so."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.messages.append(self._socket.recv(4096).decode())
        return sum(message.startswith(wanted) for message in self.messages) >= number


# The service manager


def test_a_service_manager_hears_of_beginning_reload_watchdog_and_end(
    tmp_path: Path, kernel: Nflog
) -> None:
    before = time.monotonic_ns() // 1000
    with Manager(tmp_path) as manager:
        environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "90000"}
        events = notify.events(environment)
        assert not environment  # so that processes of stacks do not report
        text = configuration(tmp_path)
        reload = {"reload": lambda: parsed(text), "events": events}
        with pipelines.running(text, kernel, **reload) as (run, end):
            until(lambda: manager.got("READY=1"))
            assert kernel.groups() == [5]  # what it reports is true
            until(lambda: manager.got("WATCHDOG=1", 3))
            until(lambda: manager.got("STATUS=sources: 2, stacks: 1, written: "))
            run.reload()
            until(lambda: manager.got("READY=1", 2))
            assert end() == 0
        until(lambda: manager.got("STOPPING=1"))
    (reloading,) = [m for m in manager.messages if m.startswith("RELOADING=1")]
    since = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", reloading)
    assert since and before < int(since[1]) < time.monotonic_ns() // 1000
    assert manager.messages.index(reloading) < manager.messages.index(
        "READY=1", manager.messages.index("READY=1") + 1
    )
    stopping = "STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\nWATCHDOG_USEC=17000000"
    assert stopping in manager.messages


def test_a_watchdog_is_not_fed_while_no_source_is_open(
    tmp_path: Path, kernel: Nflog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "PAUSES_S", (0.5, 0.5))
    monkeypatch.setattr(notify, "STATUS_S", 0.01)

    def fail() -> bytes:
        raise BackendError("it is gone")

    with Manager(tmp_path) as manager:
        events = notify.Notifications(manager.path, 0.03)
        with pipelines.running(configuration(tmp_path), kernel, events=events) as (run, end):
            until(lambda: manager.got("WATCHDOG=1", 2))
            monkeypatch.setattr(run.receiver.intakes[0].backend, "receive", fail)
            kernel.log(packet(), group=5)
            until(lambda: manager.got("STATUS=source fw: it is gone"))
            manager.messages.clear()
            beats = run.beat_at
            until(lambda: run.beat_at > beats + 0.1)
            assert run.receiver.failed and not manager.got("WATCHDOG=1"), manager.messages
            until(lambda: manager.got("WATCHDOG=1"))
            assert run.receiver.totals("fw").openings == 2
            assert end() == 0


def test_a_manager_that_does_not_answer_stops_nothing(
    tmp_path: Path, kernel: Nflog, caplog: pytest.LogCaptureFixture
) -> None:
    events = notify.Notifications(str(tmp_path / "nobody"), 0.03)
    with pipelines.running(configuration(tmp_path), kernel, events=events) as (run, end):
        until(lambda: "memory" in run.stacks and run.stacks["memory"].counts.state == "running")
        assert end() == 0
    assert caplog.text.count("the service manager cannot be reached: No such file") == 1


@pytest.mark.parametrize(("environment", "period_s"), [
    ({}, None),
    ({"NOTIFY_SOCKET": "vsock:2:1"}, None),
    ({"NOTIFY_SOCKET": "@pylog-test"}, None),
    ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, 10.0),
    ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3e7"}, None),
])  # fmt: skip
def test_the_environment_says_who_is_to_hear_what(
    environment: dict[str, str], period_s: float | None
) -> None:
    is_asked = environment.get("NOTIFY_SOCKET", "vsock")[0] in "/@"
    events = notify.events(environment)
    assert events.period_s == period_s and not environment
    assert isinstance(events, notify.Notifications) == is_asked


# Metrics, /health, status


def get(address: str, path: str, accept: str = "") -> tuple[int, str, str]:
    """The status, content type and text of a page."""
    asking = urllib.request.Request(f"http://{address}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(asking, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_metrics_and_health(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target], host: str
) -> None:
    pytest.importorskip("prometheus_client")
    text = configuration(tmp_path, f'metrics = "{host}:0"', '"fw", "dmz"')
    with pipelines.running(text, kernel) as (run, end):
        until(lambda: kernel.groups() == [5, 6])
        for number in range(3):
            kernel.log(packet(sport=number), group=5)
        kernel.log(packet(sport=9), group=6)
        until(lambda: "memory" in run.stacks and run.stacks["memory"].counts.written == 3)
        until(lambda: not state.snapshot(run)["stacks"][0]["lag_bytes"])  # and it is confirmed
        address = until(lambda: run.metrics)
        status, kind, shown = get(address, "/metrics")
        assert status == 200 and kind.startswith("text/plain; version=")
        values = dict(line.rsplit(" ", 1) for line in shown.splitlines() if line[0] != "#")
        for name, value in {
            'source_up{source="dmz"}': 1, 'source_receipts_total{source="dmz"}': 1,
            'source_reconnects_total{source="fw"}': 0, 'stack_running{stack="memory"}': 1,
            'stack_records_total{source="fw",stack="memory"}': 3,
            'stack_records_total{source="dmz",stack="memory"}': 1,
            'stack_lost_records_total{source="fw",stack="memory"}': 0,
            'stack_written_records_total{stack="memory"}': 3, "healthy": 1,
            'stack_left_out_records_total{stack="memory",stage="where"}': 1,
            'stack_lag_bytes{stack="memory"}': 0, 'stack_lag_seconds{stack="memory"}': 0,
            'stack_refused_records_total{stack="memory"}': 0,
        }.items():  # fmt: skip
            assert float(values[f"pylog_{name}"]) == value, name
        for name in ("source_bytes_total", "source_cpu_seconds_total"):
            assert float(values[f'pylog_{name}{{source="fw"}}']) > 0
        assert float(values['pylog_stack_cpu_seconds_per_record{stack="memory"}']) > 0
        assert "process_resident_memory_bytes" in values
        kind, shown = get(address, "/metrics", "application/openmetrics-text; version=1.0.0")[1:]
        assert kind.startswith("application/openmetrics-text") and shown.endswith("# EOF\n")
        assert get(address, "/")[0] == 404
        whole = {"healthy": True, "problems": [], "warnings": []}
        assert [get(address, "/health")[0], json.loads(get(address, "/health")[2])] == [200, whole]

        targets["memory:a"].fails = 1 << 30
        kernel.log(packet(sport=10), group=6)
        until(lambda: run.stacks["memory"].counts.failures)
        until(lambda: 0 < state.snapshot(run)["stacks"][0]["lag_s"] < 60)
        status, _, shown = get(address, "/health")
        assert status == 200 and "stack memory: " in json.loads(shown)["warnings"][0]
        run.receiver.failed["dmz"] = "it is gone"
        status, kind, shown = get(address, "/health")
        assert (status, kind) == (503, "application/json")
        assert json.loads(shown)["problems"] == ["source dmz: it is gone"]
        run.receiver.failed.clear()
        run.beat_at = float("-inf")
        assert any("hung" in problem for problem in state.problems(run))
        targets["memory:a"].fails = 0
        assert end() == 0


def test_connections_that_say_nothing_keep_nobody_from_metrics(
    tmp_path: Path, kernel: Nflog
) -> None:
    pytest.importorskip("prometheus_client")
    text = configuration(tmp_path, 'metrics = "127.0.0.1:0"')
    with pipelines.running(text, kernel) as (run, end), contextlib.ExitStack() as stack:
        host, _, port = until(lambda: run.metrics).rpartition(":")
        silent = [stack.enter_context(socket.create_connection((host, int(port)), 10))
                  for _ in range(20)]  # fmt: skip
        assert get(f"{host}:{port}", "/health")[0] == 200
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""  # the oldest was closed
        assert end() == 0


def test_status_shows_what_is_wrong(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target]
) -> None:
    config = tmp_path / "fw.toml"
    config.write_text(configuration(tmp_path, sources='"fw", "dmz"'))
    with pipelines.running(config.read_text(), kernel) as (run, end):
        until(lambda: "memory" in run.stacks and run.stacks["memory"].counts.state == "running")
        kernel.log(packet(sport=7), group=5)
        until(lambda: run.stacks["memory"].counts.written == 1)
        run.receiver.failed["dmz"] = "it is gone"
        shown = asked(str(tmp_path / "s"))
        assert shown["problems"] == ["source dmz: it is gone"] and not shown["healthy"]
        done = inprocess.text("status", config)
        assert done.returncode == 1 and done.stdout.endswith("\nsource dmz: it is gone\n")
        rows = [line.split() for line in done.stdout.splitlines()]
        assert rows[3][:3] == ["fw", "nflog:5", "open"]
        assert rows[7][:7] == ["memory", "running", "1", "1", "0", "0", "0"]
        done = inprocess.text("status", "--to", "json", config)
        assert json.loads(done.stdout)["stacks"][0]["sources"]["fw"]["records"] == 1
        assert end() == 0


def test_counts_go_on_when_the_process_of_a_stack_starts_again() -> None:
    first = Counts(records=5, cpu_s=0.5, left_out={"where": 2}, place=7,
                   sources={"a": SourceCounts(records=5)})  # fmt: skip
    second = Counts(state="running", records=2, left_out={"every": 1}, place=9,
                    sources={"b": SourceCounts(records=2)})  # fmt: skip
    total = second.after(first)
    assert (total.records, total.cpu_s, total.place, total.state) == (7, 0.5, 9, "running")
    assert total.left_out == {"where": 2, "every": 1}
    assert {name: own.records for name, own in total.sources.items()} == {"a": 5, "b": 2}
    assert second.records == 2 and second.after(total).records == 9


# Privileges and the unit


def test_a_source_in_another_namespace_needs_more() -> None:
    assert privileges.needed([{}, {"qthresh": 5}]) == (12,)
    assert set(privileges.needed([{"netns": "blue"}])) == {12, 19, 21}


def directives(text: str) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            made.setdefault(name, []).append(value)
    return made


def test_the_unit_in_the_package_is_that_of_the_defaults() -> None:
    text, notes = unit("/etc/pylog.toml", ["/usr/local/bin/pylog"])
    assert (text, notes) == (template(), [])


def test_a_unit_fits_the_configuration() -> None:
    text = """
[pylog]
journal = "/var/lib/edge/journal"
drain = "50s"
[sources.fw]
from = "nflog:0"
pf_bind = "ipv4"
netns = "blue"
[sources.rules]
from = "nftables:"
[[stacks]]
name = "a"
from = "fw"
to = "json"
target = "/var/log/edge/deep/a.jsonl"
[[stacks]]
name = "b"
from = ["fw", "rules"]
to = "json"
target = "/data/my logs"
partition = "day"
[[stacks]]
name = "c"
from = "fw"
to = "json"
target = "/var/log/c.jsonl"
[[stacks]]
name = "d"
from = "fw"
to = "memory"
target = { credential = "database" }
[[stacks]]
name = "e"
from = "fw"
to = "memory"
target = { file = "/etc/e" }
"""
    made, notes = unit("/etc/edge.toml", ["/opt/p y/bin/pylog"], name="edge",
                       programs=["/root/venv", "/tmp/pylog", "/usr"],
                       pipeline=parsed(text))  # fmt: skip
    found = directives(made)
    more = "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN"
    assert found["ExecStart"] == ['"/opt/p y/bin/pylog" run /etc/edge.toml']
    assert found["ExecReload"][1] == "/bin/kill -HUP $MAINPID"
    for name, value in {
        "StateDirectory": "edge edge/journal", "LogsDirectory": "edge edge/deep",
        "ReadWritePaths": '"/data/my logs"', "TimeoutStopSec": "60",
        "LoadCredential": "database:/etc/pylog/database", "ProtectKernelTunables": "no",
        "ProtectProc": "default", "AmbientCapabilities": more, "CapabilityBoundingSet": more,
        "ProtectHome": "tmpfs", "BindReadOnlyPaths": "/root/venv /tmp/pylog",
        "SyslogIdentifier": "edge",
    }.items():  # fmt: skip
        assert found[name] == [value], name
    assert len(notes) == 3
    assert notes[0].startswith("/data/my logs must exist, and the user of the service must be able")
    assert notes[1].startswith("the service cannot write files into /var/log itself")
    assert notes[2].startswith("the user of the service must be able to read /etc/e: { credential")


def test_a_unit_opens_what_is_installed_below_a_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylog.pipeline.unit.TEMPORARY", ())  # the folder of a test is in one
    closed, opened = tmp_path / "closed", tmp_path / "open"
    nested = opened / "venv/.tox/py3"  # tox makes such folders
    (closed / "in/venv").mkdir(parents=True)
    nested.mkdir(parents=True)
    for folder in (closed, closed / "in", nested.parent):
        folder.chmod(0o700)
    programs = [str(tmp_path), f"{closed}/in/venv", f"{opened}/venv", str(nested)]
    found = directives(unit(f"{closed}/fw.toml", ["/opt/pylog"], programs=programs)[0])
    hidden, shown = found["TemporaryFileSystem"][0], found["BindReadOnlyPaths"][0]
    # folders above that of the test may be closed, too
    assert [f for f in hidden.split() if f"{tmp_path}/" in f] == [
        f"{closed}:ro", f"{nested.parent}:ro",
    ]  # fmt: skip
    assert set(shown.split()) >= {f"{closed}/in/venv", str(nested), f"{closed}/fw.toml"}


def test_service_prints_a_unit(tmp_path: Path) -> None:
    config = EXAMPLES / "home-router.toml"
    done = inprocess.text("service", "--name", "edge", "--user", "logger", config)
    found = directives(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["User"] == ["logger"] and found["DynamicUser"] == ["no"]
    assert found["RuntimeDirectory"] == ["edge"] and os.path.isabs(found["ExecStart"][0].split()[0])
    assert str(config) in found["ExecStart"][0]
    assert inprocess.text("service", tmp_path / "none.toml").returncode == 1
    (tmp_path / "wrong.toml").write_text("[pylog]\njurnal = 5\n")
    done = inprocess.text("service", tmp_path / "wrong.toml")
    assert done.returncode == 2 and "did you mean journal" in done.stderr and not done.stdout
    assert inprocess.text("service", "--name", "../x").returncode == 2
