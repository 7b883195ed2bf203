"""What an input is: every format is asked about its first bytes, and the best answer wins.

The answer carries its evidence and what else would fit. Layouts that make the same records of the
same bytes are one answer; two that differ and explain the bytes equally well are an error that
lists both, to be settled with a layout name. An input that is no log is named by what it is, with
what to do: an input cut off within its first record by the formats themselves (`cut`), anything
else by `formats.foreign`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pylog.errors import DecodeError
from pylog.formats import HEAD, Guess, Message, Stream, foreign
from pylog.formats.registry import linktypes, registered


@dataclass(frozen=True)
class Detection:
    """What the first bytes of an input are.

    container   raw (ipl records back to back), netlink, pcap or pcapng
    layouts     the layout that is used, then those that decode the input identically
    stream      makes the Stream to read it with
    evidence    sentences for a person
    rivals      (layout, bytes explained, score) of what fits less well, best first
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
"""What is known of a live source before its first record."""


def detect(head: bytes, final: bool, layout: str | None = None) -> Detection:
    """Tell what an input is by its first bytes; `final` if these are all.

    layout   the user's word, taken without question
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
        raise no_log(head, final)  # an archive that holds a log as it is
    best = max((guess.explained, guess.score) for guess in guesses)
    top = [guess for guess in guesses if (guess.explained, guess.score) == best]
    if len(top) > 1:
        names = " or ".join(guess.layouts[0] for guess in top)
        raise DecodeError(
            "layout", f"{names}, which explain the same bytes but read them differently",
            "one; name it with --layout", 0,
        )  # fmt: skip
    guess = top[0]
    alternatives = [
        (g.layouts[0] if g.layouts else g.container, g.explained, g.score)
        for g in guesses
        if g is not guess
    ]
    return Detection(
        guess.container,
        guess.layouts,
        guess.stream,
        guess.evidence,
        alternatives + guess.rivals,
        guess.alternatives,
    )


def is_no_log(head: bytes) -> bool:
    """Whether the first bytes of an input say that it is no log, whatever comes after them."""
    return foreign.recognized(head, False) is not None


def no_log(head: bytes, final: bool) -> DecodeError:
    """The error of an input that is no log: what it is, and what to do."""
    if not head:
        found, advice = "the input is empty", "pylog read --follow waits for the first record"
    elif final and (cut := _cut(head)) is not None:
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
    return DecodeError("input", found, "a firewall log", 0, advice=advice, details=details)


def _cut(head: bytes) -> str | None:
    """What is missing of an input that ends within its first record; None if it is no such."""
    for module in registered().by_name.values():
        cut = module.cut(head)
        if cut is not None:
            return cut
    return None


def _from_start(guess: Guess, head: bytes) -> bool:
    """Whether the format explains the very first bytes."""
    if guess.container in ("pcap", "pcapng"):
        return True  # by the magic of its file
    items = guess.stream().split(head, False)
    return bool(items) and isinstance(items[0], Message) and items[0].start == 0


def stream_for(layout: str) -> Detection:
    """The detection of bytes that the source says have that layout."""
    for module in registered().by_name.values():
        try:
            stream: Stream = module.stream(layout)
        except ValueError:
            continue
        make: Callable[[], Stream] = partial(module.stream, layout)
        return Detection(stream.container, [stream.layout], make, ["said by the source"])
    raise ValueError(f"no layout {layout!r}")


def _named(head: bytes, final: bool, layout: str) -> Detection:
    """The detection of a layout that the user named."""
    from pylog.formats import pcap_blocks  # only here: construct takes long to import
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
            raise DecodeError("input", f"{len(head)} bytes", "a whole message", 0)
        if kind is None:
            make: Callable[[], Stream] = partial(module.stream, layout, head)
            return Detection(stream.container, [stream.layout], make, ["named by the user"])
        capture = PcapStream(layout, named=True)
        capture.split(head, final)
        there = set(capture.linktypes)
        if there and not there & set(linktypes(module)):
            types = " and ".join(pcap_blocks.linktype_text(t) for t in sorted(there))
            raise ValueError(f"no packet of the capture is of layout {layout}: it has {types}")
        make = partial(PcapStream, layout, named=True)
        return Detection(kind.container, [stream.layout], make, ["named by the user"])
    formats = registered().by_name.items()
    known = {m.layout_names()[0].split("-")[0]: name for name, m in formats if m.layout_names()}
    family = layout.split("-")[0]
    if family in known:
        raise ValueError(problems[known[family]])
    raise ValueError("; ".join(problems[name] for name in known.values()))


def _looked_for() -> str:
    return "; ".join(filter(None, (m.LOOKED_FOR for m in registered().by_name.values())))
