"""Where ipmon's lines go: syslog near and far, files that are moved away, commands."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import os
import re
import resource
import socket
import struct
import syslog as c
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest
import samples

import pylog
from pylog import BackendError, LossRecord, Record
from pylog.ipmon import deliver
from pylog.ipmon.conf import parse
from pylog.ipmon.deliver import Deliveries
from pylog.ipmon.printer import Entry, Printer
from pylog.record import to_json
from pylog.transports import sender, syslog
from pylog.transports.files import Appended
from pylog.transports.syslog import FACILITIES, LEVELS, Syslog

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
BITS = samples.FIXTURES / "ipl/v5-1-2-lp64le-bits.ipf.bin"
NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
STATE = samples.FIXTURES / "ipl/v5-1-2-lp64le-state.all.bin"


def printed(dump: Path) -> Iterator[tuple[Record, Entry]]:
    """The records of a fixture with what is printed of them."""
    printer = Printer(zone=UTC)
    with pylog.open(dump, raw=True) as reader:
        for record in reader:
            entry = printer.entry(record)
            if entry is not None:
                yield record, entry


@functools.cache
def first() -> Record:
    """A record; which one does not matter."""
    return next(printed(FILTER))[0]


def entry(line: str = "a line", level: int = c.LOG_INFO, missed: str = "") -> Entry:
    return Entry(missed, line, level, [], b"raw bytes")


def rules(actions: str, criteria: str = "every packet") -> str:
    return f"match {{ {criteria} ; }} do {{ {actions} ; }} ;\n"


@contextlib.contextmanager
def delivering(text: str, to: Syslog | None = None) -> Iterator[tuple[Deliveries, io.BytesIO]]:
    """Deliveries by a configuration, and what else goes to the default output."""
    output = io.BytesIO()
    with Deliveries(output, to, rules=parse(text)) as deliveries:
        yield deliveries, output


# Servers


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where a syslog's socket may be."""
    return str(tmp_path / "log")


@contextlib.contextmanager
def datagrams(path: str) -> Iterator[socket.socket]:
    """A syslog as syslogd has it; its socket is removed at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(10)
        yield server
    os.unlink(path)


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    """A syslog over TCP."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(10)
        yield server


def over_tcp(server: socket.socket) -> str:
    return f"tcp:127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def accepted(server: socket.socket) -> Iterator[BinaryIO]:
    """What the next peer sends."""
    peer, _ = server.accept()
    peer.settimeout(10)
    with peer, peer.makefile("rb") as stream:
        yield stream


def waiting(server: socket.socket) -> list[bytes]:
    """The datagrams that have come."""
    found = []
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(server.recv(1 << 16))
    return found


LOCAL = re.compile(
    r"<(?P<pri>\d{1,3})>(?P<time>[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d) (?P<ident>[^\[]+)"
    r"\[(?P<pid>\d+)\]: (?P<line>.*)",
    re.S,
)
RFC_5424 = re.compile(
    r"<(?P<pri>0|[1-9]\d{0,2})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"
    r" (?P<host>[!-~]{1,255}) (?P<ident>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) - - (?P<line>.*)",
    re.S,
)


class Told(NamedTuple):
    """A message to a syslog, taken apart."""

    pri: int
    line: str


def told(message: bytes, form: re.Pattern[str] = LOCAL, ident: str = "ipmon") -> Told:
    match = form.fullmatch(message.decode())
    assert match is not None, message
    assert (match["ident"], match["pid"]) == (ident, str(os.getpid()))
    return Told(int(match["pri"]), match["line"])


def frame(stream: BinaryIO) -> bytes | None:
    """A message of a stream, as RFC 6587 counts its octets; None at the end or where it is cut."""
    size = b""
    while not size.endswith(b" "):
        octet = stream.read(1)
        if not octet:
            return None
        size += octet
        assert re.fullmatch(rb"[1-9]\d* ?", size), size
    message = stream.read(int(size))
    return message if len(message) == int(size) else None


def frames(stream: BinaryIO) -> list[str]:
    """The lines of all whole messages to the end."""
    return [told(message, RFC_5424).line for message in iter(lambda: frame(stream), None)]


