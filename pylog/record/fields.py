"""How a field of a record is declared, and what is derived from the declarations.

A field is declared once, in the body of its record: `seq: Annotated[int | None, Field(...)]`. Type
checkers and IDEs see an ordinary attribute with its type; `Field` adds the meaning and the type of
its column. JSON names, CSV and Arrow columns, the reference tables in docs/ and the order in which
the fast paths fill a record are derived from it, so none of them is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

import msgspec

Column = Literal[
    "word", "name", "time", "address", "bool", "u8", "u16", "u32", "u64", "i64", "f64",
    "octets",
    "fragment", "vlan", "counters", "json",
]  # fmt: skip
"""The type of a column: `word` is text that repeats, `name` a name, or the number of what has no
name."""

JSON_FORMS: Mapping[Column, str] = {
    "word": "text", "name": "text or number", "time": "RFC 3339 text", "address": "text",
    "bool": "true", "u8": "number", "u16": "number", "u32": "number", "u64": "number",
    "i64": "number", "f64": "number", "octets": "hex text",
    "fragment": "object", "vlan": "list of objects",
    "counters": "object", "json": "object",
}  # fmt: skip
"""The form in JSON of each type of column, for the reference."""

LONG: frozenset[Column] = frozenset(("json", "octets"))
"""Types of columns with long values, which come after the others."""


class Field(msgspec.Struct, frozen=True):
    """What a field of a record means, and how it becomes a column.

    meaning   in plain words, with the unit
    column    None: it is in no column and not in the JSON
    since     the edition of the columns that added it: columns of a later edition come after those
              of earlier ones, which so keep their places
    """

    meaning: str
    column: Column | None = None
    since: int = 1


def json_name(field: str) -> str:
    """The name in JSON and in columns. A time is text there, so its name has no unit."""
    return field.removesuffix("_ns")


@cache
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, Field]:
    """The fields of a record, in its order, by their names in Python."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: get_args(hints[name])[1] for name in kind.__struct_fields__}


def columns_of(*kinds: type[msgspec.Struct]) -> dict[str, Column]:
    """The columns of these kinds, each once, in their order."""
    declared: dict[str, Field] = {}
    for kind in kinds:
        for name, field in fields_of(kind).items():
            if field.column is not None:
                declared.setdefault(json_name(name), field)
    ordered = sorted(declared.items(), key=lambda item: (item[1].since, item[1].column in LONG))
    return {name: field.column for name, field in ordered if field.column is not None}


def place(field: Any) -> int:
    """The place of a field among all of its record: `values[place(PacketRecord.seq)] = 7`.

    `field` is the class's attribute, so a type checker reports a wrong name.
    """
    return int(field.__objclass__.__struct_fields__.index(field.__name__))


def places_of(kind: type[msgspec.Struct], names: Iterable[str]) -> tuple[int, ...]:
    """As `place`, for the fields of a kind by their names."""
    return tuple(kind.__struct_fields__.index(name) for name in names)
