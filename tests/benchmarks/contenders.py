"""The programs that `throughput` compares, and where they write: files, syslog, PostgreSQL.

A destination is made for each turn, and counts the records that reached it. The database server is
one for all turns: on the disk, with fsync and all other settings as PostgreSQL comes, or without
fsync. For ulogd2 its database has the flat table that its package has, without the indexes but that
of the key. pylog's table is its own, with its index by time.
"""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import netlab
from databases import PostgreSQLLab, PostgreSQLServer
from live import lines, pcap_packets
from measure import Missing

PYLOG_GROUP, OTHER_GROUP = 5, 6
PREFIX = b"in-drop "
FLAT = Path("/usr/share/doc/ulogd2/pgsql-ulogd2-flat.sql.gz")
QUEUE = 512
"""Datagrams that wait for a receiver of syslog: what systemd sets, the kernel's own is 10."""


class Destination:
    """Where a program writes in one turn.

    path     a file, or the socket of syslog
    address  of a database
    server   the process of the database; 0: there is none
    count    how many records are there
    """

    def __init__(
        self, path: Path, count: Callable[[], int], address: str = "", server: int = 0
    ) -> None:
        self.path, self.count, self.address, self.server = path, count, address, server


Destinations = Callable[[Path, netlab.Namespace], AbstractContextManager[Destination]]
"""Makes the destination of a turn, in a folder of its own."""


@contextlib.contextmanager
def a_file(folder: Path, firewall: netlab.Namespace) -> Iterator[Destination]:
    """A file of lines."""
    path = folder / "out"
    yield Destination(path, lambda: lines(path))
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def a_capture(folder: Path, firewall: netlab.Namespace) -> Iterator[Destination]:
    """A pcap file."""
    path = folder / "out"
    yield Destination(path, lambda: pcap_packets(path))
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def a_syslog(folder: Path, firewall: netlab.Namespace) -> Iterator[Destination]:
    """A socket as /dev/log, which a process of its own reads."""
    path = folder / "dev" / "log"
    (path.parent / "shm").mkdir(parents=True)
    os.mknod(path.parent / "null", 0o666 | 0o020000, os.makedev(1, 3))
    receiver = firewall.inside(lambda: _bound(path))
    count = multiprocessing.Value("q", 0, lock=False)
    process = multiprocessing.get_context("fork").Process(
        target=_receive, args=(receiver, count), daemon=True
    )
    process.start()
    assert process.pid is not None
    first(process.pid, 2)
    try:
        yield Destination(path, lambda: count.value)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _bound(path: Path) -> socket.socket:
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text(str(QUEUE))
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    return made


def _receive(receiver: socket.socket, count: Any) -> None:
    while True:
        count.value += PREFIX in receiver.recv(1 << 16)


def first(pid: int, priority: int) -> None:
    """Let a process, and those that it will start, run before all else, if that is allowed."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(priority))


class Server(PostgreSQLServer):
    """PostgreSQL as it comes, or without fsync."""

    def __init__(self, fsync: bool) -> None:
        super().__init__()
        self.settings = {"fsync": "on" if fsync else "off", "log_min_messages": "fatal"}

    def ready(self) -> Server:
        """The server, which runs; Missing."""
        if not self.folder:
            reason = self.missing() or ("" if find_spec("psycopg") else "needs psycopg")
            if reason:
                raise Missing(reason)
            self.start()
            os.chmod(self.folder, 0o755)  # stacks have no privilege that opens it
            first(self.pid, 1)
        return self


def a_database(server: Server, table: str, schema: Callable[[], str] | None = None) -> Destinations:
    """A database of the server, with a schema, in which the rows of a table count."""

    @contextlib.contextmanager
    def made(folder: Path, firewall: netlab.Namespace) -> Iterator[Destination]:
        statements = "" if schema is None else schema()
        lab = PostgreSQLLab(server.ready())
        try:
            if statements:
                lab.query(statements)

            def count() -> int:
                return int(lab.query(f"SELECT count(*) FROM {table}")[1][0][0])

            yield Destination(folder, count, lab.address, server.pid)
        finally:
            lab.close()

    return made


def flat_schema() -> str:
    """The flat table of ulogd2; Missing."""
    if not FLAT.exists():
        raise Missing(f"needs {FLAT}")
    text = gzip.decompress(FLAT.read_bytes()).decode()
    start = text.index("CREATE SEQUENCE ulog2__id_seq")
    return text[start : text.index("CREATE INDEX")]


@dataclass(frozen=True)
class Program:
    """A program that reads a group.

    command      of it, in a folder of its own, for a destination
    own          whether its first process alone counts
    """

    name: str
    group: int
    command: Callable[[Path, Destination], list[str]]
    destination: Destinations
    own: bool = False


def pylog(name: str, destination: Destinations, stack: str, own: bool = False) -> Program:
    """`pylog run` with a journal and one stack; {path} and {address} are of its destination."""

    def command(folder: Path, output: Destination) -> list[str]:
        path = folder / "pylog.toml"
        target = stack.format(path=output.path, address=output.address)
        path.write_text(f"""
