"""The output JSON: a line for each record, to a file, or over TCP, UDP or a unix socket.

The bytes are those of ulogd with libjansson. Unless they have to be exact, a text that is not UTF-8
keeps its key, with the bytes as \\xNN, and a time in UTC has its offset. Source:
output/ulogd_output_JSON.c, measured.
"""

from __future__ import annotations

import re
import time

from pylog.ulogd.files import File
from pylog.ulogd.keys import IP, LITERAL, RAW, Key
from pylog.ulogd.sockets import Socket
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

NAMES = {
    "ip.saddr.str": "src_ip", "ip.daddr.str": "dest_ip", "orig.ip.saddr.str": "src_ip",
    "orig.ip.daddr.str": "dest_ip",
    **{f"{protocol}.{port}": name for protocol in ("tcp", "udp", "sctp")
       for port, name in (("sport", "src_port"), ("dport", "dest_port"))},
}  # fmt: skip
"""What keys are called in JSON, where it is another name."""
MODES = ("file", "tcp", "udp", "unix")

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
            "\t": "\\t"}  # fmt: skip


def quoted(text: str) -> str:
    """A text as libjansson writes it."""
    return f'"{_SPECIAL.sub(_escape, text)}"'


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
        self._exact = surroundings.exact
        self._clock = Clock(self._exact)
        self._device = quoted(_text_of(self.options["device"]))

    def wanted(self, offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
        self._times = {key.name: at for key, at in offered if key.name.startswith("oob.time.")}
        self._pairs = [
            (f"{quoted(NAMES.get(key.name, key.name))}: ", at, key)
            for key, at in offered
            if key.type not in (RAW, LITERAL, IP)
        ]
        return offered

    def start(self) -> None:
        options = self.options
        self._out: File | Socket
        if self._mode == "file":
            self._out = self.surroundings.open_file(options["file"], bool(options["sync"]))
        else:
            live = not self.surroundings.replayed
            self._out = Socket(self._mode, options["host"], options["port"], options["file"], live)

    def write(self, values: Values, view: View) -> None:
        self._out.write(self.line(values).encode())

    def line(self, values: Values) -> str:
        """The line of a record, with its newline."""
        options = self.options
        parts: dict[str, str] = {}
        if options["eventv1"]:
            parts['"@version": '] = "1"
        if options["timestamp"]:
            at = self._times.get("oob.time.sec")
            second = None if at is None else values[at]
            at = self._times.get("oob.time.usec")
            micro = None if at is None else values[at]
            if not isinstance(second, int):
                second, micro = self.surroundings.clock_us() // 1_000_000, None
            name = '"@timestamp": ' if options["eventv1"] else '"timestamp": '
            assert not isinstance(micro, bytes)
            parts[name] = f'"{self._clock.text(second, micro)}"'
        parts['"dvc": '] = self._device
        for name, at, key in self._pairs:
            value = values[at]
            if value is None:
                continue
            if isinstance(value, int):
                if options["boolean_label"] and key.name == "raw.label":
                    name, text = '"action": ', '"allowed"' if value else '"blocked"'
                else:
                    text = str(value if value < 1 << 63 else value - (1 << 64))
            else:
                try:
                    text = quoted(value.decode())
                except UnicodeDecodeError:
                    if self._exact:
                        continue
                    text = quoted(value.decode(errors="backslashreplace"))
            parts[name] = text
        return "{" + ", ".join([name + text for name, text in parts.items()]) + "}\n"

    def flush(self) -> None:
        self._out.flush()

    def reopen(self) -> None:
        self._out.reopen()

    def stop(self) -> None:
        self._out.close()


def _text_of(option: str) -> str:
    """An option's text; bytes that are not UTF-8 as \\xNN."""
    return option.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")
