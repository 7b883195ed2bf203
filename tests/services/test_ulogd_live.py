"""ulogd2 and `pylog ulogd` side by side on the running kernel, on two groups of the same rules.

What both write of the same packets and flows is compared line by line, through SIGHUP and SIGUSR2.
"""

from __future__ import annotations

import re
import signal
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import netlab
import pytest
from netlab import until

REASON = netlab.missing("nft", "ulogd") or next(
    (
        f"needs ulogd's {name}"
        for name in ("PCAP", "SQLITE3")
        if not netlab.ulogd_plugin(f"output_{name}")
    ),
    "",
)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

RULES = """table inet t {
  chain c {
    type filter hook input priority 0;
    udp dport 9 log prefix "UDP " group 1
    udp dport 9 log prefix "UDP " group 2
    icmp type echo-request log prefix "a \\t<&>, " group 1
    icmp type echo-request log prefix "a \\t<&>, " group 2
    ct state new,established counter
  }
}
"""
CONF = """[global]
logfile="{0}/own.log"
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,gp1:GPRINT
stack=log1:NFLOG,base1:BASE,pcap1:PCAP
stack=log1:NFLOG,xml1:XML
stack=log1:NFLOG,base1:BASE,sq1:SQLITE3
stack=ct1:NFCT,ip2str1:IP2STR,print1:PRINTFLOW,emu2:LOGEMU
[log1]
group={1}
netlink_qthreshold=1
[ct1]
hash_enable=0
[emu1]
file="{0}/packets.log"
sync=1
[emu2]
file="{0}/flows.log"
sync=1
[json1]
file="{0}/packets.json"
[gp1]
file="{0}/packets.gprint"
[pcap1]
file="{0}/packets.pcap"
[xml1]
directory="{0}"
[sq1]
db="{0}/packets.db"
table="p"
"""
TABLE = (
    "create table p (oob_prefix text, oob_time_sec int, raw_pktlen int, ip_ttl int, udp_dport int)"
)
PACKETS = 300


def started(alone: netlab.Namespace, folder: Path, group: int) -> subprocess.Popen[bytes]:
    """ulogd for group 1, pylog for group 2, with all files there."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "packets.db")) as database:
        database.execute(TABLE)
    (folder / "ulogd.conf").write_text(CONF.format(folder, group))
    own = [sys.executable, "-P", "-m", "pylog", "ulogd", "--compat=exact", "-p", f"{folder}/pid"]
    process = alone.start(*(["ulogd"] if group == 1 else own), "-c", f"{folder}/ulogd.conf")
    until((folder / "flows.log").exists, "its last stack", 60)
    return process


def has(folder: Path, packets: int) -> bool:
    """Whether LOGEMU has written so many packets since its file was opened."""
    return (folder / "packets.log").read_bytes().count(b"\n") >= packets


def without_clock(path: Path) -> bytes:
    """Lines without microseconds: on the loopback device the kernel gives no time."""
    return re.sub(rb'(?<=:\d\d)\.\d{6}(?=")|oob\.time\.usec"?[=:] ?\d+', b"", path.read_bytes())


def packets_of(path: Path) -> list[bytes]:
    """The packets of a pcap file, with their lengths, without their times."""
    data, at, found = path.read_bytes(), 24, []
    while at < len(data):
        size = struct.unpack_from("=I", data, at + 8)[0]
        found.append(data[at + 8 : at + 16 + size])
        at += 16 + size
    return found


def rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("select * from p").fetchall()


def test_both_write_the_same_of_the_same_packets(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "ulogd", tmp_path / "pylog"
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        processes = started(alone, theirs, 1), started(alone, mine, 2)
        for number in range(PACKETS):
            alone.udp("127.0.0.1", 9, b"x" * (number % 50), mark=number)
            if number == PACKETS // 2:
                for folder in (theirs, mine):
                    until(partial(has, folder, number + 1), "half of the packets")
                    (folder / "packets.log").rename(folder / "packets.log.1")
                for process in processes:
                    process.send_signal(signal.SIGHUP)
                for folder in (theirs, mine):
                    until((folder / "packets.log").exists, "the file after SIGHUP")
        alone.run("ping", "-c", "2", "-i", "0.2", "127.0.0.1")
        for folder in (theirs, mine):
            until(partial(has, folder, PACKETS // 2 + 1), "the rest")
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [0, 0]
    assert not (mine / "pid").exists()
    for name in ("packets.log.1", "packets.log", "packets.json", "packets.gprint"):
        assert without_clock(mine / name) == without_clock(theirs / name), name
    assert packets_of(mine / "packets.pcap") == packets_of(theirs / "packets.pcap")
    assert rows(mine / "packets.db") == rows(theirs / "packets.db")
    assert len(rows(mine / "packets.db")) == PACKETS + 2
    when = re.compile(rb"<when>.*?</when>")
    both = [when.sub(b"", b"".join(p.read_bytes() for p in sorted(f.glob("*.xml")))).splitlines()
            for f in (theirs, mine)]  # fmt: skip
    assert [line for line in both[1] if b"<log>" in line] == [
        line for line in both[0] if b"<log>" in line
    ]
    assert (mine / "flows.log").read_bytes().count(b"[NEW]") >= 1


def test_a_taken_group_names_its_holder(tmp_path: Path) -> None:
    conf = tmp_path / "ulogd.conf"
    conf.write_text(f"[global]\nstack=a:NFLOG,g:GPRINT\n[a]\ngroup=7\n[g]\nfile={tmp_path}/out\n")
    line = [sys.executable, "-P", "-m", "pylog", "ulogd", "-c", str(conf)]
    with netlab.Namespace() as alone:
        first = alone.start(*line)
        until((tmp_path / "out").exists, "the first one", 60)
        until(lambda: alone.groups().get(7), "its group")
        second = alone.start(*line, stderr=subprocess.PIPE)
        assert second.stderr is not None
        said = second.stderr.read().decode()
        assert second.wait(30) == 1
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
    assert str(first.pid) in said and "group 7" in said, said
