"""The outputs that append lines to a file: LOGEMU, OPRINT, GPRINT and NACCT.

Their bytes are ulogd's. Unless they have to be exact, control bytes in texts are escaped as \\xNN,
since a prefix with a newline would forge a record. Source: output/ulogd_output_*.c, measured.
"""

from __future__ import annotations

import os
import re
import time

from pylog.ulogd.files import File
from pylog.ulogd.keys import IP, LITERAL, RAW, TEXT
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def escaped(text: bytes) -> bytes:
    """A text with its control bytes as \\xNN."""
    return _CONTROL.sub(lambda match: b"\\x%02x" % match[0][0], text)


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


class Oprint(FileSink):
    """The output OPRINT: a block for each record, a key a line."""

    def start(self) -> None:
        super().start()
        self._columns = [(key.name.encode() + b"=", key.type, at)
                         for key, at in self.instance.columns]  # fmt: skip

    def write(self, values: Values, view: View) -> None:
        parts = [b"===>PACKET BOUNDARY\n"]
        for name, kind, at in self._columns:
            value = values[at]
            if value is not None:
                parts.append(b"%s%s\n" % (name, self._text(kind, value)))
        self.file.write(b"".join(parts))

    def _text(self, kind: str, value: int | bytes) -> bytes:
        if isinstance(value, int):
            return b"%d" % value
        if kind == TEXT:
            return value if self.exact else escaped(value.removesuffix(b"\n"))
        if kind == IP:  # HIPQUAD of what is in network order
            return _dotted(value[3::-1])
        return b"default"


class Gprint(FileSink):
    """The output GPRINT: a line of `key=value` for each record."""

    def start(self) -> None:
        super().start()
        self._columns = [(key.name.encode() + b"=", key.type, at)
                         for key, at in self.instance.columns]  # fmt: skip

    def write(self, values: Values, view: View) -> None:
        parts = []
        if self.options["timestamp"]:
            t = time.localtime(self.surroundings.clock_us() // 1_000_000)
            parts.append(time.strftime("timestamp=%Y/%m/%d-%H:%M:%S", t).encode())
        for name, kind, at in self._columns:
            value = values[at]
            if value is None or kind in (RAW, LITERAL):
                continue
            if isinstance(value, int):
                text = b"%d" % value
            elif kind == IP:
                text = _dotted(value)
            else:
                text = value if self.exact else escaped(value.removesuffix(b"\n"))
            parts.append(name + text)
        self.file.write(b",".join(parts) + b"\n")
