"""What a format module gives to generic code, as protocols, and what it says when it probes.

Format is the contract of every format, CapturedFormat of one whose messages capture files hold,
NetlinkFormat of one that shares the link types of netlink with others. formats.registry finds the
modules, and refuses one that is incomplete or claims what another one claims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pylog.formats.stream import Stream

if TYPE_CHECKING:
    from pylog.formats.netlink_stream import NetlinkStream
    from pylog.formats.scrub import Scrubber

HEAD = 1 << 16
"""This many of an input's first bytes are given to `probe`."""


def cut_off(what: str, need: int, size: int, exact: bool = True) -> str:
    """A sentence about an input of `size` bytes that ends within `what`, which needs `need`."""
    least = "" if exact else "at least "
    return f"cut off: {what} needs {least}{need} bytes, the file has {size}"


class Guess(msgspec.Struct):
    """What a format says about the first bytes of an input.

    stream         makes the Stream that reads it
    layouts        names of the layouts that fit equally well and decode the bytes identically; the
                   first is used
    messages       the number of complete messages
    explained      the number of bytes that they cover
    score          decides between layouts that explain the same bytes (checksums, sequences...)
    evidence       sentences for a person
    rivals         (layout, explained bytes, score) of layouts that fit less well, best first
    alternatives   make the Streams of the other names in `layouts`
    """

    stream: Callable[[], Stream]
    container: str
    layouts: list[str]
    messages: int
    explained: int
    score: int = 0
    evidence: list[str] = []
    rivals: list[tuple[str, int, int]] = []
    alternatives: list[Callable[[], Stream]] = []


class Format(Protocol):
    """What every format module gives.

    NAME            its name, which no other format has
    LINKTYPES       the pcap link types whose packets it reads; captures are written with the first
    LOOKED_FOR      how its messages are recognized, for an input that is no log; "" to be silent
    probe           (first bytes, whether these are all): does this look like my format?
    cut             what an input that ends within its first message lacks, see `cut_off`, or None
    stream          the Stream of a layout that is named; ValueError if there is none of that name
    layout_names    the names of its layouts

    Optional, for messages that may follow another layout's in damage:

    resumes         () -> Needles of all places where messages of any of its layouts may begin
    resume          (data, pos, final, the stream so far) -> Streams, as stream.Resume
    """

    NAME: str
    LINKTYPES: tuple[int, ...]
    LOOKED_FOR: str

    def probe(self, head: bytes, final: bool) -> list[Guess]: ...

    def cut(self, data: bytes) -> str | None: ...

    def stream(self, name: str, head: bytes = b"") -> Stream: ...

    def layout_names(self) -> list[str]: ...


class CapturedFormat(Format, Protocol):
    """What a format gives whose messages capture files hold.

    STREAM              the subclass of Stream that decodes the messages; it has `captured`
    captured_layout     (packet, link type, offset) -> the layout's name
    capture             a message of `Stream.raw` -> packet, byte order, original length
    described           the layout's name as a capture file has to state it
    interface_numbers   the numbers of the interfaces in a message, by the record's fields
    scrub               a message of `Stream.raw` without addresses, payload and names

    Optional:

    captured_stream     as `stream`, for the packets of a capture, where it differs
    examined            (first packets, link type, byte order of the file) -> the layout's name and
                        evidence, where only many packets together show the layout; None if they
                        are not of the format
    PARTLY              whether of its link types only those captures are its own that `examined`
                        shows; packets of others are passed over
    linktype            (layout's name) -> the link type to write, if it is not the first
    """

    STREAM: Any

    def captured_layout(self, packet: bytes, linktype: int, offset: int) -> str: ...

    def capture(self, message: bytes, layout: str) -> tuple[bytes, str, int]: ...

    def described(self, layout: str, log: str) -> str: ...

    def interface_numbers(self, message: bytes, layout: str) -> dict[str, int]: ...

    def scrub(self, message: bytes, layout: str, scrubber: Scrubber) -> bytes: ...


class NetlinkFormat(CapturedFormat, Protocol):
    """What a format of netlink messages gives: captures hold them beside those of other formats.

    SUBSYSTEM   of NETLINK_NETFILTER: the upper byte of nlmsg_type; a tuple for several
    STREAM      a subclass of NetlinkStream that is made of a byte order
    """

    SUBSYSTEM: int | tuple[int, ...]
    STREAM: Callable[[str], NetlinkStream]
