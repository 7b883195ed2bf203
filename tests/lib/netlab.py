"""A laboratory of network namespaces on one machine: client, firewall and server, with a bridge.

    client c0 10.66.1.2 --- f0 10.66.1.1 firewall f1 10.66.2.1 --- s0 10.66.2.2 server
    client c1 10.66.3.2 --- p1 [br0 10.66.3.1 in the firewall] p2 --- s1 10.66.3.3 server

The same in IPv6 as fd66:1::2 and so on. `Namespace.inside` is what all else stands on: namespaces
belong to threads, and a socket stays in the one in which it was made. Nothing outside of the
namespaces is touched, and they go away with all that was started in them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_S = 120
"""How long packets are sent at most by a process that nobody ends."""

CLONE_NEWNET = 0x40000000  # linux/sched.h
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21  # linux/capability.h
SO_MARK = 36  # asm-generic/socket.h; Python has no name for it
ETH_P_ALL = 3  # linux/if_ether.h
IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59  # linux/in6.h

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_numbers = itertools.count()


WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Begins a command that root is to run without any privilege of root but that of owning files."""


def missing(*programs: str) -> str:
    """Why the laboratory cannot be set up here, "" if it can; with these programs beside ip."""
    if sys.platform != "linux":
        return "needs Linux"
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    if os.geteuid() or not all(capabilities >> c & 1 for c in (CAP_NET_ADMIN, CAP_SYS_ADMIN)):
        return "needs root, to make network namespaces"
    absent = [program for program in ("ip", *programs) if not shutil.which(program)]
    return f"needs {', '.join(absent)}" if absent else ""


