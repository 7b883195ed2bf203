"""Entities of a ruleset: what a message about a table, chain, rule, set, object... becomes.

`entity` reads the attributes of a message by the table of its type. An attribute that is one field
of the record is put there by that table alone; a function for each type of message takes the rest:
hooks, comments, expressions, elements, the data of objects. What no field has is kept in `extra`
under the kernel's names.

Sources: net/netfilter/nf_tables_api.c (nf_tables_fill_..._info); for user data libnftnl and nft.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as CStruct
from typing import Any, NamedTuple

from pylog.errors import DecodeError
from pylog.formats.netlink import NLM_F_MULTI, Table, text
from pylog.formats.nft_attributes import (
    CHAIN,
    ELEMENT,
    ELEMENTS,
    FAMILIES,
    FIELDS,
    FLOWTABLE,
    GENERATION,
    HOOKS,
    HOST_ORDER,
    LIST,
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELFLOWTABLE,
    NFT_MSG_DELOBJ,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSET,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWFLOWTABLE,
    NFT_MSG_NEWGEN,
    NFT_MSG_NEWOBJ,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
    NLM_F_APPEND,
    OBJECT,
    OBJECT_DATA,
    OBJECTS,
    POLICIES,
    RULE,
    SET,
    SET_FIELD,
    TABLE,
    verdict_word,
)
from pylog.formats.nft_expressions import expression, expressions
from pylog.formats.nft_read import (
    Compiled,
    Parsing,
    Place,
    compiled,
    each,
    parse,
    user_data,
)
from pylog.formats.plan import BYTEORDER
from pylog.record import RulesetRecord, json_ready, places_of

Values = list[Any]
"""The values of a RulesetRecord in the places of its fields."""
Found = dict[str, Any]
"""Attributes as nft_read.parse gives them. A function takes out what it has understood."""

_PLACES = {
    name: places_of(RulesetRecord, (field,))[0]
    for name, field in FIELDS.items()
    if field in RulesetRecord.__struct_fields__
}
"""The places of fields that have the value of an attribute unchanged."""
(
    AT_OFFSET, AT_OBSERVED, AT_EXTRA, AT_RAW, AT_OP, AT_CHANGE, AT_PORTID, AT_FAMILY, AT_COMMENT,
    AT_EXPRESSIONS, AT_ELEMENTS, AT_HOOK, AT_PRIORITY, AT_DEVICES, AT_POLICY, AT_TYPE, AT_FLAGS,
    AT_POSITION, AT_SOURCE, AT_LAYOUT,
) = places_of(RulesetRecord, (
    "offset", "observed_ns", "extra", "raw", "op", "change", "portid", "family", "comment",
    "expressions", "elements", "hook", "priority", "devices", "policy", "type", "flags",
    "position", "source", "layout",
))  # fmt: skip


class Header(NamedTuple):
    """What the headers of a message say: nlmsg_type, nlmsg_flags, nlmsg_pid and nfgen_family."""

    kind: int
    flags: int
    portid: int
    family: int


Finish = Callable[[Values, Found, Parsing, Header], None]


def entity(parsing: Parsing, start: int, end: int, header: Header) -> Values:
    """The values of the record of a message, of which the attributes are data[start:end]."""
    op, table, finish = KINDS[header.kind]
    values: Values = [None] * len(RulesetRecord.__struct_fields__)
    values[AT_OP] = op
    if header.family:
        values[AT_FAMILY] = FAMILIES.get(header.family, header.family)
    if header.portid and not header.flags & NLM_F_MULTI:
        values[AT_PORTID] = header.portid
    found = parse(table, parsing, start, end)
    finish(values, found, parsing, header)
    extra: dict[str, Any] = {}
    data = parsing.data
    for name, value in found.items():
        place = _PLACES.get(name)
        if place is not None:
            values[place] = value
        else:
            extra[name] = _plain(value, data)
    if extra:
        values[AT_EXTRA] = extra
    return values


def _plain(value: Any, data: bytes) -> Any:
    """A value of `parse` as `extra` has it."""
    if isinstance(value, Place):
        return data[value.start : value.end].hex()
    if isinstance(value, dict):
        return {name: _plain(part, data) for name, part in value.items()}
    return json_ready(value)


def _comment(values: Values, found: Found, name: str, data: bytes, number: int = 0) -> None:
    """Take the comment out of user data; what else is in it stays."""
    place = found.get(name)
    if place is None:
        return
    parts = user_data(data[place.start : place.end])
    if parts is not None and number in parts:
        values[AT_COMMENT] = text(parts.pop(number))
    if parts == {}:
        del found[name]


def _devices(place_or_none: Place | None, parsing: Parsing) -> list[str] | None:
    """The names in NFTA_HOOK_DEVS or NFTA_FLOWTABLE_HOOK_DEVS."""
    if place_or_none is None:
        return None
    data = parsing.data
    return each(parsing, place_or_none, LIST, lambda start, end: text(data[start:end]))


def _hook(values: Values, hook: Found, prefix: str, parsing: Parsing, header: Header) -> Found:
    """Take hook, priority and devices; what is left."""
    number = hook.pop(f"{prefix}NUM", None)
    if number is not None:
        names = HOOKS.get(header.family, ())
        values[AT_HOOK] = names[number] if number < len(names) else number
    values[AT_PRIORITY] = hook.pop(f"{prefix}PRIORITY", None)
    devices = _devices(hook.pop(f"{prefix}DEVS", None), parsing)
    single = hook.pop(f"{prefix}DEV", None)
    values[AT_DEVICES] = devices if devices or single is None else [single]
    return hook


def _table(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    _comment(values, found, "NFTA_TABLE_USERDATA", parsing.data)
    if header.kind == NFT_MSG_DELTABLE:
        values[AT_CHANGE] = "delete"


def _chain(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    hook = found.pop("NFTA_CHAIN_HOOK", None)
    if hook is not None:
        rest = _hook(values, hook, "NFTA_HOOK_", parsing, header)
        if rest:
            found["NFTA_CHAIN_HOOK"] = rest
    policy = found.pop("NFTA_CHAIN_POLICY", None)
    if policy is not None:
        values[AT_POLICY] = POLICIES.get(policy, policy)
    _comment(values, found, "NFTA_CHAIN_USERDATA", parsing.data)
    if header.kind == NFT_MSG_DELCHAIN:  # with a hook only its devices are deleted
        values[AT_CHANGE] = "delete" if hook is None else "update"


def _rule(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    place = found.pop("NFTA_RULE_EXPRESSIONS", None)
    if place is not None:
        values[AT_EXPRESSIONS] = _expressions(place, found, "NFTA_RULE_EXPRESSIONS", parsing)
    _comment(values, found, "NFTA_RULE_USERDATA", parsing.data)
    if header.kind == NFT_MSG_DELRULE:
        values[AT_CHANGE] = "delete"
    elif header.flags & NLM_F_MULTI:
        values[AT_CHANGE] = "append"
    else:
        append = header.flags & NLM_F_APPEND and "NFTA_RULE_POSITION" not in found
        values[AT_CHANGE] = "append" if append else "insert"


def _expressions(
    place: Place, found: Found, name: str, parsing: Parsing
) -> list[dict[str, Any]] | None:
    """A list of expressions; if that cannot be read, the bytes stay in `found`."""
    data, order, base, flaws, _ = parsing
    try:
        return expressions(data, place.start, place.end, order, base, flaws)
    except DecodeError as error:
        flaws.append(error)
        found[name] = place
        return None


def _set(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    _comment(values, found, "NFTA_SET_USERDATA", parsing.data, 7)
    if header.kind == NFT_MSG_DELSET:
        values[AT_CHANGE] = "delete"
        return
    found.setdefault("NFTA_SET_FLAGS", 0)  # nf_tables_fill_set leaves it out then
    _set_expressions(values, found, "NFTA_SET_EXPR", parsing)
    desc = found.get("NFTA_SET_DESC")
    if desc is not None:
        concat = desc.get("NFTA_SET_DESC_CONCAT")
        if concat is not None:
            desc["NFTA_SET_DESC_CONCAT"] = each(
                parsing, concat, LIST,
                lambda start, end: parse(_FIELD, parsing, start, end).get("NFTA_SET_FIELD_LEN"),
            )  # fmt: skip
        if not desc:
            del found["NFTA_SET_DESC"]


def _set_expressions(values: Values, found: Found, name: str, parsing: Parsing) -> None:
    made = _several(found, name, parsing)
    if made is not None:
        values[AT_EXPRESSIONS] = made


def _several(found: Found, name: str, parsing: Parsing) -> list[dict[str, Any]] | None:
    """The expressions of a set or an element: NAME has one, NAMEESSIONS a list."""
    data, order, base, flaws, _ = parsing
    several, single = found.pop(f"{name}ESSIONS", None), found.pop(name, None)
    if several is not None:
        return _expressions(several, found, f"{name}ESSIONS", parsing)
    if single is None:
        return None
    try:
        return [expression(data, single.start, single.end, order, base, flaws)]
    except DecodeError as error:
        flaws.append(error)
        found[name] = single
        return None


def _elements(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    place = found.pop("NFTA_SET_ELEM_LIST_ELEMENTS", None)
    if place is not None:
        values[AT_ELEMENTS] = only_key(parsing.data, place, parsing.order) or each(
            parsing, place, LIST, lambda start, end: _element(parsing, start, end)
        )
    if header.kind == NFT_MSG_DELSETELEM:
        values[AT_CHANGE] = "delete"


_three_heads = {order: CStruct(f"{order}6H").unpack_from for order in "<>"}


def only_key(data: bytes, place: Place, order: str) -> list[dict[str, Any]]:
    """The element in a list that has one, which is only a key; [] for every other list.

    Most are such: reading them as `_element` does would take three times as long.
    """
    start, end = place
    if end - start < 12:
        return []
    size, number, key_size, key, value_size, value = _three_heads[order](data, start)
    fits = end - start == size == key_size + 4 == value_size + 8 and value_size & 3 == 0
    if not fits or number != LIST or key != 1 or value != 1 or size < 12:
        return []
    return [{"key": data[start + 12 : end].hex()}]


def _element(parsing: Parsing, start: int, end: int) -> dict[str, Any]:
    found, data = parse(_ELEMENT, parsing, start, end), parsing.data
    made: dict[str, Any] = {}
    for name, field in (("NFTA_SET_ELEM_KEY", "key"), ("NFTA_SET_ELEM_KEY_END", "key_end"),
                        ("NFTA_SET_ELEM_DATA", "data")):  # fmt: skip
        value = found.pop(name, None)
        if value is None:
            continue
        octets = value.pop("NFTA_DATA_VALUE", None)
        if octets is not None:
            made[field] = data[octets.start : octets.end].hex()
        verdict = value.pop("NFTA_DATA_VERDICT", None)
        if verdict is not None:
            code = verdict.pop("NFTA_VERDICT_CODE", None)
            if code is not None:
                made["verdict"] = verdict_word(code)
            if "NFTA_VERDICT_CHAIN" in verdict:
                made["chain"] = verdict["NFTA_VERDICT_CHAIN"]
    if not found:
        return made
    for name, field in _ELEMENT_FIELDS:
        if name in found:
            made[field] = found.pop(name)
    several = _several(found, "NFTA_SET_ELEM_EXPR", parsing)
    if several is not None:
        made["expressions"] = several
    place = found.pop("NFTA_SET_ELEM_USERDATA", None)
    if place is not None:
        octets = data[place.start : place.end]
        parts = user_data(octets)
        if parts is not None and 0 in parts:
            made["comment"] = text(parts.pop(0))
        if parts != {}:
            made["userdata"] = octets.hex()
    for name, value in found.items():
        made[name.removeprefix("NFTA_SET_ELEM_").lower()] = _plain(value, data)
    return made


_ELEMENT_FIELDS = (
    ("NFTA_SET_ELEM_FLAGS", "flags"), ("NFTA_SET_ELEM_TIMEOUT", "timeout"),
    ("NFTA_SET_ELEM_EXPIRATION", "expires"), ("NFTA_SET_ELEM_OBJREF", "object"),
)  # fmt: skip


def _object(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    number, place = found.pop("NFTA_OBJ_TYPE", None), found.pop("NFTA_OBJ_DATA", None)
    if number is not None:
        values[AT_TYPE] = OBJECTS.get(number, number)
    if place is not None:
        table = _OBJECT_DATA.get(number)
        data: Any = place
        if table is not None:
            try:
                data = parse(table, parsing, place.start, place.end)
            except DecodeError as error:
                parsing.flaws.append(error)
        if isinstance(data, dict):
            for name in HOST_ORDER & data.keys():
                start, end = data[name]
                data[name] = int.from_bytes(parsing.data[start:end], BYTEORDER[parsing.order])
        found["NFTA_OBJ_DATA"] = data
    _comment(values, found, "NFTA_OBJ_USERDATA", parsing.data)
    if header.kind == NFT_MSG_DELOBJ:
        values[AT_CHANGE] = "delete"


def _flowtable(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    hook = found.pop("NFTA_FLOWTABLE_HOOK", None)
    if hook is not None:
        rest = _hook(values, hook, "NFTA_FLOWTABLE_HOOK_", parsing, header)
        if rest:
            found["NFTA_FLOWTABLE_HOOK"] = rest
    if header.kind == NFT_MSG_DELFLOWTABLE:
        values[AT_CHANGE] = "delete" if hook is None else "update"


def _generation(values: Values, found: Found, parsing: Parsing, header: Header) -> None:
    values[AT_FAMILY] = None


_ELEMENT, _FIELD = compiled(ELEMENT), compiled(SET_FIELD)
_OBJECT_DATA = {number: compiled(table) for number, table in OBJECT_DATA.items()}
_KINDS: tuple[tuple[tuple[int, ...], str, Table, Finish], ...] = (
    ((NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE), "table", TABLE, _table),
    ((NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN), "chain", CHAIN, _chain),
    ((NFT_MSG_NEWRULE, NFT_MSG_DELRULE), "rule", RULE, _rule),
    ((NFT_MSG_NEWSET, NFT_MSG_DELSET), "set", SET, _set),
    ((NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM), "set_element", ELEMENTS, _elements),
    ((NFT_MSG_NEWOBJ, NFT_MSG_DELOBJ), "obj", OBJECT, _object),
    ((NFT_MSG_NEWFLOWTABLE, NFT_MSG_DELFLOWTABLE), "flowtable", FLOWTABLE, _flowtable),
    ((NFT_MSG_NEWGEN,), "gen", GENERATION, _generation),
)
TABLES: dict[int, Table] = {kind: table for kinds, _, table, _ in _KINDS for kind in kinds}
"""nlmsg_type -> the table of its attributes."""
KINDS: dict[int, tuple[str, Compiled, Finish]] = {
    kind: (op, compiled(table), finish)
    for kinds, word, table, finish in _KINDS
    for kind, op in zip(kinds, (f"new_{word}", f"del_{word}"), strict=False)
}
"""nlmsg_type -> op, the table of its attributes, and what takes the rest of them."""
