"""Matches of nftables rules, as nft writes them.

`compare` takes one match as the registers give it and makes the text of one or more: adjacent
fields that nft had joined come apart, masks become prefixes, flags or parts of a byte, and two
bounds one range.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.nft_context import Context, Match
from pylog.formats.nft_headers import LINK, NETWORK, TRANSPORT
from pylog.formats.nft_loads import Bits, Hash
from pylog.formats.nft_types import (
    CT_LABEL,
    INTEGER,
    IP6ADDR,
    IPADDR,
    UNCLEAR,
    Type,
    Unclear,
    bit_words,
    show,
    show_bound,
)
from pylog.formats.nft_values import (
    Binop,
    Concat,
    Constant,
    Loaded,
    Lookup,
    Payload,
    Swapped,
    Writer,
    constant_number,
    type_of,
)

OPERATORS = {"eq": " ", "ne": " != ", "lt": " < ", "le": " <= ", "gt": " > ", "ge": " >= "}
_CHAINED = ("ah nexthdr", "comp nexthdr")
"""Keys that name another header at the same base, which nft tells apart badly."""
_PREFIX_LEVELS = {LINK: 1, NETWORK: 2, TRANSPORT: 3}


def resolve(context: Context, value: Any, writer: Writer) -> Any:
    """The value with its header fields found; dependencies that it implies are left out."""
    if isinstance(value, Payload):
        if context.headers.get(value.base) == "unknown":
            raise Unclear  # nft 1.1.3 itself fails
        context.complete(value)
        was_port = value.field is not None
        context.kill(value)
        if was_port and value.field is None:
            value.raw_type = INTEGER
    elif isinstance(value, Swapped):
        value.argument = resolve(context, value.argument, writer)
    elif isinstance(value, Concat):
        value.parts = [_part(context, part, writer) for part in value.parts]
    elif isinstance(value, Lookup):
        value.key = resolve(context, _unmasked(context, value.key, writer), writer)
    elif isinstance(value, Hash):
        value.argument_ = resolve(context, value.argument_, writer)
        value.write(writer)
    elif isinstance(value, Binop):
        value.left = resolve(context, value.left, writer)
        if not isinstance(value.right, Constant | int):
            value.right = resolve(context, value.right, writer)
    elif isinstance(value, Loaded) and value.source == "ct" and value.key in ("src", "dst"):
        _address_of(context, value)
    elif isinstance(value, Loaded) and value.source == "exthdr":
        context.extension(value.key)
    return value


def _address_of(context: Context, value: Loaded) -> None:
    """Finds the type of an address of conntrack."""
    name = context.headers.get(NETWORK)
    if name not in ("ip", "ip6"):
        raise Unclear
    value.type, value.bits = (IPADDR, 32) if name == "ip" else (IP6ADDR, 128)
    value.text = value.text.replace("?", name)
    value.key += "_ip" if name == "ip" else "_ip6"


def _part(context: Context, part: Any, writer: Writer) -> Any:
    """A part of a concatenation, where a mask or shift that selects a field goes."""
    value = resolve(context, _unmasked(context, part, writer), writer)
    if isinstance(value, Payload) and value.field is None:
        raise Unclear
    return value


def _unmasked(context: Context, value: Any, writer: Writer) -> Any:
    """The field that a mask, or a mask and a shift, select of a payload; else the value."""
    inner = value
    if isinstance(inner, Binop) and inner.op == "rshift" and isinstance(inner.right, int):
        inner = inner.left
    if (
        isinstance(inner, Binop)
        and inner.op == "and"
        and isinstance(inner.left, Payload | Bits)
        and isinstance(inner.right, Constant)
    ):
        mask = int.from_bytes(inner.right.data, "big")
        if isinstance(inner.left, Bits):
            trimmed = inner.left.trim(mask)
            if trimmed is not None:
                raise Unclear
            return value
        shift = context.trim(inner.left, mask)
        if shift is not None:
            if inner is value:
                inner.left.shift = shift
            return inner.left
    return value


def _merged(match: Match, previous: Match | None) -> str | None:
    """The operator of the range that this bound closes, which `previous` opened."""
    if previous is None or not isinstance(previous.right, Constant):
        return None
    pair = {("ge", "le"): "eq", ("lt", "gt"): "ne"}.get((previous.op, match.op))
    if pair is None:
        return None
    left, other = match.left, previous.left
    left = left.argument if isinstance(left, Swapped) else left
    other = other.argument if isinstance(other, Swapped) else other
    if type(left) is not type(other):
        return None
    if isinstance(left, Binop | Concat | Lookup) or left.text != other.text:
        raise Unclear
    return pair


def compare(context: Context, match: Match, previous: Match | None, writer: Writer) -> list[Match]:
    """The matches that stand for this one, with their texts; `previous` stands right before.

    Raises Unclear.
    """
    left, right = match.left, match.right
    if isinstance(left, Payload) and isinstance(right, Constant) and match.op in ("eq", "ne"):
        return _expand(context, match, left, right.data, writer)
    if isinstance(left, Binop):
        made = _masked(context, match, left, writer)
        narrowed = len(made) == 1 and made[0] is match and isinstance(match.left, Payload)
        return _joined(match, previous, writer) if narrowed else made
    if isinstance(right, str):
        _check_icmp(context, left, right, writer)
    match.left = left = resolve(context, left, writer)
    if isinstance(left, Loaded) and isinstance(right, Constant) and match.op == "eq":
        context.compare_key(match, constant_number(right.data, left, writer.order))
    _write(match, writer)
    return _joined(match, previous, writer)


def _joined(match: Match, previous: Match | None, writer: Writer) -> list[Match]:
    """The match, or the range that it closes."""
    if isinstance(match.right, Constant):
        pair = _merged(match, previous)
        if pair is not None:
            assert previous is not None
            joined = Match(pair, match.left, (previous.right, match.right), match.source)
            _write(joined, writer)
            previous.text = ""
            return [joined]
    return [match]


def _check_icmp(context: Context, left: Any, name: str, writer: Writer) -> None:
    """A set of ICMP types says which fields follow, by its first element."""
    if isinstance(left, Payload) and left.base == TRANSPORT and left.bits == 8:
        header, _ = context.header(left)
        if header is not None and header.name in ("icmp", "icmpv6") and left.offset == 0:
            first = writer.elements.first(name)
            context.note_icmp(first)


def _write(match: Match, writer: Writer) -> None:
    """The text of a match whose left side is resolved."""
    left, right = match.left, match.right
    if isinstance(right, str):
        key = writer.text(left)
        if match.op == "vmap":
            match.text = f"{key} vmap {writer.elements(right, left, [])}"
        else:
            op = _operator(match.op, left, UNCLEAR)
            match.text = f"{key}{op}{writer.elements(right, left, None)}"
        return
    text = writer.text(left)
    if isinstance(left, Concat):
        raise Unclear
    kind = type_of(left)
    if isinstance(right, tuple):
        low, high = (constant_number(c.data, left, writer.order) for c in right)
        bound = f"{show_bound(kind, low, left.bits)}-{show_bound(kind, high, left.bits)}"
        match.text = f"{text}{OPERATORS[match.op]}{bound}"
        return
    match.text = f"{text}{_operator(match.op, left, kind)}{_value(right.data, left, writer)}"


def _operator(op: str, left: Any, kind: Type) -> str:
    if op == "eq" and (isinstance(left, Binop) or kind.bits is not None or kind is CT_LABEL):
        return " == "
    return OPERATORS[op]


def _value(data: bytes, left: Any, writer: Writer) -> str:
    """A constant beside `left`. One shorter than a name stands for all names that begin so."""
    kind = type_of(left)
    value = constant_number(data, left, writer.order)
    bits = len(data) * 8
    if bits < left.bits:
        if kind.prefix:
            return f"{show(kind, value << left.bits - bits, left.bits)}/{bits}"
        if not kind.string:
            raise Unclear
        return show(kind, value, bits)
    return show(kind, value, left.bits)


def _expand(
    context: Context, match: Match, payload: Payload, data: bytes, writer: Writer
) -> list[Match]:
    """A match for each field of a payload that is compared with a value."""
    if payload.bits > len(data) * 8:
        raise Unclear
    value, rest = int.from_bytes(data, "big"), payload.bits
    made = []
    parts = context.split(payload)
    if match.op == "eq" and parts[0].text in _CHAINED:
        if len(parts) > 1:
            raise Unclear
        context.headers[TRANSPORT] = "?"
    for part in parts:
        rest -= part.bits
        piece = value >> rest & ((1 << part.bits) - 1)
        one = Match(match.op, part, Constant(piece.to_bytes((part.bits + 7) // 8, "big")),
                    match.source)  # fmt: skip
        made.append(one)
        _compare_field(context, one, part, piece)
    return made


def _compare_field(context: Context, match: Match, part: Payload, value: int) -> None:
    """The text of a match of one field with a value, and what follows from it."""
    suffix, shown, bits = "", value, part.bits
    if part.field is not None and part.bits < part.field.bits:
        if not part.field.type.prefix:
            raise Unclear
        suffix = f"/{part.bits}"
        bits = part.field.bits
        shown = value << bits - part.bits
    is_key = part.is_key and not suffix
    if match.op == "eq" and is_key:
        context.learn(match, value)
    level = _PREFIX_LEVELS.get(part.base, 4)
    if is_key and match.op == "eq" and context.stacks(match):
        level -= 1
    context.kill(part)
    if match.op == "eq" and is_key:
        context.store(match, level, value)
    kind = part.type
    match.text = f"{part.text}{_operator(match.op, part, kind)}{show(kind, shown, bits)}{suffix}"


def _masked(context: Context, match: Match, left: Binop, writer: Writer) -> list[Match]:
    """A match of masked bits: of flags, a prefix, a part of a byte; or with the mask as it is."""
    right = match.right
    inner = left.left if left.op == "rshift" and isinstance(left.right, int) else left
    if isinstance(inner, Binop) and inner is not left:
        if isinstance(inner.left, Payload):
            field = _unmasked(context, left, writer)
            if field is left:
                raise Unclear
            match.left = field
            if isinstance(right, Constant) and match.op in ("eq", "ne"):
                raise Unclear
            return compare(context, match, None, writer)
        raise Unclear
    if left.op != "and" or not isinstance(left.right, Constant):
        resolve(context, left, writer)
        if isinstance(left.left, Payload) and left.left.field is None:
            raise Unclear
        _write(match, writer)
        return [match]
    mask_data = left.right.data
    if isinstance(left.left, Bits):
        trimmed = left.left.trim(int.from_bytes(mask_data, "big"))
        if trimmed is None:
            raise Unclear
        context.extension(left.left.key)
        return [_shifted(match, trimmed[0], trimmed[1])]
    resolved = resolve(context, left, writer)
    kind = type_of(resolved)
    if isinstance(right, Constant):
        mask = constant_number(mask_data, left.left, writer.order)
        value = constant_number(right.data, left.left, writer.order)
        if kind is CT_LABEL:
            return [_label(match, left, mask, value)]
        if kind.bits is not None and value == 0 and match.op in ("eq", "ne"):
            op = " ! " if match.op == "eq" else " "
            match.text = f"{writer.text(left.left)}{op}{','.join(bit_words(kind, mask))}"
            return [match]
        width = left.left.bits
        inverse = mask ^ ((1 << width) - 1)
        if kind.prefix and not inverse & (inverse + 1):
            length = width - inverse.bit_length()
            text = f"{writer.text(left.left)}{OPERATORS[match.op]}"
            match.text = f"{text}{show(kind, value, width)}/{length}"
            return [match]
    if isinstance(left.left, Payload):
        payload = left.left
        mask = int.from_bytes(mask_data, "big")
        before = payload.header, payload.field
        shift = context.trim(payload, mask)
        if shift is not None:
            return _narrowed(context, match, payload, shift, writer)
        payload.header, payload.field = before
        if payload.field is None:
            raise Unclear
    _write(match, writer)
    return [match]


def _label(match: Match, left: Binop, mask: int, value: int) -> Match:
    """A bit of the conntrack label."""
    if value or mask & (mask - 1) or not mask or match.op not in ("eq", "ne"):
        raise Unclear
    # ct label N is != 0 under the mask
    op = " " if match.op == "ne" else " ! "
    if match.op == "eq":
        raise Unclear
    match.text = f"{left.left.text}{op}{mask.bit_length() - 1}"
    return match


def _shifted(match: Match, left: Loaded, shift: int) -> Match:
    """A match of a part of an extension header."""
    right = match.right
    constants = right if isinstance(right, tuple) else (right,)
    if not all(isinstance(c, Constant) for c in constants):
        raise Unclear
    values = [int.from_bytes(c.data, "big") for c in constants]
    if any(v & ((1 << shift) - 1) for v in values):
        raise Unclear
    words = [show(left.type, v >> shift, left.bits) for v in values]
    match.left = left
    match.text = f"{left.text}{OPERATORS[match.op]}{'-'.join(words)}"
    return match


def _narrowed(
    context: Context, match: Match, payload: Payload, shift: int, writer: Writer
) -> list[Match]:
    """A match of a part of a byte, which the mask had selected."""
    right = match.right
    if isinstance(right, Constant):
        value = int.from_bytes(right.data, "big")
        if value & ((1 << shift) - 1) or value >> shift + payload.bits:
            raise Unclear
        context.complete(payload)
        if payload.field is None:
            raise Unclear
        match.left = payload
        if match.op in ("eq", "ne"):
            _compare_field(context, match, payload, value >> shift)
        else:
            context.kill(payload)
            shown = show(payload.type, value >> shift, payload.bits)
            match.right = Constant((value >> shift).to_bytes(4, "big"))
            match.text = f"{payload.text}{OPERATORS[match.op]}{shown}"
        return [match]
    context.complete(payload)
    context.kill(payload)
    if payload.field is None:
        raise Unclear
    match.left = payload
    if isinstance(right, str):
        payload.shift = shift
        _write(match, writer)
        return [match]
    if isinstance(right, tuple):
        bounds = [int.from_bytes(c.data, "big") >> shift for c in right]
        words = [show_bound(payload.type, b, payload.bits) for b in bounds]
        match.text = f"{payload.text}{OPERATORS[match.op]}{'-'.join(words)}"
        return [match]
    raise Unclear
