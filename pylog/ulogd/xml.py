"""The output XML: a file of packets, flows or counters, named by the time of its start.

The time in a record is the clock's, not the packet's, as with ulogd. Unless the bytes have to be
exact, `<`, `&` and control bytes of a prefix or name are escaped; with ulogd they break the file.
A record longer than ulogd's buffer is written, not lost. Source: output/ulogd_output_XML.c,
libnetfilter_log and libnetfilter_conntrack, measured.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress

from pylog.errors import BackendError
from pylog.ulogd.files import File
from pylog.ulogd.keys import Value
from pylog.ulogd.messages import MessageReader, Reading
from pylog.ulogd.views import PORTS, Counter, Flow, Message, Packet, Tuple
from pylog.ulogd.worker import Sink, Values, View

LONGEST = 4095
"""How many bytes a record of ulogd can have."""
ROOTS = ("conntrack", "packet", "sum")
INFIXES = ("flow", "pkt", "sum")
PROTOCOLS = {1: b"icmp", 6: b"tcp", 17: b"udp", 33: b"dccp", 47: b"gre", 58: b"icmpv6",
             132: b"sctp", 136: b"udplite"}  # fmt: skip

_SPECIAL = re.compile(rb"[\x00-\x1f\x7f<>&]")


def _safe(text: bytes) -> bytes:
    """A text for an element; control bytes, which XML cannot hold, as \\xNN."""
    words = {b"<": b"&lt;", b">": b"&gt;", b"&": b"&amp;"}
    return _SPECIAL.sub(lambda m: words.get(m[0]) or b"\\x%02x" % m[0][0], text)


class Xml(Sink):
    """The output XML."""

    reads_views = True
    _file: File

    def start(self) -> None:
        self._second, self._time, self._lost = -1, b"", 0
        wanted: list[tuple[int, str, Reading]] = [
            (0, "", self._head),
            (1, "raw.pkt", lambda p: p.payload),
        ]
        self._messages = MessageReader(2, wanted)
        flow, packet, counter = self.instance.inputs
        self._kind = 1 if packet is not None else 2 if counter is not None else 0
        if flow is None and packet is None and counter is None:
            raise BackendError("no plugin before XML gives packets, flows or counters")
        self._open()

    def _open(self) -> None:
        path = "/dev/stdout"
        if not self.options["stdout"]:
            t = time.localtime(self.surroundings.clock_us() // 1_000_000)
            name = time.strftime(f"ulogd-{INFIXES[self._kind]}-%d%m%Y-%H%M%S.xml", t)
            path = os.path.join(self.options["directory"], name)
        self._file = self.surroundings.open_file(path, bool(self.options["sync"]))
        self._file.write(
            b'<?xml version="1.0" encoding="utf-8"?>\n<%s>\n' % ROOTS[self._kind].encode()
        )

    def _end(self) -> None:
        self._file.write(b"</%s>\n" % ROOTS[self._kind].encode())
        self._file.close()

    def write(self, values: Values, view: View) -> None:
        when = self._when()
        if isinstance(view, Message):
            head, payload, _ = self._messages.cells(view)
            line = self._packet(head, payload, when)
        elif isinstance(view, Packet):
            line = self._packet(self._head(view), view.payload, when)
        elif isinstance(view, Flow):
            line = _flow(view, when)
        else:
            line = self._counter(view, when)
        if self.surroundings.exact and len(line) > LONGEST:
            raise BackendError(f"a record of {len(line)} bytes is too long for ulogd's XML")
        self._file.write(line + b"\n")

    def _when(self) -> bytes:
        second = self.surroundings.clock_us() // 1_000_000
        if second != self._second:
            self._second, t = second, time.localtime(second)
            self._time = (
                b"<hour>%d</hour><min>%02d</min><sec>%02d</sec><wday>%d</wday><day>%d</day>"
                b"<month>%d</month><year>%d</year>"
            ) % (t.tm_hour, t.tm_min, t.tm_sec, (t.tm_wday + 1) % 7 + 1, t.tm_mday, t.tm_mon,
                 t.tm_year)  # fmt: skip
        return self._time

    def _text(self, text: bytes) -> bytes:
        return text if self.surroundings.exact else _safe(text)

    @staticmethod
    def _packet(head: Value, payload: Value, when: bytes) -> bytes:
        assert isinstance(head, bytes) and not isinstance(payload, int)
        data = b"" if payload is None else b"<payload>%s</payload>" % payload.hex().encode()
        return b"<log><when>%s</when>%s%s</log>" % (when, head, data)

    def _head(self, p: Packet) -> bytes:
        """What the head of a message determines."""
        parts = []
        if p.prefix is not None:
            parts.append(b"<prefix>%s</prefix>" % self._text(p.prefix))
        if p.protocol is not None:
            address = b"" if p.address is None else b"<src>%s</src>" % p.address.hex().encode()
            parts.append(
                b"<hook>%d</hook><hw><proto>%04x</proto>%s</hw>"
                % (p.hook or 0, p.protocol, address)
            )
        for word, number in (
            (b"mark", p.mark), (b"indev", p.indev), (b"outdev", p.outdev),
            (b"physindev", p.physindev), (b"physoutdev", p.physoutdev),
        ):  # fmt: skip
            if number:
                parts.append(b"<%s>%d</%s>" % (word, number, word))
        return b"".join(parts)

    def _counter(self, c: Counter, when: bytes) -> bytes:
        return b"<obj><name>%s</name><pkts>%020d</pkts><bytes>%020d</bytes>%s</obj>" % (
            self._text(c.name), c.packets, c.bytes, when,
        )  # fmt: skip

    def flush(self) -> None:
        self._file.flush()

    @property
    def lost(self) -> int:
        return self._lost + self._file.lost

    def reopen(self) -> None:
        before = self._file
        try:
            self._open()
        except BackendError:
            self._file = before
            raise
        file, self._file = self._file, before
        with suppress(BackendError):
            self._end()
        self._lost += before.lost
        self._file = file

    def stop(self) -> None:
        self._end()


def _flow(f: Flow, when: bytes) -> bytes:
    r = f.record
    status = r.status or []
    extra = b""
    if isinstance(r.state, str):
        extra += b"<state>%s</state>" % r.state.upper().encode()
    if r.timeout is not None:
        extra += b"<timeout>%d</timeout>" % r.timeout
    if r.mark:
        extra += b"<mark>%d</mark>" % r.mark
    if r.zone:
        extra += b"<zone>%d</zone>" % r.zone
    if r.id is not None:
        extra += b"<id>%d</id>" % r.id
    if "ASSURED" in status:
        extra += b"<assured/>"
    if r.status is not None and "SEEN_REPLY" not in status:
        extra += b"<unreplied/>"
    counted = r.packets is not None or r.bytes is not None
    return (
        b"<flow>%s%s" % (_end(f, f.orig, b"original", counted), _end(f, f.reply, b"reply", counted))
        + b'<meta direction="independent">%s</meta><when>%s</when></flow>' % (extra, when)
    )  # fmt: skip


def _end(f: Flow, end: Tuple, direction: bytes, counted: bool) -> bytes:
    version = b"ipv6" if f.family == 10 else b"ipv4"
    kind = socket.AF_INET6 if f.family == 10 else socket.AF_INET
    addresses = b""
    for word, address in ((b"src", end.saddr), (b"dst", end.daddr)):
        if address is not None:
            text = socket.inet_ntop(kind, address).encode()
            addresses += b"<%s>%s</%s>" % (word, text, word)
    protocol = end.protocol or 0
    ports = b""
    if protocol in PORTS:
        ports = b"<sport>%d</sport><dport>%d</dport>" % (end.sport or 0, end.dport or 0)
    counters = b""
    if counted:
        counters = b"<counters><packets>%d</packets><bytes>%d</bytes></counters>" % (
            end.packets or 0, end.bytes or 0,
        )  # fmt: skip
    return (
        b'<meta direction="%s"><layer3 protonum="%d" protoname="%s">%s</layer3>'
        b'<layer4 protonum="%d" protoname="%s">%s</layer4>%s</meta>'
    ) % (direction, f.family, version, addresses, protocol, PROTOCOLS.get(protocol, b"unknown"),
         ports, counters)  # fmt: skip
