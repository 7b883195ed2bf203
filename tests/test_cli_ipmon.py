"""`pylog ipmon` as scripts use it that were made for ipmon(8): options, signals, files, syslog."""

from __future__ import annotations

import os
import pty
import re
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType

import inprocess
import netlab
import pytest
import samples
from fusedev import FIONREAD, SIOCIPFFB, Mount
from netlab import until

import pylog
from pylog.transports.syslog import SOCKETS

IPL = samples.FIXTURES / "ipl"
FILTER = IPL / "v5-1-2-lp64le-filter.ipf.bin"
UNNUMBERED = IPL / "v4-1-35-lp64le-filter.ipf.bin"
BITS = IPL / "v5-1-2-lp64le-bits.ipf.bin"
NAT = IPL / "v5-1-2-lp64le-nat.all.bin"
STATE = IPL / "v5-1-2-lp64le-state.all.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"

IPMON = [sys.executable, "-m", "pylog", "ipmon"]


def patched(patch: str) -> list[str]:
    """The command after lines of Python that change something under it."""
    main = "import sys\nfrom pylog.cli import main\nsys.exit(main(['ipmon', *sys.argv[1:]]))"
    return [sys.executable, "-c", f"{patch}\n{main}"]


QUICK = """
from pylog import input
from pylog.cli import _ipmon
input.PATIENCE_S, _ipmon.LOOK_S = 0.1, 0.05
"""
"""Decides sooner what a short log is, and looks more often whether SIGHUP came."""
IPMON_QUICK = patched(QUICK)
GMT = {**os.environ, "TZ": "GMT"}
LOCAL0 = 16 << 3
LEVELS = {"p": 5, "b": 4, "L": 6, "n": 5, "?": 0, "Sp": 3, "Sb": 4}
"""Severities of the actions' letters, as print_ipflog() of ipmon.c has them."""

needs_lab = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
needs_fuse = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="needs Linux, root and /dev/fuse",
)

Process = subprocess.Popen[bytes]
Start = Callable[..., Process]
Done = subprocess.CompletedProcess[bytes]


def ipmon(*arguments: object, zone: str = "GMT", stdin: Path = Path(os.devnull)) -> Done:
    """What the command does, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        done = inprocess.run("ipmon", *arguments, stdin=stdin)
    time.tzset()
    return done


def text(dump: Path) -> list[bytes]:
    """What the real ipmon printed of the dump."""
    return dump.with_suffix(".txt").read_bytes().splitlines(keepends=True)


def records(dump: Path) -> list[bytes]:
    """The dump's records; the first line of the text of a numbered one tells a gap before them."""
    with pylog.open(dump, raw=True) as reader:
        found = [record.raw for record in reader if record.raw]
    assert b"".join(found) == dump.read_bytes()
    return found


def log_of(line: bytes) -> str:
    """The log that a line is of."""
    if re.search(rb" NAT:| NAT log", line):
        return "nat"
    return "state" if re.search(rb" STATE:| Type: | state log", line) else "ipf"


def undated(line: bytes) -> str:
    """A line as ipmon sends it to syslog."""
    return re.sub(r"^\d\d/\d\d/\d{4} ", "", line.decode().rstrip("\n"))


def failed(done: Done, *statuses: int) -> str:
    """What a command said that failed in an orderly way."""
    said = done.stderr.decode()
    assert done.returncode in statuses and "Traceback" not in said, said
    return said


