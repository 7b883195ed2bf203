"""`pylog ulogd` beside ulogd2: CPU per record of each output, with the same configuration.

Both read the same packets, flows or counters, one after the other in each round, at a rate that
both can follow. Outputs write files, databases on this machine, or to `sink.py`, whose CPU time
does not count. Flows are the first packets of UDP. Counters are read every second.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import databases
import netlab
from live import FRAMES, GROUP, RULES, WARM_UP, Lab, alone, lines, pcap_packets
from measure import HERE, Missing, Row, Scale, Table, cpu_of, interleaved, two_cpus
from traffic import ipv4

UDP = 17
RATE = 4_000
COUNTERS, COUNTER_S = 500, 8
"""So many counters are read in each second of so many."""
LOG = "/dev/log"
PORT = 12_000
BASE = "base:BASE,ifi:IFINDEX,ip:IP2STR,"
COLUMNS = "oob_prefix varchar(40), oob_time_sec bigint, raw_pktlen integer, ip_ttl integer,"
TABLE = f"create table p (id integer, {COLUMNS} tcp_dport integer)"
SQL = 'table="p"\nprocedure="INSERT"\nbacklog_memcap=1000000'
FLOW_RULES = """table inet t {
    chain c {
        type filter hook input priority 0
        ct state new counter
    }
    chain o {
        type filter hook output priority 0
        meta l4proto icmp drop
    }
}
"""


@dataclass(frozen=True)
class Output:
    """An output of ulogd with what comes before it.

    kind      packets, flows or counters
    stack     the filters
    section   its section in the configuration; {path}, {folder} and {port} of the database
    count     how many records there are, by the path
    peer      the arguments of sink.py but the file; (): none
    """

    name: str
    plugin: str
    kind: str
    stack: str
    section: str = 'file="{path}"'
    count: Callable[[Path], int] = lines
    peer: tuple[str, ...] = ()
    prints: bool = False


def blocks(path: Path) -> int:
    """How many records OPRINT has written."""
    return path.read_bytes().count(b"===>PACKET BOUNDARY\n")


def elements(path: Path) -> int:
    """How many packets XML has written."""
    return path.read_bytes().count(b"<log>")


def sqlite_rows(path: Path) -> int:
    """How many rows SQLITE3 has written."""
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("select count(*) from p").fetchone()
    return int(count)


def scheduled_s(pid: int) -> float:
    """CPU time of the threads of a process, without the rounding of `cpu_of`."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


FLOWS = "ip:IP2STR,"
OUTPUTS = (
    Output("LOGEMU", "LOGEMU", "packets", BASE + "print:PRINTPKT,"),
    Output("SYSLOG", "SYSLOG", "packets", BASE + "print:PRINTPKT,", "", peer=("syslog", LOG)),
    Output("JSON", "JSON", "packets", BASE + "mac:HWHDR,"),
    Output("GPRINT", "GPRINT", "packets", BASE),
    Output("OPRINT", "OPRINT", "packets", BASE, count=blocks),
    Output("XML", "XML", "packets", "", "stdout=1", elements, prints=True),
    Output("PCAP", "PCAP", "packets", "base:BASE,", count=pcap_packets),
    Output("SQLITE3", "SQLITE3", "packets", "base:BASE,", 'db="{path}"\ntable="p"', sqlite_rows),
    Output("PGSQL", "PGSQL", "packets", "base:BASE,",
           f'db="postgres"\nuser="pylog"\nhost="{{folder}}"\nport={{port}}\n{SQL}'),
    Output("MYSQL", "MYSQL", "packets", "base:BASE,",
           f'db="ulogd"\nuser="root"\nhost="localhost"\npass=""\n{SQL}'),
    Output("LOGEMU, flows", "LOGEMU", "flows", FLOWS + "print:PRINTFLOW,"),
    Output("JSON, flows", "JSON", "flows", FLOWS),
    Output("GPRINT, flows", "GPRINT", "flows", FLOWS),
    Output("NACCT, flows", "NACCT", "flows", FLOWS),
    Output("IPFIX, flows", "IPFIX", "flows", "",
           f'oid=1\nhost="127.0.0.1"\nport={PORT}\nproto="udp"', peer=("ipfix", str(PORT))),
    Output("GRAPHITE, counters", "GRAPHITE", "counters", "",
           f'host="127.0.0.1"\nport="{PORT}"\nprefix="fw"', lambda path: lines(path) // 2,
           ("lines", str(PORT))),
)  # fmt: skip
SOURCES = {
    "packets": ("NFLOG", f"group={GROUP}"),
    "flows": ("NFCT", "hash_enable=0\nevent_mask=1"),
    "counters": ("NFACCT", "pollinterval=1"),
}
PROGRAMS = {
    "ulogd2": ("ulogd",),
    "pylog ulogd": (sys.executable, "-m", "pylog", "ulogd"),
}


