"""Which formats there are, and which of them reads what.

A format is looked up by its name, by the link type of a capture's packets, by the netlink subsystem
of a message, or by the source of a record. Link types of netlink (253 and Linux cooked captures)
hold messages of every netlink format: formats.mixed owns them and hands each message to the
format of its subsystem. If two formats claim the same, that is an error that names both.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pylog import discover, formats
from pylog.formats.contract import CapturedFormat, Format, NetlinkFormat
from pylog.formats.stream import Needle, Resume
from pylog.notes import notes
from pylog.record import kind_flaw
from pylog.record.registry import GROUP


class Registry:
    """The formats by what they claim; ValueError for a clash, or a format that is incomplete.

    by_name        NAME -> format
    by_linktype    pcap link type -> the format of its packets
    by_subsystem   subsystem of NETLINK_NETFILTER -> the format of its messages
    by_source      STREAM.source -> the format of its records, where capture files hold them
    """

    def __init__(self, modules: Iterable[Any]) -> None:
        every = list(modules)
        for module in every:
            discover.check(module, _flaw)
        captured: list[CapturedFormat] = [m for m in every if _contract(m) is not Format]
        netlink: list[NetlinkFormat] = [m for m in every if _contract(m) is NetlinkFormat]
        self.by_name: dict[str, Format] = discover.claimed(
            "format name", ((module.NAME, module) for module in every)
        )
        self.by_linktype: dict[int, CapturedFormat] = discover.claimed(
            "link type",
            ((linktype, module) for module in captured for linktype in module.LINKTYPES),
        )
        self.by_subsystem: dict[int, NetlinkFormat] = discover.claimed(
            "netlink subsystem",
            ((number, module) for module in netlink for number in subsystems(module)),
        )
        self.by_source: dict[str, CapturedFormat] = discover.claimed(
            "source", ((module.STREAM.source, module) for module in captured)
        )


def _contract(module: Any) -> type:
    """The contract of a format: it is larger if capture files hold its messages."""
    if hasattr(module, "SUBSYSTEM"):
        return NetlinkFormat
    return CapturedFormat if getattr(module, "LINKTYPES", ()) else Format


def _flaw(module: Any) -> str | None:
    """What is wrong with a format, or None."""
    flaws = [discover.lacking(module, _contract(module))]
    flaws += [kind_flaw(kind) for kind in getattr(module, "KINDS", ())]
    return next(filter(None, flaws), None)


def subsystems(module: NetlinkFormat) -> tuple[int, ...]:
    """The netlink subsystems whose messages the format reads."""
    stated = module.SUBSYSTEM
    return stated if isinstance(stated, tuple) else (stated,)


def linktypes(module: Format) -> tuple[int, ...]:
    """The link types of captures that may hold the format's messages; the first is written."""
    shared = registered().by_name["netlink"].LINKTYPES if hasattr(module, "SUBSYSTEM") else ()
    return (*module.LINKTYPES, *shared)


def collect() -> list[Any]:
    """All format modules; those of other distributions that cannot be used are reported."""
    collected = discover.collect(GROUP, formats.__name__, formats.__path__, "probe", _flaw)
    for problem in collected.problems.values():
        notes.warning("%s", problem)
    return collected.modules


@cache
def registered() -> Registry:
    """The registry of all format modules."""
    return Registry(collect())


@cache
def resuming() -> list[tuple[Needle, Resume]]:
    """What `Stream.others` gives: the `resumes` of all formats, each with the format's `resume`."""
    every: Iterable[Any] = registered().by_name.values()
    return [
        (needle, module.resume)
        for module in every
        if hasattr(module, "resumes")
        for needle in module.resumes()
    ]
