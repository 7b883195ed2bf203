"""Receivers that stall, reset, end, answer garbage, and never read."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import netlab
import syslogs

from chaos import targets
from chaos.pipeline import Flood, Running
from chaos.receivers import CALM, Receiver
from chaos.seen import show, truth

MANNERS = ("read", "stall", "reset", "garbage")
LAG_S = 30.0
"""How far an output may lag that has nothing to do with bad receivers, on a busy machine."""


def all_bad(
    title: str, alone: netlab.Namespace, folder: Path, seconds: float, chance: random.Random,
    *, manners: Sequence[str] = MANNERS,
) -> None:  # fmt: skip
    """Send to bad receivers for a while; then they become good."""
    (folder / "tls").mkdir()
    made = syslogs.Certificates(folder / "tls")
    server, ca = made.server(False), f'ca = "{made["ca.pem"]}"'
    with (
        Receiver(alone, chance, manners) as tcp,
        Receiver(alone, chance, manners, octets=True) as syslog,
        Receiver(alone, chance, (*manners, "silent"), tls=server) as tls,
        Receiver(alone, chance, manners, octets=True, tls=server) as secure,
    ):
        receivers = {"tcp": tcp, "syslog": syslog, "tls": tls, "syslog-tls": secure}
        there = [targets.lines(tcp), targets.syslog(syslog), targets.lines(tls, "tls", ca),
                 targets.syslog(secure, "syslog-tls", ca), targets.file(folder)]  # fmt: skip
        running, flood = Running(alone, folder), Flood(alone, chance, (100, 800))
        running.configure(*(target.stack for target in there))
        running.start()
        running.catch_up()
        flood.begin()
        until, lag_s = time.monotonic() + seconds, 0.0
        while time.monotonic() < until:
            time.sleep(0.5)
            lag_s = max(lag_s, running.stack("file")["lag_s"])
        for receiver in receivers.values():
            receiver.manners = CALM
        flood.stop()
        running.catch_up()
        reconnects = {s["name"]: s["reconnects"] for s in running.status()["stacks"]}
        running.stop()
        true = truth(folder, running.journal)
        rows = targets.check_all(there, true)
        ended = {name: dict(receiver.ended) for name, receiver in receivers.items()}
        show(title, flood.sent, true, rows, longest_lag_of_file=f"{lag_s:.1f} s", ended=ended,
             opened_again=reconnects)  # fmt: skip
        assert lag_s < LAG_S, f"{lag_s} s: bad receivers slow a file down"