def append(path: Path, *data: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(data))


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def holds(path: Path, lines: list[bytes]) -> None:
    """Wait until the file is these lines."""
    wanted = b"".join(lines)
    with suppress(AssertionError):
        until(lambda: content(path) == wanted, str(path))
    assert content(path).splitlines(keepends=True) == lines


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where `start` lets standard output go."""
    return tmp_path / "stdout"


@pytest.fixture
def err(tmp_path: Path) -> Path:
    """Where `start` lets standard error go."""
    return tmp_path / "stderr"


@pytest.fixture
def start(out: Path, err: Path) -> Iterator[Start]:
    """Starts the command, which is ended with the test at the latest."""
    with ExitStack() as stack:

        def make(*arguments: str | Path, command: list[str] = IPMON_QUICK) -> Process:
            streams = [stack.enter_context(path.open("ab")) for path in (out, err)]
            process = subprocess.Popen([*command, *map(str, arguments)], env=GMT,
                                       stdin=subprocess.DEVNULL, stdout=streams[0],
                                       stderr=streams[1])  # fmt: skip
            stack.callback(kill, process)
            return process

        yield make


def kill(process: Process) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(10)


def hang_up(process: Process) -> None:
    process.send_signal(signal.SIGHUP)


# Wrong usage


@pytest.mark.skipif(os.path.exists("/dev/ipl"), reason="there is a /dev/ipl here")
@pytest.mark.skipif(sys.platform != "linux", reason="the device of that system")
def test_without_ipfilter_and_options_it_is_said_what_to_name() -> None:
    said = failed(ipmon(), 1)
    assert said.startswith("pylog: there is no /dev/ipl: Linux has no IPFilter")
    assert "-f, -N and -S name files, -f also nflog:GROUP" in said


@pytest.mark.skipif(os.path.exists("/dev/ipl"), reason="there is a /dev/ipl here")
@pytest.mark.skipif(sys.platform != "linux", reason="the device of that system")
def test_the_packet_log_is_left_when_others_are_turned_off() -> None:
    assert "there is no /dev/ipl" in failed(ipmon("-O", "NS"), 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "X"], "no log 'X'; there are N, S and I"),
        (["-o", "NQ"], "no log 'Q'"),
        (["-O", "n"], "no log 'n'"),
        (["-f", str(FILTER), "-O", "I"], "no log is left to be read"),
        (["-s", "-L", "local8", "-f", str(FILTER)], "no syslog facility 'local8'"),
        (["-L", "local8", "-f", str(FILTER)], "no syslog facility 'local8'"),
        (["-s", "--syslog-to", "http:host", "-f", str(FILTER)], "no syslog 'http:host'"),
        (["-s", "--syslog-to", "/no/such/log", "-f", str(FILTER)], "no syslog at /no/such/log"),
        (["-f", "/no/such/file"], "cannot open /no/such/file: No such file or directory"),
        (["-f", str(FILTER), "-N", "/no/such/file"], "cannot open /no/such/file"),
        (["-f", str(IPL)], f"{IPL} is a directory; name a file in it"),
        (
            ["-f", str(samples.FIXTURES / "ORIGINS.md")],
            "ORIGINS.md: this is text; no line of it is of a firewall",
        ),
        (["-f", str(FILTER), "/no/such/dir/out"], "cannot write /no/such/dir/out: No such file"),
        (["-f", str(FILTER), "-B", str(IPL)], f"cannot write {IPL}: Is a directory"),
        (["-f", str(FILTER), "-C", "/no/such/conf"], "cannot read /no/such/conf: No such file"),
        (["-f", str(FILTER), "--ipmon-version", "7.0"], "no ipmon '7.0'; there are 3.4.0"),
        (["-f", str(FILTER), "--action", "x"], "'x' is not PATTERN=VALUE"),
        (["-f", str(FILTER), "-w"], "no option -w"),
        (["-f", str(FILTER), "one", "two"], "unexpected argument two"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments: list[str], said: str) -> None:
    assert said in failed(ipmon(*arguments), 1, 2)


@pytest.mark.skipif(
    any(Path(path).is_socket() for path in SOCKETS),
    reason="there is a syslog here",
)
def test_without_a_syslog_it_is_said_where_it_was_looked_for() -> None:
    done = ipmon("-s", "-f", FILTER)
    assert "no syslog at " + " or ".join(SOCKETS) in failed(done, 1)
    assert not done.stdout


@pytest.mark.parametrize("option", ["-h", "-?"])
def test_help_is_shown(option: str) -> None:
    done = ipmon(option)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(b"usage: pylog ipmon ")
    assert b"read the packet log from there" in done.stdout


# Which logs


@pytest.mark.parametrize(
    ("options", "logs"),
    [
        ("-f M", "ipf"),
        ("-I M", "ipf"),
        ("-N M", "nat"),
        ("-S M", "state"),
        ("-NM", "nat"),
        ("-f M -N M", "ipf nat"),
        ("-N M -S M", "nat state"),
        ("-S M -f M -N M", "ipf nat state"),
        ("-a -f M -N M -S M", "ipf nat state"),
        ("-o NSI -f M -N M -S M", "ipf nat state"),
        ("-o N -o S -N M -S M", "nat state"),
        ("-a -O N -f M -S M", "ipf state"),
        ("-a -O SI -N M", "nat"),
        ("-f M -N M -S M -O NS", "ipf"),
        ("-f M -N M -S M -O I", "nat state"),
        ("-f /dev/null -N M", "nat"),
    ],
)
def test_options_choose_the_logs(tmp_path: Path, options: str, logs: str) -> None:
    mixed = tmp_path / "mixed"
    mixed.write_bytes(NAT.read_bytes() + STATE.read_bytes())
    done = ipmon(*(part.replace("M", str(mixed)) for part in options.split()))
    assert done.returncode == 0
    lines = [line for line in text(NAT) + text(STATE) if not line.startswith(b"missed")]
    wanted = [line for log in logs.split() for line in lines if log_of(line) == log]
    found = [line for line in done.stdout.splitlines(True) if not line.startswith(b"missed")]
    assert found == wanted and found


@pytest.mark.parametrize(
    ("dump", "options", "logs"),
    [
        (NAT, "-f -", "ipf"),
        (NAT, "-N -", "nat"),
        (NAT, "-a -f - -N - -S -", "ipf nat"),
        (STATE, "-N - -S -", "state"),
        (STATE, "-f - -S -", "ipf state"),
    ],
    ids=lambda value: value if isinstance(value, str) else samples.name(value),
)
def test_standard_input_holds_one_log_or_several(dump: Path, options: str, logs: str) -> None:
    done = ipmon(*options.split(), stdin=dump)
    assert done.returncode == 0
    found = done.stdout.splitlines(True)
    for log in ("ipf", "nat", "state"):
        of_log = [line for line in text(dump) if log_of(line) == log] if log in logs else []
        assert [line for line in found if log_of(line) == log] == of_log


def test_a_record_of_nflog_is_one_of_the_packet_log() -> None:
    packets = ipmon("-f", SEQ).stdout
    assert packets.count(b"\n") > 100
    assert ipmon("-N", SEQ, "-S", SEQ).stdout == b""
    assert ipmon("-f", SEQ, "-N", SEQ, "-S", SEQ).stdout == packets


@pytest.mark.parametrize("options", ["-f E", "-a -f E -N E -S E", "-f E -N /dev/null"])
def test_nothing_is_printed_of_what_is_empty(tmp_path: Path, options: str) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file in (str(empty), "/dev/null"):
        done = ipmon(*(part.replace("E", file) for part in options.split()))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("options", ["-f -", "-a -f - -N - -S -"])
def test_nothing_is_printed_of_an_empty_standard_input(options: str) -> None:
    done = ipmon(*options.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# The text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v5-1-2-lp64le-filter.ipf", "-f F"),
        ("v5-1-2-lp64le-bits.ipf", "-f F"),
        ("v5-1-2-nounit-nbtv-lp64be-nat.all", "-a -f F -N F -S F"),
        ("v5-1-2-lp64be-state.all", "-a -f F -N F -S F"),
        ("v5-0-3-lp64le-nat.all", "-o NSI -f F -N F -S F"),
        ("v5-0-6-lp64le-nat.nat", "--ipmon-version 5.0.6 -N F"),
        ("v4-1-35-illumos-lp64le-filter.ipf", "-f F"),
        ("v4-1-0-lp64le-nattag.ipf", "-f F"),
        ("v3435-lp64le-filter.ipf", "-f F"),
        ("v3435-lp64be-state.state", "-S F"),
        ("v3435-ilp32be-nat.nat", "-N F"),
        ("v3-4-29-lp64le-nat.ipf", "-f F"),
        ("v34-ilp32le-nat", "--ipmon-version 3.4.0 -N F"),
    ],
)
def test_the_text_is_that_of_the_release(name: str, options: str) -> None:
    dump = IPL / f"{name}.bin"
    done = ipmon(*(part.replace("F", str(dump)) if part == "F" else part
                   for part in options.split()))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines(True) == text(dump)


def test_another_release_prints_other_words() -> None:
    named = ipmon("-N", NAT, "--ipmon-version", "5.0.6").stdout
    later = [line for line in text(NAT) if log_of(line) == "nat"]
    assert b"NEW-NAT" in named and b"NEW-NAT" not in b"".join(later)
    assert named.count(b"\n") == len(later)
    unnumbered = ipmon("-f", FILTER, "--ipmon-version", "4.1.35").stdout
    assert unnumbered.splitlines(True) == text(FILTER)[1:]


def test_times_are_those_of_the_zone() -> None:
    east = timedelta(hours=5, minutes=30)
    form = "%d/%m/%Y %H:%M:%S"

    def moved(line: bytes) -> bytes:
        if line.startswith(b"missed"):
            return line
        moment = datetime.strptime(line[:19].decode(), form) + east
        return moment.strftime(form).encode() + line[19:]

    done = ipmon("-f", FILTER, zone="IST-5:30")
    assert done.stdout.splitlines(True) == [moved(line) for line in text(FILTER)]


def test_options_may_be_joined_and_stand_anywhere(tmp_path: Path) -> None:
    apart = ipmon("-v", "-x", "-X", "-f", FILTER)
    assert apart.returncode == 0
    for arguments in (["-vxX", "-f", FILTER], [f"-Xvxf{FILTER}"], ["-f", FILTER, "-xXv"]):
        assert ipmon(*arguments).stdout == apart.stdout
    target = tmp_path / "out"
    for arguments in ([target, "-vxXf", FILTER], ["-v", target, "-xX", "-f", FILTER],
                      ["-f", FILTER, "-xvX", target]):  # fmt: skip
        done = ipmon(*arguments)
        assert (done.returncode, done.stdout) == (0, b"")
        assert target.read_bytes() == apart.stdout
        target.unlink()
    lines = [line for line in text(NAT) if log_of(line) != "state"]
    assert ipmon("-ap", "-f", NAT, "-N", NAT, "-S", NAT).stdout.splitlines(True) == lines


def bytes_of(dump: list[bytes]) -> bytes:
    """The bytes that lines of a hex dump show; their text is checked."""
    data = b""
    for line in dump:
        row = bytes.fromhex(line[:48].decode())
        shown = bytes(c if 32 <= c < 127 else ord(".") for c in row)
        assert line == row.hex(" ").encode().ljust(55) + shown + b"\n"
        data += row
    return data


def test_hex_dumps_hold_the_record() -> None:
    dated = re.compile(rb"\d\d/\d\d/\d{4} |missed ")
    found = {option: ipmon(option, "-f", FILTER).stdout.splitlines(True)
             for option in ("-X", "-x", "-Xx")}  # fmt: skip
    for lines in found.values():
        assert [line for line in lines if dated.match(line)] == text(FILTER)
    complete = records(FILTER)
    dumps: dict[str, list[bytes]] = {}
    for option, lines in found.items():
        dumps[option] = []
        for line in lines[1:]:
            if dated.match(line):
                dumps[option].append(b"")
            else:
                dumps[option][-1] += bytes_of([line])
    assert len(complete) == len(dumps["-X"]) == len(dumps["-x"])
    for i, record in enumerate(complete):
        head, packet = dumps["-X"][i], dumps["-x"][i]
        assert dumps["-Xx"][i] == head + packet and len(head) == len(dumps["-X"][0])
        assert record.startswith(head + packet) and record[len(head + packet) :].strip(b"\0") == b""


def test_v_shows_sequence_numbers_and_windows() -> None:
    lines, complete = ipmon("-v", "-f", FILTER).stdout.splitlines(True), records(FILTER)
    for plain, verbose in zip(text(FILTER), lines, strict=True):
        flags = re.search(rb" PR tcp len \d+ \d+ -[A-Z]*", plain)
        if flags is None:
            assert verbose == plain
        else:
            more = re.fullmatch(rb" (\d+) (\d+) (\d+)(.*\n)", verbose[flags.end() :])
            assert verbose.startswith(plain[: flags.end()]) and more, verbose
            assert more[4] == plain[flags.end() :]
            raw = complete[lines.index(verbose) - 1]
            for number, size in ((more[1], 4), (more[2], 4), (more[3], 2)):
                assert int(number).to_bytes(size, "big") in raw


# Where it goes


def test_output_is_appended_to(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before\n")
    for _ in range(2):
        assert ipmon("-f", FILTER, target).stdout == b""
    assert target.read_bytes().splitlines(True) == [b"before\n", *text(FILTER), *text(FILTER)]


def test_output_is_written_though_standard_output_is_closed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *IPMON, "-f", str(FILTER), str(target)]
    done = subprocess.run(command, env=GMT, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert target.read_bytes().splitlines(True) == text(FILTER)


def test_copies_of_records_are_appended_and_can_be_read_again(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    first = ipmon("-B", copy, "-a", "-f", NAT, "-N", NAT, "-S", NAT)
    assert first.stdout.splitlines(True) == text(NAT)
    kept = copy.read_bytes()
    assert sorted(records(NAT)) == sorted(records_in(copy))
    again = ipmon("-f", copy, "-N", copy, "-S", copy)
    assert again.stdout == first.stdout
    ipmon("-B", copy, "-f", FILTER)
    assert copy.read_bytes() == kept + FILTER.read_bytes()


def records_in(path: Path) -> list[bytes]:
    with pylog.open(path, raw=True) as reader:
        return [record.raw for record in reader if record.raw]


@pytest.mark.parametrize(
    "options", ["-f LOG -B LOG", "-f LOG LOG", "-tf LOG -B LOG", "-f - -B LOG"]
)
def test_a_log_is_never_appended_to_by_what_is_read_of_it(tmp_path: Path, options: str) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    log = tmp_path / "log"
    log.write_bytes(FILTER.read_bytes())
    arguments = options.replace("LOG", str(log)).split()
    with log.open("rb") as stdin:
        done = subprocess.run([*IPMON, *arguments], env=GMT, stdin=stdin, capture_output=True,
                              preexec_fn=limit, timeout=30)  # fmt: skip
    assert log.read_bytes() == FILTER.read_bytes()
    assert f"cannot write {log}: it is a log to be read" in failed(done, 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    for options in (["/dev/full"], ["-B", "/dev/full"]):
        said = failed(ipmon("-f", FILTER, *options), 1)
        assert "cannot write /dev/full: No space left on device" in said
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*IPMON, "-f", str(FILTER)], env=GMT, stdin=subprocess.DEVNULL,
                              stdout=full, stderr=subprocess.PIPE, timeout=30)  # fmt: skip
    assert done.returncode == 1 and done.stderr == (
        b"pylog: cannot write standard output: No space left on device; 0 records written\n"
    )


def test_a_copy_of_nflog_is_a_log_of_ipfilter(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    first = ipmon("-f", SEQ, "-B", copy)
    assert first.returncode == 0
    # ipmon expects 0 first, and IPFilter, as this copy, begins with 1
    assert ipmon("-f", copy).stdout == b"missed 1 ipf log entries: 0 1\n" + first.stdout


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_bytes(UNNUMBERED.read_bytes() * 40)  # several times what a pipe holds
    with (
        subprocess.Popen([*IPMON, "-f", str(long)], env=GMT, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE) as process,
        subprocess.Popen(["head", "-n", "2"], stdin=process.stdout,
                         stdout=subprocess.PIPE) as head,
    ):  # fmt: skip
        assert process.stdout is not None and process.stderr is not None and head.stdout
        process.stdout.close()
        assert head.stdout.readlines() == text(UNNUMBERED)[:2]
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


BADLY = ("--layout", "ipl-4.1-lp64le")  # which is not told by one record with such a name


def named_badly(path: Path) -> bytes:
    """A log of one record, of an interface whose name would clear a screen: its line."""
    path.write_bytes(records(UNNUMBERED)[0].replace(b"fxp0", b"\x1b[2J"))
    line = text(UNNUMBERED)[0].replace(b"fxp0", b"\x1b[2J")
    assert b"\x1b[2J" in path.read_bytes() and b"\x1b[2J" in line
    return line


def test_control_bytes_are_escaped_at_a_terminal_only(tmp_path: Path) -> None:
    log, target = tmp_path / "log", tmp_path / "out"
    line = named_badly(log)
    assert ipmon("-f", log, *BADLY).stdout == line
    assert ipmon("-f", log, target, *BADLY).returncode == 0 and target.read_bytes() == line
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([*IPMON, "-f", str(log), *BADLY], env=GMT, stdin=subprocess.DEVNULL,
                              stdout=theirs, stderr=subprocess.PIPE, timeout=30)  # fmt: skip
        assert select.select([ours], [], [], 5)[0]
        shown = os.read(ours, 4096)
    finally:
        os.close(theirs)
        os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown == line.replace(b"\x1b", rb"\x1b").replace(b"\n", b"\r\n")


def test_a_name_with_a_line_break_forges_no_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(records(UNNUMBERED)[0].replace(b"fxp0", b"a\nbc"))
    done = ipmon("-f", log, *BADLY)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == text(UNNUMBERED)[0].replace(b"fxp0", rb"a\nbc")


def test_compat_safe_escapes_every_control_byte_of_a_name(tmp_path: Path) -> None:
    log, target = tmp_path / "log", tmp_path / "out"
    log.write_bytes(records(UNNUMBERED)[0].replace(b"fxp0", b"\x1b\nc\r"))
    line = text(UNNUMBERED)[0]
    for compat, name in (("safe", rb"\x1b\nc\r"), ("exact", b"\x1b\\nc\r")):
        done = ipmon("-f", log, f"--compat={compat}", target, *BADLY)
        assert (done.returncode, done.stderr) == (0, b"")
        assert target.read_bytes() == line.replace(b"fxp0", name)
        assert ipmon("-f", log, f"--compat={compat}", *BADLY).stdout == target.read_bytes()
        target.unlink()


def test_a_log_of_which_nothing_can_be_read_is_a_failure() -> None:
    done = ipmon("--layout", "ipl-3.4.0-lp64le", "-f", FILTER)
    assert "no record could be read as ipl-3.4.0-lp64le" in failed(done, 1)


# Following


def test_t_follows_a_file_that_was_empty(tmp_path: Path, start: Start, out: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    start("-t", "-f", log, command=IPMON)
    lines, data = text(FILTER), b"".join(records(FILTER)[:9])
    for at, size in ((0, 5), (5, 30), (35, 200), (235, 1), (236, len(data))):
        append(log, data[at : at + size])
        time.sleep(0.02)
    holds(out, lines[:10])


@pytest.mark.parametrize("written", [0.4, 2.9])
def test_t_follows_a_half_written_file(
    tmp_path: Path, start: Start, out: Path, written: float
) -> None:
    log = tmp_path / "log"
    lines, items = text(FILTER), records(FILTER)
    complete = int(written)
    half = items[complete][: int(len(items[complete]) * (written - complete))]
    append(log, *items[:complete], half)
    start("-t", "-f", log, command=IPMON)
    if complete:
        holds(out, lines[: complete + 1])
    for i in range(complete, complete + 2):
        # each piece ends in the middle of a record
        rest, half = items[i][len(half) :], items[i + 1][: 40 + 20 * i]
        append(log, rest, half)
        holds(out, lines[: i + 2])


def test_t_begins_anew_when_the_file_is_truncated(tmp_path: Path, start: Start, out: Path) -> None:
    log = tmp_path / "log"
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, *items[:8])
    start("-t", "-f", log)
    holds(out, lines[:8])
    log.write_bytes(b"".join(items[20:22]))
    holds(out, lines[:8] + lines[20:22])
    append(log, items[22])
    holds(out, lines[:8] + lines[20:23])


def test_t_follows_the_name_through_a_rotation(tmp_path: Path, start: Start, out: Path) -> None:
    log = tmp_path / "log"
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, *items[:8])
    start("-t", "-f", log)
    holds(out, lines[:8])
    log.rename(tmp_path / "log.1")
    append(tmp_path / "log.1", *items[8:10])
    append(log, *items[10:12])
    holds(out, lines[:12])


def test_t_forgets_half_a_record_when_the_file_is_truncated(
    tmp_path: Path, start: Start, out: Path
) -> None:
    log = tmp_path / "log"
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, *items[:8], items[8][:50])
    start("-t", "-f", log)
    holds(out, lines[:8])
    log.write_bytes(b"".join(items[20:23]))
    holds(out, lines[:8] + lines[20:23])


def test_t_follows_several_files(tmp_path: Path, start: Start, out: Path) -> None:
    packets, nat = tmp_path / "packets", tmp_path / "nat"
    mixed = [records(NAT), [line for line in text(NAT) if not line.startswith(b"missed")]]
    of_nat = [line for line in mixed[1] if log_of(line) == "nat"]
    nat.write_bytes(NAT.read_bytes())
    packets.touch()  # nothing was logged there yet
    start("-t", "-f", packets, "-N", nat)
    until(lambda: content(out).endswith(of_nat[-1]), "the NAT log")
    append(packets, FILTER.read_bytes())
    until(lambda: content(out).endswith(text(FILTER)[-1]), "the packet log")
    assert [line for line in content(out).splitlines(True) if log_of(line) == "nat"][1:] == of_nat


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("size", [0, 1])
def test_t_ends_at_a_signal(
    tmp_path: Path, start: Start, out: Path, err: Path, number: int, status: int, size: int
) -> None:
    log, copy, pid = tmp_path / "log", tmp_path / "copy", tmp_path / "pid"
    log.write_bytes(FILTER.read_bytes()[: size * FILTER.stat().st_size])
    process = start("-t", "-f", log, "-B", copy, "-P", pid, command=IPMON)
    until(copy.exists, "pylog")
    if size:
        holds(out, text(FILTER))
        assert pid.read_text() == f"{process.pid}\n"
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(5) == status
    assert content(err) == b"" and not pid.exists()
    assert content(copy) == content(log)


# SIGHUP


def grown(new: Path, old: Path, size: int) -> bool:
    """Whether something was written to the new file, or to the old one of that size."""
    return bool(content(new)) or len(content(old)) > size


def test_what_is_logged_after_hup_goes_to_new_files(tmp_path: Path, start: Start) -> None:
    log, target, copy = tmp_path / "log", tmp_path / "out", tmp_path / "copy"
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, items[0])
    process = start("-t", "-f", log, "-B", copy, target, command=IPMON)
    holds(target, lines[:1])
    for turn in range(1, 3):
        old, old_copy = tmp_path / f"out.{turn}", tmp_path / f"copy.{turn}"
        target.rename(old)
        copy.rename(old_copy)
        hang_up(process)
        time.sleep(0.05)
        append(log, items[turn])
        until(partial(grown, target, old, len(lines[turn - 1])), "the line")
        holds(target, lines[turn : turn + 1])
        assert copy.read_bytes() == items[turn]
        assert (old.read_bytes(), old_copy.read_bytes()) == (lines[turn - 1], items[turn - 1])
    assert process.poll() is None


def test_hup_before_the_first_record_ends_nothing(tmp_path: Path, start: Start) -> None:
    log, target = tmp_path / "log", tmp_path / "out"
    log.touch()
    process = start("-t", "-f", log, target)
    until(target.exists, "pylog")
    target.rename(tmp_path / "out.0")
    hang_up(process)
    append(log, *records(FILTER)[:2])
    with suppress(AssertionError):
        until(lambda: content(target) or process.poll() is not None, "the new file")
    assert process.poll() is None
    holds(target, text(FILTER)[:3])


def test_a_file_that_cannot_be_opened_anew_is_kept(tmp_path: Path, start: Start, err: Path) -> None:
    log, folder, moved, copy = (tmp_path / name for name in ("log", "logs", "moved", "copy"))
    lines, items = text(FILTER), records(FILTER)
    folder.mkdir()
    append(log, items[0])
    process = start("-t", "-f", log, "-B", copy, folder / "out")
    holds(folder / "out", lines[:2])
    folder.rename(moved)
    copy.rename(tmp_path / "copy.0")
    hang_up(process)
    until(lambda: content(err), "a word of it")
    assert f"cannot write {folder / 'out'}: No such file or directory".encode() in content(err)
    append(log, items[1])
    holds(moved / "out", lines[:3])
    assert content(copy) == items[1]  # the other files are opened anew all the same
    assert process.poll() is None


def rules(*chosen: tuple[str, str]) -> str:
    """A configuration of criteria and actions."""
    return "".join(f"match {{ {match}; }} do {{ {do}; }};\n" for match, do in chosen)


def test_hup_reads_the_configuration_again_and_keeps_it_if_the_new_one_is_wrong(
    tmp_path: Path, start: Start, out: Path, err: Path
) -> None:
    log, conf = tmp_path / "log", tmp_path / "ipmon.conf"
    files = [tmp_path / f"file{i}" for i in range(3)]
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, items[0])
    conf.write_text(rules(("type = ipf", f'save "file://{files[0]}"')))
    process = start("-t", "-f", log, "-C", conf)
    holds(files[0], lines[:1])

    conf.write_text(rules(("type = ipf", f'save "file://{files[1]}"')))
    hang_up(process)
    until(files[1].exists, "the file of the new rule")
    append(log, items[1])
    holds(files[1], lines[1:2])

    conf.write_text("\n" + rules(("colour = red", f'save "file://{files[2]}"')))
    hang_up(process)
    until(lambda: b"\n" in content(err), "a word of it")
    assert f"{conf}:2: 'colour', but expected a criterion".encode() in content(err)
    append(log, items[2])
    holds(files[1], lines[1:3])

    conf.unlink()
    hang_up(process)
    until(lambda: content(err).count(b"\n") > 1, "a word of it")
    assert f"cannot read {conf}".encode() in content(err)
    append(log, items[3])
    holds(files[1], lines[1:4])
    assert content(files[0]) == lines[0] and not files[2].exists() and not content(out)


def test_new_rules_whose_file_cannot_be_written_are_told_and_not_used(
    tmp_path: Path, start: Start, out: Path, err: Path
) -> None:
    log, conf, file = tmp_path / "log", tmp_path / "ipmon.conf", tmp_path / "file"
    lines, items = text(UNNUMBERED), records(UNNUMBERED)
    append(log, items[0])
    conf.write_text(rules(("type = ipf", f'save "file://{file}"')))
    process = start("-t", "-f", log, "-C", conf)
    holds(file, lines[:1])
    conf.write_text(rules(("type = ipf", 'save "file:///no/such/dir/file"')))
    hang_up(process)
    until(lambda: content(err), "a word of it")
    assert b"cannot write /no/such/dir/file: No such file or directory" in content(err)
    append(log, items[1])
    holds(file, lines[:2])
    assert process.poll() is None and not content(out)


# ipmon.conf


def test_rules_say_where_records_go(tmp_path: Path) -> None:
    conf, target = tmp_path / "ipmon.conf", tmp_path / "out"
    blocked, copied, pings, fifth = (tmp_path / n for n in ("blocked", "raw", "pings", "fifth"))
    conf.write_text(
        "# what is blocked, and some others\n"
        f'where = "file://{blocked}";\n'
        + rules(
            ("result = block", f'save $where, save "raw://{copied}"'),
            ("direction = in, result = pass, protocol = tcp", "nothing"),
            ("protocol = icmp, every 5 packets", f'file("{fifth}")'),
            ("dstip = 10.1.1.0/24, protocol = 1", f'execute "cat >>{pings}"'),
        )
    )
    done = ipmon("-C", conf, "-f", UNNUMBERED, target)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    lines = text(UNNUMBERED)
    words = [line.split() for line in lines]
    acts = [next(word for word in row if word in (b"p", b"b", b"Sb")) for row in words]
    of_block = [act in (b"b", b"Sb") for act in acts]
    of_tcp = [act == b"p" and b" PR tcp " in line and b" IN" in line
              for act, line in zip(acts, lines, strict=True)]  # fmt: skip
    of_icmp = [b" PR icmp " in line for line in lines]
    of_pings = [icmp and re.search(rb"-> 10\.1\.1\.", line) is not None
                for icmp, line in zip(of_icmp, lines, strict=True)]  # fmt: skip

    def chosen(flags: list[bool]) -> list[bytes]:
        return [line for flag, line in zip(flags, lines, strict=True) if flag]

    assert blocked.read_bytes().splitlines(True) == chosen(of_block)
    items = [r for flag, r in zip(of_block, records(UNNUMBERED), strict=True) if flag]
    assert copied.read_bytes() == b"".join(items)
    assert pings.read_bytes().splitlines(True) == chosen(of_pings)
    assert fifth.read_bytes().splitlines(True) == chosen(of_icmp)[::5]
    taken = {
        line for file in (blocked, pings, fifth) for line in file.read_bytes().splitlines(True)
    }
    taken |= set(chosen(of_tcp))
    rest = [line for line in lines if line not in taken]
    assert target.read_bytes().splitlines(True) == rest
    assert rest and chosen(of_tcp) and len(chosen(of_pings)) > 5


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ("match { result = drop; } do { nothing; };", ":1: 'drop', but expected pass or block"),
        ("\n\nmatch { type = ipf } do { nothing; };", ":3: '}', but expected ';'"),
        ('match { type = ipf; }\ndo { save "/tmp"; };', ":2: '/tmp', but expected \"file://PATH\""),
        ('load_action local "x";', ":1: load_action is not supported"),
        ("match { type = ipf; } do { execute; };", "expected a command"),
        ("match { type = ipf; } do { syslog", "end of file, but expected ';'"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_line(tmp_path: Path, conf: str, said: str) -> None:
    path = tmp_path / "ipmon.conf"
    path.write_text(conf)
    done = ipmon("-C", path, "-f", FILTER)
    assert said in failed(done, 1, 2) and str(path) in done.stderr.decode()
    assert not done.stdout


# In the background


class Daemon:
    """`pylog ipmon -D` with the arguments, ended with the `with`.

    A pipe that it inherits tells its end, as it is nobody's child.
    """

    def __init__(
        self, pid_file: Path, *arguments: str | Path, command: list[str] = IPMON_QUICK
    ) -> None:
        self._pid_file = pid_file
        self._end, theirs = os.pipe()
        try:
            words = [*command, "-D", "-P", str(pid_file), *map(str, arguments)]
            done = subprocess.run(words, env=GMT, stdin=subprocess.DEVNULL, timeout=30,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  pass_fds=[theirs])  # fmt: skip
        except BaseException:
            os.close(self._end)
            raise
        finally:
            os.close(theirs)
        self.status = done.returncode
        self.pid = 0

    def __enter__(self) -> Daemon:
        try:
            until(lambda: content(self._pid_file).endswith(b"\n"), "the process id")
            self.pid = int(self._pid_file.read_text())
        except BaseException:
            os.close(self._end)
            raise
        return self

    def ended(self, timeout_s: float) -> bool:
        return bool(select.select([self._end], [], [], timeout_s)[0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.ended(0):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._end)


def test_a_daemon_writes_its_process_id_and_takes_it_away(tmp_path: Path) -> None:
    log, target, pid_file = tmp_path / "log", tmp_path / "out", tmp_path / "pid"
    log.write_bytes(FILTER.read_bytes())
    with Daemon(pid_file, "-t", "-f", log, target, command=IPMON) as daemon:
        assert daemon.status == 0
        holds(target, text(FILTER))
        assert os.getsid(daemon.pid) == daemon.pid != os.getsid(0)
        assert not daemon.ended(0)
        append(log, records(FILTER)[-1])
        until(lambda: target.read_bytes().count(text(FILTER)[-1]) == 2, "the next line")
        target.rename(tmp_path / "old")
        os.kill(daemon.pid, signal.SIGHUP)
        until(target.exists, "the new file")
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.ended(5)
    assert not pid_file.exists()


def test_a_daemon_goes_to_the_background_before_the_first_record(tmp_path: Path) -> None:
    log, target, pid_file = tmp_path / "log", tmp_path / "out", tmp_path / "pid"
    log.touch()
    timer = threading.Timer(5, append, [log, FILTER.read_bytes()])  # so that it ends in any case
    timer.start()
    try:
        with Daemon(pid_file, "-t", "-f", log, target) as daemon:
            assert daemon.status == 0
            assert log.stat().st_size == 0
            append(log, FILTER.read_bytes())
            until(lambda: target.read_bytes().splitlines(True)[:62] == text(FILTER), "the lines")
            os.kill(daemon.pid, signal.SIGTERM)
            assert daemon.ended(5)
    finally:
        timer.cancel()
        timer.join()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_daemon_without_standard_descriptors_writes_its_files(
    tmp_path: Path, closed: str
) -> None:
    target, copy, pid_file = tmp_path / "out", tmp_path / "copy", tmp_path / "pid"
    arguments = ["-D", "-P", pid_file, "-f", FILTER, "-B", copy, target]
    command = shlex.join(map(str, [*IPMON, *arguments]))
    subprocess.run(["sh", "-c", f"{command} {closed}"], env=GMT, timeout=30, check=True)
    until(lambda: content(target).splitlines(True) == text(FILTER), "the lines")
    until(lambda: content(copy) == FILTER.read_bytes(), "the records")
    until(lambda: not pid_file.exists(), "its end")


def test_a_daemon_without_output_stays_in_the_foreground(
    tmp_path: Path, start: Start, out: Path, err: Path
) -> None:
    pid_file = tmp_path / "pid"
    process = start("-D", "-t", "-f", FILTER, "-P", pid_file)
    holds(out, text(FILTER))
    assert process.poll() is None
    assert content(err) == b"pylog: -D needs OUTPUT or -s: staying in the foreground\n"
    until(lambda: content(pid_file) == b"%d\n" % process.pid, "the process id")
    assert netlab.stop(process, signal.SIGTERM) == 143 and not pid_file.exists()


def test_a_device_as_the_pid_file_stays_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = ipmon("-P", "/dev/null", "-f", FILTER, target)
    assert (done.returncode, done.stderr) == (0, b"")
    assert target.read_bytes().splitlines(True) == text(FILTER)
    assert Path("/dev/null").is_char_device()


def test_the_pid_file_takes_the_place_of_nothing_else(tmp_path: Path) -> None:
    conf, target, old = tmp_path / "conf", tmp_path / "out", tmp_path / "pid"
    conf.write_text("match { direction = in; } do { nothing; };\n")
    done = ipmon("-P", conf, "-C", conf, "-f", FILTER)
    assert f"cannot write {conf}: it holds no process id" in failed(done, 1) and conf.exists()
    done = ipmon("-P", target, "-f", FILTER, target)
    assert f"-P names {target}, which is written to already" in failed(done, 2)
    assert not target.exists()
    old.write_text("4711\n")
    assert ipmon("-P", old, "-f", FILTER, target).returncode == 0 and not old.exists()


@pytest.mark.skipif(Path("/dev/ipl").exists(), reason="IPFilter is loaded")
def test_a_forgotten_f_is_pointed_out(tmp_path: Path) -> None:
    said = failed(ipmon(FILTER), 1)
    assert f"{FILTER} without -f is where the text goes" in said


def test_a_pid_file_that_cannot_be_written_is_told() -> None:
    done = ipmon("-P", "/no/such/dir/pid", "-f", FILTER)
    assert "cannot write /no/such/dir/pid: No such file or directory" in failed(done, 1)


# Syslog


class Syslogd:
    """Takes what is sent to a socket, until the end of its `with`."""

    def __init__(self, family: int, kind: int, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(family, kind)
        self.socket.bind(address)
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.socket.settimeout(0.05)
        self._stream = kind == socket.SOCK_STREAM
        self.messages: list[bytes] = []
        self.received = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                if self._stream:
                    made = self.socket.accept()[0]
                    with made:
                        self._receive(made)
                else:
                    self.messages.append(self.socket.recv(65536))

    def _receive(self, connection: socket.socket) -> None:
        """Take a stream to its end, or until nothing comes although it is to stop."""
        connection.settimeout(0.2)
        data = b"?"
        while data:
            try:
                data = connection.recv(65536)
                self.received += data
            except TimeoutError:
                if self._stop.is_set():
                    break

    def counted(self) -> list[bytes]:
        """The messages of a stream, each after its length (RFC 6587)."""
        found, at = [], 0
        while at < len(self.received):
            size, _, _ = self.received[at:].partition(b" ")
            at += len(size) + 1
            found.append(self.received[at : at + int(size)])
            at += int(size)
        return found

    def __enter__(self) -> Syslogd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self.socket.close()


LOCAL = re.compile(r"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ipmon\[\d+\]: (.*)")
RFC5424 = re.compile(r"<(\d+)>1 (\S+Z) (\S+) ipmon \d+ - - (.*)")


def sent_of(
    messages: list[bytes], form: re.Pattern[str] = LOCAL, line: int = 2
) -> list[tuple[int, str]]:
    """Priority and text of each message."""
    found = [(form.fullmatch(message.decode()), message) for message in messages]
    assert all(match for match, _ in found), messages
    return [(int(match[1]), match[line]) for match, _ in found if match]


def levels(dump: Path) -> list[tuple[int, str]]:
    """What ipmon sends of a dump: the rule's level, or the one of the action."""
    found = []
    told = (b'"fl_loglevel":', b"missed")
    given = [int(m[1]) if (m := re.search(told[0] + rb"(\d+)", row)) else None
             for row in samples.golden(dump).splitlines()]  # fmt: skip
    lines = text(dump)
    for line in lines:
        if line.startswith(told[1]):
            found.append((LOCAL0 | 4, undated(line)))
            continue
        level = given.pop(0)
        letter = re.search(r" @\S+ (\S+) ", line.decode())
        assert letter
        level = LEVELS[letter[1]] if level is None else level
        found.append((level if level >> 3 else LOCAL0 | level, undated(line)))
    assert not given
    return found


