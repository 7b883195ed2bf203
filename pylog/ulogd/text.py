"""The outputs that append lines to a file: LOGEMU, OPRINT, GPRINT and NACCT.

Their bytes are ulogd's. Unless they have to be exact, control bytes in texts are escaped as \\xNN,
since a prefix with a newline would forge a record. Source: output/ulogd_output_*.c, measured.
"""

from __future__ import annotations

import os
import re
import time

from pylog.memo import Memo
from pylog.ulogd.files import File
from pylog.ulogd.keys import IP, NUMBERS, TEXT, Key
from pylog.ulogd.patterns import Part, Patterns
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CONTROLS = bytes((*range(32), 127))


def escaped(text: bytes) -> bytes:
    """A text with its control bytes as \\xNN."""
    if len(text.translate(None, _CONTROLS)) == len(text):  # faster than a search
        return text
    return _CONTROL.sub(lambda match: b"\\x%02x" % match[0][0], text)


def _one_line(text: bytes) -> bytes:
    """A text that cannot begin another line; that of `print` loses its newline."""
    return escaped(text.removesuffix(b"\n"))


def escaped_line(line: bytes) -> bytes:
    """As `escaped`, for a line that ends with a newline."""
    return escaped(line[:-1]) + b"\n" if line.endswith(b"\n") else escaped(line)


class FileSink(Sink):
    """An output that appends to `file`, with `sync`."""

    file: File

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self.exact = surroundings.exact

    def start(self) -> None:
        self.file = self.surroundings.open_file(self.options["file"], bool(self.options["sync"]))

    def reopen(self) -> None:
        self.file.reopen()

    def flush(self) -> None:
        self.file.flush()

    @property
    def lost(self) -> int:
        return self.file.lost

    def stop(self) -> None:
        self.file.close()


class Syslogtime:
    """Formats times as syslog(3) does, `Nov 28 19:24:00`, each second once."""

    def __init__(self) -> None:
        self._second, self._text = -1, b""

    def text(self, second: int) -> bytes:
        if second != self._second:
            t = time.localtime(second)
            self._second = second
            self._text = b"%s %2d %02d:%02d:%02d" % (
                _MONTHS[t.tm_mon - 1].encode(), t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
            )  # fmt: skip
        return self._text


class Logemu(FileSink):
    """The output LOGEMU."""

    def start(self) -> None:
        super().start()
        self._times = Syslogtime()
        self._host = os.fsencode(self.surroundings.hostname.partition(".")[0])

    def write(self, values: Values, view: View) -> None:
        line, second = self.instance.cells(values)
        if not isinstance(line, bytes):
            return
        if not isinstance(second, int):
            second = self.surroundings.clock_us() // 1_000_000
        if not self.exact:
            line = escaped_line(line)
        self.file.write(b"%s %s %s" % (self._times.text(second), self._host, line))


class Nacct(FileSink):
    """The output NACCT: a line for each flow, with the counters of the reply only."""

    def write(self, values: Values, view: View) -> None:
        (saddr, daddr, protocol, sport, dport, octets, packets, code, kind, _, end) = (
            self.instance.cells(values)
        )
        if protocol == 1:
            sport, dport = kind, code
        self.file.write(b"%d\t%d\t%s\t%d\t%s\t%d\t%d\t%d\n" % (
            end or 0, protocol or 0, saddr or b"", sport or 0, daddr or b"", dport or 0,
            packets or 0, octets or 0,
        ))  # fmt: skip


def _dotted(octets: bytes) -> bytes:
    return b"%d.%d.%d.%d" % tuple(octets[:4])


def _reversed(octets: bytes) -> bytes:
    """HIPQUAD of what is in network order."""
    return _dotted(octets[3::-1])


class Oprint(FileSink):
    """The output OPRINT: a block for each record, a key a line."""

    def start(self) -> None:
        super().start()
        address = Memo(_reversed).__getitem__
        text = None if self.exact else Memo(_one_line).__getitem__

        def part(key: Key, at: int) -> Part:
            name = key.name.encode() + b"="
            if key.type in NUMBERS:
                return Part(name, b"%d\n")
            if key.type == TEXT:
                return Part(name, b"%s\n", text)
            if key.type == IP:
                return Part(name, b"%s\n", address)
            return Part(name, b"default\n", has_value=False)

        self._patterns = Patterns(self.instance.columns, part, b"===>PACKET BOUNDARY\n")

    def write(self, values: Values, view: View) -> None:
        self.file.write(self._patterns.text(values))


class Gprint(FileSink):
    """The output GPRINT: a line of `key=value` for each record."""

    def start(self) -> None:
        super().start()
        address = Memo(_dotted).__getitem__
        text = None if self.exact else Memo(_one_line).__getitem__

        def part(key: Key, at: int) -> Part | None:
            name = key.name.encode() + b"="
            if key.type in NUMBERS:
                return Part(name, b"%d")
            if key.type == IP:
                return Part(name, b"%s", address)
            return Part(name, b"%s", text) if key.type == TEXT else None

        self._patterns = Patterns(self.instance.columns, part, b"", b",", b"\n")

    def write(self, values: Values, view: View) -> None:
        line = self._patterns.text(values)
        if self.options["timestamp"]:
            t = time.localtime(self.surroundings.clock_us() // 1_000_000)
            stamp = time.strftime("timestamp=%Y/%m/%d-%H:%M:%S", t).encode()
            line = stamp + (b"" if line == b"\n" else b",") + line
        self.file.write(line)
