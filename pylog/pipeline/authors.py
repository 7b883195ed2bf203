"""Who made a commit of nftables: asked when its message is received, because later nobody knows.

The message at the end of a commit (NFT_MSG_NEWGEN) has the number and name of the process that made
it. The process often ends at once, so what /proc says of it is kept with the messages. This is the
one kind of message that is looked for while receiving, and only of sources that know processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from pylog.backends.base import HOST_ORDER
from pylog.backends.process import Process
from pylog.errors import DecodeError
from pylog.formats.netlink import scan
from pylog.formats.nft_attributes import NFT_MSG_NEWGEN
from pylog.formats.pcap_blocks import process_note

MARK = b"pylog-author "
"""The beginning of a comment that holds an Author."""
MOST = 64
"""How many authors of one receipt are asked for."""

_TYPE = NFT_MSG_NEWGEN.to_bytes(2, sys.byteorder)
_PROC_PID, _PROC_NAME = 2, 3


class Author(msgspec.Struct, omit_defaults=True):
    """The process that made a commit, by its number and name."""

    pid: int
    comm: str
    uid: int | None = None
    cmdline: str | None = None
    cgroup: str | None = None

    @property
    def process(self) -> Process:
        return Process(self.uid, self.cmdline, self.cgroup)


def authors(data: bytes, ask: Callable[[int, str], Any]) -> list[Author]:
    """The authors of the commits in messages of netlink, as far as `ask` knows them.

    This process is none: the answer to its question for the generation names it.
    """
    makers: dict[tuple[int, str], Author] = {}
    for pid, comm in _named(data):
        if (pid, comm) not in makers and len(makers) < MOST and pid != os.getpid():
            process = ask(pid, comm)
            if process is not None:
                makers[pid, comm] = Author(pid, comm, *process)
    return list(makers.values())


def _named(data: bytes) -> Iterator[tuple[int, str]]:
    """The numbers and names of processes in messages that end a commit."""
    at = data.find(_TYPE)
    while at >= 0:
        start = at - 4
        if start >= 0 and start % 4 == 0:
            end = start + int.from_bytes(data[start:at], sys.byteorder)
            if start + 20 <= end <= len(data):
                try:
                    parts = {n: data[a:b] for n, a, b in scan(data, start + 20, end, HOST_ORDER, 0)}
                except DecodeError:
                    parts = {}
                if len(parts.get(_PROC_PID, b"")) == 4 and _PROC_NAME in parts:
                    name = parts[_PROC_NAME].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
                    yield int.from_bytes(parts[_PROC_PID]), name
        at = data.find(_TYPE, at + 2)


def comments(makers: Sequence[Author]) -> list[bytes]:
    """The comments of the packet that has the messages: for this program, and for one commit the
    note that every reader of captures understands.
    """
    made = [MARK + msgspec.json.encode(author) for author in makers]
    if len(makers) == 1:
        note = process_note(makers[0].uid, makers[0].cmdline, makers[0].cgroup)
        made += [] if note is None else [note.comment()]
    return made


def author_of(comment: bytes) -> Author | None:
    """The author in a comment; None if it is another comment."""
    if not comment.startswith(MARK):
        return None
    try:
        return msgspec.json.decode(comment[len(MARK) :], type=Author)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
