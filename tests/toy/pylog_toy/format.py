"""The format of the toy: a head, then a logged packet or a step of one through the rules.

HEAD is the only place where the layout is written down. Packets become pylog's PacketRecord, steps
a kind of record of their own. Captures hold the messages with link type USER0.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from construct import Bytes, Const, Int8ub, Int16ub, Int32ub, Int64ub, Struct

from pylog.errors import DecodeError
from pylog.formats import Guess, Message, Stream
from pylog.formats.packet import put_headers, seeming
from pylog.formats.scrub import Scrubber
from pylog.record import BaseRecord, Field, PacketRecord, Record
from pylog.record.places import (
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PAYLOAD,
    AT_RAW,
    AT_SEQ,
    AT_SOURCE,
    AT_TIMESTAMP,
    no_values,
)

NAME = "toy"
LINKTYPE_USER0 = 147
LINKTYPES = (LINKTYPE_USER0,)
LOOKED_FOR = "toy messages, which begin with TOY!"
LAYOUT = "toy-1"

MAGIC = b"TOY!"
PACKET, STEP = 1, 2
HEAD = Struct(
    "magic" / Const(MAGIC), "type" / Int8ub, "size" / Int16ub, "seq" / Int32ub, "time_ns" / Int64ub
)
STEP_BODY = Struct("handle" / Int64ub, "verdict" / Bytes(8))


class StepRecord(BaseRecord, frozen=True, gc=False, tag="step"):
    """A packet's step through the rules."""

    verdict: Annotated[str | None, Field("what the rule decided", "word")] = None
    handle: Annotated[int | None, Field("the number of the rule", "u64")] = None


KINDS = (StepRecord,)


class ToyStream(Stream):
    """Messages of the toy, those of a capture or one after the other."""

    source = "toy"
    layout = LAYOUT
    one_message_linktypes = frozenset(LINKTYPES)
    needle, needle_size = re.compile(MAGIC), len(MAGIC)

    @property
    def magics(self) -> list[bytes]:
        return [MAGIC]

    def measure(self, data: bytes, pos: int) -> int:
        magic = data[pos : pos + len(MAGIC)]
        if not MAGIC.startswith(magic):
            raise self.error(pos, "magic", magic.hex(" "), MAGIC.hex(" "))
        if pos + HEAD.sizeof() > len(data):
            return pos + int(HEAD.sizeof())
        head = HEAD.parse(data[pos : pos + HEAD.sizeof()])
        if head.size < HEAD.sizeof() or head.type not in (PACKET, STEP):
            raise self.error(pos, "size", head.size, f"{HEAD.sizeof()} or more")
        return pos + int(head.size)

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        return data.startswith(MAGIC, start)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        head, at = HEAD.parse(data[start:end]), start + HEAD.sizeof()
        offset = None if self.live else self.base + start
        observed_ns = self.observed_ns if origin is None else origin.observed_ns
        octets = data[start:end] if raw else None
        if head.type == STEP:
            if end - at != STEP_BODY.sizeof():
                raise self.error(at, "step", f"{end - at} bytes", STEP_BODY.sizeof())
            body = STEP_BODY.parse(data[at:end])
            verdict = body.verdict.rstrip(b"\0").decode("ascii", "backslashreplace")
            step: Any = StepRecord(
                self.source, LAYOUT, offset=offset, timestamp_ns=head.time_ns, seq=head.seq,
                observed_ns=observed_ns, raw=octets, verdict=verdict, handle=body.handle,
            )  # fmt: skip
            record: Record = step  # which lists pylog's own kinds
            return record
        values, payload = no_values(), data[at:end]
        values[AT_SOURCE], values[AT_LAYOUT], values[AT_OFFSET] = self.source, LAYOUT, offset
        values[AT_TIMESTAMP], values[AT_OBSERVED] = head.time_ns, observed_ns
        values[AT_SEQ], values[AT_RAW], values[AT_PAYLOAD] = head.seq, octets, payload
        put_headers(values, payload, 0, len(payload), seeming(payload))
        return PacketRecord(*values)


STREAM = ToyStream


def stream(name: str, head: bytes = b"") -> ToyStream:
    """The stream of the layout toy-1; ValueError for another name."""
    if name != LAYOUT:
        raise ValueError(f"no layout {name!r}; there is {LAYOUT}")
    return ToyStream()


def layout_names() -> list[str]:
    """The names of all layouts."""
    return [LAYOUT]


def probe(head: bytes, final: bool) -> list[Guess]:
    """The toy's layout, if there are messages of it."""
    seen = ToyStream()
    messages = [item for item in seen.split(head, final) if isinstance(item, Message)]
    if not messages:
        return []
    explained = sum(message.end - message.start for message in messages)
    evidence = [f"{len(messages)} messages begin with TOY!"]
    return [Guess(ToyStream, "raw", [LAYOUT], len(messages), explained, evidence=evidence)]


def cut(data: bytes) -> str | None:
    """What is missing of an input that ends within its first message."""
    try:
        end = ToyStream().measure(data, 0)
    except DecodeError:
        return None
    return f"cut off: a message needs {end} bytes, the file has {len(data)}"


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """There is but one layout."""
    return LAYOUT


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet as a capture file holds it, in a file of any byte order; and its length."""
    return message, "", len(message)


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to say it."""
    return layout


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: a message names no interface."""
    return {}


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message, with other addresses and payload."""
    if message[len(MAGIC)] == STEP:
        return message
    return message[: HEAD.sizeof()] + scrubber.packet(message[HEAD.sizeof() :])
