"""Formats: what the bytes of a log mean. One module a format, no I/O, no clock, no host constants.

`contract` states what a format module gives, `stream` has the base class of its Stream, `items`
what a stream finds, and `registry` finds the modules, whose names have no underscore. The others
are parts of a format, and imported where it needs them. A format of another distribution is named
by an entry point of the group `pylog.formats`. It may declare kinds of record of its own:

    KINDS    subclasses of record.BaseRecord, each with a tag and its fields
"""

from pylog.formats.contract import (
    HEAD,
    CapturedFormat,
    Format,
    Guess,
    NetlinkFormat,
    cut_off,
)
from pylog.formats.interface_names import MAXIMUM_INTERFACES, InterfaceNames, NamesKept
from pylog.formats.items import (
    MAXIMUM_COUNT,
    Damage,
    Dropped,
    DroppedInAll,
    Flaw,
    Item,
    Message,
    NewSection,
    RawBatch,
    Reported,
)
from pylog.formats.numbers import NextSeq
from pylog.formats.stream import BESIDE_PACKETS, LEFT_OUT, LIMIT, Deciding, Needle, Stream

__all__ = [
    "BESIDE_PACKETS",
    "HEAD",
    "LEFT_OUT",
    "LIMIT",
    "MAXIMUM_COUNT",
    "MAXIMUM_INTERFACES",
    "CapturedFormat",
    "Damage",
    "Deciding",
    "Dropped",
    "DroppedInAll",
    "Flaw",
    "Format",
    "Guess",
    "InterfaceNames",
    "Item",
    "Message",
    "NamesKept",
    "Needle",
    "NetlinkFormat",
    "NewSection",
    "NextSeq",
    "RawBatch",
    "Reported",
    "Stream",
    "cut_off",
]
