"""The fields that every kind of record has, and the base class of kinds.

The kinds of packets, flows and losses declare these fields by themselves, because theirs are
generic. All other kinds, also those of other distributions, are subclasses of BaseRecord.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from pylog.record.fields import Field, json_name
from pylog.record.methods import Methods

Octets = bytes
"""The type of that name, which the field `bytes` of a flow hides in the class body."""

Source = Annotated[
    str,
    Field(
        "ipl, nflog, nftables, nfct (conntrack) or pflog; ip for packets of captures without link"
        " headers, ipfw for those of ipfw0; of a text log the program: kernel-log, logemu, ipmon,"
        " ipfw, filterlog, tcpdump; capture for damage of a capture file itself",
        "word",
    ),
]
Layout = Annotated[str, Field("the layout by which the bytes were read", "word")]
OFFSET = Field(
    "where the message starts in the input, in bytes (of the decompressed input); absent live and"
    " in a replay",
    "i64",
)
TIMESTAMP = Field(
    "the kernel's time; NFLOG has none for some hooks, conntrack none without its timestamps",
    "time",
)
OBSERVED = Field(
    "when the message was received, live or as a capture file says; absent in raw dumps", "time"
)
Seq = Annotated[
    int | None,
    Field("the kernel's sequence number (IPFilter from 5.0.6; NFULA_SEQ)", "u32"),
]
Count = Annotated[
    int | None, Field("how many equal packets or events the record stands for", "u32")
]
Extra = Annotated[
    dict[str, Any] | None,
    Field("everything else the source says, under the kernel's names", "json"),
]
RAW = Field("the message as the kernel wrote it, only if the reader was asked for it")
Origin = Annotated[
    str | None,
    Field(
        "the file, device or live address it was read from, as given, or its label; present when"
        " several sources are read, and with `--origin`",
        "word",
        since=2,
    ),
]
Host = Annotated[
    str | None,
    Field(
        "the machine that logged it, as the line of a text log names it; with `origin` also by the"
        " capture that pylog wrote there, of a live source this machine, otherwise the label of the"
        " source",
        "word",
        since=2,
    ),
]


class BaseRecord(
    Methods,
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    rename=json_name,
):
    """The base class of a kind of record that another distribution adds, with a `tag` of its own.

    It has the fields that every kind has. The subclass declares its own, each with a default.
    """

    source: Source
    layout: Layout
    offset: Annotated[int | None, OFFSET] = None
    timestamp_ns: Annotated[int | None, TIMESTAMP] = None
    observed_ns: Annotated[int | None, OBSERVED] = None
    seq: Seq = None
    count: Count = None
    origin: Origin = None
    host: Host = None
    extra: Extra = None
    raw: Annotated[Octets | None, RAW] = None

    @property
    def kind(self) -> str:
        """The word for the kind, its `tag`."""
        return str(self.__struct_config__.tag)

    @property
    def log(self) -> str:
        """The log within the source that numbers the record; "" if the source is a single log."""
        return ""
