"""A pipeline under load in a network namespace of its own, which is killed and started again.

The namespace has a rule that logs and drops UDP packets to a port, and counts them; another one
keeps what is sent to chosen TCP ports from arriving, so that a receiver can end a connection
without losing what its system has acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import netlab
from netlab import until

from chaos import forked
from pylog.errors import BackendError
from pylog.pipeline.reporting import asked

HERE, PORT = "127.0.0.1", 9
RULES = """table inet t {
  set blocked { type inet_service; }
  chain c { type filter hook input priority 0;
    tcp dport @blocked drop
    udp dport 9 counter log prefix "drop " group 5 drop
  }
}
"""
PACKETS = """
[sources.fw]
from = "nflog:5"
qthresh = 20
"""
START_S, CATCH_UP_S = 90.0, 240.0
"""How long pylog may take to begin, and to deliver what it is behind."""


class Flood:
    """UDP packets that a thread sends at a rate that changes, from `begin` to `stop`."""

    def __init__(self, alone: netlab.Namespace, chance: random.Random, rates: tuple[int, int]):
        self._alone, self._chance, self._rates = alone, chance, rates
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._socket = alone.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((HERE, PORT))

    def begin(self) -> None:
        self._thread.start()

    def _send(self) -> None:
        while not self._done.is_set():
            rate, until = self._chance.randint(*self._rates), time.monotonic() + 2
            begun, count = time.monotonic(), 0
            while time.monotonic() < until and not self._done.wait(0.01):
                while count < (time.monotonic() - begun) * rate:
                    with contextlib.suppress(OSError):  # the namespace has ended
                        self._socket.send(b"pylog")
                    count += 1

    def stop(self) -> None:
        self._done.set()
        self._thread.join(10)

    @property
    def sent(self) -> int:
        """How many packets the rule has seen."""
        return self._alone.counted()[0]


EVENTS = """
[sources.flows]
from = "nfct:"
[sources.rules]
from = "nftables:"
"""
FLOWS = """table inet u {
  chain c { type filter hook input priority 0;
    ct state new counter
  }
}
"""


class Changes:
    """New flows of UDP, which end after a second, and changes of the ruleset, as Flood is."""

    def __init__(self, alone: netlab.Namespace) -> None:
        alone.nft(FLOWS)
        alone.run("sysctl", "-q", "-w", "net.netfilter.nf_conntrack_udp_timeout=1")
        self._alone = alone
        self._sockets = [alone.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(150)]
        self._done = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True)
                         for each in (self._flows, self._rules)]  # fmt: skip
        self.sent = 0

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def _flows(self) -> None:
        at = 0
        while not self._done.wait(0.02):
            for each in self._sockets[at : at + 5]:
                each.sendto(b"pylog", (HERE, 10))
            at = (at + 5) % len(self._sockets)
            self.sent += 5

    def _rules(self) -> None:
        port = 20000
        while not self._done.wait(0.15):
            port += 1
            self._alone.nft(f"add element inet t blocked {{ {port} }}")
            if port % 7 == 0:
                self._alone.nft("flush set inet t blocked")
            self.sent += 1

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(10)


class Forks:
    """The program that begins pipelines, see chaos.forked: one at a time."""

    def __init__(self, alone: netlab.Namespace, folder: Path, before: Sequence[str]) -> None:
        with open(folder / "messages", "ab") as messages:
            self._process = alone.start(
                *before, sys.executable, "-P", forked.__file__, stderr=messages,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        assert self._answer() == "ready", (folder / "messages").read_text()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self, config: Path) -> int:
        """Begin a pipeline: its process."""
        return int(self._ask(f"run {config}"))

    def wait(self) -> int:
        """Wait until it has ended: its exit status."""
        return int(self._ask("wait"))


class Running:
    """`pylog run`, with its journal in a folder.

    kills   how often it, or a process of a stack, was killed
    """

    def __init__(
        self, alone: netlab.Namespace, folder: Path, *, journal: Path | None = None,
        settings: str = "", sources: str = PACKETS, before: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`before` begins the command that runs it."""
        self._alone, self.folder = alone, folder
        self.journal = folder / "j" if journal is None else journal
        self._socket = folder / "sock"
        self.config = folder / "fw.toml"
        self._head = f"""
[pylog]
journal = "{self.journal}"
socket = "{self._socket}"
drain = "60s"
{settings}
{sources}
"""
        self._names = re.findall(r"^\[sources\.(\w+)\]", sources, re.M)
        self.messages = folder / "messages"
        self.kills = 0
        self.pid = 0
        self._forks = Forks(alone, folder, before)

    def configure(self, *stacks: str) -> None:
        """Write the configuration, in one step."""
        new = self.config.with_suffix(".new")
        text = self._head + "".join(f"\n[[stacks]]\nfrom = {self._names}\n{s}\n" for s in stacks)
        new.write_text(text)
        os.replace(new, self.config)

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it has begun."""
        self._socket.unlink(missing_ok=True)
        self.pid = self._forks.run(self.config)
        if wait:
            until(self._begun, "pylog run has begun", START_S)

    def _begun(self) -> bool:
        assert Path(f"/proc/{self.pid}/cmdline").read_bytes(), self.said()  # a zombie has none
        return self._socket.exists()

    def said(self) -> str:
        """What it has written to standard error."""
        return self.messages.read_text(errors="replace")

    def workers(self, *stacks: str) -> list[int]:
        """The processes of its stacks: of all, or of those with these names."""
        made, children = [], Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with contextlib.suppress(OSError):
            for pid in map(int, children.read_text().split()):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if not stacks or name in stacks:
                    made.append(pid)
        return made

    def kill_worker(self, chance: random.Random) -> None:
        """Kill the process of one stack, if one is running."""
        workers = self.workers()
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            self.kills += 1

    def kill(self) -> None:
        """Kill the process that receives."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._forks.wait() == -signal.SIGKILL, self.said()
        self.kills += 1

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def status(self) -> dict[str, Any]:
        return asked(str(self._socket))

    def stack(self, name: str) -> dict[str, Any]:
        """What the status says of a stack; {} if there is none of that name."""
        return next((s for s in self.status()["stacks"] if s["name"] == name), {})

    def catch_up(self, lag_s: float = 0.0) -> None:
        """Wait until all stacks run and have delivered what there is, but for what was received
        in the last seconds.
        """

        def is_done() -> bool:
            with contextlib.suppress(BackendError):
                stacks = self.status()["stacks"]
                return all(s["state"] == "running" and
                           (not s["lag_bytes"] or s["lag_s"] < lag_s) for s in stacks)  # fmt: skip
            return False

        try:
            until(is_done, "all stacks have caught up", CATCH_UP_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status()['stacks']}\n{self.said()}") from None

    def stop(self) -> None:
        """End it in order."""
        os.kill(self.pid, signal.SIGTERM)
        assert self._forks.wait() == 0, self.said()


def wait_for(condition: Callable[[], Any], what: str, running: Running, longest_s: float) -> Any:
    """As `until`; a failure shows what pylog said."""
    try:
        return until(condition, what, longest_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{running.status()}\n{running.said()}") from None