def until(condition: Callable[[], T], what: str, timeout_s: float = 10.0) -> T:
    """The condition's value once it is true; AssertionError when it does not become so in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.01)
    return value


class Namespace:
    """A network namespace, empty but for lo, from `with` to the end of `with`.

    name   as `ip netns` knows it; no other process uses the same
    """

    def __init__(self, role: str = "alone") -> None:
        self.name = f"pylog-{os.getpid()}-{next(_numbers)}-{role}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Namespace:
        subprocess.run(["ip", "netns", "add", self.name], check=True, timeout=30)
        try:
            self.inside(self._quieten)
            self.ip("link set lo up")
        except BaseException:
            self.__exit__()
            raise
        return self

    @staticmethod
    def _quieten() -> None:
        """Let the kernel send nothing by itself: packets are to come one after the other.

        No duplicate address detection, no router solicitations, and multicast memberships
        reported at once.
        """
        for family in ("all", "default"):
            folder = Path(f"/proc/sys/net/ipv6/conf/{family}")
            for name, value in (("accept_dad", 0), ("router_solicitations", 0),
                                ("mldv2_unsolicited_report_interval", 1)):  # fmt: skip
                (folder / name).write_text(str(value))

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(30)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for made in self._sockets:
            made.close()
        if self.exists():
            self.delete()

    def exists(self) -> bool:
        """Whether the namespace has its name still."""
        return Path("/run/netns", self.name).exists()

    def delete(self) -> None:
        """Take the name away: the namespace ends when no process and no socket is in it."""
        subprocess.run(["ip", "netns", "del", self.name], check=True, timeout=30)

    def inside(self, call: Callable[[], T]) -> T:
        """What a function gives that is called in the namespace, in a thread of its own."""

        def entered() -> T:
            with open(f"/run/netns/{self.name}") as handle:
                if _libc.setns(handle.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns", self.name)
            return call()

        with ThreadPoolExecutor(1) as threads:
            return threads.submit(entered).result()

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in the namespace, with a timeout; closed with the namespace."""
        made = self.inside(lambda: socket.socket(family, kind, protocol))
        made.settimeout(10)
        self._sockets.append(made)
        return made

    def run(self, *command: str, stdin: str = "") -> str:
        """What a command prints in the namespace; it is to succeed."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], input=stdin, text=True,
                              capture_output=True, timeout=30)  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{stdin}"
        return done.stdout

    def start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """A process in the namespace, killed with it; its pid is the command's own."""
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command],
                                   preexec_fn=_end_with_parent, **options)  # fmt: skip
        self._processes.append(process)
        return process

    def ip(self, *commands: str) -> None:
        """Run commands of ip, e.g. "link set lo up", in one go."""
        self.run("ip", "-batch", "-", stdin="\n".join(commands))

    def nft(self, rules: str) -> None:
        """Load rules of nft, all or none."""
        self.run("nft", "-f", "-", stdin=rules)

    def names(self) -> dict[int, str]:
        """The interfaces: number -> name."""
        return dict(self.inside(socket.if_nameindex))

    def proc_net(self, name: str) -> str:
        """A file below /proc/net, as it is in the namespace."""
        return self.inside(Path(f"/proc/thread-self/net/{name}").read_text)

    def groups(self) -> dict[int, int]:
        """The NFLOG groups that somebody reads: number -> netlink port, mostly a pid."""
        lines = self.proc_net("netfilter/nfnetlink_log").splitlines()
        return {int(group): int(port) for group, port, *_ in map(str.split, lines)}

    def counted(self, table: str = "inet t") -> list[int]:
        """How many packets each counter in the rules of a table has seen."""
        words = self.run("nft", "list", "table", *table.split()).split()
        return [int(words[i + 1]) for i, word in enumerate(words) if word == "packets"]

    def log_udp(self, port: int, *groups: int, options: str = "") -> None:
        """Count, log and then drop what is sent to a port here, once for each group."""
        each = "".join(
            f"udp dport {port} counter log group {group} {options}\n" for group in groups
        )
        self.nft(
            "table inet t {\nchain c {\ntype filter hook prerouting priority -400;\n"
            f"{each}udp dport {port} drop\n}}\n}}\n"
        )

    # Programs that read a group, too

    def tcpdump(self, group: int, path: Path) -> subprocess.Popen[bytes]:
        """tcpdump, writing a group to a DLT_NFLOG file, packet by packet."""
        command = ("tcpdump", "-Z", "root", "-U", "-B", "16384", "-i", f"nflog:{group}")
        with path.with_suffix(".err").open("wb") as errors:
            process = self.start(*command, "-w", str(path), stderr=errors)
        until(lambda: group in self.groups(), "tcpdump")
        return process

    def ulogd(self, group: int, path: Path) -> subprocess.Popen[bytes]:
        """ulogd2, writing a group to a file as JSON, packet by packet."""
        plugins = ("inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_IP2STR",
                   "filter_HWHDR", "output_JSON")  # fmt: skip
        path.with_suffix(".conf").write_text("\n".join([
            "[global]", f'logfile="{path}.log"', "loglevel=3",
            *(f'plugin="{ulogd_plugin(name)}"' for name in plugins),
            "stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip1:IP2STR,mac1:HWHDR,json1:JSON",
            "[log1]", f"group={group}", "numeric_label=1", "seq_local=1",
            # equal sizes would be taken for 0
            "netlink_socket_buffer_size=4194304", "netlink_socket_buffer_maxsize=8388608",
            "[json1]", "sync=1", f'file="{path}"', "",
        ]))  # fmt: skip
        process = self.start("ulogd", "-c", str(path.with_suffix(".conf")))
        until(lambda: group in self.groups(), "ulogd")
        return process

    # Packets

    def udp(self, host: str, port: int, data: bytes = b"", mark: int = 0) -> int:
        """Send one UDP packet, whose port is returned."""
        sender = self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        if mark:
            sender.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("I", mark))
        sender.sendto(data, (host, port))
        return int(sender.getsockname()[1])

    def udp_with_options(self, host: str, port: int, data: bytes, hop_by_hop: bool) -> int:
        """Send one IPv6 UDP packet with an extension header (PadN only), whose port is returned."""
        sender = self.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        kind = IPV6_HOPOPTS if hop_by_hop else IPV6_DSTOPTS
        header = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # next header (filled in), length, PadN of 4
        sender.sendmsg([data], [(socket.IPPROTO_IPV6, kind, header)], 0, (host, port))
        return int(sender.getsockname()[1])

    def echo(self, host: str, identifier: int, data: bytes) -> None:
        """Send one ping and wait for the answer."""
        inet6 = ":" in host
        family, protocol = (
            (socket.AF_INET6, socket.IPPROTO_ICMPV6)
            if inet6
            else (socket.AF_INET, socket.IPPROTO_ICMP)
        )
        sender = self.socket(family, socket.SOCK_RAW, protocol)
        packet = struct.pack("!BBHHH", 128 if inet6 else 8, 0, 0, identifier, 1) + data
        if not inet6:  # for ICMPv6 the kernel does it
            packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
        sender.sendto(packet, (host, 0))
        answer = 129 if inet6 else 0
        while True:
            found = sender.recv(65536)[0 if inet6 else 20 :]
            if found[0] == answer and found[4:6] == packet[4:6]:
                return

    def frame(self, device: str, octets: bytes) -> None:
        """Send an Ethernet frame as it is."""
        sender = self.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind((device, ETH_P_ALL))
        sender.send(octets)

    def sender(self, host: str, port: int, **options: object) -> subprocess.Popen[bytes]:
        """A process that sends UDP packets; options: those of this file run as a program."""
        asked = [f"--{name}={value}" for name, value in options.items()]
        return self.start(sys.executable, __file__, host, str(port), *asked)