[pylog]
journal = "{folder}/journal"
[sources.fw]
from = "nflog:{PYLOG_GROUP}"
throughput = true
[[stacks]]
name = "stack"
from = ["fw"]
{target}
""")
        return [sys.executable, "-m", "pylog", "run", str(path)]

    return Program(name, PYLOG_GROUP, command, destination, own)


def ulogd(name: str, destination: Destinations, stack: str, output: str, settings: str) -> Program:
    """ulogd2 with plugins and an output, whose settings name {path} and {address}."""

    def command(folder: Path, destination: Destination) -> list[str]:
        names = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR",
                 "filter_HWHDR", "filter_PRINTPKT", f"output_{output}")  # fmt: skip
        plugins = {name: netlab.ulogd_plugin(name) for name in names}
        if None in plugins.values():
            absent = [name for name, plugin in plugins.items() if plugin is None]
            raise Missing(f"ulogd lacks {', '.join(absent)}")
        config = folder / "ulogd.conf"
        config.write_text("\n".join([
            "[global]", f'logfile="{folder}/log"', "loglevel=5",
            *(f'plugin="{plugin}"' for plugin in plugins.values()),
            f"stack=in:NFLOG,base:BASE,ifi:IFINDEX,ip:IP2STR,{stack},out:{output}",
            # equal sizes would be taken for 0
            "[in]", f"group={OTHER_GROUP}", "netlink_socket_buffer_size=33554432",
            "netlink_socket_buffer_maxsize=67108864",
            "[out]", settings.format(path=destination.path, address=destination.address), "",
        ]))  # fmt: skip
        run = ["ulogd", "-c", str(config)]
        if output == "SYSLOG":  # syslog(3) knows no other path than /dev/log
            mount = 'mount --bind /dev/shm "$0/shm" && mount --rbind "$0" /dev && exec "$@"'
            run = ["unshare", "-m", "sh", "-c", mount, str(destination.path.parent), *run]
        return run

    return Program(name, OTHER_GROUP, command, destination)


@dataclass(frozen=True)
class Pair:
    """pylog and another program with the same output.

    rate     packets/s that the other can follow, for both together
    rates    whether to look for the highest rate of each
    target   how many times the other's highest rate pylog's is to be
    at_most  the target for CPU time: so many times the other's
    """

    output: str
    pylog: Program
    other: Program
    rate: int
    rates: bool = True
    target: float | None = None
    at_most: float | None = None


@contextlib.contextmanager
def pairs() -> Iterator[list[Pair]]:
    """All that are compared; database servers run meanwhile."""
    with contextlib.ExitStack() as stack:
        made = [
            Pair(
                "journal",
                pylog("pylog run, the receiver", a_file, 'to = "json"\ntarget = "{path}"',
                      own=True),
                Program("tcpdump -w", OTHER_GROUP, lambda folder, output: [
                    "tcpdump", "-Z", "root", "-i", f"nflog:{OTHER_GROUP}", "-w", str(output.path),
                ], a_capture),
                40_000, rates=False, at_most=1.0,
            ),
            Pair(
                "JSON file",
                pylog("pylog run", a_file, 'to = "json"\ntarget = "{path}"'),
                ulogd("ulogd2 JSON", a_file, "mac:HWHDR", "JSON", 'file="{path}"\nsync=0'),
                20_000, target=3,
            ),
            Pair(
                "syslog",
                pylog("pylog run", a_syslog, 'to = "syslog"\ntarget = "unix:{path}"'),
                ulogd("ulogd2 SYSLOG", a_syslog, "print:PRINTPKT", "SYSLOG", ""),
                20_000,
            ),
        ]  # fmt: skip
        for fsync in (False, True):
            server = Server(fsync)
            stack.callback(server.close)
            made.append(Pair(
                f"PostgreSQL, fsync {'on' if fsync else 'off'}",
                pylog("pylog run", a_database(server, "pylog.packet"),
                      'to = "postgresql"\ntarget = "{address}"'),
                ulogd("ulogd2 PGSQL", a_database(server, "ulog2", flat_schema), "mac:HWHDR",
                      "PGSQL", 'db="-"\nuser="-"\nconnstring="{address}"\ntable="ulog2"\n'
                      'procedure="INSERT"'),
                500 if fsync else 1_500, target=10,
            ))  # fmt: skip
        yield made
