"""A program that uses pylog.testing, for type checkers; see api.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import pylog
from pylog.testing import Device, Nflog, packet

pytest_plugins = ["pylog.testing.plugin"]


def doubles() -> None:
    with Device("ipl-5.1.2-lp64le") as device, device.open() as reader:
        assert_type(reader, pylog.Reader)
        assert_type(device.log(packet(source="ipl", action="block")), bool)
        print(device.replay(b""), device.dropped)
    with Nflog(interfaces=["lo", "wan0"]) as nflog, nflog.open("5,6", qthresh=1) as reader:
        assert_type(reader, pylog.Reader)
        assert_type(nflog.log(packet(saddr="2001:db8::1", dport=22, prefix="drop "), group=6), bool)
        nflog.lose(3, group=5)
        assert_type(nflog.groups(), list[int])
        nflog.open("5", qthres=1)  # type: ignore[call-arg]
    assert_type(packet(), pylog.PacketRecord)


def test_with_fixtures(
    nflog: Nflog,
    ipl_device: Callable[..., Device],
    pylog_replay: Callable[..., pylog.Replay],
) -> None:
    with nflog.open("5"), ipl_device().open():
        assert_type(pylog_replay("fw.pcap"), pylog.Replay)
