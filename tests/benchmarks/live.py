"""Live NFLOG: what a record costs whoever reads it, and how many are lost at high rates.

A program in one namespace sends frames to a firewall in another, whose rule counts, logs and drops
them. Readers take turns at the same group, each a process of its own that has one processor, while
the sender has the other. Told is the CPU time of the reader, receiving included, from after a
warm-up until it has nothing left to do, by the records that it wrote. Every reader is set up as it
comes, with the receive buffer that it can have.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import netlab
from measure import (
    HERE,
    Missing,
    Row,
    Scale,
    Table,
    compiled,
    cpu_of,
    interleaved,
    program,
    scratch,
    two_cpus,
)
from traffic import packets

import pylog
from pylog import memo

GROUP = 5
RATE = 50_000
HIGH_RATE = 300_000
WARM_UP = 2_000
FRAMES = 65_536
MAC_F0, MAC_C0 = "02:66:01:00:00:01", "02:66:01:00:00:02"

RULES = f"""table inet t {{
    chain c {{
        type filter hook prerouting priority -400;
        iifname != "f0" return
        ip version 4 meta mark set 0x2a counter log prefix "in-drop " group {GROUP} drop
    }}
}}
"""


@dataclass(frozen=True)
class Reader:
    """A program that reads the group.

    command   of it, by the file that it is to write
    count     how many records there are in the file
    prints    the file is its standard output
    """

    name: str
    command: Callable[[Path], list[str]]
    count: Callable[[Path], int]
    prints: bool = False
    than: str = ""
    at_most: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Turn:
    """What came of one turn.

    cpu_us   CPU time per record
    logged   packets, by the rule's counter
    read     records, by counting those that were written
    said     records that the reader says were lost, None if it does not say
    rate     packets/s that were sent
    """

    cpu_us: float
    logged: int
    read: int
    said: int | None
    rate: float


LOSSES = (b" LOST ", b'"kind":"loss"')
"""What is in the lines by which pylog tells of losses."""


def lines(path: Path) -> int:
    """How many lines a file has, less those of losses and empty ones, as tcpdump's last one is."""
    with path.open("rb") as file:
        return sum(not line.isspace() and not any(told in line for told in LOSSES) for line in file)


def pcap_packets(path: Path) -> int:
    """How many packets are in a pcap file of this machine's byte order."""
    octets, pos, found = path.read_bytes(), 24, 0
    while pos + 16 <= len(octets):
        pos += 16 + struct.unpack_from("=I", octets, pos + 8)[0]
        found += 1
    return found


def pcapng_packets(path: Path) -> int:
    """How many packets are in a pcapng file of this machine's byte order."""
    octets, pos, found = path.read_bytes(), 0, 0
    while pos + 8 <= len(octets):
        kind, size = struct.unpack_from("=II", octets, pos)
        found += kind == 6  # Enhanced Packet Block
        pos += size
    return found


def messages(path: Path) -> int:
    """How many messages of NFLOG are in the datagrams of a pcapng file of this machine's order."""
    with pylog.open(path) as reader:
        return sum(1 for _ in reader.packets())


def number(path: Path) -> int:
    """The number that is all there is in a file."""
    return int(path.read_text())


def in_all(path: Path) -> int:
    """How many packets the picture of `pylog top --once` has."""
    found = re.search(r"([\d,]+) in all", path.read_text())
    return int(found[1].replace(",", "")) if found else 0


def ulogd(stack: str, output: str) -> Callable[[Path], list[str]]:
    """ulogd2 with a stack of plugins and an output, which writes to a file."""

    def command(path: Path) -> list[str]:
        names = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR",
                 "filter_HWHDR", "filter_PRINTPKT", f"output_{output}")  # fmt: skip
        plugins = {name: netlab.ulogd_plugin(name) for name in names}
        if None in plugins.values():
            absent = [name for name, plugin in plugins.items() if plugin is None]
            raise Missing(f"ulogd lacks {', '.join(absent)}")
        config = path.with_suffix(".conf")
        config.write_text("\n".join([
            "[global]", f'logfile="{path}.log"', "loglevel=5",
            *(f'plugin="{plugin}"' for plugin in plugins.values()),
            f"stack=in:NFLOG,base:BASE,ifi:IFINDEX,ip:IP2STR,{stack},out:{output}",
            # equal sizes would be taken for 0
            "[in]", f"group={GROUP}", "netlink_socket_buffer_size=33554432",
            "netlink_socket_buffer_maxsize=67108864",
            "[out]", f'file="{path}"', "sync=0", "",
        ]))  # fmt: skip
        return ["ulogd", "-c", str(config)]

    return command


