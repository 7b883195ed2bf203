"""`pylog ulogd --to-toml`: pylog run takes what it prints, and the output ulogd writes the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import effort
import pytest
from inprocess import run, text
from ulogd_cases import archive, cases, configurations, daemon, pcapng, replay, zone

from pylog.ulogd.check import Checked
from pylog.ulogd.conffile import Conffile
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
