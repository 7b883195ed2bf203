"""The sources of `pylog ulogd` beside NFLOG: flows, counters, and frames of UNIXSOCK."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
from pathlib import Path

import effort
import hypothesis
import pytest
import ulogd_cases
from hypothesis import strategies as st
from ulogd_cases import archive, blanked, daemon, zone

from pylog.errors import BackendError, DecodeError
from pylog.record import CounterRecord, PacketRecord
from pylog.ulogd.inputs import Networks
from pylog.ulogd.keys import COUNTER, FLOW, PACKET, SOCKET
from pylog.ulogd.messages import MessageReader
from pylog.ulogd.plugins import PLUGINS
from pylog.ulogd.unixsock import Listener, packet_of_frame, size_of
from pylog.ulogd.views import Message

OUTPUTS = ("out.log", "out.json", "out.gprint", "out.oprint", "out.nacct")


def frames(data: bytes) -> list[bytes]:
    """The frames of a recording of a client."""
    found = []
    while data:
        size = size_of(data) or len(data)
        found.append(data[:size])
        data = data[size:]
    return found


@pytest.mark.parametrize(("case", "output"), [
    ("unixsock-json", "out.json"), ("unixsock-oprint", "out.oprint"), ("unixsock-print", "out.log"),
])  # fmt: skip
def test_frames_become_what_ulogd_makes_of_them(case: str, output: str, tmp_path: Path) -> None:
    conf = archive()[f"{case}/ulogd.conf"].replace(b"@D@", bytes(tmp_path))
    made = daemon(conf, hostname="vm")
    made.surroundings.interfaces = None
    with zone("UTC"):
        made.start()
        clock = 1795894312_000000  # a second after the start of the case
        for frame in frames(archive()[f"{case}/frames.bin"]):
            made.surroundings.replay_us = clock
            packet, unknown = packet_of_frame(frame, clock)
            assert unknown in ([], [99])
            made.feed_view("us1", packet)
        made.stop()
    times = re.compile(rb"2026-11-28T19:31:5\d|Nov 28 19:31:5\d")
    theirs = times.sub(b"T", blanked(archive()[f"{case}/{output}"]))
    assert times.sub(b"T", blanked((tmp_path / output).read_bytes())) == theirs


@pytest.mark.parametrize("case", ["nfct-hash", "nfct-filter", "nfct-nohash"])
def test_flows_become_what_ulogd_makes_of_them(case: str, tmp_path: Path) -> None:
    """But for microseconds of the clock, where the kernel gives no time, the start of a flow that
    ulogd knew from its own listing, and JSON's timestamp, which without the hash is 1970.
    """
    conf = archive()[f"{case}/ulogd.conf"].replace(b"@D@", bytes(tmp_path))
    conf = re.sub(rb"stack=.*IPFIX\n", b"", conf)
    with zone("UTC"):
        ulogd_cases.replay(daemon(conf, hostname="vm"), "conntrack.rec",
                           skip=int(case == "nfct-nohash"))  # fmt: skip
    clock = re.compile(
        rb'"?flow\.start\.sec"?[=:] ?\d+(?:, |,|\n)"?flow\.start\.usec"?[=:] ?\d+(?:, |,|\n)'
        rb'|(?<=flow\.end\.usec)"?[=:] ?\d+'
        + rb'|(?<="timestamp": )"[^"]*"'
        * (case == "nfct-nohash")
    )
    for output in OUTPUTS:
        mine = clock.sub(b"", (tmp_path / output).read_bytes())
        assert mine == clock.sub(b"", archive()[f"{case}/{output}"]), output
    (path,) = tmp_path.glob("*.xml")
    assert path.read_bytes() == archive()[f"{case}/out.xml"]


def test_counters_have_a_time_if_they_are_to(tmp_path: Path) -> None:
    conf = (
        b"[global]\nlogfile=%s/l\nstack=a:NFACCT,g:GPRINT\n[a]\npollinterval=1\n%s[g]\nfile=%s/o\n"
    )
    record = CounterRecord(source="nfct", layout="ctnetlink-le", name="http", packets=6, bytes=504)
    for line, text in ((b"", b""), (b"timestamp=1\n", b",oob.time.sec=7,oob.time.usec=5")):
        made = daemon(conf % (bytes(tmp_path), line, bytes(tmp_path)))
        made.start()
        made.surroundings.replay_us = 7_000_005
        made.feed(record)
        made.stop()
        wanted = b"sum.name=http,sum.pkts=6,sum.bytes=504" + text + b"\n"
        assert (tmp_path / "o").read_bytes().endswith(wanted)


def test_networks_say_nothing_of_the_other_family() -> None:
    options = {
        "accept_src_filter": "10.0.0.0/8",
        "accept_dst_filter": "",
        "accept_proto_filter": "",
    }
    assert Networks(options)
    for bad in ({"accept_src_filter": "10.0.0.0/99"}, {"accept_proto_filter": "tpc"}):
        with pytest.raises(ValueError, match="accept_"):
            Networks(options | bad)


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    frame = struct.pack(">IH", 0x41C90FD4, len(data)) + data
    for octets in (data, frame):
        try:
            size_of(octets)
            packet_of_frame(octets, 0)
        except DecodeError:
            pass


def test_a_listener_takes_one_client_after_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = Listener(path, 0o640, "", "", 0)
    found: list[bytes | DecodeError] = []
    thread = threading.Thread(target=lambda: found.extend(listener.frames()))
    thread.start()
    data = archive()["unixsock-json/frames.bin"]
    with pytest.raises(BackendError, match="another program"):
        Listener(path, 0o640, "", "", 0)
    for octets in (b"no marker here", data):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(octets)
    while sum(isinstance(item, bytes) for item in found) < len(frames(data)):
        thread.join(0.01)
    listener.close()
    thread.join(5)
    assert not thread.is_alive() and not Path(path).exists()
    assert any(isinstance(item, DecodeError) for item in found)
    assert [item for item in found if isinstance(item, bytes)] == frames(data)


def test_every_key_of_a_source_has_a_view() -> None:
    for key in (*PACKET, *FLOW, *COUNTER, *SOCKET):
        assert key.view is not None, key.name
    for plugin in PLUGINS.values():
        assert bool(plugin.refused) != bool(plugin.work), plugin.name


def test_a_message_reader_reads_what_a_packet_has() -> None:
    """Also of messages with attributes in another order, cut, twice or of other sizes, and after
    others with the same head.
    """
    chance = effort.chance("ulogd messages")
    raws = [r.raw[16:] for r in ulogd_cases.records("g10.rec")
            if isinstance(r, PacketRecord) and r.raw]  # fmt: skip
    names = [key.name for key in PACKET]
    wanted = [(at, key.name, key.view) for at, key in enumerate(PACKET) if key.view is not None]
    readers = [MessageReader(len(names), wanted), MessageReader(len(names), wanted[10:20])]
    for number in range(700):
        data = raws[number % len(raws)]
        if number % 3:
            data = changed(data, chance)
        message = Message(data, "<", 1_700_000_000_000_000 + number, 7)
        packet = message.packet()
        for reader, own in zip(readers, (wanted, wanted[10:20]), strict=True):
            cells = reader.cells(message)
            assert len(cells) == len(names) + 1 and cells[-1] is None
            assert [cells[at] for at, _, _ in own] == [read(packet) for _, _, read in own]


def changed(data: bytes, chance: random.Random) -> bytes:
    """A message with its attributes in another order, or with other bytes."""
    parts, at = [], 4
    while at + 4 <= len(data):
        size = max(4, int.from_bytes(data[at : at + 2], "little"))
        parts.append(data[at : at + (size + 3 & ~3)])
        at += size + 3 & ~3
    kind = chance.randrange(5)
    if kind == 0:
        chance.shuffle(parts)
    elif kind == 1:
        parts.insert(chance.randrange(len(parts)), chance.choice(parts))
    elif kind == 2:
        del parts[chance.randrange(len(parts))]
    octets = bytearray(data[:4] + b"".join(parts))
    if kind == 3:
        del octets[chance.randrange(len(octets)) :]
    for _ in range(chance.randrange(3) if kind == 4 else 0):
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    return bytes(octets)
