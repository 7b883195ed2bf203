"""ulogd2 and `pylog ulogd` side by side on the running kernel, on two groups of the same rules.

What both write of the same packets and flows is compared line by line, through SIGHUP and SIGUSR2.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import effort
import netlab
import pytest
import ulogd_cases
from netlab import until

from pylog.record import PacketRecord
from pylog.ulogd.unixsock import packet_of_frame

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


FUZZ = """[global]
logfile="{0}/own.log"
stack=a:UNIXSOCK,base1:BASE,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU
stack=b:UNIXSOCK,base1:BASE,ip2str1:IP2STR,ip2bin1:IP2BIN,op1:OPRINT
[a]
socket_path="{1}/a"
[b]
socket_path="{1}/b"
[emu1]
file="{0}/out.log"
[op1]
file="{0}/out.oprint"
"""
EXTENSIONS = (0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132)


def mutated(payload: bytes, chance: random.Random) -> bytes:
    """A packet with a few bytes changed, cut, or with an IPv6 extension header."""
    data = bytearray(payload)
    if chance.random() < 0.3:
        del data[chance.randrange(1, len(data) + 1) :]
    for _ in range(chance.randrange(5)):
        data[chance.randrange(min(len(data), 64))] = chance.randrange(256)
    if payload[0] >> 4 == 6 and chance.random() < 0.4 and len(data) > 40:
        data[6] = chance.choice(EXTENSIONS)
        data[40:40] = bytes([chance.choice(EXTENSIONS), chance.randrange(3)]) + chance.randbytes(6)
    data[0] = payload[0] & 0xF0 | data[0] & 0x0F
    return bytes(data)


def frame(packet: bytes, number: int) -> bytes:
    """A frame of UNIXSOCK with a time and names of interfaces."""
    options = b""
    for kind, value in ((4, struct.pack("=I", 1_700_000_000 + number)), (1, b"n%d\0" % number),
                        (2, b"eth0\0"), (3, b"\0")):  # fmt: skip
        options += struct.pack(">II", kind, len(value)) + value + bytes(-len(value) % 8)
    body = struct.pack(">4xH", len(packet)) + packet + bytes(-len(packet) % 8) + options
    return struct.pack(">IH", 0x41C90FD4, len(body) + 2) + body


def test_any_packet_is_decoded_and_printed_as_by_ulogd(tmp_path: Path) -> None:
    chance = effort.chance("ulogd frames")
    packets = [r for r in ulogd_cases.records("g10.rec") if isinstance(r, PacketRecord)]
    payloads = [r.payload for r in packets if r.payload and r.payload[0] >> 4 in (4, 6)]
    frames = [frame(mutated(chance.choice(payloads), chance), n) for n in range(2000)]
    theirs, mine = tmp_path / "ulogd", tmp_path / "pylog"
    for folder in (theirs, mine):
        folder.mkdir()
        (folder / "ulogd.conf").write_text(FUZZ.format(folder, tmp_path))
    with netlab.Namespace() as alone:
        process = alone.start("ulogd", "-c", str(theirs / "ulogd.conf"))
        for name in ("a", "b"):
            until((tmp_path / name).exists, "its socket")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / name))
                for octets in frames:
                    client.sendall(octets)
                client.shutdown(socket.SHUT_WR)
                time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    made = ulogd_cases.daemon((mine / "ulogd.conf").read_bytes(), hostname=socket.gethostname())
    made.surroundings.interfaces = None
    made.start()
    for octets in frames:
        for name in ("a", "b"):
            made.feed_view(name, packet_of_frame(octets, 0)[0])
    made.stop()
    for name in ("out.log", "out.oprint"):
        ours, other = (ulogd_cases.blanked((f / name).read_bytes()) for f in (mine, theirs))
        assert ours.split(b"\n") == other.split(b"\n")


def test_the_five_steps_of_the_page(tmp_path: Path) -> None:
    """docs/ulogd.md: check, record, replay, replace, convert."""
    conf, out = tmp_path / "ulogd.conf", tmp_path / "fw.log"
    chain = "l:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,p:PRINTPKT,e:LOGEMU"
    conf.write_text(f"[global]\nlogfile={tmp_path}/own\nstack={chain}\n[l]\ngroup=1\n"
                    f"netlink_qthreshold=1\n[e]\nfile={out}\nsync=1\n")  # fmt: skip
    own = [sys.executable, "-P", "-m", "pylog"]
    capture, pid = tmp_path / "fw.pcapng", tmp_path / "pid"
    with netlab.Namespace() as alone:
        alone.nft(RULES)
        assert "0 that cannot" not in alone.run(*own, "ulogd", "--check", "-c", str(conf))
        old = alone.start("ulogd", "-c", str(conf))
        recorder = alone.start(*own, "capture", "nflog:2", "-w", str(capture))
        until(lambda: {1, 2} <= set(alone.groups()), "both groups", 60)
        until(capture.exists, "the recording", 60)
        for number in range(20):
            alone.udp("127.0.0.1", 9, b"x" * number)
        until(lambda: out.read_bytes().count(b"\n") == 20, "the packets")
        for process in (old, recorder):
            process.send_signal(signal.SIGINT)
            assert process.wait(30) in (0, 130)
        theirs = tmp_path / "theirs.log"
        out.rename(theirs)
        alone.run(*own, "ulogd", "--compat=exact", "-c", str(conf), "--replay", str(capture))
        assert out.read_bytes() == theirs.read_bytes()
        out.unlink()
        alone.run(*own, "ulogd", "-d", "-p", str(pid), "-c", str(conf))
        until(lambda: 1 in alone.groups(), "its group", 60)
        alone.udp("127.0.0.1", 9, b"after")
        until(lambda: out.exists() and out.read_bytes().count(b"DPT=9 ") == 1, "a packet")
        os.kill(int(pid.read_text()), signal.SIGTERM)
        until(lambda: not pid.exists(), "its end", 30)
        (tmp_path / "fw.toml").write_text(alone.run(*own, "ulogd", "--to-toml", "-c", str(conf)))
        assert "form = logemu" in alone.run(*own, "check", str(tmp_path / "fw.toml"))
