"""A double of the kernel's nftables: messages of commits and listings, given in pieces.

Each piece may be followed by an overrun, as of the receive buffer of a socket that loses everything
in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pylog.backends.base import HOST_ORDER, Backend
from pylog.formats import nft_attributes as nft
from pylog.formats.netlink import NLM_F_CREATE, NLM_F_MULTI, Table, build
from pylog.formats.nft_attributes import LISTING_SEQ, NLM_F_APPEND


def message(
    kind: int, generation: int, table: Table, *attrs: tuple[int, Any], flags: int = 0, seq: int = 9
) -> bytes:
    return build(table, HOST_ORDER, kind, generation & 0xFFFF, list(attrs), family=1, flags=flags,
                 seq=seq, pid=99)  # fmt: skip


def made(generation: int, name: str, handle: int = 1) -> bytes:
    """The event of a new table."""
    return message(nft.NFT_MSG_NEWTABLE, generation, nft.TABLE, (1, name.encode()), (2, 0),
                   (4, handle), flags=NLM_F_CREATE | NLM_F_APPEND)  # fmt: skip


def commit(generation: int, seq: int = 9) -> bytes:
    return message(nft.NFT_MSG_NEWGEN, generation, nft.GENERATION, (1, generation), (2, 4711),
                   (3, b"nft"), seq=seq)  # fmt: skip


def listing(generation: int, *names: str) -> bytes:
    tables = [
        message(nft.NFT_MSG_NEWTABLE, generation, nft.TABLE, (1, name.encode()), (2, 0),
                (4, handle), flags=NLM_F_MULTI, seq=LISTING_SEQ)
        for handle, name in enumerate(names, 1)
    ]  # fmt: skip
    return b"".join([*tables, commit(generation, LISTING_SEQ)])


class Kernel(Backend):
    """Gives pieces of bytes, and the overrun after each."""

    live = deferred = message_aligned = in_one_place = True
    accountable = False
    layout = "nft-le" if HOST_ORDER == "<" else "nft-be"

    def __init__(self, pieces: Sequence[bytes | str], first: int) -> None:
        super().__init__("nftables:")
        self.logs = {"ruleset": first}
        self.refreshed = 0
        self._pieces = list(pieces)

    def receive(self) -> bytes:
        data = super().receive()
        if self._pieces and isinstance(self._pieces[0], str):
            self.overrun = str(self._pieces.pop(0))
        return data

    def _receive(self) -> bytes | None:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        assert isinstance(piece, bytes)
        return piece

    def refresh(self) -> None:
        self.refreshed += 1

    def _pending(self) -> int:
        return 0

    def _release(self) -> None:
        pass

    def fileno(self) -> int:
        raise OSError
