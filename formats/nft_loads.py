"""Expressions of nftables that load a register, or change what one holds.

Each function makes a value of formats.nft_values from the fields of an expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pylog.formats import nft_headers as h
from pylog.formats.nft_types import BOOLEAN, INTEGER, STRING, UNCLEAR, Unclear
from pylog.formats.nft_values import Binop, Constant, Loaded, Payload, Swapped, Writer, clone

Fields = dict[str, Any]


_LONGEST = 64
"""Bytes that all registers have together."""


class Registers(Protocol):
    """What holds the values."""

    def get(self, register: int, bits: int = 0) -> Any:
        """The value of a register, or of adjacent ones."""


def _payload(fields: Fields, registers: Registers) -> Any:
    return payload_of(fields)


def payload_of(fields: Fields) -> Payload:
    """The bits of the packet that an expression names."""
    if fields["base"] not in ("link", "network", "transport", "inner"):
        raise Unclear
    if not 0 < fields["len"] <= _LONGEST:
        raise Unclear
    return Payload(fields["base"], fields["offset"] * 8, fields["len"] * 8)


def _meta(fields: Fields, registers: Registers) -> Any:
    key = h.META[fields["key"]]
    return Loaded(key.text, key.type, key.bits, "meta", fields["key"])


def ct_words(key: str, direction: str | None) -> str:
    """A key of ct with its direction: ct original packets."""
    return f"ct {direction} {key}" if direction else f"ct {key}"


def _ct(fields: Fields, registers: Registers) -> Any:
    if fields["key"] in ("src", "dst"):  # the network protocol decides what they are
        word = "saddr" if fields["key"] == "src" else "daddr"
        return Loaded(f"ct {fields['direction']} ? {word}", UNCLEAR, 128, "ct", fields["key"])
    key = h.CT[fields["key"]]
    text = ct_words(key.text, fields.get("direction"))
    return Loaded(text, key.type, key.bits, "ct", fields["key"])


def _rt(fields: Fields, registers: Registers) -> Any:
    key = h.RT[fields["key"]]
    return Loaded(key.text, key.type, key.bits, "rt", fields["key"])


def _socket(fields: Fields, registers: Registers) -> Any:
    key = h.SOCKET[fields["key"]]
    return Loaded(key.text, key.type, key.bits, "socket", fields["key"])


def _xfrm(fields: Fields, registers: Registers) -> Any:
    key = h.XFRM[fields["key"]]
    number = f" spnum {fields['spnum']}" if fields.get("spnum") else ""
    text = f"ipsec {fields['direction']}{number} {key.text}"
    return Loaded(text, key.type, key.bits, "xfrm", fields["key"])


def _fib(fields: Fields, registers: Registers) -> Any:
    flags = fields["flags"]
    words = [word for bit, word in h.FIB_FLAGS if flags & bit]
    key = h.FIB[fields["result"]]
    kind = key.type
    if flags & h.FIB_PRESENT:
        kind = BOOLEAN
    return Loaded(f"fib {' . '.join(words)} {key.text}", kind, key.bits, "fib", fields["result"])


def _osf(fields: Fields, registers: Registers) -> Any:
    ttl = {0: "", 1: " ttl loose", 2: " ttl skip"}[fields["ttl"]]
    what = "version" if fields.get("flags", 0) & 1 else "name"  # NFT_OSF_F_VERSION
    return Loaded(f"osf{ttl} {what}", STRING, 128, "osf")


def _numgen(fields: Fields, registers: Registers) -> Any:
    offset = f" offset {fields['offset']}" if fields.get("offset") else ""
    text = f"numgen {fields['type']} mod {fields['modulus']}{offset}"
    return Loaded(text, UNCLEAR if fields["type"] not in ("inc", "random") else h.META["cpu"].type,
                  32, "numgen")  # fmt: skip


def _hash(fields: Fields, registers: Registers) -> Any:
    offset = f" offset {fields['offset']}" if fields.get("offset") else ""
    if fields["type"] == "symhash":
        text = f"symhash mod {fields['modulus']}{offset}"
        return Loaded(text, h.META["cpu"].type, 32, "hash")
    if fields["type"] != "jhash":
        raise Unclear
    seed = f" seed 0x{fields['seed']:x}" if "seed" in fields else ""
    argument = registers.get(fields["sreg"], fields["len"] * 8)
    tail = f" mod {fields['modulus']}{seed}{offset}"
    return Hash("", h.META["cpu"].type, 32, "hash", "", argument, tail)


class Hash(Loaded):
    """A hash of other values, whose text needs theirs."""

    __slots__ = ("argument_", "tail")

    def __init__(self, text: str, kind: Any, bits: int, source: str, key: str, argument: Any,
                 tail: str) -> None:  # fmt: skip
        super().__init__(text, kind, bits, source, key)
        self.argument_, self.tail = argument, tail

    def __copy__(self) -> Hash:
        return Hash(self.text, self.type, self.bits, self.source, self.key,
                    clone(self.argument_), self.tail)  # fmt: skip

    def write(self, writer: Writer) -> None:
        """Fills in the text, once the fields of its argument are clear."""
        self.text = f"jhash {writer.text(self.argument_)}{self.tail}"


def _byteorder(fields: Fields, registers: Registers) -> Any:
    value = registers.get(fields["sreg"])
    return value.argument if isinstance(value, Swapped) else Swapped(value)


def _bitwise(fields: Fields, registers: Registers) -> Any:
    left = registers.get(fields["sreg"])
    op = fields.get("op", "mask_xor")
    if op == "mask_xor":
        return masked(left, bytes.fromhex(fields["mask"]), bytes.fromhex(fields["xor"]))
    if op in ("lshift", "rshift"):
        data = bytes.fromhex(fields["data"])
        counts = {int.from_bytes(data, order) for order in ("little", "big")}
        return Binop(op, left, min(counts))  # a count is below 32
    return Binop(op, left, registers.get(fields["sreg2"]))


def masked(left: Any, mask: bytes, xor: bytes) -> Any:
    """(left & mask) ^ xor as nft writes it: with |, & and ^ where they are needed."""
    size = len(mask)
    m, x = int.from_bytes(mask, "big"), int.from_bytes(xor, "big")
    full, o = (1 << size * 8) - 1, 0
    if m != full or x:
        o = (m & x) ^ x
        x &= m
        m |= o
    value = left
    if m != full or left.bits > size * 8:
        value = Binop("and", value, Constant(m.to_bytes(size, "big")))
    if x:
        value = Binop("xor", value, Constant(x.to_bytes(size, "big")))
    if o:
        value = Binop("or", value, Constant(o.to_bytes(size, "big")))
    return value


_EXTENSIONS: dict[str, tuple[str, dict[int, str]]] = {
    "tcp_option": ("tcp option ", h.TCP_OPTIONS),
    "ip_option": ("ip option ", h.IP_OPTIONS),
    "ipv6": ("", h.EXTENSION_HEADERS),
    "sctp": ("sctp chunk ", h.SCTP_CHUNKS),
    "dccp": ("dccp option ", {}),
}
"""The words before the name of an extension header or option, and the names."""


def _exthdr(fields: Fields, registers: Registers) -> Any:
    return extension(fields)


def extension(fields: Fields) -> Loaded:
    """A field of an extension header or option, or whether it is there."""
    kind, number = fields["op"], fields["type"]
    before, words = _EXTENSIONS[kind]
    name = words.get(number)
    bits, offset = fields["len"] * 8, fields["offset"] * 8
    if fields["len"] > _LONGEST:
        raise Unclear
    if fields.get("flags", 0) & 1:  # NFT_EXTHDR_F_PRESENT
        if name is None and kind in ("tcp_option", "dccp"):
            name = str(number)
        if name is None:
            raise Unclear
        before = "exthdr " if kind == "ipv6" else before
        return Loaded(f"{before}{name}", BOOLEAN, 8, "exthdr", kind)
    for field in h.EXTHDR_FIELDS.get((kind, number), ()):
        if name is not None and (field.offset, field.bits) == (offset, bits):
            text = field.name if " " in field.name else f"{before}{name} {field.name}"
            return Loaded(text, field.type, bits, "exthdr", kind)
    if kind == "tcp_option" and name is None:
        return Loaded(f"tcp option @{number},{offset},{bits}", INTEGER, bits, "exthdr", kind)
    return Bits("", INTEGER, bits, "exthdr", kind, f"{before}{name}", offset, (kind, number))


class Bits(Loaded):
    """Bytes of an extension header of which only a mask says which field is meant."""

    __slots__ = ("header", "kind", "offset")

    def __init__(self, text: str, kind: Any, bits: int, source: str, key: str, header: str,
                 offset: int, number: tuple[str, int]) -> None:  # fmt: skip
        super().__init__(text, UNCLEAR, bits, source, key)
        self.header, self.offset, self.kind = header, offset, number

    def trim(self, mask: int) -> tuple[Loaded, int] | None:
        """The field that the mask selects, and how far its value is shifted."""
        if not mask:
            return None
        shift = (mask & -mask).bit_length() - 1
        size = mask.bit_length() - shift
        start = self.offset + self.bits - mask.bit_length()
        for field in h.EXTHDR_FIELDS.get(self.kind, ()):
            if (field.offset, field.bits) == (start, size) and mask == ((1 << size) - 1) << shift:
                text = f"{self.header} {field.name}"
                return Loaded(text, field.type, size, self.source, self.key), shift
        return None


LOADS: dict[str, Callable[[Fields, Registers], Any]] = {
    "payload": _payload, "meta": _meta, "ct": _ct, "rt": _rt, "socket": _socket, "xfrm": _xfrm,
    "fib": _fib, "numgen": _numgen, "hash": _hash, "byteorder": _byteorder, "bitwise": _bitwise,
    "exthdr": _exthdr, "osf": _osf,
}  # fmt: skip
