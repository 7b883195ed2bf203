"""The text of a nftables rule, read back from its expressions.

Two passes, as in nft itself. The first follows the registers: loads and operations make values,
and each expression that uses one makes a statement. The second takes the statements in order with
a Context, which finds the header fields and the matches that go without saying, and writes each.
A statement whose text is not certain becomes the name of its expression in brackets, so that a
text without brackets is nft's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats.nft_brackets import bracket_match, bracketed
from pylog.formats.nft_compare import compare
from pylog.formats.nft_context import Context, Match
from pylog.formats.nft_effects import EFFECTS
from pylog.formats.nft_elements import Elements, extra
from pylog.formats.nft_loads import LOADS
from pylog.formats.nft_statements import STATEMENTS, verdict
from pylog.formats.nft_types import UNCLEAR, Unclear, named
from pylog.formats.nft_values import (
    Binop,
    Concat,
    Constant,
    Loaded,
    Lookup,
    Payload,
    Writer,
    clone,
    weight,
)

ERRORS = (Unclear, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError)
"""What an expression raises whose fields are missing, damaged or have unknown values."""

_HEAVIEST = 64
"""How many values a register's value may be made of. nft makes at most a dozen."""
_WITH_DATA = ("cmp", "immediate", "bitwise")
"""Expressions with a field of this name. In others it has what could not be read."""
NFT_RULE_MAXEXPRS = 128  # net/netfilter/nf_tables_api.c


class Effect:
    """A statement that uses registers: its expression, and the values it uses by field."""

    def __init__(self, fields: dict[str, Any], values: dict[str, Any]) -> None:
        self.fields, self.values = fields, values


