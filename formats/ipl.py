"""The format ipl: what /dev/ipl, /dev/ipnat and /dev/ipstate give, in every layout of ipl_layouts.

The stream of records is in formats.ipl_stream. This module detects the layout of a dump by trying
all of them (`probe`), says what a short file lacks (`cut`), and does what capture files need. A
capture holds a record unchanged, with the layout's name in the description of its interface.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from pylog.errors import DecodeError
from pylog.formats import Guess, Message, cut_off, ipl_layouts, ipl_resume
from pylog.formats import ipl_names as names
from pylog.formats.ip_numbers import ICMP, ICMPV6
from pylog.formats.ipl_stream import IplStream, LogFrame, log_frame
from pylog.formats.ipl_trial import Trial, candidates, same_records, trials_of, without_magic
from pylog.formats.packet import swapped

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "ipl"
LINKTYPES: tuple[int, ...] = (116,)
"""LINKTYPE_IPFILTER: complete records, with the layout's name in the interface description."""

LOOKED_FOR = (
    "IPFilter records (the magic IPLM in either byte order and a chain of ipl_dsize; without a"
    " magic, three records of 2.x or 3.1 in a chain)"
)
STREAM = IplStream
resumes, resume = ipl_resume.resumes, ipl_resume.resume

DEFAULT_BUFFER = 0x2000
"""The log buffer that kernels have by default (IPFILTER_LOGSIZE)."""

FIRST_LOOK = 1 << 14
"""Every layout is tried on this many bytes, before the better ones are tried on more."""
FIRST_GLANCE = 1 << 12
"""This many are enough where the layouts that are best on them explain most of the head."""


def stream(name: str, head: bytes = b"") -> IplStream:
    """The stream of a layout name; ValueError if there is none.

    name   ipl-VERSION-ABI; before 4.0, where records do not say their log, with ":nat" or ":state"
           for those logs
    head   the first bytes of the input, by which the log is chosen if the name has none
    """
    name, _, log = name.partition(":")
    layout = ipl_layouts.named(name)
    if log and log not in layout.logs:
        raise ValueError(f"{name} has no log {log!r}, only {', '.join(layout.logs)}")
    if not log and head and not layout.version.magic_tells_log:
        trials = sorted(
            trials_of([(layout, x) for x in layout.logs], head[:FIRST_LOOK], False),
            key=lambda trial: trial.explained,
        )
        log = trials[-1].log if trials else "ipf"
    return IplStream(layout, log or "ipf")


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """DecodeError: a packet does not say its layout, the interface's description must name it."""
    raise DecodeError("if_description", "no ipl layout", "one, or --layout NAME", offset)


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet with which a capture file of any byte order holds a record, the record itself; and
    its original length, by the lengths in it.
    """
    try:
        return message, "", max(len(message), _stream(layout).measure(message, 0))
    except DecodeError:
        return message, "", len(message)


def described(layout: str, log: str) -> str:
    """The layout's name for a capture file, with the log where the magic does not tell it."""
    is_clear = log == "ipf" or ipl_layouts.named(layout).version.magic_tells_log
    return layout if is_clear else f"{layout}:{log}"


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: IPFilter logs the names of interfaces, not their numbers."""
    return {}


_stream = cache(stream)


_TEXTS = ("fl_ifname", "fl_group", "fl_nattag", "isl_group")


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The record without addresses, payload, kernel pointers and what was never written."""
    records = _stream(layout)
    value = records.layout_value
    plan = value.plan(records.message_log(message, Message(0, len(message))))
    f = dict(zip(plan.names, plan.unpack(message, 0), strict=True))
    v = f.get("nl_v", f.get("isl_v", 4))
    width = 4 if (v[0] if isinstance(v, bytes) else v) == 4 else 16
    for name, octets in f.items():
        if (name.startswith("nl_") and name.endswith("ip")) or name in ("isl_src", "isl_dst"):
            f[name] = scrubber.address(octets[:width])
        elif name in _TEXTS and isinstance(octets, bytes):  # a group is a number before 4.0
            f[name] = octets.split(b"\0", 1)[0]
        elif name == "nl_ifnames":
            f[name] = b"".join(
                n.split(b"\0", 1)[0].ljust(16, b"\0") for n in (octets[:16], octets[16:])
            )
        elif name in ("ipl_next", "fl_nattag_not"):
            f[name] = 0
    if f.get("fl_unit", 0) >= 0x8000:
        f["fl_unit"] = names.NONE32
    if f.get("isl_p") in (ICMP, ICMPV6):
        f["isl_ps"] = f["isl_ps"][:2]
    packet = message[plan.size :]
    if value.host_order_ip and packet[:1] and packet[0] >> 4 == 4:
        scrubbed = swapped(scrubber.packet(swapped(packet)))
    else:
        scrubbed = scrubber.packet(packet)
    return plan.pack(f) + packet[:1] + scrubbed[1:]  # ip_v and ip_hl stay, even wrong ones


def layout_names() -> list[str]:
    """The names of all layouts, in order of preference."""
    return [layout.name for layout in ipl_layouts.layouts()]


