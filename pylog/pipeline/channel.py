"""The socket between the process that receives and that of a stack: short messages, both ways.

A message is its length, a byte for its kind, and JSON. A side that sends never waits: the receiver
must not stop because a stack does. What cannot be sent now is sent later, and a count replaces an
older one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from typing import Any, Literal

import msgspec

Kind = Literal["config", "wake", "waiting", "end", "reopen", "counts", "refresh"]
KINDS: tuple[Kind, ...] = ("config", "wake", "waiting", "end", "reopen", "counts", "refresh")
"""config    to a stack: what it is
wake      to a stack: the journal has grown to a place
waiting   of a stack: it has read the journal up to a place
end       to a stack: deliver what is before a place (None: nothing more), and end
reopen    to a stack: open files again by their names, and read again what filters name
counts    of a stack: Counts
refresh   of a stack: a source should list again what there is
"""

_head = struct.Struct("<IB")
LARGEST = 1 << 24


class SourceCounts(msgspec.Struct, omit_defaults=True):
    """What a stack has read of one source: as in Counts."""

    records: int = 0
    bytes: int = 0
    losses: int = 0
    lost: int = 0


class Counts(msgspec.Struct, omit_defaults=True):
    """What a stack reports.

    state      starting, running, retrying, ended or failed
    problem    why it is retrying or has failed
    records    read; `written` to the output; `bytes` of the sources
    left_out   by stages
    losses     loss records, and `lost`: records that they count
    refused    records that the peer refused; `dead`: of them, in the file of dead letters
    failures   how often the output failed, and was to be opened again
    reconnects how often the output, or its connection, was opened again
    place      in the journal or queue, up to which was read; `confirmed`: delivered for certain
    observed_ns   when the newest record was received that was written
    cpu_s      of the stack, and `start_cpu_s`: of it, before it read anything
    sources    the same counts by source, where a stack has several
    """

    state: str = "starting"
    problem: str = ""
    records: int = 0
    written: int = 0
    bytes: int = 0
    left_out: dict[str, int] = {}
    losses: int = 0
    lost: int = 0
    refused: int = 0
    dead: int = 0
    failures: int = 0
    reconnects: int = 0
    place: int = 0
    confirmed: int = 0
    observed_ns: int | None = None
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0
    sources: dict[str, SourceCounts] = {}

    def after(self, past: Counts) -> Counts:
        """These counts of a process, with those of the processes before it."""
        made = msgspec.structs.replace(self)
        for name in COUNTERS:
            setattr(made, name, getattr(self, name) + getattr(past, name))
        made.left_out = dict(Counter(self.left_out) + Counter(past.left_out))
        made.sources = {name: SourceCounts() for name in past.sources | self.sources}
        for counts in (past, self):
            for name, own in counts.sources.items():
                into = made.sources[name]
                for field in own.__struct_fields__:
                    setattr(into, field, getattr(into, field) + getattr(own, field))
        return made


COUNTERS = ("records", "written", "bytes", "losses", "lost", "refused", "dead", "failures",
            "reconnects", "cpu_s", "start_cpu_s")  # fmt: skip
"""The counts that only grow."""


class Channel:
    """One side of the socket.

    ended   whether the other side is gone
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.setblocking(False)
        self.ended = False
        self._in = b""
        self._out = bytearray()

    def fileno(self) -> int:
        """The descriptor that is readable when a message has come."""
        return self.socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent, see `flush`."""
        return bool(self._out)

    def send(self, kind: Kind, content: Any) -> None:
        """Send a message, or keep what does not fit."""
        body = msgspec.json.encode(content)
        self._out += _head.pack(len(body), KINDS.index(kind)) + body
        self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as it fits."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.ended = True
            self._out.clear()

    def receive(self) -> list[tuple[Kind, bytes]]:
        """The messages that have come; does not wait."""
        try:
            while more := self.socket.recv(1 << 16):
                self._in += more
            self.ended = True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.ended = True
        messages: list[tuple[Kind, bytes]] = []
        while len(self._in) >= _head.size:
            size, number = _head.unpack_from(self._in)
            end = _head.size + size
            if size > LARGEST or number >= len(KINDS):
                self.ended = True
                break
            if len(self._in) < end:
                break
            messages.append((KINDS[number], self._in[_head.size : end]))
            self._in = self._in[end:]
        return messages

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.socket.close()
