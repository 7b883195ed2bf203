"""The format of capture files: pcap (both byte orders, micro- and nanoseconds, "modified"), pcapng.

formats.pcap_stream reads them. This module detects a capture by its magic and says what is in it
(`probe`), or what a file lacks that ends within its first header (`cut`). Where an interface of
IPFILTER does not name the layout of its records, the records together are probed for it.
"""

from __future__ import annotations

from functools import partial

from pylog.errors import DecodeError
from pylog.formats import HEAD, Damage, Guess, Item, Message, cut_off
from pylog.formats.pcap_blocks import (
    SHB,
    linktype_text,
    linktypes_text,
    magic_of,
    plans,
    refused_text,
)
from pylog.formats.pcap_stream import PcapStream
from pylog.formats.registry import registered

NAME = "pcap"
LINKTYPES: tuple[int, ...] = ()
LOOKED_FOR = "pcap or pcapng (their magic)"
STREAM = PcapStream


def stream(name: str, head: bytes = b"") -> PcapStream:
    """ValueError: a capture has the layouts of its packets, and none of its own to be named."""
    raise ValueError(f"no layout {name!r} of a capture file itself")


def layout_names() -> list[str]:
    """None: a capture has the layouts of its packets."""
    return []


def cut(data: bytes) -> str | None:
    """What the bytes lack, if they end within the header of a capture file."""
    if data.startswith(SHB.to_bytes(4)) and len(data) < 12:
        return cut_off("the first block of pcapng", 28, len(data), exact=False)
    magic = magic_of(data[:12])
    if magic is None:
        return None
    if magic.container == "pcap":
        return cut_off("the header of pcap", 24, len(data)) if len(data) < 24 else None
    _, size = plans(magic.order)["block"].unpack(data, 0)
    return cut_off("the first block of pcapng", size, len(data)) if len(data) < size else None


def probe(head: bytes, final: bool) -> list[Guess]:
    """Read the first bytes as a capture; DecodeError if pylog reads none of its link types."""
    if magic_of(head[:12]) is None:
        return []
    trial = PcapStream()
    if final and cut(head) is not None:
        return []
    items = trial.split(head, final)
    if not trial.container:
        for item in items:
            if isinstance(item, Damage):
                raise item.error.copy_for_raising()
        return []  # only the beginning of its header
    present = trial.linktypes or {i.linktype: 0 for i in trial.interfaces}
    all_foreign = trial.foreign and trial.foreign == trial.linktypes.total()
    if present and (all_foreign or not any(_is_read(t, trial, head, items) for t in present)):
        expected = linktypes_text(registered().by_linktype)
        refused = " and ".join(refused_text(t) for t in sorted(present))
        raise DecodeError("link type", f"this is a capture of link type {refused}", expected, 0,
                          advice=f"pylog reads {expected}")  # fmt: skip
    layout, evidence, layouts = None, [], list(trial.layouts)
    rivals: list[tuple[str, int, int]] = []
    unnamed = [i for i in items if isinstance(i, Damage) and i.error.field == "if_description"]
    if unnamed:
        joined = b"".join(head[d.offset : d.offset + d.size] for d in unnamed)
        modules = {registered().by_linktype[linktype].NAME for linktype in trial.inner.undetermined}
        guesses = [g for n in sorted(modules) for g in registered().by_name[n].probe(joined, True)]
        if len(guesses) > 1:
            raise DecodeError("layout", " or ".join(g.layouts[0] for g in guesses),
                              "one; name it with --layout", 0)  # fmt: skip
        for guess in guesses:
            layout, layouts = guess.layouts[0], guess.layouts
            evidence, rivals = list(guess.evidence), list(guess.rivals)
    if layout is None:
        layout, evidence = _examined(trial, head, items)
        if layout is not None:
            layouts = [layout]
    messages = sum(isinstance(item, Message) for item in items)
    if not messages and not final and len(head) < HEAD and (unnamed or not trial.linktypes):
        return []  # no packet has come yet that shows its layout
    return [
        Guess(
            stream=partial(PcapStream, layout),
            container=trial.container,
            layouts=layouts,
            messages=messages or len(unnamed),
            explained=len(head),
            evidence=[
                f"{trial.container} magic, packets of link type "
                + ", ".join(f"{linktype_text(t)}: {n}" for t, n in sorted(trial.linktypes.items())),
                *evidence,
            ],
            rivals=rivals,
        )
    ]


Shown = tuple[str, list[str]]
"""A layout, and the evidence for it."""


def _is_read(linktype: int, trial: PcapStream, head: bytes, items: list[Item]) -> bool:
    """Whether a format reads the packets of a link type."""
    module = registered().by_linktype.get(linktype)
    if module is None or not hasattr(module, "examined"):
        return module is not None
    return _shown(linktype, trial, head, items) is not None


def _examined(trial: PcapStream, head: bytes, items: list[Item]) -> tuple[str | None, list[str]]:
    """The layout that the first packets show together, with evidence; None: each shows its own."""
    for linktype in trial.linktypes:
        answer = _shown(linktype, trial, head, items)
        if answer is not None:
            return answer
    return None, []


def _shown(linktype: int, trial: PcapStream, head: bytes, items: list[Item]) -> Shown | None:
    """What the packets of a link type show together; None: nothing, or not its format."""
    examined = getattr(registered().by_linktype.get(linktype), "examined", None)
    if examined is None:
        return None
    packets = [
        head[item.start : item.end]
        for item in items
        if isinstance(item, Message) and item.origin.linktype == linktype
    ]
    answer: Shown | None = examined(packets, linktype, trial.order)
    return answer