def words(*given: str) -> Callable[[Path], list[str]]:
    """A command; {} in a word is the file."""
    return lambda path: [word.format(path) for word in given]


SOURCE = f"nflog:{GROUP}"
TCPDUMP = ("tcpdump", "-Z", "root", "-n", "-i", SOURCE)
PYLOG = (sys.executable, "-m", "pylog")
READ = (*PYLOG, "read", SOURCE, "-v")
LOOP = (sys.executable, str(HERE / "loop.py"), SOURCE, "{}")

GO_NFLOG = 2.3
"""What the decoding of go-nflog takes."""
PURE = memo.__file__.endswith(".py")
"""Whether pylog is not compiled; it may take twice as much then."""

READERS = (
    Reader("tcpdump -w", words(*TCPDUMP, "-w", "{}"), pcap_packets),
    Reader("tcpdump, text", words(*TCPDUMP), lines, prints=True),
    Reader("ulogd2 LOGEMU", ulogd("print:PRINTPKT", "LOGEMU"), lines),
    Reader("ulogd2 JSON", ulogd("mac:HWHDR", "JSON"), lines),
    Reader("pylog capture", words(*PYLOG, "capture", SOURCE, "-w", "{}"), pcapng_packets,
           than="tcpdump -w", at_most=1.5),
    Reader("pylog capture --datagrams",
           words(*PYLOG, "capture", SOURCE, "--datagrams", "-w", "{}"), messages,
           than="tcpdump -w", at_most=1),
    Reader("pylog, loop over records", words(*LOOP), number, below=GO_NFLOG * (1 + PURE)),
    Reader("pylog read --to text", words(*READ, "-w", "{}"), lines,
           than="ulogd2 LOGEMU", at_most=0.5),
    Reader("pylog top", words(*PYLOG, "top", "--once", "--for", "1h", SOURCE), in_all, prints=True),
    Reader("pylog read --to json", words(*READ, "--to", "json", "-w", "{}"), lines,
           than="ulogd2 JSON", at_most=1 / 7),
)  # fmt: skip
FAST = (
    Reader("pylog capture --throughput",
           words(*PYLOG, "capture", SOURCE, "--throughput", "-w", "{}"), pcapng_packets),
    Reader("pylog read --throughput --to json",
           words(*READ, "--throughput", "--to", "json", "-w", "{}"), lines),
)  # fmt: skip


def alone(pid: int, cpu: int) -> None:
    """Give a process one processor, before all else that wants it, as far as that is allowed."""
    os.sched_setaffinity(pid, {cpu})
    # niceness does little between sessions, whose processes the kernel weighs together
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