@pytest.mark.parametrize("dump", [FILTER, UNNUMBERED], ids=samples.name)
def test_lines_go_to_a_unix_socket_with_the_level_of_the_rule_or_action(
    tmp_path: Path, dump: Path
) -> None:
    path = str(tmp_path / "log")
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        done = ipmon("-s", "--syslog-to", path, "-f", dump)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        wanted = levels(dump)
        until(lambda: len(syslogd.messages) >= len(wanted), "the messages")
    assert sent_of(syslogd.messages) == wanted
    assert {priority >> 3 for priority, _ in wanted} > {16}
    assert {priority & 7 for priority, _ in wanted} >= {4, 5}


def test_no_priority_is_sent_that_syslog_does_not_have(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        assert ipmon("-s", "--syslog-to", path, "-f", BITS).returncode == 0
        wanted = levels(BITS)
        until(lambda: len(syslogd.messages) >= len(wanted), "the messages")
    found = sent_of(syslogd.messages)
    assert [line for _, line in found] == [line for _, line in wanted]
    assert max(priority for priority, _ in found) <= 23 << 3 | 7  # RFC 5424, 6.2.1
    assert {p & 7 for p, _ in found} >= {0, 3, 4, 5, 6, 7}
    for single, other in zip(found, wanted, strict=True):
        assert single == other or other[0] > 191


@pytest.mark.parametrize(("facility", "number"), [("daemon", 3), ("local7", 23), ("security", 4)])
def test_the_facility_can_be_chosen(tmp_path: Path, facility: str, number: int) -> None:
    path = str(tmp_path / "log")
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        assert ipmon("-sL", facility, "--syslog-to", path, "-f", FILTER).returncode == 0
        wanted = levels(FILTER)
        until(lambda: len(syslogd.messages) >= len(wanted), "the messages")
    moved = [(number << 3 | p & 7 if p >> 3 == 16 else p, line) for p, line in wanted]
    assert sent_of(syslogd.messages) == moved


def test_lines_go_to_a_unix_stream(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with Syslogd(socket.AF_UNIX, socket.SOCK_STREAM, path) as syslogd:
        assert ipmon("-s", "--syslog-to", path, "-f", NAT, "-N", NAT).returncode == 0
        last = undated(text(NAT)[-1]).encode()
        until(lambda: last in syslogd.received, "the messages")
    # a stream needs an end of each message, as syslog(3) sends it
    found = re.split(rb"[\n\0]", syslogd.received.rstrip(b"\n\0"))
    assert [line for _, line in sent_of(found)] == [undated(line) for line in text(NAT)]
    nat = [p for p, line in sent_of(found) if "NAT:" in line]
    assert set(nat) == {LOCAL0 | 6}


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_lines_go_to_another_host_in_the_form_of_rfc_5424(transport: str, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    try:
        syslogd = Syslogd(family, kind, (host.strip("[]"), 0))
    except OSError as error:
        pytest.skip(f"no {host}: {error.strerror}")
    port = syslogd.socket.getsockname()[1]
    wanted = levels(FILTER)
    started = datetime.now().astimezone()
    with syslogd:
        done = ipmon("-s", "--syslog-to", f"{transport}:{host}:{port}", "-f", FILTER)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        if transport == "udp":
            until(lambda: len(syslogd.messages) >= len(wanted), "the messages")
        else:
            until(lambda: syslogd.received.endswith(wanted[-1][1].encode()), "the messages")
    messages = syslogd.messages if transport == "udp" else syslogd.counted()
    assert sent_of(messages, RFC5424, 4) == wanted
    head = RFC5424.fullmatch(messages[0].decode())
    assert head and head[3] == socket.gethostname()
    assert started <= datetime.fromisoformat(head[2]) <= datetime.now().astimezone()


def test_hex_dumps_and_control_bytes_are_fit_for_syslog(tmp_path: Path) -> None:
    path, log = str(tmp_path / "log"), tmp_path / "bad"
    line = undated(named_badly(log)).replace("\x1b", r"\x1b")
    dump = ipmon("-xX", "-f", log, *BADLY).stdout.decode().splitlines()[1:]
    assert len(dump) > 4
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        assert ipmon("-sxX", "--syslog-to", path, "-f", log, *BADLY).returncode == 0
        until(lambda: len(syslogd.messages) > len(dump), "the messages")
    found = sent_of(syslogd.messages)
    assert [sent for _, sent in found] == [line, *dump]
    assert {priority for priority, _ in found[1:]} == {LOCAL0 | 6}


def test_a_rule_sends_escaped_text_to_syslog_with_its_facility_and_level(tmp_path: Path) -> None:
    path, log, conf = str(tmp_path / "log"), tmp_path / "bad", tmp_path / "ipmon.conf"
    line = named_badly(log)
    append(log, records(UNNUMBERED)[-1])
    conf.write_text(rules(("type = ipf", "syslog"), ("direction = in", 'syslog "mail.crit"')))
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        done = ipmon("--syslog-to", path, "-C", conf, "-f", log, *BADLY)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        until(lambda: len(syslogd.messages) >= 3, "the messages")
    found = sent_of(syslogd.messages)
    assert all("\x1b" not in sent for _, sent in found)
    assert undated(line).replace("\x1b", r"\x1b") in found[0][1]
    assert (2 << 3 | 2) in [priority for priority, _ in found]


def test_a_daemon_sends_to_syslog(tmp_path: Path) -> None:
    path, log, pid_file = str(tmp_path / "sock"), tmp_path / "log", tmp_path / "pid"
    log.write_bytes(FILTER.read_bytes())
    wanted = levels(FILTER)
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, path) as syslogd:
        with Daemon(pid_file, "-s", "--syslog-to", path, "-t", "-f", log) as daemon:
            until(lambda: len(syslogd.messages) >= len(wanted), "the messages")
            os.kill(daemon.pid, signal.SIGTERM)
            assert daemon.ended(5)
        assert f"ipmon[{daemon.pid}]:".encode() in syslogd.messages[0]
    assert sent_of(syslogd.messages) == wanted and not pid_file.exists()


def test_a_syslog_that_was_restarted_is_found_again(
    tmp_path: Path, start: Start, err: Path
) -> None:
    path, log = tmp_path / "sock", tmp_path / "log"
    wanted, items = levels(UNNUMBERED), records(UNNUMBERED)
    append(log, items[0])
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, str(path)) as syslogd:
        process = start("-s", "--syslog-to", path, "-t", "-f", log)
        until(lambda: syslogd.messages, "the first message")
    path.unlink()
    with Syslogd(socket.AF_UNIX, socket.SOCK_DGRAM, str(path)) as syslogd:
        append(log, items[1])
        until(lambda: syslogd.messages, "the second message")
    assert sent_of(syslogd.messages) == wanted[1:2]
    assert netlab.stop(process, signal.SIGTERM) == 143 and content(err) == b""


HASTY = """
import pylog.transports.sender as sender
sender.PATIENCE_S = sender.FILE_PATIENCE_S = 0.3
sender.QUEUE_LINES, sender.RETRY_S = 20, (0.01, 0.05)
"""
LOST = re.compile(rb"pylog: syslog at \S+: (\d+) of (\d+) lines not delivered( so far)? \(.+\)")


def drained(socket_: socket.socket) -> list[bytes]:
    """The datagrams that have come; reports of lost lines are left out."""
    socket_.setblocking(False)
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(socket_.recv(1 << 16))
    return [message for message in found if b"lines before this one were not" not in message]


def test_lines_that_a_stalled_syslog_does_not_take_are_counted_and_a_failure(
    tmp_path: Path, start: Start, err: Path
) -> None:
    path, log = str(tmp_path / "sock"), tmp_path / "log"
    log.write_bytes(UNNUMBERED.read_bytes() * 20)
    made = len(levels(UNNUMBERED)) * 20
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        process = start("-s", "--syslog-to", path, "-f", log, command=patched(HASTY))
        assert process.wait(30) == 1
        found = len(drained(receiver))
    reports = LOST.findall(content(err))
    assert reports and all(
        line.startswith(b"pylog: syslog at") for line in content(err).splitlines()
    )
    lost, of, _ = reports[-1]
    assert int(of) == made == found + int(lost) and found > 5 and not reports[-1][2]
    assert reports[0][2], "reported while it happens"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_daemon_keeps_lines_for_a_syslog_that_vanishes_and_comes_back(
    tmp_path: Path, kind: int
) -> None:
    path, log, pid_file = tmp_path / "sock", tmp_path / "log", tmp_path / "pid"
    items, wanted = records(UNNUMBERED), levels(UNNUMBERED)
    append(log, items[0])

    def lines(syslogd: Syslogd) -> list[tuple[int, str]]:
        stream = [part for part in syslogd.received.split(b"\0") if part]
        return sent_of(syslogd.messages or stream)

    with Syslogd(socket.AF_UNIX, kind, str(path)) as first:
        daemon = Daemon(
            pid_file, "-s", "--syslog-to", path, "-t", "-f", log,
            command=patched(f"{QUICK}import pylog.transports.sender as sender\n"
                            "sender.RETRY_S = (0.05, 0.2)"),
        )  # fmt: skip
        with daemon:
            until(lambda: len(lines(first)) == 1, "the first line")
            first.__exit__()
            path.unlink()
            append(log, *items[1:])
            until(lambda: pid_file.exists(), "the daemon")
            time.sleep(0.5)
            with Syslogd(socket.AF_UNIX, kind, str(path)) as second:
                until(lambda: len(lines(second)) >= len(wanted) - 1, "the other lines")
                os.kill(daemon.pid, signal.SIGTERM)
                assert daemon.ended(10)
    assert lines(first) + lines(second) == wanted and not pid_file.exists()


def test_a_daemon_reports_lost_lines_to_its_standard_error_and_to_syslog(tmp_path: Path) -> None:
    path, log, pid_file = str(tmp_path / "sock"), tmp_path / "log", tmp_path / "pid"
    err = tmp_path / "err"
    items = records(UNNUMBERED)
    append(log, *items * 10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        arguments = ["-D", "-P", pid_file, "-s", "--syslog-to", path, "-t", "-f", log]
        with err.open("wb") as stream:
            subprocess.run([*patched(HASTY), *map(str, arguments)], env=GMT, timeout=30, check=True,
                           stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)  # fmt: skip
        until(lambda: content(pid_file), "the process id")
        pid = int(pid_file.read_text())
        try:
            until(lambda: LOST.search(content(err)), "the report")
            found = []
            receiver.setblocking(False)

            def read() -> bool:
                with suppress(BlockingIOError):
                    while True:
                        found.append(receiver.recv(1 << 16))
                return undated(text(UNNUMBERED)[-1]).encode() in b"".join(found[-1:])

            reported = LOST.search(content(err))
            assert reported is not None
            until(lambda: read() or len(found) > 30, "the lines that waited")
            append(log, items[-1])
            until(read, "the line after them")
        finally:
            os.kill(pid, signal.SIGTERM)
        until(lambda: not pid_file.exists(), "its end")
        until(lambda: b" lines not delivered (" in content(err), "the last report")
        read()
    notices = [m for m in found if b"lines before this one were not delivered" in m]
    lost, of, _ = LOST.findall(content(err))[-1]
    assert int(of) == len(found) - len(notices) + int(lost) and notices
    assert all(message.startswith(b"<%d>" % (LOCAL0 | 4)) for message in notices)
    so_far = re.search(rb"(\d+) so far", notices[-1])
    assert so_far is not None and 0 < int(so_far[1]) <= int(lost)


# Names


FORBIDDEN = """
import socket
def asked(*_, **__): raise SystemExit("the resolver was asked")
for name in ("gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getaddrinfo", "getnameinfo",
             "getfqdn", "getservbyport", "getservbyname", "getprotobyname"):
    setattr(socket, name, asked)
"""
ONLY_LOOPBACK = """
import socket
given = socket.gethostbyaddr
def gethostbyaddr(host):
    with open({asked!r}, "a") as file: file.write(host + "\\n")
    if host != "127.0.0.1": raise socket.herror(1, "Unknown host")
    return given(host)
socket.gethostbyaddr = gethostbyaddr
"""


@pytest.mark.parametrize("options", [(), ("-pvxX",)])
def test_without_n_no_resolver_is_asked(start: Start, out: Path, options: tuple[str]) -> None:
    command = patched(FORBIDDEN)
    process = start(*options, "-a", "-f", NAT, "-N", NAT, "-S", NAT, command=command)
    assert process.wait(20) == 0
    found = content(out)
    assert found.count(b" IN") == b"".join(text(NAT)).count(b" IN") > 5
    assert found.count(b" NAT:") == sum(b" NAT:" in line for line in text(NAT)) > 5


def test_n_does_ask(start: Start, out: Path, err: Path) -> None:
    assert start("-n", "-f", NAT, command=patched(FORBIDDEN)).wait(20) == 1
    assert content(err) == b"the resolver was asked\n"


def service(port: int, protocol: str) -> str:
    try:
        return socket.getservbyport(port, protocol)
    except OSError:
        return str(port)


@pytest.mark.parametrize("options", ["-n", "-np"])
def test_n_shows_hosts_and_services_by_name(
    tmp_path: Path, start: Start, out: Path, options: str
) -> None:
    if service(80, "tcp") == "80":
        pytest.skip("needs the names of services (/etc/services)")
    try:
        loopback = socket.gethostbyaddr("127.0.0.1")[0]
    except OSError:
        pytest.skip("127.0.0.1 has no name here")
    log, asked = tmp_path / "log", tmp_path / "asked"
    hosts = {b"10.1.1.1": b"127.0.0.1"}
    log.write_bytes(UNNUMBERED.read_bytes().replace(bytes([10, 1, 1, 1]), bytes([127, 0, 0, 1])))
    process = start(options, "-f", log, command=patched(ONLY_LOOPBACK.format(asked=str(asked))))
    assert process.wait(20) == 0

    def named(line: bytes) -> bytes:
        line = re.sub(rb"(?<= )10\.1\.1\.1(?=[ ,])", lambda m: hosts[m[0]], line)
        protocols = re.findall(r" PR (\S+)", line.decode())

        def end(match: re.Match[str]) -> str:
            quoted = " for " in line.decode()[: match.end()]
            protocol = protocols[-1] if quoted else protocols[0]
            host = loopback if match[1] == "127.0.0.1" else match[1]
            return f" {host},{match[2] if options == '-np' else service(int(match[2]), protocol)}"

        shown = re.sub(r" ([0-9a-f.:]+),(\d+)\b", end, line.decode())
        return re.sub(r" 127\.0\.0\.1(?= )", f" {loopback}", shown).encode()

    wanted = [named(line) for line in text(UNNUMBERED)]
    assert content(out).splitlines(True) == wanted
    shown = b"".join(wanted)
    assert loopback.encode() in shown and b"192.0.2.10" in shown
    assert (f",{service(80, 'tcp')} ".encode() in shown) == (options == "-n")
    hosts_asked = asked.read_text().splitlines()
    assert len(hosts_asked) == len(set(hosts_asked)) > 2


# Live


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Makes mounted devices, which are unmounted again."""
    with ExitStack() as stack:

        def make(log: str = "ipf", **options: object) -> Mount:
            folder = tmp_path / f"dev-{log}"
            folder.mkdir()
            made = stack.enter_context(Mount(folder, log=log, **options))
            if made.problem is not None:
                pytest.skip(f"FUSE cannot be mounted: {made.problem}")
            return made

        yield make


def with_device(default: str = "/dev/ipl") -> list[str]:
    """The command on a system whose log device is a file of FUSE: that has its ioctl numbers."""
    return patched(
        "import stat\nfrom pylog.backends import ipl\n"
        "stat.S_ISCHR = stat.S_ISREG  # which is what FUSE can serve\n"
        f"ipl.IOCTLS['linux'] = ipl.Ioctls({default!r}, {FIONREAD}, {SIOCIPFFB})"
    )


@needs_fuse
@pytest.mark.parametrize("options", ["", "-a -O NS"])
def test_the_records_of_a_device_are_printed_as_they_come(
    mount: Callable[..., Mount], start: Start, out: Path, options: str
) -> None:
    device, lines, items = mount(), text(FILTER), records(FILTER)
    assert device.call("replay", b"".join(items[:3])) == 3
    command = with_device(device.path)
    process = start(*options.split(), command=command)
    holds(out, lines[:4])
    for i in range(3, 6):
        device.call("keep", items[i])
        holds(out, lines[: i + 2])
    assert process.poll() is None
    assert netlab.stop(process, signal.SIGTERM) == 143
    assert content(out) == b"".join(lines[:7])


@needs_fuse
def test_three_devices_are_read_as_one(
    mount: Callable[..., Mount], start: Start, out: Path
) -> None:
    dump = NAT.read_bytes() + STATE.read_bytes()
    devices = {log: mount(log) for log in ("ipf", "nat", "state")}
    fed = {log: device.call("replay", dump) for log, device in devices.items()}
    process = start("-a", "-f", devices["ipf"].path, "-N", devices["nat"].path,
                    "-S", devices["state"].path, command=with_device())  # fmt: skip
    wanted = [line for line in text(NAT) + text(STATE) if not line.startswith(b"missed")]
    assert sum(fed.values()) == len(wanted)

    def found() -> list[bytes]:
        return [x for x in content(out).splitlines(True) if not x.startswith(b"missed")]

    until(lambda: len(found()) >= len(wanted), "the lines")
    assert sorted(found()) == sorted(wanted)
    for log in fed:
        single = [line for line in found() if log_of(line) == log]
        assert single == [line for line in wanted if log_of(line) == log]
    assert netlab.stop(process, signal.SIGINT) == 130


@needs_fuse
def test_flushing_a_device_tells_how_much_it_was(
    mount: Callable[..., Mount], start: Start, out: Path
) -> None:
    device, items = mount(), records(FILTER)
    assert device.call("replay", b"".join(items[:4])) == 4
    process = start("-F", "-f", device.path, command=with_device())
    told = b"%d bytes flushed from log buffer\n" % sum(map(len, items[:4]))
    holds(out, [told])
    device.call("keep", items[5])
    until(lambda: content(out).count(b"\n") > 2, "the next record")
    lines = content(out).splitlines(True)
    assert lines[0] == told and lines[-1] == text(FILTER)[6] and len(lines) == 3
    assert netlab.stop(process, signal.SIGTERM) == 143


def test_there_is_nothing_to_flush_in_a_file() -> None:
    before = FILTER.read_bytes()
    done = ipmon("-F", "-f", FILTER)
    assert done.returncode == 0 and done.stdout.splitlines(True) == text(FILTER)
    assert b"nothing to flush" in done.stderr and FILTER.read_bytes() == before


@needs_lab
def test_pings_of_a_live_group_are_printed() -> None:
    with netlab.Namespace() as namespace:
        namespace.nft(
            "table inet t {\nchain c {\ntype filter hook input priority 0;\n"
            'icmp type echo-request log prefix "DROP-in: " group 5\n'
            'icmp type echo-reply log prefix "ok: " group 5\n}\n}\n'
        )
        process = namespace.start(
            *IPMON, "-f", "nflog:5", "--action", "DROP*=block", "--action", "ok*=pass",
            stdout=subprocess.PIPE, env=GMT,
        )  # fmt: skip
        assert process.stdout is not None
        until(lambda: 5 in namespace.groups(), "pylog", 20)
        form = re.compile(
            rb"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{6} lo @(\S+) ([pbL]) 127\.0\.0\.1 -> 127\.0\.0\.1"
            rb" PR icmp len 20 36 icmp (echo|echoreply)/0 IN\n"
        )
        lines: list[bytes] = []
        for number in range(2):
            namespace.echo("127.0.0.1", number, b"12345678")
            while len(lines) < 2 * number + 2:
                assert select.select([process.stdout], [], [], 10)[0], lines
                for line in os.read(process.stdout.fileno(), 65536).splitlines(True):
                    if not line.startswith(b"missed"):
                        lines.append(line)
        said = [match for line in lines if (match := form.fullmatch(line))]
        assert len(said) == 4, lines
        assert [(match[2], match[3]) for match in said] == 2 * [
            (b"b", b"echo"),
            (b"p", b"echoreply"),
        ]
        assert said[0][1].startswith(b"DROP-in:") and said[1][1].startswith(b"ok:")
        assert netlab.stop(process, signal.SIGTERM) == 143
        assert namespace.groups() == {}


def test_a_daemon_that_cannot_write_its_process_id_is_told_at_once(tmp_path: Path) -> None:
    files = [tmp_path / "none/pid", "-tf", FILTER, tmp_path / "out"]
    command = [*IPMON, "-D", "-P", *map(str, files)]
    said = failed(subprocess.run(command, capture_output=True, timeout=30), 1)
    assert f"cannot write {tmp_path / 'none/pid'}: No such file or directory" in said
