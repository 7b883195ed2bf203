r"""Writes each record by a template: text with the names of columns in braces.

    {timestamp} {action} {saddr}:{sport} -> {daddr}:{dport}

The names are those of the JSON, fields on request included; a dot names a part, as fragment.offset
or extra.NFULA_CT_INFO. What a record does not say is "-". {{ and }} are braces, \t is a tab and \\
a backslash. Values have no control characters, so a record is always exactly one line.
"""

from __future__ import annotations

import re
from string import Formatter

from pylog import outputs
from pylog.options import Option
from pylog.outputs._lines import Lines, LinesOutput
from pylog.outputs._named import REQUESTED, every
from pylog.record import no_column
from pylog.record.joined import JOINED
from pylog.zones import TZ, clock_of, zone_of

NAME = "template"
JOINS = True
OPTIONS = (
    Option("template", str, "{timestamp} {action} {saddr} {sport} {daddr} {dport}",
           "the line, with the names of columns in braces", metavar="TEXT"),
    TZ,
)  # fmt: skip
_ESCAPES = {"\\t": "\t", "\\\\": "\\"}


def check(*, template: str, tz: str) -> None:
    """ValueError for what is no template, or a column or zone that does not exist."""
    _parsed(template)
    zone_of(tz)


def _parsed(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts and the names of a template, which alternate, beginning with a text."""
    texts, names = [""], []
    try:
        parts = list(Formatter().parse(str(template)))
    except ValueError as error:
        raise ValueError(f"template is {template!r}: {error}") from None
    there = [*every(), *REQUESTED, *JOINED]
    for text, name, form, conversion in parts:
        texts[-1] += text  # {{ gives a text without a name
        if name is None:
            continue
        if form or conversion:
            raise ValueError(f"template is {template!r}, but braces must have a name only")
        if name.partition(".")[0] not in there:
            raise no_column(name, there)
        names.append(name)
        texts.append("")
    if not names:
        raise ValueError(f"template is {template!r}, but must name a column in braces")
    return tuple(_unescaped(text) for text in texts), tuple(names)


def _unescaped(text: str) -> str:
    """A text of the template with its escapes replaced."""

    def character(match: re.Match[str]) -> str:
        if match[0] not in _ESCAPES:
            raise ValueError(f"template has {match[0]!r}: the escapes are {' and '.join(_ESCAPES)}")
        return _ESCAPES[match[0]]

    made = re.sub(r"\\.?", character, text)
    if not made.replace("\t", "").isprintable():
        raise ValueError("template has a control character: a record must stay one line")
    return made


def lines(*, template: str, tz: str = "UTC") -> Lines:
    """The lines that a template makes; ValueError as `check`."""
    from pylog.outputs._text_columns import Columns  # only here: rarely needed

    texts, names = _parsed(template)
    cells = Columns(names, clock_of(tz), services=False, colour=False).cells
    form = "%s".join(text.replace("%", "%%") for text in texts)
    return Lines(lambda record: form % tuple(cells(record)))


class Output(LinesOutput):
    """Writes the lines of a template."""

    def __init__(self, target: outputs.Target, *, template: str, tz: str = "UTC") -> None:
        super().__init__(target, lines(template=template, tz=tz))