class Lab:
    """A client that sends and a firewall that logs, from `with` to the end of `with`.

    firewall  the namespace that logs
    path      a folder for files
    """

    def __init__(self) -> None:
        if reason := netlab.missing("nft"):
            raise Missing(reason)
        self._lab = netlab.Lab()
        self.firewall = self._lab.firewall
        self._folder = scratch()
        self.path = Path(self._folder.name)
        self._turns = 0

    def __enter__(self) -> Lab:
        self._send = compiled("send.c", self.path)
        self._frames = self.path / "frames"
        with self._frames.open("wb") as file:
            for packet in self.packets(FRAMES):
                frame = netlab.ethernet(MAC_C0, MAC_F0, 0x0800, packet)
                file.write(struct.pack("!H", len(frame)) + frame)
        self._lab.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.__exit__()
        self._folder.cleanup()

    @staticmethod
    def packets(count: int) -> Iterable[bytes]:
        """The packets that are sent, over and over."""
        return packets(count)

    def send(self, count: int, rate: int) -> float:
        """Send packets to the firewall; how many there were a second."""
        took, _ = self.sender(count, rate).communicate()
        return count / float(took)

    def sender(self, count: int, rate: int) -> subprocess.Popen[bytes]:
        """What sends packets to the firewall; it prints the seconds that it took."""
        command = (str(self._send), "c0", str(self._frames), str(count), str(rate))
        sender = self._lab.client.start(*command, stdout=subprocess.PIPE)
        alone(sender.pid, two_cpus()[1])
        return sender

    def turn(self, reader: Reader, rate: int, seconds: float) -> Turn:
        """Let a reader read while packets are sent; Missing if it cannot be had."""
        firewall = self.firewall
        self._turns += 1
        path = self.path / f"{self._turns}.out"
        command = reader.command(path)
        program(command[0])
        errors = path.with_suffix(".err")
        with errors.open("wb") as told, open(path if reader.prints else os.devnull, "wb") as out:
            process = firewall.start(*command, stdout=out, stderr=told)
        alone(process.pid, two_cpus()[0])
        netlab.until(lambda: GROUP in firewall.groups() or process.poll() is not None, reader.name)
        if process.poll() is not None:
            raise Missing(f"ended at once: {errors.read_text().strip()}")
        firewall.nft(RULES)
        self.send(WARM_UP, rate)
        self.quiet(process.pid)
        before = cpu_of(process.pid)
        reached = self.send(int(rate * seconds), rate)
        self.quiet(process.pid)
        cpu_s = cpu_of(process.pid) - before
        self.send(1, rate)  # its number shows what was lost before it
        self.quiet(process.pid)
        logged = firewall.counted()[0]
        firewall.nft("flush ruleset")
        netlab.stop(process)
        read = reader.count(path)
        path.unlink()
        if read <= WARM_UP:
            raise Missing(f"read {read} records: {errors.read_text()}")
        said = re.search(r"lost records: (\d+)", errors.read_text())
        return Turn(cpu_s / (read - WARM_UP) * 1e6, logged, read, said and int(said[1]), reached)

    @staticmethod
    def quiet(pid: int) -> None:
        """Wait until a reader has nothing left to do: the kernel holds back for up to a second."""
        time.sleep(1.2)
        before = cpu_of(pid)
        while True:
            time.sleep(0.25)
            if (now := cpu_of(pid)) - before < 0.005:
                return
            before = now


def table(scale: Scale) -> Table:
    """CPU time per record at a rate that all but the slowest can follow."""
    return Table(f"Live, {RATE:,} packets/s", _rows(READERS, RATE, scale))


def overload(scale: Scale) -> Table:
    """Records lost at a high rate."""
    rows = _rows(FAST, HIGH_RATE, scale)
    for row in rows:
        if row.values:
            row.target = f"no loss: {'met' if row.note.startswith('lost 0 ') else 'MISSED'}"
    return Table(f"Live, {HIGH_RATE:,} packets/s", rows)


def _rows(readers: Sequence[Reader], rate: int, scale: Scale) -> list[Row]:
    """Let all readers read in turn; what was lost stands beside their CPU time."""
    with Lab() as lab:
        work = {r.name: partial(lab.turn, r, rate, scale.seconds) for r in readers}
        found, missing = interleaved(work, scale.rounds)
    rows = []
    for reader in readers:
        row = Row(reader.name, than=reader.than, at_most=reader.at_most, below=reader.below)
        rows.append(row)
        if reader.name in missing:
            row.note = missing[reader.name]
            continue
        turns = found[reader.name]
        row.values = [turn.cpu_us for turn in turns]
        logged, read = sum(turn.logged for turn in turns), sum(turn.read for turn in turns)
        row.note = f"lost {logged - read} of {logged}"
        if all(turn.said is not None for turn in turns):
            row.note += f", says {sum(turn.said or 0 for turn in turns)}"
        slowest = min(turn.rate for turn in turns)
        if slowest < 0.98 * rate:
            row.note += f", only {slowest:,.0f} packets/s could be sent"
    return rows
