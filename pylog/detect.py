"""Detects what an input is: every format examines the first bytes, and the best guess wins.

The best guess explains the most bytes. The Detection carries its evidence and the guesses that fit
less well. Layouts that make the same records of the same bytes count as one guess. If two guesses
tie and differ, that is an error that lists both, and the user names the layout. The error for an
input that is no log names what it is and what to do: the formats recognize an input that is cut off
within its first record (`cut`), `formats.foreign` everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pylog.errors import EMPTY, DecodeError
from pylog.formats import HEAD, Guess, Message, Stream, foreign
from pylog.formats.registry import linktypes, registered
from pylog.nearest import LAYOUTS, advice


@dataclass(frozen=True)
class Detection:
    """What the first bytes of an input are.

    container      raw (ipl records back to back), netlink, pcap or pcapng
    layouts        the layout that is used, then those that decode the input identically
    stream         makes the Stream to read it with
    evidence       sentences for people
    rivals         (layout, bytes explained, score) of what fits less well, best first
    alternatives   make the Streams of the other names in `layouts`
    """

    container: str
    layouts: list[str]
    stream: Callable[[], Stream]
    evidence: list[str]
    rivals: list[tuple[str, int, int]] = field(default_factory=list)
    alternatives: list[Callable[[], Stream]] = field(default_factory=list)


def _undecided() -> Stream:
    raise RuntimeError("nothing was received yet")


UNDECIDED = Detection("unknown", [], _undecided, ["nothing was received yet"])
"""The detection of a live source before its first record."""


def detect(head: bytes, final: bool, layout: str | None = None) -> Detection:
    """Detect what an input is by its first bytes; `final`: these are all.

    layout   the layout that the user names, which is not questioned
    Raises DecodeError for bytes that no format explains, or that two explain equally well and
    differently; ValueError for a layout that does not exist.
    """
    head, final = head[:HEAD], final and len(head) <= HEAD
    if layout is not None:
        return _named(head, final, layout)
    guesses = [
        guess for module in registered().by_name.values() for guess in module.probe(head, final)
    ]
    guesses = [g for g in guesses if g.explained * 10 >= len(head) or g.messages >= 3]
    if not guesses:
        raise no_log(head, final)
    other = foreign.recognized(head, final)
    if other is not None and other.certain and not any(_from_start(g, head) for g in guesses):
        raise no_log(head, final)  # such as an archive that holds an uncompressed log
    best = max((guess.explained, guess.score) for guess in guesses)
    top = [guess for guess in guesses if (guess.explained, guess.score) == best]
    if len(top) > 1:
        names = " or ".join(guess.layouts[0] for guess in top)
        raise DecodeError(
            "layout", f"{names}, which explain the same bytes but read them differently",
            "one; name it with --layout", 0,
        )  # fmt: skip
    guess = top[0]
    rivals = [
        (g.layouts[0] if g.layouts else g.container, g.explained, g.score)
        for g in guesses
        if g is not guess
    ]
    return Detection(
        guess.container,
        guess.layouts,
        guess.stream,
        guess.evidence,
        rivals + guess.rivals,
        guess.alternatives,
    )


def is_no_log(head: bytes) -> bool:
    """Whether the first bytes show that the input is no log, whatever comes after them."""
    other = foreign.recognized(head, False)
    return other is not None and not other.open


def no_log(head: bytes, final: bool) -> DecodeError:
    """The error of an input that is no log: what it is, and what to do. Its field is "record" for
    a log that ends within its first record.
    """
    field = "input"
    if not head:
        found, advice = EMPTY, "pylog read --follow waits for the first record"
    elif final and (cut := _cut(head)) is not None:
        field = "record"
        found, advice = cut, "copy it again, or let pylog read --follow wait if it is being written"
    elif (other := foreign.recognized(head, final)) is not None:
        found, advice = f"{other.verb} {other.name}", other.advice
    else:
        few = f"{len(head)} bytes that are" if final and len(head) < 64 else "this is"
        found = f"{few} not a log that pylog recognizes"
        advice = (
            "if it is one, name its layout with --layout; pylog info -v shows what was looked for"
        )
    begins = f"it begins with {head[:16].hex(' ')}; " if head else ""
    details = f"{begins}looked for {_looked_for()}"
    return DecodeError(field, found, "a firewall log", 0, advice=advice, details=details)


def _cut(head: bytes) -> str | None:
    """What an input lacks that ends within its first record; None: it is no such input."""
    for module in registered().by_name.values():
        cut = module.cut(head)
        if cut is not None:
            return cut
    return None


def _from_start(guess: Guess, head: bytes) -> bool:
    """Whether the format explains the very first bytes."""
    if guess.container in ("pcap", "pcapng"):
        return True  # the guess was made by the file's magic
    items = guess.stream().split(head, False)
    return bool(items) and isinstance(items[0], Message) and items[0].start == 0


def stream_for(layout: str) -> Detection:
    """The detection of a layout that the source names."""
    for module in registered().by_name.values():
        try:
            stream: Stream = module.stream(layout)
        except ValueError:
            continue
        make: Callable[[], Stream] = partial(module.stream, layout)
        return Detection(stream.container, [stream.layout], make, ["named by the source"])
    raise ValueError(f"no layout {layout!r}")


def _named(head: bytes, final: bool, layout: str) -> Detection:
    """The detection of a layout that the user named."""
    from pylog.formats import pcap_blocks  # here, because construct takes long to import
    from pylog.formats.pcap_stream import PcapStream

    problems = {}
    for name, module in registered().by_name.items():
        try:
            stream: Stream = module.stream(layout, head)
        except ValueError as error:
            problems[name] = str(error)
            continue
        kind = pcap_blocks.magic_of(head[:12])
        early = not final and len(head) < HEAD
        if early and (len(head) < 12 or (kind is None and not stream.split(head, False))):
            raise DecodeError("input", f"{len(head)} bytes", "a complete message", 0)
        if kind is None:
            make: Callable[[], Stream] = partial(module.stream, layout, head)
            return Detection(stream.container, [stream.layout], make, ["named by the user"])
        capture = PcapStream(layout, named=True)
        capture.split(head, final)
        held = set(capture.linktypes)
        if held and not held & set(linktypes(module)):
            types = " and ".join(pcap_blocks.linktype_text(t) for t in sorted(held))
            raise ValueError(f"no packet of the capture is of layout {layout}: it has {types}")
        make = partial(PcapStream, layout, named=True)
        return Detection(kind.container, [stream.layout], make, ["named by the user"])
    formats = registered().by_name.items()
    families = {m.layout_names()[0].split("-")[0]: name for name, m in formats if m.layout_names()}
    family = layout.split("-")[0]
    if family in families:
        raise ValueError(problems[families[family]])
    names = [name for module in registered().by_name.values() for name in module.layout_names()]
    hint = advice(layout, names, LAYOUTS)
    raise ValueError(f"no layout {layout!r}; names are as ipl-5.1.2-lp64le and nfulnl-le{hint}")


def _looked_for() -> str:
    return "; ".join(filter(None, (m.LOOKED_FOR for m in registered().by_name.values())))
