"""ulogd.conf is read as ulogd 2.0.8 reads it: 154 configurations end as they ended there.

Each names the groups that ulogd bound and the files that it made. What is started here is all but
the kernel's sockets.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import effort
import hypothesis
import pytest
from hypothesis import strategies as st
from inprocess import text
from ulogd_cases import configurations

from pylog.errors import BackendError
from pylog.ulogd.check import Checked, explanation
from pylog.ulogd.conffile import Conffile, Option, number_of, word
from pylog.ulogd.daemon import Daemon, Exit
from pylog.ulogd.inputs import Input, Nflog, Unixsock
from pylog.ulogd.log import DaemonLog
from pylog.ulogd.worker import Surroundings

NAMES = sorted(configurations())


class Kernel:
    """Binds groups, each for one source."""

    def __init__(self) -> None:
        self.groups: set[int] = set()

    def open(self, source: Input) -> None:
        if isinstance(source, Nflog) and not isinstance(source, Unixsock):
            if source.group in self.groups:
                raise BackendError(f"unable to bind to log group {source.group}")
            self.groups.add(source.group)


def outcome(conf: bytes, folder: Path, said: list[str]) -> tuple[str, list[int], list[str]]:
    """How a configuration ends, the groups that stay bound and the files that are made."""
    kernel = Kernel()
    log = DaemonLog(said.append, None, verbose=True)
    before = os.getcwd()
    os.chdir(folder)
    try:
        with mock.patch("pylog.ulogd.log._to_syslog"):
            made = Daemon(Conffile(conf), Surroundings(log=log.write), log, kernel.open)
            try:
                made.start()
                ended, groups = "runs", sorted(kernel.groups)
                made.stop()
            except Exit as error:
                ended, groups = f"exit {error.status}", []
    finally:
        os.chdir(before)
    return ended, groups, sorted(os.listdir(folder))


@pytest.mark.parametrize("name", effort.sample(NAMES, 50))
def test_configurations_end_as_with_ulogd(name: str, tmp_path: Path) -> None:
    case = configurations()[name]
    said: list[str] = []
    found = outcome(case["conf"].encode("latin-1"), tmp_path, said)
    assert found == (case["outcome"], case["groups"], case["files"]), said
    if case["outcome"] == "runs" and case.get("strict", "runs") != case["outcome"]:
        assert any("2.0.9" in line for line in said), said


@pytest.mark.parametrize("name", effort.sample(NAMES, 30))
def test_check_agrees_with_the_start(name: str) -> None:
    case = configurations()[name]
    lines, status = explanation(Conffile(case["conf"].encode("latin-1"), name))
    assert lines[0].startswith(name)
    at_start = {"output-unwritable", "value-empty-quoted", "logfile-bad", "mandatory-missing",
                "graphite-refused", "json-tcp-refused", "stacks-same-group", "mysql-down",
                "pgsql-down", "ipfix-refused"}  # fmt: skip
    if case["outcome"] == "runs" and status:
        assert any("cannot run" in line for line in lines)
    elif case["outcome"] != "runs" and name not in at_start:
        assert status == 1


HINTS = {
    "use-json-without-base": "no BASE: headers are not decoded",
    "use-stack-below-sections": "stack= in [emu1] does nothing; it belongs into [global]",
    "output-stdout-word": "/dev/stdout was probably meant",
    "use-logemu-backslash-quotes": 'only "fw.log" is a quoted text',
    "nlbuf-equal-max": "netlink_socket_buffer_size is not used",
    "key-prefix": "groups: unknown config key; did you mean group?",
    "key-upper": "Group: unknown config key; did you mean group?",
    "stack-lower-plugin": "did you mean NFLOG?",
    "stack-spaces": "a space ends a value",
    "stacks-same-group": "log2 wants group 5, which log1 has",
    "section-upper": "[LOG1] is in no stack, so it does nothing; did you mean [log1]?",
    "value-empty": "file= has no value",
    "plugin-by-name": "it needs the complete path",
    "stack-missing-filter": "IFINDEX",
    "use-invented-keys": "nlbufsiz",
    "syslog-bad-facility": "unknown facility 'kern.warn'",
}


@pytest.mark.parametrize("name", sorted(HINTS))
def test_check_says_what_was_probably_meant(name: str) -> None:
    lines, _ = explanation(Conffile(configurations()[name]["conf"].encode("latin-1"), name))
    assert HINTS[name] in "\n".join(lines)


def test_check_shows_options_with_their_origin_and_no_password(tmp_path: Path) -> None:
    conf = tmp_path / "ulogd.conf"
    conf.write_text("[global]\nstack=log1:NFLOG,gp1:GPRINT\n[log1]\ngroup=0x10\n[gp1]\nfile=x\n")
    done = text("ulogd", "--check", "-c", conf)
    assert done.returncode == 0
    assert '    group = 16, written "0x10" (line 4)' in done.stdout
    assert "    bufsize = 150000 (default)" in done.stdout
    assert "  log1:NFLOG -> gp1:GPRINT\n" in done.stdout


def test_refused_plugins_name_the_way_out() -> None:
    for plugin, way in (("ULOG", "use NFLOG"), ("DBI", "use PGSQL"), ("PWSNIFF", "leave it out")):
        stack = f"a:NFLOG,b:{plugin},c:GPRINT" if plugin != "ULOG" else "a:ULOG,c:GPRINT"
        checked = Checked(Conffile(f"[global]\nstack={stack}\n[a]\n[c]\n".encode()))
        assert way in checked.failures[0][2]


@pytest.mark.parametrize(("given", "value"), [
    (b"0x10", 16), (b"010", 8), (b"+6", 6), (b"12abc", 12), (b"5#x", 5), (b"abc", 0), (b"089", 0),
    (b"-1", 0xFFFFFFFF), (b"99999999999", 1215752191), (b"", 0), (b"0x", 0),
    (b"9" * 99, 0xFFFFFFFF),
])  # fmt: skip
def test_numbers_are_those_of_strtoul(given: bytes, value: int) -> None:
    assert number_of(given) == value


@hypothesis.given(st.binary(max_size=600))
def test_any_bytes_are_a_configuration(data: bytes) -> None:
    explanation(Conffile(b"[global]\nstack=a:NFLOG,b:GPRINT\n" + data))
    explanation(Conffile(data))


def test_words_end_at_quotes_or_delimiters() -> None:
    assert word(b'"a b"=c\n', 0, b"= \n") == (b"a b", 5)
    assert word(b"abc", 0, b"= \n") is None and word(b'"abc\n', 0, b" \n") is None


def test_a_line_counts_only_up_to_the_end_of_its_section() -> None:
    conf = Conffile(b"[a]\nx=1\n[b]\ny=2")
    options = (Option("x", "number"), Option("y", "number"))
    assert conf.read("a", options).error == ""
    assert conf.read("b", options).error == "line 4 too long."