def _end_with_parent() -> None:
    """Let this process be killed when its parent is, so that nothing is left in a namespace."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Lab:
    """Client, firewall and server, from `with` to the end of `with`."""

    def __init__(self) -> None:
        self.client = Namespace("client")
        self.firewall = Namespace("firewall")
        self.server = Namespace("server")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        with contextlib.ExitStack() as stack:
            for namespace in (self.client, self.firewall, self.server):
                stack.enter_context(namespace)
            self._connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _connect(self) -> None:
        client, server = self.client.name, self.server.name
        veth = "link add {} address 02:66:0{} type veth peer name {} address 02:66:0{} netns {}"
        self.firewall.ip(
            veth.format("f0", "1:00:00:01", "c0", "1:00:00:02", client),
            veth.format("f1", "2:00:00:01", "s0", "2:00:00:02", server),
            veth.format("p1", "3:00:01:01", "c1", "3:00:00:02", client),
            veth.format("p2", "3:00:02:01", "s1", "3:00:00:03", server),
            # without snooping, no queries
            "link add br0 address 02:66:03:00:00:01 type bridge mcast_snooping 0",
            "link set p1 master br0", "link set p2 master br0",
            *(f"link set {name} up" for name in ("f0", "f1", "p1", "p2", "br0")),
            *addresses("f0", 1, 1), *addresses("f1", 2, 1), *addresses("br0", 3, 1),
        )  # fmt: skip
        for end, namespace, net, number in (("c", self.client, 1, 2), ("s", self.server, 2, 2)):
            namespace.ip(
                f"link set {end}0 up", f"link set {end}1 up",
                *addresses(f"{end}0", net, number),
                *addresses(f"{end}1", 3, number if end == "c" else 3),
                f"route add 10.66.0.0/16 via 10.66.{net}.1",
                f"route add fd66::/16 via fd66:{net}::1",
            )  # fmt: skip
        self.firewall.inside(_forward)


def addresses(device: str, net: int, number: int) -> tuple[str, str]:
    """The commands of ip that give a device its two addresses."""
    return (f"addr add 10.66.{net}.{number}/24 dev {device}",
            f"addr add fd66:{net}::{number}/64 dev {device} nodad")  # fmt: skip


def _forward() -> None:
    """Forward packets, and in IP's chains only what the firewall routes, not what it bridges."""
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
    for path in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        path.write_text("0")


def ulogd_plugin(name: str) -> Path | None:
    """Where a plugin of ulogd2 is, None if it is not installed."""
    found = Path("/usr").glob(f"lib*/**/ulogd/ulogd_{name}.so")
    return next(found, None)


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(octets) + 1) // 2}H", octets + bytes(len(octets) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, destination: str, ethertype: int, payload: bytes, *tags: int) -> bytes:
    """An Ethernet frame; each tag is TPID << 16 | TCI, outermost first."""
    head = bytes.fromhex((destination + source).replace(":", ""))
    return head + b"".join(struct.pack("!I", tag) for tag in tags) + (
        struct.pack("!H", ethertype) + payload
    )  # fmt: skip


def ipv4_udp(source: str, destination: str, sport: int, dport: int, data: bytes) -> bytes:
    """An IPv4 packet with UDP, without UDP's checksum."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))  # fmt: skip
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return head + struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> int:
    """End a process by a signal and give its exit status."""
    process.send_signal(number)
    return process.wait(10)


def send(arguments: argparse.Namespace) -> None:
    """Send UDP packets as the arguments of the program say, for two minutes at most."""
    if arguments.gid is not None:
        os.setgroups([])
        os.setgid(arguments.gid)
    if arguments.uid is not None:
        os.setuid(arguments.uid)
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.connect((arguments.host, arguments.port))
    data, begun = arguments.text.encode(), time.monotonic()
    for number in itertools.count() if arguments.count == 0 else range(arguments.count):
        # a burst of 5 ms at a time, as sleeping is not exact
        while arguments.rate and number > (time.monotonic() - begun + 0.005) * arguments.rate:
            time.sleep(0.005)
        sender.send(data)
        if not number & 0xFFF and time.monotonic() > begun + LONGEST_S:
            return


def main() -> None:
    """Send UDP packets from a process of its own."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--text", default="pylog")
    parser.add_argument("--count", type=int, default=1, help="0: no end")
    parser.add_argument("--rate", type=int, default=0, help="packets a second, 0: all there can be")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    send(parser.parse_args())


if __name__ == "__main__":
    main()
