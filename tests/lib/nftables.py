"""Messages of nftables as the kernel sends them, built from the tables, and recordings of it."""

from __future__ import annotations

import gzip
import lzma
from functools import cache
from typing import Any

import samples

from pylog.formats import nft_attributes as nft
from pylog.formats.netlink import Table, build
from pylog.formats.netlink_stream import unpack_nlmsghdr
from pylog.formats.nft_entities import TABLES

NUMBERS = {name: number for number, name in nft.FAMILIES.items()}


@cache
def recording(name: str) -> bytes:
    """A recording of fixtures/nft, unpacked."""
    path = samples.FIXTURES / "nft" / f"{name}.cat.xz"
    if path.exists():
        return lzma.decompress(path.read_bytes())
    return gzip.decompress(path.with_suffix(".gz").read_bytes())


def messages(data: bytes) -> list[bytes]:
    """The messages of a recording, each padded."""
    found, pos = [], 0
    while pos < len(data):
        size = unpack_nlmsghdr["<"](data, pos)[0]
        end = pos + (size + 3 & ~3)
        found.append(data[pos:end])
        pos = end
    return found


def kind(message: bytes) -> int:
    """The nlmsg_type of a message."""
    return int.from_bytes(message[4:6], "little")


class Kernel:
    """Builds what a kernel sends about its ruleset."""

    def __init__(self, order: str = "<", generation: int = 1) -> None:
        """`generation` is the one of the next commit."""
        self.order, self.generation = order, generation

    def message(self, kind: int, attrs: list[tuple[int, Any]], **head: int) -> bytes:
        """A message of an entity in the commit that is made."""
        table: Table = TABLES[kind]
        head = {"seq": 1, "pid": 99, "family": NUMBERS["inet"], "group": self.generation & 0xFFFF,
                **head}  # fmt: skip
        group = head.pop("group")
        made = build(table, self.order, kind, group, attrs, **head)
        return made + bytes(-len(made) % 4)

    def table(self, name: bytes, handle: int = 1, **head: int) -> bytes:
        """A table that is there."""
        attrs = [(1, name + b"\0"), (2, 0), (3, 0), (4, handle)]
        return self.message(nft.NFT_MSG_NEWTABLE, attrs, **head)

    def chain(self, table: bytes, name: bytes, handle: int, **head: int) -> bytes:
        """A chain without a hook."""
        attrs = [(1, table + b"\0"), (2, handle), (3, name + b"\0"), (6, 0)]
        return self.message(nft.NFT_MSG_NEWCHAIN, attrs, **head)

    def rule(
        self, table: bytes, chain: bytes, handle: int, comment: bytes = b"", deleted: bool = False,
        position: int | None = None, **head: int,
    ) -> bytes:  # fmt: skip
        """A rule without expressions; a comment tells it from others."""
        attrs: list[tuple[int, Any]] = [
            (1, table + b"\0"),
            (2, chain + b"\0"),
            (3, handle),
            (4, b""),
        ]
        if position is not None:
            attrs.append((6, position))
        if comment:
            attrs.append((7, bytes((0, len(comment) + 1)) + comment + b"\0"))
        kind = nft.NFT_MSG_DELRULE if deleted else nft.NFT_MSG_NEWRULE
        return self.message(kind, attrs, **({"flags": 0xC00} | head))

    def element(self, table: bytes, name: bytes, key: bytes, **head: int) -> bytes:
        """An element that is a key."""
        value = self.attribute(1, key)
        listed = self.attribute(1, self.attribute(1, value))
        attrs = [(1, table + b"\0"), (2, name + b"\0"), (3, listed)]
        return self.message(nft.NFT_MSG_NEWSETELEM, attrs, **({"seq": 0} | head))

    def attribute(self, number: int, value: bytes) -> bytes:
        """An attribute within another."""
        order = "little" if self.order == "<" else "big"
        head = (len(value) + 4).to_bytes(2, order) + number.to_bytes(2, order)  # type: ignore[arg-type]
        return head + value + bytes(-len(value) % 4)

    def commit(self, *entities: bytes, name: bytes = b"nft") -> bytes:
        """The entities, and the end of their commit."""
        made = b"".join(entities) + self.newgen(name)
        self.generation = self.generation + 1 & 0xFFFFFFFF
        return made

    def newgen(self, name: bytes = b"nft", **head: int) -> bytes:
        """The end of the commit, or, of the generation before, an answer to GETGEN."""
        attrs = [(1, self.generation), (2, 99), (3, name + b"\0")]
        return self.message(nft.NFT_MSG_NEWGEN, attrs, **({"family": 0} | head))

    def listing(self, *entities: tuple[Any, ...], own: bool = True, flags: int = 2) -> bytes:
        """A listing of the present ruleset: entities as (method, its arguments...)."""
        seq = nft.LISTING_SEQ if own else 7
        here = Kernel(self.order, self.generation - 1 & 0xFFFFFFFF)
        parts = [getattr(here, method)(*rest, flags=flags, seq=seq) for method, *rest in entities]
        return b"".join(parts) + here.newgen(b"pylog", seq=seq)
