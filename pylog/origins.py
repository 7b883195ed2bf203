"""Where records are from, when several logs are read together: the origin and host of each source.

The origin is the source as it was given, or its label. The host is the machine that logged it: this
one for a live source; a capture that pylog wrote names it itself (see Decoder.give_origin); else
the label has to do. Sources are given an origin when there are several, or when it is asked for: a
single log is read as it always was.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

from pylog import backends

Source = str | os.PathLike[str] | BinaryIO


class Origin(NamedTuple):
    """What the records of a source are to have as their origin and host."""

    origin: str | None = None
    host: str | None = None


NOWHERE = Origin()
"""The origin is not asked for."""


def origins_of(
    sources: Sequence[Source], asked: bool | None = None, labels: Mapping[str, str] | None = None
) -> list[Origin]:
    """The origin of each source.

    asked    whether to give one; None: if there are several sources, or labels
    labels   what to call a source instead, by the source as it is given

    ValueError for a label of what is not among the sources, and for an empty one.
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
    """The origin of a source, if it is asked for; a text is the label. ValueError for "" """
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
    """A name as UTF-8 can hold it, whatever bytes a file name has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
