"""The outputs of lines with rsyslog and syslog-ng: what is sent is what they write."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import syslogs
from netlab import until

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.outputs._lines import lines_of
from pylog.record import Record, escape_json, kind_of, to_json
from pylog.testing import packet
from pylog.transports import streams

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
HOSTILE = 'drop\r\n<0>1 - evil forged - - -\0\x1b[2J\x7f\u2028 a=b|c\\d "e]'

pytestmark = pytest.mark.skipif(bool(syslogs.missing()), reason=syslogs.missing())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> syslogs.Certificates:
    return syslogs.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def rsyslog(
    tmp_path_factory: pytest.TempPathFactory, certificates: syslogs.Certificates
) -> Iterator[syslogs.Program]:
    folder = tmp_path_factory.mktemp("rsyslog") / "run"
    with syslogs.running(syslogs.Rsyslog, folder, certificates) as program:
        yield program


@pytest.fixture(scope="module")
def syslog_ng(
    tmp_path_factory: pytest.TempPathFactory, certificates: syslogs.Certificates
) -> Iterator[syslogs.Program]:
    folder = tmp_path_factory.mktemp("syslog-ng") / "run"
    with syslogs.running(syslogs.SyslogNg, folder, certificates) as program:
        yield program


@pytest.fixture(autouse=True)
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """syslog-ng sends no session tickets, so each confirmation would take GRACE_S."""
    monkeypatch.setattr(streams, "GRACE_S", 0.2)


@pytest.fixture(params=["rsyslog", "syslog_ng"])
def program(request: pytest.FixtureRequest) -> syslogs.Program:
    made: syslogs.Program = request.getfixturevalue(request.param)
    return made


def records() -> list[Record]:
    """Records of several kinds, one of which has a prefix that would forge messages."""
    read: list[Record] = []
    for name in ("ipl/v5-1-2-lp64le-filter.ipf.bin", "nflog/seq.bin"):
        with pylog.open(FIXTURES / name) as reader:
            read += list(reader)[:40]
    return [*read, packet(prefix=HOSTILE, action="block")]


def send(name: str, address: str, given: Sequence[Record], **options: Any) -> None:
    """Send records, and wait until they are confirmed."""
    place = outputs.Place(address, refuse=lambda record, reason: pytest.fail(reason))
    output = outputs.open(name, place, options)
    output.write(Batch(given))
    output.commit("end")
    until(lambda: output.confirmed() == "end", "the confirmation")
    output.close()


def received(program: syslogs.Program, before: int, count: int) -> list[dict[str, Any]]:
    until(lambda: len(program.lines()) >= before + count, "the messages")
    return program.messages()[before:]


def ways(program: syslogs.Program) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each way to send to a program: the address and options."""
    return {
        "tcp": (f"tcp://localhost:{program.port}", {}),
        "tls": (f"tls://127.0.0.1:{program.tls_port}", program.certificates.client()),
        "lines": (f"tcp://127.0.0.1:{program.line_port}",
                  {"framing": "newline", "header": "rfc3164"}),
        "udp": (f"udp://127.0.0.1:{program.port}", {}),
        "local": (f"unix:{program.socket}", {}),
    }  # fmt: skip


@pytest.mark.parametrize("way", ["tcp", "tls", "lines", "udp", "local"])
def test_what_is_sent_is_what_the_program_writes(program: syslogs.Program, way: str) -> None:
    given = records()
    address, options = ways(program)[way]
    before = len(program.lines())
    severities = {"block": "crit", "flow": "debug"}
    send("syslog", address, given, facility="local3", severities=severities, **options)
    messages = received(program, before, len(given))
    expected = [escape_json(to_json(record).decode()) for record in given]
    assert [message["msg"].removeprefix(" ") for message in messages] == expected
    for message, record in zip(messages, given, strict=True):
        level = {"block": 2}.get(str(getattr(record, "action", "")), 6)
        level = {"loss": 4, "flow": 7}.get(kind_of(record), level)
        assert (message["app"], int(message["pri"])) == ("pylog", 19 * 8 + level)
        if way in ("tcp", "tls", "udp"):
            assert message["msgid"] == kind_of(record)


