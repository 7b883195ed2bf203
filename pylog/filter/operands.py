"""From the operator and the operand of a comparison to a condition on values of a domain.

Which operators a domain has, and what a literal means to it, is decided here, once for each
comparison. Literals of a file are read in the same way as those of the filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pylog.errors import missing_extra
from pylog.filter import syntax, values
from pylog.filter.conditions import (
    Among,
    AmongJson,
    Condition,
    Containing,
    Covered,
    Equal,
    Holding,
    Lettered,
    Listed,
    Masked,
    Matching,
    Order,
    Starting,
    test_of,
)
from pylog.filter.errors import FilterError
from pylog.filter.files import entries_of
from pylog.filter.names import NUMBERS, TEXTS, Domain, Target
from pylog.filter.ranges import WIDTHS, Network, Networks, Ranges, network
from pylog.formats.addresses import addresses
from pylog.memo import Memo

ORDER = ("<", "<=", ">", ">=")
_EQUALITY = ("==", "!=", "in", "not in")
_TEXT = ("contains", "startswith", "matches")
_OPERATORS: dict[Domain, tuple[str, ...]] = {
    **dict.fromkeys(NUMBERS, (*_EQUALITY, *ORDER)),
    "time": (*_EQUALITY, *ORDER), "address": (*_EQUALITY, *ORDER),
    "text": (*_EQUALITY, *_TEXT), "mac": (*_EQUALITY, *_TEXT), "octets": (*_EQUALITY, *_TEXT),
    "name": (*_EQUALITY, *ORDER, *_TEXT), "action": (*_EQUALITY, *ORDER, *_TEXT),
    "flags": (*_EQUALITY, *_TEXT, "has"), "bool": _EQUALITY, "kind": _EQUALITY, "list": ("has",),
    "json": (*_EQUALITY, *ORDER, *_TEXT, "has"), "object": (),
}  # fmt: skip
"""The operators of each domain."""
_CALLED: dict[Domain, str] = {
    **dict.fromkeys(NUMBERS, "a number"), "time": "a time", "address": "an address",
    **dict.fromkeys(TEXTS, "text"), "octets": "bytes", "bool": "true or false", "list": "a list",
    "json": "a value of JSON", "object": "an object", "name": "a name or a number",
    "action": "a name or a number",
}  # fmt: skip

_FAR = 10**4096
"""Beyond every number of a record."""


class Operands:
    """Makes the conditions of a filter.

    files   the conditions that are made of files, to be read again
    """

    def __init__(self, text: str, now_ns: int) -> None:
        self._text = text
        self._now_ns = now_ns
        self.files: list[Listed] = []

    def condition(self, node: syntax.Comparison, found: Target) -> Condition:
        """The condition of a comparison on the values of a target; FilterError."""
        operator, operand, domain = node.operator, node.operand, found.domain
        if node.mask is not None:
            mask = self._mask(node.name, node.mask, found)
            return Masked(mask, self.condition(node._replace(mask=None), found))
        self._check_operator(node, domain)
        if operator in ("in", "not in"):
            if isinstance(operand, syntax.File):
                make = partial(self._of_file, operand, found)
                listed = Listed(make)
                self.files.append(listed)
                return listed
            entries = operand.entries if isinstance(operand, syntax.Members) else (operand,)
            return self._among(entries, found, self._fail)
        assert isinstance(operand, syntax.Literal)
        if operator in ("==", "!="):
            return self._among((operand,), found, self._fail)
        if operator in ORDER:
            return self._order(operator, operand, found)
        if operator == "has":
            return self._has(operand, domain)
        return self._of_text(operator, operand, domain)

    def fits(self, condition: Condition, value: Any) -> bool:
        """Whether a value fits a condition."""
        return test_of(condition)(value)

    def _fail(self, at: int, reason: str) -> FilterError:
        return FilterError(self._text, at, reason)

    def _check_operator(self, node: syntax.Comparison, domain: Domain) -> None:
        """FilterError for an operator that the domain does not have."""
        allowed = _OPERATORS[domain]
        if node.operator in allowed:
            return
        if domain == "object":
            reason = f"{node.name} has parts: name one, as {node.name}.NAME"
        else:
            other = "; a prefix is as saddr in 10.0.0.0/8" if domain == "address" else ""
            reason = (
                f"{node.name} is {_CALLED[domain]}, for which there is no {node.operator}, but"
                f" {', '.join(allowed)}{other}"
            )
        raise self._fail(node.at, reason)

    def _mask(self, name: str, literal: syntax.Literal, found: Target) -> int:
        """The bits of a field that are compared."""
        if found.domain not in ("number", "port", "protocol") or found.column == "f64":
            raise self._fail(
                literal.at, f"{name} is {_CALLED[found.domain]} without bits; and joins two tests"
            )
        try:
            return int(values.bounded(values.integer(literal.text), found.column))
        except ValueError as error:
            raise self._fail(literal.at, f"{literal.text!r} is not {error}") from None

    # Sets

    def _of_file(self, file: syntax.File, found: Target) -> Condition:
        """The condition that the entries of a file make."""

        def fail(line: int, reason: str) -> FilterError:
            return self._fail(file.at, f"{file.path}, line {line}: {reason}")

        try:
            entries = entries_of(file.path, found.domain)
        except ValueError as error:
            raise self._fail(file.at, str(error)) from None
        return self._among(entries, found, fail)

    def _among(
        self,
        entries: Iterable[syntax.Literal | syntax.Span],
        found: Target,
        fail: Callable[[int, str], FilterError],
    ) -> Condition:
        """The condition of being one of several entries."""
        domain = found.domain
        if domain == "address":
            return _of_networks([self._network(entry, fail) for entry in entries])
        singles: list[Any] = []
        ranges: list[tuple[Any, Any]] = []
        for entry in entries:
            try:
                if isinstance(entry, syntax.Span):
                    ranges.append(self._span(entry, found))
                else:
                    singles += self._single(entry, found)
            except ValueError as error:
                raise self._not_one(entry, found, error, fail) from None
        joined = Ranges(ranges) if ranges else None
        if domain == "json":
            return AmongJson(frozenset(singles), joined)
        if len(singles) == 1 and joined is None:
            return Equal(singles[0])
        return Among(frozenset(singles), joined, domain in ("name", "action"))

    def _not_one(
        self,
        entry: syntax.Literal | syntax.Span,
        found: Target,
        error: ValueError,
        fail: Callable[[int, str], FilterError],
    ) -> FilterError:
        """The error for an entry that is no value of the domain."""
        shown = entry.text if isinstance(entry, syntax.Literal) else "this range"
        return fail(entry.at, f"{shown!r} is not {error}".replace("'this range'", "this range"))

    def _single(self, entry: syntax.Literal, found: Target) -> list[Any]:
        """The values that a literal stands for."""
        domain, text = found.domain, entry.text
        plain = values.unquoted(text) if entry.quoted else text
        if domain in NUMBERS:
            if entry.quoted:
                raise ValueError("a number: it is written without quotes")
            return [values.bounded(values.NUMBER_READERS[domain](text), found.column)]
        if domain in ("name", "action"):
            return [plain] if entry.quoted else _names(plain, domain)
        if domain == "flags":
            return [values.flags(plain)]
        if domain == "json":
            return [("text", plain)] if entry.quoted else values.json_keys(plain)
        if domain == "octets":
            return [plain.encode() if entry.quoted else values.hex_octets(plain)]
        if domain == "time":
            return [values.time_ns(plain, self._now_ns)]
        readers: dict[Domain, Callable[[str], Any]] = {
            "text": str, "mac": values.mac, "bool": values.boolean, "kind": values.kind,
        }  # fmt: skip
        return [readers[domain](plain)]

    def _span(self, entry: syntax.Span, found: Target) -> tuple[Any, Any]:
        """The lowest and the highest value of a range."""
        domain = found.domain
        reader: Callable[[str], Any]
        if domain in NUMBERS:
            reader = values.NUMBER_READERS[domain]
        elif domain in ("name", "action", "json"):
            reader = values.number
        elif domain == "time":
            reader = partial(values.time_ns, now_ns=self._now_ns)
        else:
            raise ValueError(f"for {_CALLED[domain]}, which has no ranges")
        low, high = reader(entry.low.text), reader(entry.high.text)
        if low > high:
            raise ValueError("a range: it ends before it begins")
        return low, high

    def _network(
        self,
        entry: syntax.Literal | syntax.Span,
        fail: Callable[[int, str], FilterError],
    ) -> Network:
        """The addresses of an entry."""
        try:
            if isinstance(entry, syntax.Literal):
                return network(entry.text)
            low, high = network(entry.low.text), network(entry.high.text)
        except ValueError as error:
            reason = f"{str(error)!r} is not an address, or a prefix as 10.0.0.0/8 or fe80::/10"
            raise fail(entry.at, reason) from None
        if low.family != high.family or low.low > high.high:
            raise fail(entry.at, "this range does not go up from one address to another")
        return Network(low.family, low.low, high.high)

    # Other operators

    def _order(self, operator: str, operand: syntax.Literal, found: Target) -> Condition:
        domain, text = found.domain, operand.text
        if domain == "address":
            return self._order_of_addresses(operator, operand)
        try:
            if domain == "time":
                return Order(operator, values.time_ns(text, self._now_ns))
            if operand.quoted:
                raise ValueError("a number: it is written without quotes")
            if domain in NUMBERS:
                return Order(operator, values.NUMBER_READERS[domain](text))
            return Order(operator, values.number(text), mixed=True)
        except ValueError as error:
            raise self._fail(operand.at, f"{text!r} is not {error}") from None

    def _order_of_addresses(self, operator: str, operand: syntax.Literal) -> Condition:
        """The addresses of the same family on one side of an address."""
        family, low, high = self._network(operand, self._fail)
        if low != high:
            raise self._fail(operand.at, f"{operand.text} is a prefix: == or in asks for those")
        last = (1 << WIDTHS[family]) - 1
        bounds = {
            "<": (0, low - 1), "<=": (0, low), ">": (low + 1, last), ">=": (low, last),
        }  # fmt: skip
        return Covered(Networks([Network(family, *bounds[operator])]))

    def _has(self, operand: syntax.Literal, domain: Domain) -> Condition:
        text = values.unquoted(operand.text) if operand.quoted else operand.text
        if domain != "flags":
            keys = [("text", text)] if operand.quoted else values.json_keys(text)
            return Holding(frozenset(keys))
        try:
            letters = values.flags(text)
            if letters == "-":
                raise ValueError(f"letters of {values.FLAGS}; tcp_flags == - asks for none")
        except ValueError as error:
            raise self._fail(operand.at, f"{text!r} is not {error}") from None
        return Lettered(letters)

    def _of_text(self, operator: str, operand: syntax.Literal, domain: Domain) -> Condition:
        mixed = domain in ("name", "action", "json")
        if operator == "matches":
            return self._matching(operand, domain == "octets", mixed)
        text = values.unquoted(operand.text) if operand.quoted else operand.text
        part: Any = text
        if domain == "octets":
            try:
                part = text.encode() if operand.quoted else values.hex_octets(text)
            except ValueError as error:
                raise self._fail(operand.at, f"{text!r} is not {error}") from None
        elif domain == "mac":
            part = text.lower().replace("-", ":")
        return Containing(part, mixed) if operator == "contains" else Starting(part, mixed)

    def _matching(self, operand: syntax.Literal, octets: bool, mixed: bool) -> Condition:
        """The condition of a regular expression, whose backslashes are its own."""
        try:
            import re2
        except ImportError as error:
            raise missing_extra("`matches` in a filter", "filter") from error
        options = re2.Options()
        options.log_errors = False
        if octets:
            options.encoding = re2.Options.Encoding.LATIN1
        pattern: Any = operand.text.encode() if octets else operand.text
        try:
            search = re2.compile(pattern, options).search
        except re2.error as error:
            (reason,) = error.args or ("",)
            text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise self._fail(operand.at, f"no regular expression of RE2: {text}") from None

        def fits(text: Any) -> bool:
            try:
                return search(text) is not None
            except UnicodeEncodeError:  # half of a surrogate pair
                return False

        return Matching(operand.text, Memo(fits), mixed)


def _names(text: str, domain: Domain) -> list[Any]:
    """What a word stands for in a field of names and numbers."""
    try:
        return [values.integer(text)]
    except ValueError:
        numbers = values.ACTIONS.get(text, ()) if domain == "action" else ()
        return [text, *numbers]


def _of_networks(networks: list[Network]) -> Condition:
    """The condition of being one of these addresses."""
    if len(networks) == 1 and networks[0].low == networks[0].high:
        family, address, _ = networks[0]
        return Equal(addresses[address.to_bytes(WIDTHS[family] // 8)])
    return Covered(Networks(networks))
