"""The output JSON: a line for each record, to a file, or over TCP, UDP or a unix socket.

The bytes are those of ulogd with libjansson. Unless they have to be exact, a text that is not UTF-8
keeps its key, with the bytes as \\xNN, and a time in UTC has its offset. Source:
output/ulogd_output_JSON.c, measured.
"""

from __future__ import annotations

import re
import time

from pylog.memo import Memo
from pylog.ulogd.files import File
from pylog.ulogd.keys import IP, LITERAL, RAW, TEXT, U64, Key
from pylog.ulogd.patterns import Part, Patterns
from pylog.ulogd.sockets import Socket
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

NAMES = {
    "ip.saddr.str": "src_ip", "ip.daddr.str": "dest_ip", "orig.ip.saddr.str": "src_ip",
    "orig.ip.daddr.str": "dest_ip",
    **{f"{protocol}.{port}": name for protocol in ("tcp", "udp", "sctp")
       for port, name in (("sport", "src_port"), ("dport", "dest_port"))},
}  # fmt: skip
"""What keys are called in JSON, where it is another name."""
_NO_KEYS = b", }\n"
MODES = ("file", "tcp", "udp", "unix")

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
            "\t": "\\t"}  # fmt: skip


def quoted(text: str) -> str:
    """A text as libjansson writes it."""
    return f'"{_SPECIAL.sub(_escape, text)}"'


def _exactly(text: bytes) -> bytes:
    """A text in quotes; UnicodeDecodeError."""
    return quoted(text.decode()).encode()


def _escaped(text: bytes) -> bytes:
    """A text in quotes; bytes that are not UTF-8 as \\xNN."""
    return quoted(text.decode(errors="backslashreplace")).encode()


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04X}"


class Clock:
    """Formats local times, each second once.

    exact   as ulogd: no offset while the zone's is 0 from the start
    """

    def __init__(self, exact: bool) -> None:
        self._second, self._text = -1, ""
        self._offset, self._zone = (0, "") if exact else (-1, "")
        self._exact = exact

    def text(self, second: int, micro: int | None) -> str:
        if second != self._second:
            t = time.localtime(second)
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", t)
            if t.tm_gmtoff != self._offset:
                self._offset = t.tm_gmtoff
                sign = "+" if self._offset > 0 or not (self._exact or self._offset) else "-"
                minutes = abs(self._offset) // 60
                self._zone = f"{sign}{minutes // 60:02d}{minutes % 60:02d}"
        return f"{self._text}{'' if micro is None else f'.{micro:06d}'}{self._zone}"


class Json(Sink):
    """The output JSON."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self._mode = self.options["mode"].lower()
        if self._mode not in MODES:
            raise ValueError(f"unknown mode {self.options['mode']!r}; there are {', '.join(MODES)}")
        exact = surroundings.exact
        self._clock = Clock(exact)
        self._texts = Memo(_exactly if exact else _escaped)
        device = quoted(_text_of(self.options["device"]))
        self._begin = b'{"@version": 1, ' if self.options["eventv1"] else b"{"
        self._stamp = b'"@timestamp"' if self.options["eventv1"] else b'"timestamp"'
        self._device = f'"dvc": {device}'.encode()

    def wanted(self, offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
        self._times = {key.name: at for key, at in offered if key.name.startswith("oob.time.")}
        self._columns = [
            (key, at) for key, at in offered if key.type not in (RAW, LITERAL, IP)
        ]  # fmt: skip
        self._patterns = Patterns(self._columns, self._part, b", ", b", ", b"}\n", once=True)
        return offered

    def _part(self, key: Key, at: int) -> Part:
        name = f"{quoted(NAMES.get(key.name, key.name))}: ".encode()
        if key.name == "raw.label" and self.options["boolean_label"]:
            return Part(b'"action": ', b"%s", lambda v: b'"allowed"' if v else b'"blocked"')
        if key.type == U64:
            return Part(name, b"%d", lambda v: v if v < 1 << 63 else v - (1 << 64))
        return Part(name, b"%s", self._texts.__getitem__) if key.type == TEXT else Part(name, b"%d")

    def start(self) -> None:
        options = self.options
        self._out: File | Socket
        if self._mode == "file":
            self._out = self.surroundings.open_file(options["file"], bool(options["sync"]))
        else:
            live = not self.surroundings.replayed
            self._out = Socket(self._mode, options["host"], options["port"], options["file"], live)

    def write(self, values: Values, view: View) -> None:
        self._out.write(self.line(values))

    def line(self, values: Values) -> bytes:
        """The line of a record, with its newline."""
        begin = self._begin
        if self.options["timestamp"]:
            at = self._times.get("oob.time.sec")
            second = None if at is None else values[at]
            at = self._times.get("oob.time.usec")
            micro = None if at is None else values[at]
            if not isinstance(second, int):
                second, micro = self.surroundings.clock_us() // 1_000_000, None
            assert not isinstance(micro, bytes)
            begin += b'%s: "%s", ' % (self._stamp, self._clock.text(second, micro).encode())
        try:
            text = self._patterns.text(values)
        except UnicodeDecodeError:
            text = self._patterns.text(self._without(values))
        return begin + self._device + (b"}\n" if text == _NO_KEYS else text)

    def _without(self, values: Values) -> Values:
        """The cells without texts that are not UTF-8."""
        left = values.copy()
        for _, at in self._columns:
            value = left[at]
            if isinstance(value, bytes):
                try:
                    value.decode()
                except UnicodeDecodeError:
                    left[at] = None
        return left

    def flush(self) -> None:
        self._out.flush()

    @property
    def lost(self) -> int:
        return self._out.lost

    def reopen(self) -> None:
        self._out.reopen()

    def stop(self) -> None:
        self._out.close()


def _text_of(option: str) -> str:
    """An option's text; bytes that are not UTF-8 as \\xNN."""
    return option.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")