def probe(head: bytes, final: bool) -> list[Guess]:
    """Try every layout on the first bytes of an input."""
    trials = _tried(head, final, FIRST_GLANCE)
    if max((trial.explained for trial in trials), default=0) * 4 <= len(head) * 3:
        trials = _tried(head, final, FIRST_LOOK)  # the beginning may be another machine's
    # without a magic, random bytes may look like a record or two
    trials = [t for t in trials if t.layout.version.has_magic or t.messages >= 3]
    if not trials:
        return []
    trials.sort(key=lambda t: t.rank, reverse=True)  # stable: preference among equals is kept
    top = [t for t in trials if t.rank == trials[0].rank]
    rivals = [(t.name, t.explained, t.score) for t in trials if t.rank != trials[0].rank]
    guesses: list[Guess] = []
    while top:
        first = top[0]
        same = [t for t in top if same_records(first, t)]
        top = [t for t in top if t not in same]
        facts = [f"{n} of {first.messages} {what}" for what, n in sorted(first.evidence.items())]
        guesses.append(
            Guess(
                stream=partial(IplStream, first.layout, first.log),
                container="raw",
                layouts=[t.name for t in same],
                messages=first.messages,
                explained=first.explained,
                score=first.score,
                evidence=[
                    f"{first.messages} records chain by their lengths over {first.explained} of"
                    f" {len(head)} bytes",
                    *facts,
                ],
                rivals=rivals[:8],
                alternatives=[partial(IplStream, t.layout, t.log) for t in same[1:]],
            )
        )
    return guesses


def _tried(head: bytes, final: bool, size: int) -> list[Trial]:
    """The trials on all of the head, of the layouts that are best on so many bytes of it."""
    layouts, sample = list(ipl_layouts.layouts()), head[:size]
    trials = trials_of(candidates(layouts, sample), sample, final)
    if not trials and size < FIRST_LOOK:
        return []
    if not trials:  # without a magic a record may begin anywhere: try fewer bytes
        trials = trials_of(without_magic(layouts), head[:FIRST_GLANCE], final)
    lenient = not trials
    if lenient:
        trials = trials_of(candidates(layouts, sample, lenient), sample, final, lenient)
    if trials and len(head) > FIRST_GLANCE:
        best = max(trial.explained for trial in trials)
        better = [(t.layout, t.log) for t in trials if t.explained * 2 > best]
        trials = trials_of(better, head, final, lenient)
    return trials


def cut(data: bytes) -> str | None:
    """What the bytes lack, if they end within the first record.

    Each layout whose magic fits reads a size. Wrong layouts read a time or a counter as the size,
    so the smallest plausible size counts. Where the bytes end before the size field of a layout,
    only the least that a record needs is certain. Without a magic the header must be complete and
    plausible.
    """
    stated: list[int] = []
    least: list[int] = []
    for layout in ipl_layouts.layouts():
        for log in layout.logs:
            frame = log_frame(layout, log)
            fits = _has_magic(frame.magic, data) if frame.magic else _is_header(frame, data)
            if not fits:
                continue
            size = _stated_size(frame, data)
            if size is None:
                least.append(frame.size)
            elif frame.size <= size <= (DEFAULT_BUFFER if log == "ipf" else frame.size):
                stated.append(size)
    need = min(stated + least, default=0)
    return (
        cut_off("the first record", need, len(data), exact=not least) if need > len(data) else None
    )


def _has_magic(magic: bytes, data: bytes) -> bool:
    """Whether the data begins with the magic, or is the magic less its last byte."""
    return data.startswith(magic) or (len(data) == len(magic) - 1 and magic.startswith(data))


def _field(frame: LogFrame, data: bytes, name: str) -> int | None:
    """A number in the header of the first record; None if the data ends before it."""
    leaf = frame.plan.places[name]
    return frame.plan.get(data, name) if leaf.offset + leaf.size <= len(data) else None


def _stated_size(frame: LogFrame, data: bytes) -> int | None:
    """The size of the first record by its header; None if the data ends before that."""
    if "ipl_dsize" in frame.plan.places:
        return _field(frame, data, "ipl_dsize")
    header, rest = _field(frame, data, "fl_hlen"), _field(frame, data, "fl_plen")
    return None if header is None or rest is None else frame.size + header + rest


def _is_header(frame: LogFrame, data: bytes) -> bool:
    """Whether the data begins like a record without magic: a time after 1990, a size, a name."""
    second, fraction = _field(frame, data, "ipl_sec"), _field(frame, data, "ipl_usec")
    size = _stated_size(frame, data)
    if second is None or fraction is None or size is None:
        return False
    if not 631152000 <= second < 1 << 31 or fraction >= 1_000_000:
        return False
    if "ipl_count" in frame.plan.places:
        return 1 <= (_field(frame, data, "ipl_count") or 0) < 1 << 16
    leaf = frame.plan.places["fl_ifname"]
    if len(data) < leaf.offset + leaf.size:
        return False
    name = data[leaf.offset : leaf.offset + leaf.size].rstrip(b"\0")
    return (_field(frame, data, "fl_hlen") or 0) >= 20 and name.isalnum() and name.isascii()