# The machine's own syslog


def test_the_local_form_is_that_of_syslog_3(place: str) -> None:
    with datagrams(place) as server:
        to = Syslog(place, "local3", "fire wall")
        before = time.time()
        to.send("em0 @0:1 p 10.0.0.1 -> 10.0.0.2 PR tcp: [x]", c.LOG_WARNING)
        message = server.recv(4096)
        to.close()
    assert told(message, ident="fire wall") == (
        c.LOG_LOCAL3 | c.LOG_WARNING, "em0 @0:1 p 10.0.0.1 -> 10.0.0.2 PR tcp: [x]",
    )  # fmt: skip
    match = LOCAL.fullmatch(message.decode())
    assert match is not None
    # time(2) is that of the last tick of the kernel's clock, and may be in the second before
    moments = [time.localtime(before + seconds) for seconds in range(-1, 5)]
    assert match["time"] in [
        f"{time.strftime('%b', at)} {at.tm_mday:2} {time.strftime('%H:%M:%S', at)}"
        for at in moments
    ]


@pytest.mark.parametrize("line", ["", "é ✓", " a  b ", "<7>x[1]:", "x" * 20_000])
def test_a_line_comes_as_it_is(place: str, line: str) -> None:
    with datagrams(place) as server, contextlib.closing(Syslog(place)) as to:
        to.send(line, c.LOG_INFO)
        assert told(server.recv(1 << 16)).line == line


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("em\udcff0", r"em\udcff0"),
        ("one\n<0>two", r"one\n<0>two"),
        ("\x1b[2J\r\0\x7f\x85\u202e", r"\x1b[2J\r\x00\x7f\x85\u202e"),
    ],
)
def test_what_no_line_may_have_is_escaped(place: str, line: str, found: str) -> None:
    with datagrams(place) as server, contextlib.closing(Syslog(place)) as to:
        to.send(line, c.LOG_INFO)
        assert told(server.recv(1 << 16)).line == found


def test_facilities_and_levels_are_those_of_the_systems_header(place: str) -> None:
    numbers = {name: getattr(c, f"LOG_{name.upper()}", None) for name in (*FACILITIES, *LEVELS)}
    expected = {name for name, number in numbers.items() if number is not None}
    assert {"kern", "user", "auth", "local0", "local7", "emerg", "err", "debug"} <= expected
    with datagrams(place) as server:
        for facility, level in itertools.product(expected & {*FACILITIES}, expected & {*LEVELS}):
            with contextlib.closing(Syslog(place, facility)) as to:
                to.send("x", LEVELS[level])
            pri = numbers[facility] | numbers[level]  # type: ignore[operator]
            assert told(server.recv(4096)).pri == pri


@pytest.mark.parametrize(
    ("level", "pri"),
    [
        (c.LOG_INFO, c.LOG_LOCAL2 | c.LOG_INFO),
        (c.LOG_EMERG, c.LOG_LOCAL2 | c.LOG_EMERG),
        (c.LOG_DEBUG, c.LOG_LOCAL2 | c.LOG_DEBUG),
        (c.LOG_USER | c.LOG_EMERG, c.LOG_USER | c.LOG_EMERG),
        (c.LOG_LOCAL7 | c.LOG_DEBUG, c.LOG_LOCAL7 | c.LOG_DEBUG),
    ],
)
def test_the_facility_of_a_rules_level_goes_first(place: str, level: int, pri: int) -> None:
    with datagrams(place) as server, contextlib.closing(Syslog(place, "local2")) as to:
        to.send("x", level)
        assert told(server.recv(4096)).pri == pri


def test_every_priority_of_a_real_log_is_one_of_syslogs(place: str) -> None:
    with datagrams(place) as server, contextlib.closing(Syslog(place)) as to:
        found = {}
        for _, made in printed(BITS):
            to.send(made.line, made.level)
            found[made.level] = told(server.recv(4096)).pri
    assert found[c.LOG_DAEMON | c.LOG_INFO] == c.LOG_DAEMON | c.LOG_INFO
    assert found[c.LOG_NOTICE] == c.LOG_LOCAL0 | c.LOG_NOTICE
    assert len(found) > 10 and max(found.values()) <= 191


