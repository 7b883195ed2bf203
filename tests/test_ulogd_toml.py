"""`pylog ulogd --to-toml`: pylog run takes what it prints, and the output ulogd writes the same."""

from __future__ import annotations

import socket
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import effort
import hypothesis
import pytest
from hypothesis import strategies as st
from inprocess import run, text
from ulogd_cases import (
    Receiver,
    archive,
    cases,
    configurations,
    daemon,
    pcapng,
    records,
    replay,
    with_port,
    zone,
)

from pylog.backends.netlink_socket import RCVBUF
from pylog.batch import Batch
from pylog.filter import Filter
from pylog.pipeline import sinks
from pylog.pipeline.config import ConfigError, Pipeline, load, parsed
from pylog.record import FlowRecord, LossRecord, Record
from pylog.ulogd.check import Checked
from pylog.ulogd.conffile import Conffile
from pylog.ulogd.inputs import BUFFERS
from pylog.ulogd.toml import converted

FORMS = ("logemu", "oprint", "gprint", "gprint-ts", "json", "json-label1", "json-eventv1",
         "json-notime", "json-noip2str", "mark")  # fmt: skip


@pytest.mark.parametrize("name", effort.sample(FORMS, 3))
def test_the_output_writes_what_the_configuration_wrote(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    conf = case["conf"].replace("@D@", str(tmp_path)).encode()
    capture = tmp_path / "packets.pcapng"
    capture.write_bytes(pcapng(archive()[case["input"]]))
    with zone(case["tz"]):
        replay(daemon(conf, exact=False, interfaces=None, hostname="fw1"), case["input"])
        checked = Checked(Conffile(conf))
        (tmp_path / "fw.toml").write_text("\n".join(converted(checked, exact=False)))
        assert text("check", tmp_path / "fw.toml").returncode == 0
        configuration = tomllib.loads((tmp_path / "fw.toml").read_text())
        for stack in configuration["stacks"]:
            line = ["read", "--to", "ulogd", "--log-hostname", "fw1", "--form", stack["form"]]
            for key in ("filters", "device", "stamp", "raw_label", "where"):
                line += [f"--{key.replace('_', '-')}", str(stack[key])] if key in stack else []
            for key in ("eventv1", "boolean_label"):
                line += [f"--{key.replace('_', '-')}"] if stack.get(key) else []
            done = run(*line, "--numbers", capture)  # the recordings have them
            assert done.returncode == 0, done.stderr
            assert done.stdout == Path(stack["target"]).read_bytes()


def converted_to(folder: Path, conf: bytes, exact: bool = False, syslog: str = "") -> Pipeline:
    """The configuration of `pylog run` that is printed for one of ulogd.

    syslog   the socket that stands for /dev/log
    """
    text = "\n".join(converted(Checked(Conffile(conf)), exact))
    (folder / "fw.toml").write_text(text.replace("unix:/dev/log", f"unix:{syslog}"))
    return load(str(folder / "fw.toml"))


def write(pipeline: Pipeline, given: Sequence[Record]) -> None:
    """Give records to the output of the only stack, as `pylog run` opens it."""
    (stack,) = pipeline.stacks
    refused: list[str] = []
    output = sinks.opened(stack, lambda record, reason: refused.append(reason), durable=True)
    try:
        output.write(Batch([*given]))
        output.commit("1")
    finally:
        output.close()
    assert output.confirmed() == "1" and not refused


@pytest.mark.parametrize("mode", ["tcp", "udp", "unix"])
def test_receivers_of_json_get_what_ulogd_sent(mode: str, tmp_path: Path) -> None:
    case = cases()[f"json-{mode}"]
    kind = socket.SOCK_DGRAM if mode == "udp" else socket.SOCK_STREAM
    text = case["conf"].replace("@D@", str(tmp_path)).replace("[log1]", "[log1]\nseq_local=1")
    found = []
    for number in range(2):
        (tmp_path / "s").unlink(missing_ok=True)
        receiver = Receiver(kind, str(tmp_path / "s") if mode == "unix" else ("127.0.0.1", 0))
        conf = with_port(text.encode(), receiver)
        with zone(case["tz"]):
            if number:
                write(converted_to(tmp_path, conf), packets(case["input"]))
            else:
                replay(daemon(conf, exact=False, interfaces=None), case["input"])
        found.append(receiver.end())
    ulogd, pylog = found if mode == "udp" else [[b"".join(parts)] for parts in found]
    assert ulogd == pylog and b"".join(pylog).count(b"\n") == len(packets(case["input"]))


def packets(name: str) -> list[Record]:
    return [record for record in records(name) if not isinstance(record, LossRecord)]


@pytest.mark.parametrize(("name", "exact", "kind"), [
    ("syslog", True, socket.SOCK_DGRAM), ("syslog-local2-info", False, socket.SOCK_DGRAM),
    ("syslog", False, socket.SOCK_STREAM),
])  # fmt: skip
def test_syslog_gets_what_ulogd_sent(
    name: str, exact: bool, kind: socket.SocketKind, tmp_path: Path
) -> None:
    case, path = cases()[name], str(tmp_path / "log")
    conf = case["conf"].replace("@D@", str(tmp_path)).encode()
    found = []
    with mock.patch.object(time, "time", lambda: 1_700_000_000.5), zone(case["tz"]):
        for number in range(2):
            (tmp_path / "log").unlink(missing_ok=True)
            receiver = Receiver(kind, path)
            if number:
                write(converted_to(tmp_path, conf, exact, path), packets(case["input"]))
            else:
                replay(daemon(conf, exact=exact, interfaces=None, syslog=path), case["input"])
            found.append(receiver.end())
    if kind == socket.SOCK_STREAM:
        found = [b"".join(parts).split(b"\0") for parts in found]
    ulogd, pylog = found
    assert ulogd == pylog and len(pylog) >= len(packets(case["input"]))


FLOWS = [
    FlowRecord(
        "conntrack", "ctnetlink-le", family="ipv4", event=event, saddr="10.0.0.1",
        daddr="10.0.0.2", protocol=6, sport=1024, dport=80, observed_ns=clock * 10**9, id=7,
        packets={"orig": 5, "reply": 4}, bytes={"orig": 500, "reply": 400},
    )
    for event, clock in (("new", 1_700_000_000), ("destroy", 1_700_000_009))
]  # fmt: skip


@pytest.mark.parametrize("stack", [
    "c:NFCT,o:JSON", "c:NFCT,s:IP2STR,o:JSON", "c:NFCT,o:GPRINT", "c:NFCT,b:IP2BIN,o:GPRINT",
    "c:NFCT,s:IP2STR,p:PRINTFLOW,o:LOGEMU", "c:NFCT,h:IP2HBIN,s:IP2STR,o:OPRINT",
])  # fmt: skip
@pytest.mark.parametrize("hash_enable", [0, 1])
def test_flows_go_through_the_filters_of_their_stack(
    stack: str, hash_enable: int, tmp_path: Path
) -> None:
    conf = (f"[global]\nlogfile={tmp_path}/log\nstack={stack}\n[c]\nevent_mask=5\n"
            f"hash_enable={hash_enable}\n[o]\nfile={tmp_path}/out\n").encode()  # fmt: skip
    made = daemon(conf, exact=False, interfaces=None, hostname=socket.gethostname())
    made.start()
    for flow in FLOWS:
        made.surroundings.replay_us = (flow.observed_ns or 0) // 1000
        made.feed(flow)
    made.stop()
    wrote = (tmp_path / "out").read_bytes()
    (tmp_path / "out").unlink()
    write(converted_to(tmp_path, conf), FLOWS)
    assert (tmp_path / "out").read_bytes() == wrote and (
        stack.endswith("OPRINT") or wrote.count(b"\n") == len(FLOWS) - hash_enable
    )


@pytest.mark.parametrize(("keys", "problem"), [
    ('form = "json"\ntarget = "tcp://host"', "has no port"),
    ('form = "json"\ntarget = "tls://host:1"', "is no address here"),
    ('form = "xml"\ntarget = "tcp://host:1"', "form xml is of files: json and syslog go to"),
    ('form = "syslog"\ntarget = "udp://host:514"', "is no address here: unix:PATH"),
    ('form = "json"\nflow_filters = "NOSUCH"\ntarget = "-"', "no filter 'NOSUCH'"),
    ('form = "json"\nlog_level = "LOG_LOUD"\ntarget = "-"', "LOG_LOUD"),
    ('form = "json"', "target is missing"),
])  # fmt: skip
def test_a_receiver_that_a_form_cannot_have_is_refused(keys: str, problem: str) -> None:
    text = (
        f'[sources.a]\nfrom = "nflog:5"\n[[stacks]]\nname = "b"\nto = "ulogd"\nfrom = ["a"]\n{keys}'
    )
    with pytest.raises(ConfigError, match=problem):
        parsed(text)


def test_syslog_is_not_written_to_a_file() -> None:
    path = Path(__file__).parents[1] / "fixtures/nflog/tcpdump.pcap"
    done = text("read", "--to", "ulogd", "--form", "syslog", path)
    assert done.returncode == 2 and "form syslog is not of files" in done.stderr
    done = text("read", "--to", "ulogd", "--flow-filters", "PRINTPKT", path)
    assert done.returncode == 2 and "form logemu: " in done.stderr


@pytest.mark.parametrize("name", effort.sample(sorted(configurations()), 15))
def test_any_configuration_becomes_one_that_can_be_read(name: str) -> None:
    checked = Checked(Conffile(configurations()[name]["conf"].encode("latin-1"), name))
    made = tomllib.loads("\n".join(converted(checked, exact=True)))
    assert len(made.get("stacks", [])) <= len(checked.stacks)


def test_a_form_ends_what_it_began() -> None:
    path = Path(__file__).parents[1] / "fixtures/nflog/tcpdump.pcap"
    made = run("read", "--to", "ulogd", "--form", "xml", "-n", "2", path)
    assert made.stdout.startswith(b"<?xml") and made.stdout.endswith(b"</packet>\n")
    wrong = text("read", "--to", "ulogd", "--filters", "BASE,NOSUCH", path)
    assert wrong.returncode == 2 and "no filter 'NOSUCH'" in wrong.stderr
    missing = text("read", "--to", "ulogd", "--filters", "BASE", path)
    assert missing.returncode == 2 and "cannot find key 'print'" in missing.stderr


WITH_OPTIONS = """[global]
stack=l:NFLOG,k:MARK,x:XML
stack=c:NFCT,s:IP2STR,j:JSON
[l]
group=3
netlink_socket_buffer_size=100000
netlink_socket_buffer_maxsize=200000
network_namespace_path=/run/netns/a
[k]
mark=5
[x]
stdout=1
[c]
event_mask=1
hash_enable=0
pollinterval=7
reliable=1
accept_src_filter=10.0.0.0/8,2001:db8::/32
accept_proto_filter=tcp,udp
[j]
file=/tmp/\x7f\xff
"""


def test_options_of_sources_become_those_of_pylog_run(tmp_path: Path) -> None:
    checked = Checked(Conffile(WITH_OPTIONS.encode("latin-1")))
    path = tmp_path / "fw.toml"
    path.write_text("\n".join(converted(checked, exact=True)))
    made = tomllib.loads(path.read_text())
    assert made["sources"] == {
        "l": {"from": "nflog:3", "netns": "/run/netns/a", "rcvbuf": 200_000, "rcvbuf_max": 400_000},
        "c": {"from": "nfct:", "events": "new", "snapshot": True, "poll_s": 7.0, "reliable": True},
    }
    packets, flows = made["stacks"]
    assert packets["where"] == "(mark == 5)" and packets["target"] == "-"
    assert flows["target"] == "/tmp/\x7f\\xff"
    matches = Filter(flows["where"]).matches
    for saddr, protocol, wanted in (
        ("10.1.2.3", 6, True), ("11.1.2.3", 6, False), ("10.1.2.3", 1, False),
        ("2001:db8::1", 17, True), ("2001:db9::1", 17, False),
    ):  # fmt: skip
        family = "ipv6" if ":" in saddr else "ipv4"
        flow = FlowRecord("conntrack", "x", family=family, saddr=saddr, protocol=protocol)
        assert matches(flow) == wanted, saddr
    assert text("check", path).returncode == 0
    assert (RCVBUF.low, RCVBUF.high) == BUFFERS


@hypothesis.given(st.text(st.characters(codec="latin-1"), max_size=30))
def test_any_text_of_a_configuration_can_stand_in_toml(word: str) -> None:
    conf = f'[global]\nstack=l:NFLOG,g:GPRINT\nstack="{word}:NFLOG"\n[l]\n[g]\nfile="{word}"\n'
    checked = Checked(Conffile(conf.encode("latin-1"), word))
    tomllib.loads("\n".join(converted(checked, exact=True)))
