"""Logs of the traffic, as files, the same in every run.

A message is made once by pylog's own builders for each kind of packet and rule, with marks where
each has its own time, number and packet; those are then put in by the thousand.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import builders
from builders import pcap_header, pcap_packet
from measure import Log
from traffic import packets

from pylog.formats import ipl_layouts, nfulnl
from pylog.formats.ipl_encode import Encoder
from pylog.formats.netlink import NLMSG_DONE
from pylog.formats.packet import swapped
from pylog.formats.pcap_blocks import (
    interface_block,
    packet_block,
    section_block,
)
from pylog.record import PacketRecord

BEGUN_S = 1_700_000_000
STEP_US = 20
"""From one packet to the next: 50,000 a second."""

SECOND, MICROSECOND, NUMBER = 0x5AA55AA5, 0x000A5A5A, 0x3CC3C33C
"""What stands in a template for the time and number of a message."""

IPL_LAYOUTS = ("ipl-5.1.2-lp64le", "ipl-5.1.2-ilp32be", "ipl-4.1-lp64le", "ipl-3.4.35-ilp32le")
NFLOG_LAYOUT = "nfulnl-le"
PCAP, PCAPNG = f"{NFLOG_LAYOUT}, pcap", f"{NFLOG_LAYOUT}, pcapng"
DATAGRAM = 100
"""Messages of NFLOG that the kernel sends together, with NLMSG_DONE after them."""

Messages = Iterator[tuple[int, bytes]]
"""Each message with its time in nanoseconds."""


class Template:
    """A message with places to be filled in; it may lack those of the time and the number."""

    def __init__(self, message: bytes, packet: bytes, times: Sequence[str], number: str) -> None:
        """`times` and `number` are formats of struct; one of `times` is that of the message."""
        self._message = message
        self._packet = message.index(packet)
        self._places = [
            (message.index(mark), struct.Struct(code), values)
            for codes, values in ((times, (SECOND, MICROSECOND)), ((number,), (NUMBER,)))
            for code in codes
            if (mark := struct.pack(code, *values)) in message
        ]

    def fill(self, number: int, packet: bytes) -> bytes:
        """The message of one packet."""
        octets = bytearray(self._message)
        second, microsecond = divmod(number * STEP_US, 1_000_000)
        for at, place, values in self._places:
            own = (number,) if values == (NUMBER,) else (BEGUN_S + second, microsecond)
            place.pack_into(octets, at, *own)
        octets[self._packet : self._packet + len(packet)] = packet
        return bytes(octets)


def _filled(templates: Callable[[bytes], list[Template]], traffic: Iterable[bytes]) -> Messages:
    """The messages of the packets, whose templates, by their size, take turns."""
    made: dict[int, list[Template]] = {}
    for number, packet in enumerate(traffic):
        if len(packet) not in made:
            made[len(packet)] = templates(packet)
        some = made[len(packet)]
        time_ns = BEGUN_S * 10**9 + number * STEP_US * 1000
        yield time_ns, some[number % len(some)].fill(number, packet)


def ipl(name: str, traffic: Iterable[bytes]) -> Iterator[bytes]:
    """Records of IPFilter in a layout, of eight rules on two interfaces."""
    layout = ipl_layouts.named(name)
    order = layout.abi.order
    as_logged = swapped if layout.host_order_ip else bytes  # undoes itself

    def templates(logged: bytes) -> list[Template]:
        found = []
        for rule in range(1, 9):
            action, way = ("pass", "out") if rule % 4 == 0 else ("block", "in")
            record = PacketRecord(
                source="ipl", layout=name, family="ipv4", payload=as_logged(logged), seq=NUMBER,
                timestamp_ns=SECOND * 10**9 + MICROSECOND * 1000, action=action, direction=way,
                rule=rule, group="2" if rule > 4 else None, indev=f"em{rule % 2}",
                outdev=f"em{rule % 2}", extra={"fl_flags": [f"FR_{action.upper()}", "FR_LOG"]},
            )  # fmt: skip
            times = [order + code for code in ("QQ", "QI", "II")]
            found.append(Template(Encoder(layout).encode(record), logged, times, order + "I"))
        return found

    for _, message in _filled(templates, map(as_logged, traffic)):
        yield message


def nflog(traffic: Iterable[bytes]) -> Messages:
    """Messages of NFLOG: two thirds of what comes in, the others forwarded or sent."""

    def templates(packet: bytes) -> list[Template]:
        head = [
            (8, {"hw_addrlen": 6, "hw_addr": bytes.fromhex("0266010000020000")}),
            (15, 1),
            (16, bytes.fromhex("0266010000010266010000020800")),
            (17, 14),
        ]
        time = [(3, {"sec": SECOND, "usec": MICROSECOND})]
        tail = [(12, NUMBER), (9, packet)]
        rules = (  # by the numbers of the attributes, in the kernel's order
            [(1, _hook(1)), (10, b"in-drop \0"), (4, 2), *head, *time, *tail],
            [(1, _hook(1)), (10, b"in-drop \0"), (4, 2), (2, 42), *head, *time, *tail],
            [(1, _hook(2)), (10, b"forward \0"), (4, 2), (5, 3), (2, 7), *head, *time, *tail],
            [(1, _hook(1)), (10, b"in ssh \0"), (4, 2), (2, 42), *head, *time, *tail],
            [(1, _hook(1)), (10, b"in-drop \0"), (4, 3), *head, *time, *tail],
            [(1, _hook(3)), (10, b"out \0"), (5, 3), (2, 7), (11, 33), (14, 33), *tail],
        )  # fmt: skip
        return [Template(builders.log("<", 5, rule, family=2), packet, [">QQ"], ">I")
                for rule in rules]  # fmt: skip

    return _filled(templates, traffic)


def _hook(number: int) -> dict[str, int]:
    return {"hw_protocol": 0x0800, "hook": number}


def netlink(traffic: Iterable[bytes]) -> Iterator[bytes]:
    """NFLOG as it comes out of the socket."""
    done = struct.pack("<IHHIII", 20, NLMSG_DONE, 0, 0, 0, 0)
    for number, (_, message) in enumerate(nflog(traffic), 1):
        yield message if number % DATAGRAM else message + done


def pcap(traffic: Iterable[bytes]) -> Iterator[bytes]:
    """NFLOG as tcpdump -w writes it: link type NFLOG, which has no nlmsghdr."""
    yield pcap_header(nfulnl.LINKTYPE_NFLOG)
    for time_ns, message in nflog(traffic):
        yield pcap_packet(message[16:], time_ns)


def pcapng(traffic: Iterable[bytes]) -> Iterator[bytes]:
    """NFLOG as `pylog capture` writes it."""
    yield section_block(application="pylog")
    yield interface_block(nfulnl.LINKTYPE_NFLOG, name="nflog:5", description=NFLOG_LAYOUT)
    for time_ns, message in nflog(traffic):
        yield packet_block(message[16:], time_ns)


LOGS: dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {
    **{name: partial(ipl, name) for name in IPL_LAYOUTS},
    NFLOG_LAYOUT: netlink,
    PCAP: pcap,
    PCAPNG: pcapng,
}


RAW = (*IPL_LAYOUTS, NFLOG_LAYOUT)
"""Those that are nothing but messages."""


def layout(name: str) -> str:
    """The layout of a log."""
    return name.split(",")[0]


def log(name: str, folder: Path, records: int, few: int, distinct: bool = False) -> Log:
    """A file of so many records in a folder, and a short one of few."""
    found = Log(folder / f"{name} {records} {distinct}", records, folder / f"{name} short", few)
    for path, count in ((found.path, records), (found.short, few)):
        with path.open("wb") as file:
            file.writelines(LOGS[name](packets(count, distinct)))
    return found