def test_the_usual_socket_is_one_that_there_is(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "SOCKETS", (str(tmp_path / "none"), place))
    with pytest.raises(BackendError, match=f"no syslog at {tmp_path}/none or {place}: No such"):
        Syslog()
    with datagrams(place) as server, contextlib.closing(Syslog()) as to:
        to.send("x", c.LOG_INFO)
        assert told(server.recv(4096)) == (c.LOG_LOCAL0 | c.LOG_INFO, "x")


def test_a_stream_socket_gets_lines_that_can_be_told_apart(place: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(place)
        server.listen()
        server.settimeout(10)
        to = Syslog(place)
        with accepted(server) as stream:
            to.send("one", c.LOG_INFO)
            to.send("two", c.LOG_ERR)
            to.close()
            parts = [part for part in re.split(rb"[\0\n]", stream.read()) if part]
    assert [told(part).line for part in parts] == ["one", "two"]


def test_a_syslog_may_come_back_with_another_kind_of_socket(place: str) -> None:
    with datagrams(place):
        to = Syslog(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(place)
        server.listen()
        server.settimeout(10)
        to.send("one", c.LOG_INFO)
        to.send("two", c.LOG_INFO)
        to.close()
        with accepted(server) as stream:
            parts = [part for part in re.split(rb"[\0\n]", stream.read()) if part]
    assert [told(part).line for part in parts] == ["one", "two"] and to.dropped == 0


@pytest.mark.parametrize("where", ["udp:", "UDP:host", "tcp:::1", "udp:[::1", "foo:bar", "udp:h:",
                                   "udp:127.0.0.1:123456", "udp:127.0.0.1:65536",
                                   "tcp:127.0.0.1:99999", "udp:127.0.0.1:٣", "udp:a..b",
                                   f"udp:{'a' * 64}"])  # fmt: skip
def test_a_place_that_makes_no_sense_is_a_value_error(where: str) -> None:
    with pytest.raises(ValueError):
        Syslog(where).close()


def test_an_unknown_facility_is_refused_with_those_that_there_are(place: str) -> None:
    with pytest.raises(ValueError, match=r"no syslog facility 'local8'; there are kern, user,"):
        Syslog(place, "local8")


@pytest.mark.parametrize("where", ["{}/none", "{}", "tcp:127.0.0.1:{}", "{}/" + "x" * 200])
def test_where_nobody_listens_is_told_at_once(tmp_path: Path, where: str) -> None:
    with listening() as server:
        port = server.getsockname()[1]
    where = where.format(port if where.startswith("tcp") else tmp_path)
    with pytest.raises(BackendError, match=f"^no syslog at {re.escape(where)}: ."):
        Syslog(where)


@pytest.mark.parametrize(
    ("where", "host", "port", "kind"),
    [
        ("udp:log.example", "log.example", 514, socket.SOCK_DGRAM),
        ("udp:192.0.2.1:5514", "192.0.2.1", 5514, socket.SOCK_DGRAM),
        ("tcp:log.example:601", "log.example", 601, socket.SOCK_STREAM),
        ("tcp:[2001:db8::1]", "2001:db8::1", 514, socket.SOCK_STREAM),
        ("udp:[2001:db8::1]:65535", "2001:db8::1", 65535, socket.SOCK_DGRAM),
    ],
)
def test_a_place_is_a_host_and_a_port(
    monkeypatch: pytest.MonkeyPatch, where: str, host: str, port: int, kind: socket.SocketKind
) -> None:
    asked = []

    def resolve(*place: object, **how: object) -> None:
        asked.append((*place, how["type"]))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BackendError, match=r": Name or service not known$"):
        Syslog(where)
    assert asked == [(host, port, kind)]


# Another machine's


def test_a_datagram_has_the_form_of_rfc_5424() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        where = f"udp:127.0.0.1:{server.getsockname()[1]}"
        with contextlib.closing(Syslog(where, "authpriv", "fw")) as to:
            lines = ["a line, with é", "", " blanks ", "[x] <1>", "y" * 9000]
            for line in lines:
                to.send(line, c.LOG_CRIT)
            messages = [server.recv(1 << 16) for _ in lines]
        assert [told(message, RFC_5424, "fw") for message in messages] == [
            (c.LOG_AUTHPRIV | c.LOG_CRIT, line) for line in lines
        ]
        match = RFC_5424.fullmatch(messages[0].decode())
        assert match is not None and match["host"] == socket.gethostname()
        age = datetime.now(UTC) - datetime.fromisoformat(match["time"])
        assert 0 <= age.total_seconds() < 60 and to.dropped == 0


def test_a_stream_has_its_octets_counted() -> None:
    lines = ["one", "", "12 <34>1 x", "\\n", "é✓", "z" * 100_000, "last"]
    with listening() as server:
        to = Syslog(over_tcp(server))
        with accepted(server) as stream:
            found = []
            for line in lines:
                to.send(line, c.LOG_INFO)
                message = frame(stream)
                assert message is not None
                found.append(told(message, RFC_5424))
            to.close()
            assert stream.read() == b""
    assert found == [(c.LOG_LOCAL0 | c.LOG_INFO, line) for line in lines]


def test_all_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as closed:
        dead = closed.getsockname()
    with listening() as server:
        address = server.getsockname()
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(*kind, dead), (*kind, address)]
        )
        with contextlib.closing(Syslog("tcp:log.example:601")) as to:
            to.send("here", c.LOG_INFO)
        with accepted(server) as stream:
            assert frames(stream) == ["here"]