def test_a_parser_of_cef_reads_back_the_values(rsyslog: syslogs.Rsyslog) -> None:
    before = len(rsyslog.lines())
    given = packet(prefix="a=b|c\\d", action="block", indev="eth0", uid=7)
    send("syslog", ways(rsyslog)["tcp"][0], [given], format="cef")
    parsed = received(rsyslog, before, 1)[0]["parsed"]["cef"]
    assert (parsed["SignatureID"], parsed["Severity"]) == ("packet:block", "5")
    expected = {"src": "192.0.2.1", "dst": "198.51.100.2", "dpt": "80", "cs1": "a=b|c\\d",
                "act": "block", "suid": "7"}  # fmt: skip
    assert expected.items() <= parsed["Extensions"].items()


def test_structured_data_and_the_name_of_the_host_arrive(syslog_ng: syslogs.SyslogNg) -> None:
    before = len(syslog_ng.lines())
    data = '[token@32473 key="a \\"b\\" \\\\ \\]"]'
    given = [packet(), packet(host="fw 1\n"), packet(host="x" * 300)]
    send("syslog", ways(syslog_ng)["tcp"][0], given, structured_data=data, app_name="fw")
    messages = received(syslog_ng, before, 3)
    assert {message["sd"] for message in messages} == {data}
    assert [message["host"] for message in messages][1:] == ["fw_1_", "x" * 255]
    assert {message["app"] for message in messages} == {"fw"}


def test_a_server_that_cannot_be_trusted_gets_nothing(
    rsyslog: syslogs.Rsyslog, certificates: syslogs.Certificates
) -> None:
    address, options = ways(rsyslog)["tls"]
    before = len(rsyslog.lines())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"ca": certificates["other.pem"]}, "its certificate is not accepted"),
        ({"ca": None}, "its certificate is not accepted: self-signed certificate"),
        ({"server_name": "elsewhere"}, "Hostname mismatch, certificate is not valid for"),
        ({"ca": certificates["server.key"]}, "cannot use the certificates of"),
        ({"private_key": certificates["ca.key"]}, "key values mismatch"),
    ]
    for wrong, problem in cases:
        with pytest.raises(BackendError, match=problem):
            outputs.open("syslog", outputs.Place(address), options | wrong)
    send("syslog", address, [packet()], **options)
    assert len(received(rsyslog, before, 1)) == 1


def test_a_server_that_refuses_the_client_confirms_nothing(
    rsyslog: syslogs.Rsyslog, certificates: syslogs.Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LONGEST_S", 0.3)
    address = ways(rsyslog)["tls"][0]
    with pytest.raises(BackendError, match=r"certificate required|ended the connection|reset"):
        output = outputs.open("syslog", outputs.Place(address), {"ca": certificates["ca.pem"]})
        for position in range(100):
            output.write(Batch([packet()]))
            output.commit(str(position))
            assert output.confirmed() is None


def test_a_program_that_stalls_and_is_restarted_gets_every_record(
    program: syslogs.Program,
) -> None:
    address, options = ways(program)["tls"]
    sent = 0
    output = outputs.open(
        "syslog", outputs.Place(address), options | {"format": "{sport} {prefix} of {mark}"}
    )
    name = str(program.folder.parent)

    def some(count: int) -> None:
        nonlocal sent
        for _ in range(count // 100):
            batch = [packet(prefix=name, mark=sent + i, sport=1000) for i in range(100)]
            output.write(Batch(batch))
            sent += 100
            output.commit(str(sent))

    some(500)
    program.signal(signal.SIGSTOP)
    some(500)
    assert output.confirmed() != "2000"
    program.signal(signal.SIGCONT)
    until(lambda: output.confirmed() == "1000", "the confirmation")
    until(lambda: _marks(program, name) == set(range(1000)), "what was sent before")
    program.stop()
    program.start()
    some(500)
    until(lambda: output.confirmed() == "1500", "the confirmation")
    until(lambda: _marks(program, name) == set(range(1500)), "what was sent after")
    assert output.reconnects >= 1
    output.close()


def _marks(program: syslogs.Program, name: str) -> set[int]:
    """The marks in the messages with that prefix."""
    ends = [message["msg"] for message in program.messages() if name in message["msg"]]
    return {int(text.rpartition(" ")[2]) for text in ends}


def test_lines_of_every_format_are_one_message_each(syslog_ng: syslogs.SyslogNg) -> None:
    given = records()[-3:]
    for form in ("json", "ecs", "cef", "text", "{timestamp}\\t{prefix} {extra}"):
        before = len(syslog_ng.lines())
        send("tcp", f"tcp://127.0.0.1:{syslog_ng.line_port}", given, format=form)
        made = [lines_of(form).line(record).strip() for record in given]
        shown = [message["msg"] for message in received(syslog_ng, before, len(given))]
        assert [text.split()[-1] for text in shown] == [line.split()[-1] for line in made]
