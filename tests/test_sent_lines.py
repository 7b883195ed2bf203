"""Outputs that send lines: peers that stall, reset and vanish, headers, limits, refusals."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import effort
import hypothesis
import inprocess
import msgspec
import pytest
import syslogs
from hypothesis import strategies as st
from netlab import until

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.outputs._syslog_headers import HEADERS
from pylog.record import FlowRecord, LossRecord, Record, row_of
from pylog.testing import packet
from pylog.transports import delivery, streams
from pylog.transports.addresses import Address, address_of

LOG = Path(__file__).resolve().parents[1] / "fixtures" / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"
TLS = pytest.mark.skipif(syslogs.program("openssl") is None, reason="needs openssl")
SCHEMES = ["tcp", pytest.param("tls", marks=TLS)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> syslogs.Certificates:
    return syslogs.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[tuple[syslogs.Peer, str, dict[str, Any]]]:
    """A peer, its address, and the options to connect with."""
    scheme, options, context = request.param, {}, None
    if scheme == "tls":
        certificates: syslogs.Certificates = request.getfixturevalue("certificates")
        options, context = certificates.client(), certificates.server(clients=True)
    made = syslogs.Peer.tcp(context)
    yield made, f"{scheme}://localhost:{made.address[1]}", options
    made.close()


def marked(numbers: range, **fields: Any) -> Batch:
    made = packet(**fields)
    return Batch([msgspec.structs.replace(made, mark=number) for number in numbers])


def marks(peer: syslogs.Peer) -> list[int]:
    """The numbers of the complete lines that a peer has."""
    lines = [line for data in peer.data for line in bytes(data).split(b"\n")[:-1]]
    return [int(line.split()[0]) for line in lines]


def opened(name: str, address: str, **options: Any) -> Any:
    place = outputs.Place(address, refuse=lambda record, reason: pytest.fail(reason))
    return outputs.open(name, place, {"format": "{mark} {prefix}", **options})


@pytest.mark.parametrize("peer", SCHEMES, indirect=True)
def test_a_peer_that_resets_gets_every_record(
    peer: tuple[syslogs.Peer, str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, address, options = peer
    monkeypatch.setattr(delivery, "PAUSES_S", (0.001, 0.01))
    chance = effort.chance(address)
    made.resets = [chance.randrange(1, 5000) for _ in range(effort.number(40))]
    at = 0
    output = opened("tcp", address, **options)
    while True:
        try:
            if not made.resets and output.confirmed() == str(at):
                break
            with made.sending:
                if made.resets:
                    output.write(marked(range(at, at + 20), prefix="x" * 50))
                    at += 20
                output.commit(str(at))
            time.sleep(0.001)
        except BackendError:  # as a pipeline does: on from what was confirmed
            at = int(output._sender._reached or 0)
            output.close()
            output = opened("tcp", address, **options)
    output.close()
    until(lambda: set(marks(made)) == set(range(at)), "every record")


class Wire:
    """A stream as Delivery uses it, whose system and peer do what a list of numbers says.

    arrived   what the peer has got of all connections
    """

    arrived: list[bytes]

    def __init__(self, steps: list[int], arrived: list[bytes]) -> None:
        self._steps, self.arrived = steps, arrived
        self._data = b""
        self._taken = self.confirmed = 0
        self._ended = False

    @property
    def left(self) -> int:
        return len(self._data) - self._taken

    def _step(self) -> int:
        """What happens next: a number, 0 for the end of the connection."""
        if self._ended:
            raise EOFError
        step = self._steps.pop() if self._steps else 10**6
        if not step:
            self.abandon()
            raise ConnectionResetError(104, "Connection reset by peer")
        return step

    def put(self, data: bytes) -> int:
        self._data += data
        return len(self._data)

    def push(self) -> int:
        taken = min(self.left, self._step())
        self._taken += taken
        return taken

    def hear(self) -> None:
        self._step()

    def acknowledged(self) -> int:
        self.confirmed = min(self._taken, self.confirmed + self._step())
        return self.confirmed

    def wait(self, deadline: float) -> None:
        pass

    def abandon(self) -> None:
        """The connection ends; the peer has what was acknowledged, and a part of the rest."""
        if not self._ended:
            self.arrived.append(self._data[: (self.confirmed + self._taken) // 2])
        self._ended = True

    close = abandon


@effort.examples(400)
@hypothesis.given(st.lists(st.integers(0, 9), max_size=60), st.lists(st.integers(1, 9), min_size=1))
def test_whatever_the_connection_does_marks_are_reached_by_what_has_arrived(
    steps: list[int], counts: list[int]
) -> None:
    arrived: list[bytes] = []
    wires: list[Wire] = []

    def connect(_: float) -> Any:
        wires.append(Wire(steps, arrived))
        return wires[-1]

    def lines(data: list[bytes]) -> set[bytes]:
        return {line for part in data for line in part.split(b"\n")[:-1]}

    with mock.patch.multiple(delivery, CHUNK=20, AHEAD=30, PAUSES_S=(0.0, 0.0)):
        made = delivery.Delivery(connect, "a wire", 10)
        sent = 0
        for count in counts:
            made.put([b"%d\n" % number for number in range(sent, sent + count)])
            sent += count
            made.mark(str(sent))
            with contextlib.suppress(BackendError):
                reached = int(made.confirmed() or 0)
                there = lines([*arrived, wires[-1]._data[: wires[-1].confirmed]])
                assert {b"%d" % number for number in range(reached)} <= there
        last: str | None = None
        for _ in range(200):  # the steps come to an end
            with contextlib.suppress(BackendError):
                made.flush()
                last = made.confirmed()
        assert last == str(sent)
        made.close()
        assert lines(arrived) == {b"%d" % number for number in range(sent)}
        for part in arrived:
            numbers = [int(line) for line in part.split(b"\n")[:-1]]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize("peer", SCHEMES, indirect=True)
def test_a_peer_that_stalls_costs_no_record_and_no_memory(
    peer: tuple[syslogs.Peer, str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, address, options = peer
    monkeypatch.setattr(outputs, "LONGEST_S", 0.2)
    monkeypatch.setattr(delivery, "FULL", 1 << 18)
    output = opened("tcp", address, **options)
    output.write(marked(range(1)))
    output.commit("1")
    until(lambda: output.confirmed() == "1", "the confirmation")
    made.stalled = True
    at = 1
    with pytest.raises(BackendError, match=r"takes nothing: \d+ bytes wait"):
        while at < 10_000:
            start = time.monotonic()
            output.write(marked(range(at, at + 50), prefix="x" * 9000))
            at += 50
    assert time.monotonic() - start < 2 and output._sender._size < 1 << 20
    assert output.confirmed() == "1"
    start = time.monotonic()
    output.close()
    assert time.monotonic() - start < 0.5  # nothing is waited for after a failure
    made.stalled = False
    again = opened("tcp", address, **options)
    again.write(marked(range(1, 5)))
    again.commit("5")
    until(lambda: again.confirmed() == "5", "the confirmation")
    again.close()
    until(lambda: {*range(5)} <= set(marks(made)), "every record")


def test_nobody_listening_is_an_error_at_once_and_later() -> None:
    made = syslogs.Peer.tcp()
    port = made.address[1]
    output = opened("tcp", f"tcp://127.0.0.1:{port}")
    made.close()
    with pytest.raises(BackendError, match=rf"no tcp://127.0.0.1:{port}: Connection refused"):
        opened("tcp", f"tcp://127.0.0.1:{port}")
    output._sender._longest_s = 0.2
    with pytest.raises(BackendError, match=r"Connection refused|ended the connection|reset"):
        for number in range(100):
            output.write(marked(range(number, number + 1)))
            output.commit(str(number))
            output.confirmed()
            time.sleep(0.005)
    again = syslogs.Peer.tcp(port=port)
    with contextlib.suppress(BackendError):
        output.close()
    again.close()


def test_tls_with_a_server_that_speaks_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pylog.transports.connecting.CONNECT_S", 0.1)
    made = syslogs.Peer.tcp()
    with pytest.raises(BackendError, match="no handshake of TLS in time"):
        opened("tcp", f"tls://127.0.0.1:{made.address[1]}")
    made.close()


@TLS
def test_data_counts_as_acknowledged_by_a_server_only_when_it_has_accepted_the_client(
    certificates: syslogs.Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "GRACE_S", 0.2)
    context = certificates.server(clients=False)
    context.num_tickets = 0
    made = syslogs.Peer.tcp(context)
    output = opened("tcp", f"tls://127.0.0.1:{made.address[1]}", ca=certificates["ca.pem"])
    start = time.monotonic()
    output.write(marked(range(3)))
    output.commit("3")
    assert output.confirmed() is None
    until(lambda: output.confirmed() == "3", "the confirmation")
    assert time.monotonic() - start > 0.15
    output.close()
    until(lambda: marks(made) == [0, 1, 2], "the records")
    made.close()


# Local sockets


def test_a_local_stream_that_ends_unread_is_sent_again(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    address = f"unix:{path}"

    def listening() -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        made.listen()
        return made

    first = listening()
    output = opened("unix", address)
    accepted, _ = first.accept()
    output.write(marked(range(10)))
    output.commit("10")
    assert output.confirmed() is None  # it has taken them, but not read
    assert accepted.recv(1 << 16).count(b"\n") == 10
    assert output.confirmed() == "10"
    output.write(marked(range(10, 20)))
    output.commit("20")
    accepted.close()  # unread
    first.close()
    with pytest.raises(BackendError, match=rf"unix:{path}: Connection reset"):
        output.confirmed()
    second = syslogs.Peer(listening())
    output.write(marked(range(20, 30)))
    output.commit("30")
    until(lambda: output.confirmed() == "30", "the confirmation")
    output.close()
    until(lambda: marks(second) == [*range(10, 30)], "the records")
    second.close()


def test_local_datagrams_wait_for_the_receiver_and_find_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LONGEST_S", 0.3)
    path = tmp_path / "log"

    def listening() -> socket.socket:
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(str(path))
        return made

    receiver = listening()
    refused: list[str] = []
    place = outputs.Place(f"unix:{path}", refuse=lambda record, reason: refused.append(reason))
    output: Any = outputs.open("syslog", place, {"format": "{mark} {prefix}", "tz": "UTC"})
    output.write(marked(range(2), timestamp_ns=0, action="block"))
    first = receiver.recv(1 << 16).decode()
    assert first == f"<132>{_local_time(0)} pylog[{os.getpid()}]: 0 -"
    output.write(marked(range(2, 3), prefix="x" * 500_000))
    assert len(refused) == 1 and "more than a datagram can have" in refused[0]
    receiver.close()
    receiver = listening()
    output.write(marked(range(3, 4)))
    assert receiver.recv(1 << 16).endswith(b": 3 -") and output.reconnects == 1
    with pytest.raises(BackendError, match="takes nothing"):
        output.write(marked(range(2000)))
    receiver.close()
    path.unlink()
    with pytest.raises(BackendError, match="No such file or directory"):
        output.write(marked(range(1)))
    output.close()


def _local_time(second: int) -> str:
    return time.strftime("%b %e %H:%M:%S", time.localtime(second))


# UDP, headers and limits


def sent_as_datagrams(
    records: list[Record], refused: list[str], in_rows: bool = False, **options: Any
) -> list[str]:
    """What a receiver of UDP gets of records, or of their rows."""
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        place = outputs.Place(f"udp://127.0.0.1:{receiver.getsockname()[1]}",
                              refuse=lambda record, reason: refused.append(reason))  # fmt: skip
        output = outputs.open("syslog", place, options)
        if in_rows:
            output.write_rows([*map(row_of, records)])
        else:
            output.write(Batch(records))
        output.commit("1")
        assert output.confirmed() == "1"
        output.close()
        return [receiver.recv(1 << 16).decode() for _ in range(len(records) - len(refused))]


def test_the_header_of_rfc_5424_has_the_time_and_host_of_the_record() -> None:
    here, pid = socket.gethostname(), os.getpid()
    given: list[Record] = [
        packet(timestamp_ns=1700000061123456789, action="block"),
        packet(timestamp_ns=1700000061123456000, host="fw 1\u00e9"),
        FlowRecord("nfct", "nfct-le", observed_ns=10**18),
        LossRecord("nflog", "nfulnl-le", count=3),
    ]
    got = sent_as_datagrams(given, [], format="{kind}", facility="audit", severity="debug",
                            severities={"flow": "emerg"}, app_name="a:b")  # fmt: skip
    assert got == [
        f"<108>1 2023-11-14T22:14:21.123456Z {here} a:b {pid} packet - packet",
        f"<111>1 2023-11-14T22:14:21.123456Z fw_1_ a:b {pid} packet - packet",
        f"<104>1 2001-09-09T01:46:40.000000Z {here} a:b {pid} flow - flow",
        f"<108>1 - {here} a:b {pid} loss - loss",
    ]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("exclude", [None, "payload,saddr"])
def test_rows_give_the_messages_of_their_records(header: str, exclude: str | None) -> None:
    given: list[Record] = [
        packet(timestamp_ns=1700000061123456789, action="block", saddr="192.0.2.1"),
        packet(timestamp_ns=1700000061000000000, host="fw 1\u00e9", prefix="a\tb\x7f\u202e\n"),
        packet(observed_ns=10**18, payload=b"x", extra={"NFULA_CT": "\x1b[2J"}),
        LossRecord("nflog", "nfulnl-le", observed_ns=10**18, count=3),
    ]
    given.append(packet(timestamp_ns=10**18, prefix="x" * 1000))
    options = {"header": header, "exclude": exclude, "max_size": 1000}
    refused: list[list[str]] = [[], []]
    one, other = (sent_as_datagrams(given, refused[i], i == 1, **options) for i in range(2))
    assert one == other and len(one) == len(given) - 1
    assert refused[0] == refused[1] and len(refused[0]) == 1


def test_a_line_of_the_kernel_has_its_time_and_host_in_the_header_alone() -> None:
    given: list[Record] = [packet(timestamp_ns=10**18, prefix="drop ", host="fw1")]
    (got,) = sent_as_datagrams(given, [], format="kernel", app_name="kernel", facility="kern")
    assert got.startswith(f"<6>1 2001-09-09T01:46:40.000000Z fw1 kernel {os.getpid()} packet - drop"
                          " IN=eth0 OUT= SRC=192.0.2.1 ")  # fmt: skip


def test_rfc_3164_over_udp_has_datagrams_of_1024_bytes_at_most() -> None:
    refused: list[str] = []
    head = f"<134>{_local_time(1700000061)} fw1 pylog[{os.getpid()}]: "
    room = 1024 - len(head)
    given: list[Record] = [
        packet(timestamp_ns=1700000061123456789, prefix="x" * size) for size in (room, room + 1)
    ]
    form: dict[str, Any] = {"format": "{prefix}", "header": "rfc3164", "hostname": "fw1"}
    assert sent_as_datagrams(given, refused, **form) == [head + "x" * room]
    assert refused == ["the message has 1025 bytes, more than 1024 (max_size): exclude columns, or"
                       " choose another format or transport"]  # fmt: skip
    assert len(sent_as_datagrams(given, [], **form, max_size=2000)) == 2
    refused.clear()
    sent_as_datagrams([packet(prefix="x" * 66_000)], refused, format="{prefix}")
    assert "more than a datagram can have" in refused[0]


def test_a_datagram_that_nobody_takes_is_an_error() -> None:
    output = outputs.open("udp", outputs.Place(f"udp://127.0.0.1:{syslogs.free_port()}"))
    with pytest.raises(BackendError, match="Connection refused"):
        for _ in range(3):
            output.write(marked(range(1)))
    output.close()


def test_octets_count_the_bytes_of_a_message() -> None:
    made = syslogs.Peer.tcp()
    output = outputs.open("syslog", outputs.Place(f"tcp://127.0.0.1:{made.address[1]}"),
                          {"format": "{prefix}", "hostname": "h"})  # fmt: skip
    output.write(Batch([packet(timestamp_ns=0, prefix=text) for text in ("\u00e9\n", "10 <1>")]))
    output.close()
    until(lambda: made.data and made.data[0].endswith(b"<1>"), "the messages")
    expected = b""
    for text in ("\u00e9\\n", "10 <1>"):
        message = f"<134>1 1970-01-01T00:00:00.000000Z h pylog {os.getpid()} packet - {text}"
        expected += b"%d %b" % (len(message.encode()), message.encode())
    assert bytes(made.data[0]) == expected
    made.close()


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("name", "address", "options", "problem"),
    [
        ("syslog", "siem.example", {}, "'siem.example' is no address here: tls://HOST:PORT or"),
        ("syslog", "https://siem", {}, "is no address here"),
        ("syslog", "tls://user:geheim@siem", {}, r"'tls://\*\*\*@siem' is no address"),
        ("syslog", "tls://siem:0", {}, "no port 0"),
        ("syslog", "tls://siem:99999999999999999999", {}, "no port 99999999999999999999"),
        ("syslog", "tls://si..em", {}, "no host 'si..em'"),
        ("syslog", "tls://siem/path", {}, "is no address here"),
        ("syslog", "unix:", {}, "is no address here"),
        ("syslog", "unix:a\0b", {}, "has no NUL"),
        ("tcp", "tcp://siem", {}, "has no port: tcp://HOST:PORT"),
        ("tcp", "udp://siem:5", {}, "is no address here: tcp://HOST:PORT or tls://HOST:PORT"),
        ("udp", "tcp://siem:5", {}, "is no address here: udp://HOST:PORT"),
        ("unix", "tcp://siem:5", {}, "is no address here: unix:PATH"),
        ("syslog", "tcp://siem", {"ca": "x"}, "ca is an option of tls://, not of tcp"),
        ("syslog", "tls://siem", {"private_key": "x"}, "but no certificate"),
        ("syslog", "tls://siem", {"verify": False, "ca": "x"}, "verify is off, but"),
        ("syslog", "udp://siem", {"framing": "nul"}, "framing is of streams"),
        ("syslog", "unix:/x", {"structured_data": "[a]"}, "needs header rfc5424"),
        ("syslog", "udp://siem", {"header": "local", "structured_data": "[a]"}, "only rfc5424"),
        ("syslog", "udp://siem", {"structured_data": '[a b="]"]'}, "no structured data of RFC"),
        ("syslog", "udp://siem", {"format": "jsn"}, "no format 'jsn'; did you mean json"),
        ("syslog", "udp://siem", {"format": "ecs", "columns": "seq"}, "ecs has no option columns"),
        ("syslog", "udp://siem", {"format": "text", "tz": "Oslo"}, "no time zone 'Oslo'"),
        ("syslog", "udp://siem", {"format": "{sadr}"}, "no column 'sadr'; did you mean saddr"),
        ("syslog", "udp://siem", {"app_name": "a b"}, "app_name is 'a b', but must be 1 to 48"),
        ("syslog", "udp://siem", {"app_name": "a:b", "header": "rfc3164"}, "1 to 32 characters"),
        ("syslog", "udp://siem", {"hostname": "f w"}, "hostname is 'f w', but must be"),
        ("syslog", "udp://siem", {"severities": {"block": "loud"}}, "no severity 'loud' for block"),
        ("syslog", "udp://siem", {"severities": {"blok": "err"}}, "no action or kind 'blok'"),
        ("syslog", "udp://siem", {"facility": "local8"}, "must be one of kern, user"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error_before_anything_is_sent(
    name: str, address: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        outputs.open(name, outputs.Place(address), options)
    assert "geheim" not in str(caught.value)


def test_addresses_have_their_parts() -> None:
    ports = {"tls": 6514, "tcp": 0, "unix": 0}
    for text, address in [
        ("tls://siem", Address("tls", "siem", 6514)),
        ("tls://[2001:db8::1]:5/", Address("tls", "2001:db8::1", 5)),
        ("tcp://[fe80::1%eth0]:5", Address("tcp", "fe80::1%eth0", 5)),
        ("unix:/dev/log", Address("unix", path="/dev/log")),
        ("unix:///dev/log", Address("unix", path="/dev/log")),
        ("unix:relative", Address("unix", path="relative")),
    ]:
        assert address_of(text, ports) == address
        assert address_of(str(address), ports) == address


def test_read_sends_what_it_reads_and_says_what_it_needs() -> None:
    made = syslogs.Peer.tcp()
    address = f"tcp://127.0.0.1:{made.address[1]}"
    assert outputs.needs_raw("tcp", {"format": "ipmon"}) and not outputs.needs_raw("tcp")
    done = inprocess.text("read", "--to", "tcp", "--target", address, "--format", "ipmon", LOG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = inprocess.run("read", "--to", "ipmon", LOG).stdout
    until(lambda: bytes(made.data[-1]) == written, "the lines")
    made.close()
    done = inprocess.text("read", "--to", "tcp", "--target", address, LOG)
    assert done.returncode == 1 and done.stderr == f"pylog: no {address}: Connection refused\n"