# What cannot be delivered


def test_a_syslog_that_was_started_again_gets_the_next_line(place: str) -> None:
    with datagrams(place) as server:
        to = Syslog(place)
        to.send("one", c.LOG_INFO)
        assert told(server.recv(4096)).line == "one"
    with datagrams(place) as server:
        to.send("two", c.LOG_INFO)
        to.send("three", c.LOG_INFO)
        assert [told(message).line for message in waiting(server)] == ["two", "three"]
    assert to.dropped == 0
    to.close()


def test_no_line_to_a_peer_that_was_started_again_is_lost_in_silence() -> None:
    with listening() as server:
        port = server.getsockname()[1]
        to = Syslog(over_tcp(server))
        with accepted(server) as stream:
            to.send("0", c.LOG_INFO)
            message = frame(stream)
            assert message is not None and told(message, RFC_5424).line == "0"
    with listening(port) as server:
        for number in range(1, 5):
            to.send(f"{number}", c.LOG_INFO)
            time.sleep(0.01)  # what the peer answers comes in
        to.close()
        with accepted(server) as stream:
            found = frames(stream)
    assert len(found) + to.dropped == 4


def test_a_connection_that_is_reset_is_made_anew() -> None:
    with listening() as server:
        to = Syslog(over_tcp(server))
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        time.sleep(0.01)
        to.send("again", c.LOG_INFO)
        to.close()
        with accepted(server) as stream:
            assert frames(stream) == ["again"] and to.dropped == 0


# Files


def test_a_file_is_appended_to_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"before\n")
    file = Appended(str(path))
    file.write(b"one\n")
    assert path.read_bytes() == b"before\none\n"
    file.write(b"")
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"before\none\ntwo\n"


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "x.log", tmp_path / "x.log.0"
    file = Appended(str(path))
    file.write(b"one\n")
    path.rename(old)
    file.write(b"two\n")
    assert not path.exists()
    file.reopen()
    file.write(b"three\n")
    file.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


@pytest.mark.parametrize(
    ("name", "said"), [("", "Is a directory"), ("none/x", "No such file"), ("file/x", "Not a dir")]
)
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / name)
    with pytest.raises(BackendError, match=f"^cannot write {re.escape(path)}: {said}"):
        Appended(path)
    with pytest.raises(BackendError, match=f"^cannot write {re.escape(path)}: {said}"):
        Deliveries(None, rules=parse(rules(f'file("{path}")')))


def test_a_full_disk_is_told_with_the_files_name() -> None:
    file = Appended("/dev/full")
    with pytest.raises(
        BackendError, match=r"^cannot write /dev/full: No space left on device; 0 records written$"
    ):
        file.write(b"x")
    file.close()


