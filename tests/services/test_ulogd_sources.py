"""The live sources of `pylog ulogd`: counters at SIGUSR2, flows by polling, the namespace that an
option names, and the user that -u names.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import netlab
import pytest
from netlab import until

REASON = netlab.missing("nft", "nfacct", "iptables", "conntrack")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

OWN = (sys.executable, "-P", "-m", "pylog", "ulogd")


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


def count_flows(alone: netlab.Namespace) -> None:
    """Let conntrack count packets and bytes there."""
    alone.inside(lambda: Path("/proc/sys/net/netfilter/nf_conntrack_acct").write_text("1"))


def lines(path: Path, *texts: str) -> int:
    """How many lines of a file have all these texts."""
    if not path.exists():
        return 0
    return sum(all(text in line for text in texts) for line in path.read_text().splitlines())


def test_sigusr2_reads_counters_and_flows_at_once(tmp_path: Path) -> None:
    """The next reading would be in an hour. Counters are set to zero by default."""
    conf, acct, flows = (tmp_path / name for name in ("ulogd.conf", "acct", "flows"))
    conf.write_text(f"[global]\nlogfile={tmp_path}/own\nloglevel=1\nstack=a:NFACCT,g:GPRINT\n"
                    "stack=c:NFCT,s:IP2STR,p:PRINTFLOW,e:LOGEMU\n[a]\npollinterval=3600\n"
                    f"[g]\nfile={acct}\nsync=1\n[c]\n[e]\nfile={flows}\nsync=1\n")  # fmt: skip
    with netlab.Namespace() as alone:
        count_flows(alone)
        alone.run("nfacct", "add", "web")
        alone.run(
            "iptables",
            "-A",
            "INPUT",
            "-p",
            "udp",
            "--dport",
            "9",
            "-m",
            "nfacct",
            "--nfacct-name",
            "web",
        )
        alone.run("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")
        process = alone.start(*OWN, "-c", str(conf))
        until(lambda: lines(tmp_path / "own", "entering main loop"), "its start", 60)
        receiver = alone.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 9))
        for _ in range(3):
            alone.udp("127.0.0.1", 9, b"x" * 22)
        assert not acct.exists() or not acct.read_bytes()
        process.send_signal(signal.SIGUSR2)
        until(lambda: lines(acct, "sum.name=web,sum.pkts=3,sum.bytes=150"), "the counters")
        until(lambda: lines(flows, "[UPDATE]", "DPT=9 PKTS=1 BYTES=50") == 3, "the flows")
        process.send_signal(signal.SIGUSR2)
        until(lambda: lines(acct, "sum.name=web,sum.pkts=0,sum.bytes=0"), "zero")
        assert ended(process) == 0
    assert lines(acct, "sum.name=web") == 2


def test_flows_are_polled_and_packets_come_from_the_namespace_of_the_option(
    tmp_path: Path,
) -> None:
    """The daemon itself is outside of the namespace."""
    conf, packets, flows = (tmp_path / name for name in ("ulogd.conf", "packets", "flows"))
    with netlab.Namespace() as alone:
        netns = f"network_namespace_path=/run/netns/{alone.name}\n"
        conf.write_text(f"[global]\nlogfile={tmp_path}/own\nloglevel=1\n"
                        "stack=l:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,p:PRINTPKT,e:LOGEMU\n"
                        "stack=c:NFCT,s:IP2STR,p:PRINTFLOW,f:LOGEMU\n"
                        f"[l]\ngroup=7\nnetlink_qthreshold=1\n{netns}[c]\npollinterval=1\n{netns}"
                        f"[e]\nfile={packets}\nsync=1\n[f]\nfile={flows}\nsync=1\n")  # fmt: skip
        alone.nft("table inet t {\nchain c {\ntype filter hook input priority 0;\n"
                  "ct state new udp dport 9 log group 7\n}\n}\n")  # fmt: skip
        count_flows(alone)
        receiver = alone.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 9))
        process = subprocess.Popen([*OWN, "-c", str(conf)])
        try:
            until(lambda: lines(tmp_path / "own", "entering main loop"), "its start", 60)
            assert 7 in alone.groups()
            alone.udp("127.0.0.1", 9, b"x" * 22)
            until(lambda: lines(packets, "DPT=9 "), "the packet")
            alone.run("conntrack", "-D", "-p", "udp", "--dport", "9")
            until(lambda: lines(flows, "[DESTROY]", "DPT=9 PKTS=1 BYTES=50"), "the end of the flow")
            assert ended(process) == 0
        finally:
            process.kill()
            process.wait(30)
    assert lines(packets, "SRC=127.0.0.1 DST=127.0.0.1 LEN=50 ") == 1


def test_the_daemon_changes_to_the_user_when_all_is_open(tmp_path: Path) -> None:
    conf, out = tmp_path / "ulogd.conf", tmp_path / "out"
    conf.write_text(f"[global]\nlogfile={tmp_path}/own\n"
                    "stack=l:NFLOG,b:BASE,i:IFINDEX,s:IP2STR,p:PRINTPKT,e:LOGEMU\n"
                    f"[l]\ngroup=7\nnetlink_qthreshold=1\n[e]\nfile={out}\nsync=1\n")  # fmt: skip
    nobody = pwd.getpwnam("nobody")
    with netlab.Namespace() as alone:
        alone.log_udp(9, 7)
        process = alone.start(*OWN, "-c", str(conf), "-u", "nobody")
        status = Path(f"/proc/{process.pid}/status")
        wanted = f"Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}"
        until(lambda: wanted in status.read_text(), "the user", 60)
        assert "CapEff:\t0000000000000000" in status.read_text()
        alone.udp("127.0.0.1", 9, b"x")
        until(lambda: lines(out, "DPT=9 ") == 1, "the packet")
        assert ended(process) == 0
        unknown = alone.start(*OWN, "-c", str(conf), "-u", "no such user", stderr=subprocess.PIPE)
        assert unknown.stderr is not None
        assert b"no user 'no such user'" in unknown.stderr.read() and unknown.wait(30) != 0


def test_signals_end_it_in_order_also_where_a_file_cannot_be_opened(tmp_path: Path) -> None:
    """A FIFO that nobody reads cannot be opened. A storm of SIGTERM costs no record."""
    conf, out, pid = (tmp_path / name for name in ("ulogd.conf", "out", "pid"))
    conf.write_text(f"[global]\nlogfile={tmp_path}/own\nstack=l:NFLOG,b:BASE,g:GPRINT\n"
                    f"[l]\ngroup=7\n[g]\nfile={out}\n")  # fmt: skip
    with netlab.Namespace() as alone:
        alone.log_udp(9, 7)
        os.mkfifo(out)
        process = alone.start(*OWN, "-c", str(conf), "-p", str(pid))
        until(lambda: lines(tmp_path / "own", "building"), "the stack", 60)
        assert ended(process) == 128 + signal.SIGTERM and not pid.exists()
        out.unlink()
        process = alone.start(*OWN, "-c", str(conf), "-p", str(pid))
        until(lambda: 7 in alone.groups(), "its group", 60)
        until(out.exists, "its file")
        time.sleep(1)
        for _ in range(200):
            alone.udp("127.0.0.1", 9, b"x")
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        assert process.wait(30) == 0 and not pid.exists()
    assert lines(out, "udp.dport=9") == 200
