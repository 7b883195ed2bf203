"""`pylog ulogd` beside ulogd2: CPU per record of each output, with the same configuration.

Both read the same group, one after the other in each round, at a rate that both can follow. The
outputs write files; XML goes to standard output. Flows and counters are too rare to matter.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import netlab
from live import GROUP, Lab, Reader, lines, pcap_packets
from measure import Missing, Row, Scale, Table, interleaved

RATE = 4_000
BASE = "base:BASE,ifi:IFINDEX,ip:IP2STR,"
STACKS = {
    "LOGEMU": BASE + "print:PRINTPKT,",
    "JSON": BASE + "mac:HWHDR,",
    "GPRINT": BASE,
    "OPRINT": BASE,
    "XML": "",
    "PCAP": "base:BASE,",
    "SQLITE3": "base:BASE,",
}
"""The filters before each output."""
TABLE = "create table p (oob_prefix, oob_time_sec, raw_pktlen, ip_ttl, tcp_dport)"


def configured(output: str, command: tuple[str, ...], path: Path) -> list[str]:
    """The command with a configuration whose output writes to a file; Missing."""
    if not netlab.ulogd_plugin("inppkt_NFLOG") or (
        output in ("JSON", "PCAP", "SQLITE3") and not netlab.ulogd_plugin(f"output_{output}")
    ):
        raise Missing(f"ulogd lacks {output}")
    if output == "SQLITE3":
        with closing(sqlite3.connect(path)) as database:
            database.execute(TABLE)
    target = {"XML": "stdout=1", "SQLITE3": f'db="{path}"\ntable="p"'}
    config = path.with_suffix(".conf")
    config.write_text("\n".join([
        "[global]", f'logfile="{path}.log"', f"stack=in:NFLOG,{STACKS[output]}out:{output}",
        "[in]", f"group={GROUP}", "[out]", target.get(output, f'file="{path}"'), "",
    ]))  # fmt: skip
    return [*command, "-c", str(config)]


def blocks(path: Path) -> int:
    """How many records OPRINT has written."""
    return path.read_bytes().count(b"===>PACKET BOUNDARY\n")


def elements(path: Path) -> int:
    """How many packets XML has written."""
    return path.read_bytes().count(b"<log>")


def rows_of(path: Path) -> int:
    """How many rows SQLITE3 has written."""
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("select count(*) from p").fetchone()
    return int(count)


COUNTS: dict[str, Callable[[Path], int]] = {
    "OPRINT": blocks, "XML": elements, "PCAP": pcap_packets, "SQLITE3": rows_of,
}  # fmt: skip
PROGRAMS = {
    "ulogd2": ("ulogd",),
    "pylog ulogd": (sys.executable, "-m", "pylog", "ulogd"),
}


def table(scale: Scale) -> Table:
    """Both with all outputs."""
    readers = [
        Reader(f"{name} {output}", partial(configured, output, command),
               COUNTS.get(output, lines), prints=output == "XML",
               than="" if name == "ulogd2" else f"ulogd2 {output}")
        for output in STACKS for name, command in PROGRAMS.items()
    ]  # fmt: skip
    with Lab() as lab:
        work = {r.name: partial(lab.turn, r, RATE, scale.seconds) for r in readers}
        found, missing = interleaved(work, scale.rounds)
    rows = [
        Row(r.name, [turn.cpu_us for turn in found[r.name]], than=r.than,
            note=missing.get(r.name, ""))
        for r in readers
    ]  # fmt: skip
    return Table(f"ulogd2 and pylog ulogd, {RATE:,} packets/s", rows)