def test_a_part_of_a_record_that_does_not_fit_into_a_file_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "x"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.closing(Appended(str(path))) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            file.write(b"a" * 300)
            with pytest.raises(
                BackendError, match=f"^cannot write {path}: File too large; 1 record "
            ):
                file.write(b"a" * 1500)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        file.write(b"b")
    assert path.read_bytes() == b"a" * 300 + b"b"


def test_a_fifo_whose_reader_went_is_told(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = Appended(str(fifo))
    file.write(b"read\n")
    assert os.read(reader, 100) == b"read\n"
    os.close(reader)
    with pytest.raises(BackendError, match=f"^cannot write {fifo}: Broken pipe; 1 record written$"):
        file.write(b"not read\n")
    file.close()


def test_a_file_that_cannot_be_opened_again_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = Appended(str(folder / "x"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(BackendError, match=f"^cannot write {folder}/x: No such file"):
        file.reopen()
    file.write(b"x\n")
    folder.mkdir()
    file.reopen()
    file.write(b"y\n")
    file.close()
    assert (tmp_path / "moved/x").read_bytes() == b"x\n"
    assert (folder / "x").read_bytes() == b"y\n"


# Rules


def test_the_default_output_gets_what_no_rule_is_for(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    with delivering(rules(f'file("{blocked}")', "result = block")) as (deliveries, output):
        made = list(printed(FILTER))
        for record, text in made:
            deliveries.deliver(record, text)
        deliveries.flush()
    said = [bool(re.search(r" S?b ", text.line)) for _, text in made]
    lines = [text.line for _, text in made]
    missed = [text.missed for _, text in made if text.missed]
    assert any(said) and not all(said)
    assert blocked.read_text().splitlines() == list(itertools.compress(lines, said))
    others = itertools.compress(lines, [not blocked for blocked in said])
    rest = output.getvalue().decode().splitlines()
    assert [line for line in rest if line not in missed] == list(others)


def test_without_rules_all_of_an_entry_goes_to_the_output() -> None:
    printer = Printer(zone=UTC, header=True, packet=True)
    output = io.BytesIO()
    texts = []
    with Deliveries(output) as deliveries, pylog.open(NAT, raw=True) as reader:
        for record in reader:
            made = printer.entry(record)
            assert made is not None
            deliveries.deliver(record, made)
            texts.append(made.text())
    assert output.getvalue() == b"".join(texts) and b"\n4d 4c 50 49 " in texts[0]


def test_all_rules_are_tried_and_every_action_is_done(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    a, b, other, d = (str(tmp_path / name) for name in names)
    text = (
        rules(f'file("{a}") , save "file://{b}"')
        + rules(f'file("{other}")', "type = nat")
        + rules(f'save "file://{b}" , save "raw://{d}" , nothing', "type = ipf")
    )
    with delivering(text) as (deliveries, output):
        deliveries.deliver(first(), entry("one", missed="missed 7"))
        deliveries.deliver(first(), entry("two"))
    found = [(tmp_path / name).read_bytes() for name in names]
    assert found == [b"one\ntwo\n", b"one\none\ntwo\ntwo\n", b"", b"raw bytes" * 2]
    assert output.getvalue() == b"missed 7\n"


def test_nothing_keeps_a_record_from_the_output() -> None:
    with delivering(rules("nothing", "type = nat")) as (deliveries, output):
        made = list(printed(NAT))
        for record, text in made:
            deliveries.deliver(record, text)
    others = [t.line for _, t in made if not re.search(" @[^ ]+ (NAT:|Type:)", t.line)]
    lines = output.getvalue().decode().splitlines()
    assert [line for line in lines if not line.startswith("missed ")] == others
    assert 0 < len(others) < len(made)


def test_a_rule_that_lets_one_of_three_through_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with delivering(rules(f'file("{path}")', "every 3 packets")) as (deliveries, output):
        for number in range(7):
            deliveries.deliver(first(), entry(f"{number}"))
    assert path.read_text().split() == ["0", "3", "6"]
    assert output.getvalue().split() == [b"1", b"2", b"4", b"5"]


def test_new_rules_take_the_place_of_the_old(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with delivering(rules(f'file("{old}")')) as (deliveries, output):
        deliveries.deliver(first(), entry("one"))
        deliveries.use(parse(rules(f'file("{new}")')))
        deliveries.deliver(first(), entry("two"))
        deliveries.use([])
        deliveries.deliver(first(), entry("three"))
    assert (old.read_bytes(), new.read_bytes()) == (b"one\n", b"two\n")
    assert output.getvalue() == b"three\n"


def test_rules_whose_file_cannot_be_written_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with delivering(rules(f'file("{path}")')) as (deliveries, output):
        with pytest.raises(BackendError, match=r"^cannot write /none/such: No such file"):
            deliveries.use(parse(rules('file("/none/such")')))
        deliveries.deliver(first(), entry("one"))
    assert path.read_bytes() == b"one\n" and output.getvalue() == b""


def test_a_file_that_no_rule_names_any_more_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with delivering(rules(f'file("{path}")')) as (deliveries, _):
        deliveries.use([])
        path.unlink()
        deliveries.reopen()
        assert not path.exists()


def test_all_files_are_opened_again(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("output", "copy", "text", "raw")]
    text = rules(f'file("{paths[2]}") , save "raw://{paths[3]}"', "every 2 packets")
    output, copy = Appended(str(paths[0])), Appended(str(paths[1]))
    with Deliveries(output, copy=copy, rules=parse(text)) as deliveries:
        for number in range(4):
            deliveries.deliver(first(), entry(f"{number}"))
            if number == 1:
                for path in paths:
                    path.rename(f"{path}.0")
                deliveries.reopen()
    output.close()
    copy.close()
    assert [Path(f"{path}.0").read_bytes() for path in paths] == [
        b"1\n", b"raw bytes" * 2, b"0\n", b"raw bytes",
    ]  # fmt: skip
    assert [path.read_bytes() for path in paths] == [
        b"3\n", b"raw bytes" * 2, b"2\n", b"raw bytes",
    ]  # fmt: skip


@pytest.mark.parametrize("dump", [FILTER, BITS, NAT, STATE], ids=lambda dump: str(dump.name))
def test_a_raw_copy_is_a_log_again(tmp_path: Path, dump: Path) -> None:
    copy, selected = tmp_path / "copy.bin", tmp_path / "some.bin"
    text = rules(f'save "raw://{selected}"', "srcip = 10.0.0.0/8")
    appended = Appended(str(copy))
    with Deliveries(io.BytesIO(), copy=appended, rules=parse(text)) as deliveries:
        for record, made in printed(dump):
            deliveries.deliver(record, made)
    appended.close()
    assert copy.read_bytes() == dump.read_bytes()
    with pylog.open(copy) as reader:
        assert b"".join(to_json(record) + b"\n" for record in reader) == samples.golden(dump)
    with pylog.open(dump) as reader:
        wanted = [r for r in reader if not isinstance(r, LossRecord)
                  and any((getattr(r, name, None) or "").startswith("10.")
                          for name in ("saddr", "nat_saddr"))]  # fmt: skip
    with pylog.open(selected, layout="ipl-5.1.2-lp64le") as reader:
        found = [record for record in reader if not isinstance(record, LossRecord)]
    assert [(r.timestamp_ns, r.seq) for r in found] == [(r.timestamp_ns, r.seq) for r in wanted]
    assert found


@pytest.mark.parametrize("name", ["batch", "damaged", "snap40"])
def test_records_of_linux_match_as_what_ipfilter_would_log(tmp_path: Path, name: str) -> None:
    inward, outward, raw = (tmp_path / name for name in ("in", "out", "raw"))
    text = (
        rules(f'file("{inward}") , save "raw://{raw}"', "type = ipf , direction = in")
        + rules(f'file("{outward}") , save "raw://{raw}"', "result = log , direction = out")
        + rules("nothing", "type = nat")
        + rules("nothing", "type = state")
    )
    with delivering(text) as (deliveries, output):
        lines = []
        for record, made in printed(samples.FIXTURES / f"nflog/{name}.bin"):
            deliveries.deliver(record, made)
            lines.append(made.line)
    assert inward.read_text().splitlines() == [x for x in lines if re.search(r" IN\b", x)]
    assert outward.read_text().splitlines() == [x for x in lines if re.search(r" OUT\b", x)]
    rest = [x for x in output.getvalue().decode().splitlines() if not x.startswith("missed ")]
    assert rest == [x for x in lines if not re.search(r" (IN|OUT)\b", x)]
    with pylog.open(raw, layout="ipl-5.1.2-lp64le") as reader:
        again = [r for r in reader if not isinstance(r, LossRecord)]
    assert len(again) == len(lines) - len(rest) > 10


# Syslog by rules


@pytest.mark.parametrize(
    ("action", "level", "pri"),
    [
        ("syslog", c.LOG_WARNING, c.LOG_LOCAL2 | c.LOG_WARNING),
        ("syslog", c.LOG_DAEMON | c.LOG_INFO, c.LOG_DAEMON | c.LOG_INFO),
        ('syslog "err"', c.LOG_INFO, c.LOG_LOCAL2 | c.LOG_ERR),
        ('syslog "emerg"', c.LOG_INFO, c.LOG_LOCAL2 | c.LOG_EMERG),
        ('syslog "local5.alert"', c.LOG_WARNING, c.LOG_LOCAL5 | c.LOG_ALERT),
        ('syslog("daemon.debug")', c.LOG_LOCAL7 | c.LOG_INFO, c.LOG_DAEMON | c.LOG_DEBUG),
        ('syslog("user.emerg")', c.LOG_INFO, c.LOG_USER | c.LOG_EMERG),
        ('syslog("local7.debug")', c.LOG_EMERG, c.LOG_LOCAL7 | c.LOG_DEBUG),
        ('syslog "kern.err"', c.LOG_INFO, c.LOG_KERN | c.LOG_ERR),
    ],
)
def test_an_actions_facility_and_level_take_the_place_of_the_rules(
    place: str, action: str, level: int, pri: int
) -> None:
    with (
        datagrams(place) as server,
        delivering(rules(action), Syslog(place, "local2")) as (deliveries, output),
    ):
        deliveries.deliver(first(), entry("to syslog", level, "missed 3"))
        assert [told(message) for message in waiting(server)] == [(pri, "to syslog")]
        assert output.getvalue() == b"missed 3\n"


def test_without_an_output_all_goes_to_syslog(place: str) -> None:
    text = entry("a line", c.LOG_LOCAL4 | c.LOG_ERR, "missed 7")._replace(dumps=["00 01", "02"])
    with datagrams(place) as server:
        with Deliveries(None, Syslog(place), rules=parse(rules("nothing", "type = nat"))) as all_:
            all_.deliver(first(), text)
            all_.flush()
            all_.reopen()
        found = [told(message) for message in waiting(server)]
    assert found == [
        (c.LOG_LOCAL0 | c.LOG_WARNING, "missed 7"), (c.LOG_LOCAL4 | c.LOG_ERR, "a line"),
        (c.LOG_LOCAL0 | c.LOG_INFO, "00 01"), (c.LOG_LOCAL0 | c.LOG_INFO, "02"),
    ]  # fmt: skip


def test_a_rule_for_syslog_finds_the_machines_own(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "SOCKETS", (place,))
    with (
        pytest.raises(BackendError, match=r"^no syslog at "),
        delivering(rules("syslog") * 2),
    ):
        pass
    with datagrams(place) as server, delivering(rules("syslog") * 2) as (deliveries, output):
        deliveries.deliver(first(), entry("x", c.LOG_NOTICE))
        assert [told(m) for m in waiting(server)] == [(c.LOG_LOCAL0 | c.LOG_NOTICE, "x")] * 2
        assert output.getvalue() == b""


def test_a_rule_for_syslog_connects_as_it_is_told_and_once(place: str) -> None:
    made = []

    def connect() -> Syslog:
        made.append(Syslog(place, "local6"))
        return made[-1]

    text = rules("syslog , syslog") + rules("syslog", "type = nat")
    with datagrams(place) as server:
        with Deliveries(None, connect=connect) as deliveries:
            assert made == []
            deliveries.use(parse(text))
            deliveries.use(parse(text))
            deliveries.deliver(first(), entry("x", c.LOG_ERR))
        assert [told(m) for m in waiting(server)] == [(c.LOG_LOCAL6 | c.LOG_ERR, "x")] * 2
    assert len(made) == 1


def test_the_lines_that_syslog_did_not_take_are_told_at_the_end(
    place: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "PATIENCE_S", 0.1)
    with datagrams(place):
        to = Syslog(place)
    with caplog.at_level(logging.WARNING, "pylog"), Deliveries(None, to) as deliveries:
        for _ in range(3):
            deliveries.deliver(first(), entry())
        assert caplog.messages == [] and not deliveries.failed
    assert deliveries.failed
    assert caplog.messages[-1] == (
        f"syslog at {place}: 3 of 3 lines not delivered (No such file or directory)"
    )


def test_the_end_of_the_deliveries_ends_the_connection() -> None:
    with listening() as server:
        with Deliveries(None, Syslog(over_tcp(server))) as deliveries:
            deliveries.deliver(first(), entry("the last"))
        with accepted(server) as stream:
            assert frames(stream) == ["the last"]


# Commands


def test_a_command_gets_the_line_on_its_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with delivering(rules(f'execute "cat >> {path}; echo . >> {path}"')) as (deliveries, output):
        deliveries.deliver(first(), entry("one, with é"))
        deliveries.deliver(first(), entry(b"em\xff0".decode("utf-8", "surrogateescape")))
    assert path.read_bytes() == "one, with é\n.\n".encode() + b"em\xff0\n.\n"
    assert output.getvalue() == b""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cat >/dev/null; exit 3", "exit status 3"),
        ("exec /none/such 2>/dev/null", "exit status 127"),
        ("sleep 20", "timed out"),
        ("exec <&-; exec sleep 20", "timed out"),
        ("kill -9 $$", "-9"),
    ],
)
def test_a_command_that_goes_wrong_is_noted_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    command: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(deliver, "PATIENCE_S", 0.3)
    path = tmp_path / "x"
    started = time.monotonic()
    with (
        caplog.at_level(logging.WARNING, "pylog"),
        delivering(rules(f'execute "{command}" , file("{path}")')) as (deliveries, _),
    ):
        deliveries.deliver(first(), entry("one"))
        deliveries.deliver(first(), entry("two"))
    assert time.monotonic() - started < 15
    assert path.read_bytes() == b"one\ntwo\n"
    assert len(caplog.messages) == 2
    assert all(repr(command) in text and said in text for text in caplog.messages)


@pytest.mark.parametrize("command", ["true", "exec <&-", "head -c 1 >/dev/null"])
def test_a_command_need_not_read_its_line(caplog: pytest.LogCaptureFixture, command: str) -> None:
    with (
        caplog.at_level(logging.WARNING, "pylog"),
        delivering(rules(f'execute "{command}"')) as (deliveries, _),
    ):
        deliveries.deliver(first(), entry("x" * 1_000_000))
    assert caplog.messages == []


def gone(process: int) -> bool:
    """Whether a process has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def until(true: Callable[[], bool], seconds: float = 2.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def test_what_a_command_that_hangs_has_started_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "PATIENCE_S", 0.3)
    path = tmp_path / "pid"
    with delivering(rules(f'execute "sleep 6 & echo $! > {path}; wait"')) as (deliveries, _):
        deliveries.deliver(first(), entry())
    assert until(lambda: gone(int(path.read_text())))


def test_text_and_records_do_not_go_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "link").symlink_to(path)
    both = rules(f'save "file://{path}"') + rules(f'save "raw://{tmp_path}/link"')
    with pytest.raises(BackendError, match="one file for text and for records"):
        Deliveries(io.BytesIO(), rules=parse(both))
    with pytest.raises(BackendError, match="one file for text and for records"):
        Deliveries(Appended(str(path)), copy=Appended(str(path)))
    Deliveries(Appended(os.devnull), copy=Appended(os.devnull)).close()
