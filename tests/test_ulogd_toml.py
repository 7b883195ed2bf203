"""`pylog ulogd --to-toml`: pylog run takes what it prints, and the output ulogd writes the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import effort
import hypothesis
import pytest
from hypothesis import strategies as st
from inprocess import run, text
from ulogd_cases import archive, cases, configurations, daemon, pcapng, replay, zone

from pylog.backends.netlink_socket import RCVBUF
from pylog.filter import Filter
from pylog.record import FlowRecord
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
