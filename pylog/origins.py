"""The origin and host of each source, so that records of several logs can be told apart.

The origin is the source as it was given, or its label. The host is the machine that logged the
records: this machine for a live source; a capture that pylog wrote names its host itself, see
Decoder.give_origin; else it is the label. Records get both when several sources are read, or when
the caller asks; records of a single log do without.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

from pylog import backends

Source = str | os.PathLike[str] | BinaryIO


class Origin(NamedTuple):
    """The origin and host of a source's records."""

    origin: str | None = None
    host: str | None = None


NOWHERE = Origin()
"""Records get neither origin nor host."""


def origins_of(
    sources: Sequence[Source], asked: bool | None = None, labels: Mapping[str, str] | None = None
) -> list[Origin]:
    """The origin of each source.

    asked    whether the caller asks for it; None: if there are several sources, or labels
    labels   the label to use in place of a source, by the source as it is given

    ValueError for a label of a source that is not read, and for an empty label.
    """
    labels = labels or {}
    names = [_name(source) for source in sources]
    for source, label in labels.items():
        if source not in names:
            raise ValueError(
                f"label {label!r} is for {source}, which is not read; read are {', '.join(names)}"
            )
    if asked is None:
        asked = len(names) > 1 or bool(labels)
    return [
        origin_of(source, asked and labels.get(name, True))
        for source, name in zip(sources, names, strict=True)
    ]


def origin_of(source: Source, asked: bool | str) -> Origin:
    """The origin of a source, if it is asked for; a text is its label. ValueError for ""."""
    if asked is False:
        return NOWHERE
    if asked == "":
        raise ValueError("a label is empty, but must be a text")
    label = None if asked is True else _text(asked)
    live = backends.is_live(source)
    return Origin(label or _text(_name(source)), platform.node() if live else label)


def _name(source: Source) -> str:
    """The source as it was given; a file object has its own name."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "a file object"))


def _text(name: str) -> str:
    """A file name as UTF-8 can hold it: other bytes are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