class FlowLab(Lab):
    """A laboratory whose packets are each the first of a flow."""

    @staticmethod
    def packets(count: int) -> Iterator[bytes]:
        client, firewall = 0x0A420102, 0x0A420101
        for number in range(count):
            yield ipv4(UDP, client, firewall, struct.pack("!HHHH", number & 0xFFFF, 9, 8, 0))


class Servers:
    """The databases, which are started when they are needed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, databases.Server] = {}

    def prepared(self, plugin: str) -> databases.Server:
        """The server of a plugin, with an empty table; Missing."""
        server = self._running.get(plugin)
        if server is None:
            server = {"PGSQL": databases.PostgreSQLServer,
                      "MYSQL": databases.MariaDBServer}[plugin]()  # fmt: skip
            if reason := server.missing():
                raise Missing(reason)
            self._stack.enter_context(databases.running(server))
            server.start()
            self._running[plugin] = server
        for statement in ("drop table if exists p", TABLE.replace("id integer", "_id integer")):
            self.done(plugin, statement)
        return server

    def done(self, plugin: str, statement: str) -> int:
        """The first number that a statement gives, 0 without one."""
        server = self._running[plugin]
        if plugin == "PGSQL":
            import psycopg

            with psycopg.connect(server.address(), autocommit=True) as connection:
                cursor = connection.execute(statement)
                return int(cursor.fetchone()[0]) if cursor.description else 0
        import pymysql

        assert isinstance(server, databases.MariaDBServer)
        with closing(pymysql.connect(unix_socket=server.socket, autocommit=True)) as other:
            cursor = other.cursor()
            cursor.execute("create database if not exists ulogd")
            cursor.execute("use ulogd")
            cursor.execute(statement)
            row = cursor.fetchone()
            return int(row[0]) if row else 0


class Turns:
    """The turns of all programs with all outputs, in a laboratory for each kind."""

    def __init__(self, stack: contextlib.ExitStack, scale: Scale) -> None:
        self._servers, self._scale = Servers(stack), scale
        self._labs = {"packets": stack.enter_context(Lab())}
        self._labs["flows"] = stack.enter_context(FlowLab())
        self._labs["counters"] = self._labs["packets"]
        self._number = 0

    def turn(self, output: Output, command: tuple[str, ...]) -> float:
        """CPU time per record, in us; Missing if a program or plugin cannot be had."""
        for plugin in (f"inppkt_{SOURCES[output.kind][0]}", f"inpflow_{SOURCES[output.kind][0]}"):
            if netlab.ulogd_plugin(plugin):
                break
        else:
            raise Missing(f"ulogd lacks {SOURCES[output.kind][0]}")
        if not netlab.ulogd_plugin(f"output_{output.plugin}"):
            raise Missing(f"ulogd lacks {output.plugin}")
        self._number += 1
        lab = self._labs[output.kind]
        path = lab.path / f"u{self._number}.out"
        with contextlib.ExitStack() as stack:
            config = self._config(output, path)
            if output.peer:
                self._start_peer(output, path, stack)
            firewall = lab.firewall
            rules = {"packets": RULES, "flows": FLOW_RULES}.get(output.kind)
            if output.kind == "counters":
                self._make_counters(stack)
            out = stack.enter_context(open(path if output.prints else os.devnull, "wb"))
            errors = stack.enter_context(path.with_suffix(".err").open("wb"))
            process = firewall.start(*command, "-c", str(config), stdout=out, stderr=errors)
            stack.callback(netlab.stop, process)
            alone(process.pid, two_cpus()[0])
            log = config.with_suffix(".log")
            netlab.until(lambda: process.poll() is not None or "entering main loop" in
                         (log.read_text() if log.exists() else ""), output.name, 60)  # fmt: skip
            if process.poll() is not None:
                raise Missing(f"ended at once: {log.read_text()[-200:]}")
            if rules is None:
                return self._counted(output, path, process.pid)
            firewall.nft(rules)
            stack.callback(firewall.nft, "flush ruleset")
            lab.send(WARM_UP, RATE)
            if output.kind == "flows":
                firewall.run("conntrack", "-F")  # or the same packets are of flows that are there
            lab.quiet(process.pid)
            before = cpu_of(process.pid)
            lab.send(int(RATE * self._scale.seconds), RATE)
            lab.quiet(process.pid)
            cpu_s = cpu_of(process.pid) - before
        if output.kind == "flows":
            firewall.run("conntrack", "-F")
        read = self._count(output, path) - WARM_UP
        if read <= 0:
            raise Missing(f"read {read + WARM_UP} records: {log.read_text()[-200:]}")
        return cpu_s / read * 1e6

    def _config(self, output: Output, path: Path) -> Path:
        folder, port = "", 0
        if output.plugin in ("PGSQL", "MYSQL"):
            server = self._servers.prepared(output.plugin)
            folder, port = server.folder, server.port
            if isinstance(server, databases.MariaDBServer):
                os.environ["MYSQL_UNIX_PORT"] = server.socket
        if output.plugin == "SQLITE3":
            with closing(sqlite3.connect(path)) as database:
                database.execute(TABLE.replace("id integer, ", ""))
        source, options = SOURCES[output.kind]
        config = path.with_suffix(".conf")
        section = output.section.format(path=path, folder=folder, port=port)
        config.write_text("\n".join([
            "[global]", f'logfile="{config.with_suffix(".log")}"', "loglevel=3",
            f"stack=in:{source},{output.stack}out:{output.plugin}", "[in]", options, "[out]",
            section, "",
        ]))  # fmt: skip
        return config

    def _start_peer(self, output: Output, path: Path, stack: contextlib.ExitStack) -> None:
        kind, where = output.peer
        if kind == "syslog":
            if os.path.exists(LOG):
                raise Missing(f"{LOG} is in use")
            stack.callback(Path(LOG).unlink, missing_ok=True)
        peer = self._labs[output.kind].firewall.start(
            sys.executable, str(HERE / "sink.py"), kind, where, str(path)
        )
        stack.callback(netlab.stop, peer)
        netlab.until(path.exists, "the peer")
        time.sleep(0.3)

    def _make_counters(self, stack: contextlib.ExitStack) -> None:
        firewall = self._labs["counters"].firewall
        if netlab.missing("nfacct"):
            raise Missing("needs nfacct")
        for number in range(COUNTERS):
            firewall.run("nfacct", "add", f"counter-{number}")
        stack.callback(firewall.run, "nfacct", "flush")

    def _counted(self, output: Output, path: Path, pid: int) -> float:
        """CPU time per counter, in us."""
        time.sleep(2.2)
        count, before = self._count(output, path), scheduled_s(pid)
        time.sleep(COUNTER_S)
        cpu_s = scheduled_s(pid) - before
        read = self._count(output, path) - count
        if not read:
            raise Missing("no counter was read")
        return cpu_s / read * 1e6

    def _count(self, output: Output, path: Path) -> int:
        if output.plugin in ("PGSQL", "MYSQL"):
            return self._servers.done(output.plugin, "select count(*) from p")
        return output.count(path)


def table(scale: Scale) -> Table:
    """Both with all outputs."""
    assert WARM_UP + RATE * scale.seconds <= FRAMES  # flows come once
    with contextlib.ExitStack() as stack:
        turns = Turns(stack, scale)
        work = {
            f"{name} {output.name}": partial(turns.turn, output, command)
            for output in OUTPUTS for name, command in PROGRAMS.items()
        }  # fmt: skip
        found, missing = interleaved(work, scale.rounds)
    rows = [
        Row(f"{name} {output.name}", found[f"{name} {output.name}"],
            than="" if name == "ulogd2" else f"ulogd2 {output.name}",
            note=missing.get(f"{name} {output.name}", ""))
        for output in OUTPUTS for name in PROGRAMS
    ]  # fmt: skip
    return Table(f"ulogd2 and pylog ulogd, {RATE:,} records/s", rows)