class Registers:
    """Values by 32-bit register; the 16-byte registers 1 to 4 lie over the first sixteen."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    @staticmethod
    def _index(register: int) -> int:
        return (register - 1) * 4 if 1 <= register <= 4 else register - 8

    def set(self, register: int, value: Any) -> None:
        """Loads a value. Operations on operations grow without end in a message made for that."""
        if weight(value) > _HEAVIEST:
            raise Unclear
        self._values[self._index(register)] = value

    def get_key(self, register: int, bits: int | None) -> Any:
        """The value that a set is asked for. Without its size it must not go on in the next."""
        if bits is not None:
            return self.get(register, bits)
        value = self.get(register)
        if self._index(register) + max(1, (value.bits + 31) // 32) in self._values:
            raise Unclear
        return value

    def get(self, register: int, bits: int = 0) -> Any:
        """The value, of several adjacent registers if one has fewer bits than are used."""
        index = self._index(register)
        value = self._values.get(index)
        if value is None:
            raise Unclear
        if not bits or not value.bits or value.bits >= bits:
            return clone(value)
        parts, size = [], 0
        while size < bits:
            value = self._values.get(index)
            if value is None:
                raise Unclear
            parts.append(clone(value))
            step = max(1, (value.bits + 31) // 32)
            index, size = index + step, size + step * 32
        return Concat(parts)


Statement = str | Match | Effect
Sets = Callable[[str], tuple[Any, list[dict[str, Any]]] | None]
"""The record and the elements of a set by its name; None for a set that is not there."""


def rule_text(
    expressions: list[dict[str, Any]],
    family: str,
    sets: Sets,
    order: str = "<",
    interfaces: Callable[[int], str | None] | None = None,
    listed: bool = True,
) -> str:
    """The rule as nft lists it, without its comment.

    expressions   as formats.nft_expressions gives them
    family        of the table: inet, ip, ip6, arp, bridge or netdev
    order         the byte order of the machine that wrote them, < or >
    interfaces    the names of interfaces by number
    listed        as `nft list` prints it, which sorts anonymous sets; else as `nft monitor`
    """
    writer = Writer(Elements(sets, order, listed), order)
    statements = _parse(expressions, sets, listed)
    context = Context(family)
    texts: list[str | Match] = []
    previous: Match | None = None
    for name, statement in statements:
        if isinstance(statement, Match):
            try:
                made = compare(context, statement, previous, writer)
            except ERRORS:
                source = statement.source or name
                statement.text = bracket_match(source, statement, previous, order)
                made = [statement]
            previous = statement if len(made) == 1 and made[0] is statement else None
            texts += made
            continue
        previous = None
        if isinstance(statement, Effect):
            try:
                texts.append(EFFECTS[name](context, statement.fields, statement.values, writer))
            except ERRORS:
                texts.append(bracketed(name, statement.fields, statement.values))
        else:
            texts.append(statement)
        context.reset()
    words = [text.text if isinstance(text, Match) else text for text in texts]
    return named(" ".join(word for word in words if word), interfaces)


def _parse(
    expressions: list[dict[str, Any]], sets: Sets, listed: bool
) -> list[tuple[str, Statement]]:
    """The statements with the names of their expressions."""
    if len(expressions) > NFT_RULE_MAXEXPRS:
        return [("", f"[{len(expressions)} expressions]")]
    registers = Registers()
    statements: list[tuple[str, Statement]] = []
    for fields in expressions:
        name = fields.get("name") or "?"
        try:
            if "unknown" in fields or ("data" in fields and name not in _WITH_DATA):
                raise Unclear
            statement = _statement(name, fields, registers, sets)
        except ERRORS:
            dreg = fields.get("dreg")
            if isinstance(dreg, int) and dreg:
                text = bracketed(str(name), fields)
                registers.set(dreg, Loaded(text, UNCLEAR, 0, str(name), ""))
                continue
            statement = bracketed(str(name), fields)
        if listed and isinstance(statement, str) and " __chain" in statement:
            statement = f"[{statement}]"  # nft lists the rules of an anonymous chain in place
        if statement is not None:
            statements.append((name, statement))
    return statements


def _statement(
    name: str, fields: dict[str, Any], registers: Registers, sets: Sets
) -> Statement | None:
    """What an expression states; None if it only loads a register."""
    if name in STATEMENTS:
        return STATEMENTS[name](fields)
    if name == "immediate":
        if fields["dreg"]:
            registers.set(fields["dreg"], Constant(bytes.fromhex(fields["data"])))
            return None
        return verdict(fields)
    if name == "cmp":
        data = bytes.fromhex(fields["data"])
        left = registers.get(fields["sreg"], len(data) * 8)
        return Match(fields["op"], left, Constant(data), _source(left))
    if name == "range":
        low, high = bytes.fromhex(fields["from"]), bytes.fromhex(fields["to"])
        left = registers.get(fields["sreg"])
        return Match(fields["op"], left, (Constant(low), Constant(high)), _source(left))
    if name == "lookup":
        return _lookup(fields, registers, sets)
    if name in LOADS and fields.get("dreg"):
        registers.set(fields["dreg"], LOADS[name](fields, registers))
        return None
    if name in EFFECTS:
        values: dict[str, Any] = {}
        for key, register in fields.items():
            if key.startswith("sreg"):
                values[key] = _used(key, register, registers, values)
        if name == "objref" and "set" in fields:
            values["sreg"] = registers.get_key(fields["sreg"], _key_bits(fields["set"], sets))
        elif name == "dynset":
            values["sreg_key"] = registers.get_key(
                fields["sreg_key"], _key_bits(fields["set"], sets)
            )
            if "sreg_data" in fields:
                values["sreg_data"] = registers.get(fields["sreg_data"])
        return Effect(fields, values)
    raise Unclear


def _used(key: str, register: int, registers: Registers, values: dict[str, Any]) -> Any:
    """The value of a register; what stands behind the data of a map is a part of it."""
    if key.startswith("sreg_proto") and isinstance(values.get("sreg_addr_min"), Lookup):
        return None
    if key == "sreg_addr_max" and isinstance(values.get("sreg_addr_min"), Lookup):
        return values["sreg_addr_min"]
    return registers.get(register)


def _key_bits(name: str, sets: Sets) -> int | None:
    """The size of a set's keys, from its record or its first element; None if it is not there."""
    held = sets(name)
    if held is None:
        return None
    record, elements = held
    length = extra(record, "NFTA_SET_KEY_LEN")
    if length:
        return int(length) * 8
    return next((len(e["key"]) * 4 for e in elements if e.get("key")), None)


def _lookup(fields: dict[str, Any], registers: Registers, sets: Sets) -> Statement | None:
    key = registers.get_key(fields["sreg"], _key_bits(fields["set"], sets))
    if "dreg" not in fields:
        op = "ne" if fields.get("inverted") else "eq"
        return Match(op, key, fields["set"], _source(key))
    if fields["dreg"]:
        registers.set(fields["dreg"], Lookup(key, fields["set"]))
        return None
    return Match("vmap", key, fields["set"], _source(key))


def _source(value: Any) -> str:
    """The name of the expression that loaded a value."""
    while not isinstance(value, Payload):
        if isinstance(value, Binop):
            value = value.left
        elif isinstance(value, Concat):
            value = value.parts[0]
        elif isinstance(value, Lookup):
            value = value.key
        elif hasattr(value, "argument"):
            value = value.argument
        else:
            return str(getattr(value, "source", ""))
    return "payload"
