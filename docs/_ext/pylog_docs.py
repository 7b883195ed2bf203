"""A Sphinx extension: the tables of the reference, made from pylog's declarations.

`{pylog-table} NAME` in a page is the table that the function of that name in TABLES makes, as
Markdown. `commands` gives sphinx-argparse-cli the parser with all commands.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pylog import outputs
from pylog.backends import nflog
from pylog.cli import build_parser, command_names
from pylog.formats.ipl_layouts import VERSIONS
from pylog.options import Option
from pylog.record.fields import JSON_FORMS, Field, fields_of, json_name
from pylog.record.kinds import KINDS, ON_REQUEST
from pylog.table import schema


def commands() -> argparse.ArgumentParser:
    """The parser of pylog, with the arguments of every command."""
    return build_parser(command_names(), command_names())


def _markdown(*rows: Iterable[str]) -> str:
    """A Markdown table; the first row is its head."""
    head, *others = (list(row) for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *others))


def json_fields() -> str:
    """The names of the JSON, each with the kinds that have it, its form and its meaning."""
    kinds: dict[str, dict[str, Field]] = {}
    for kind, record in KINDS.items():
        for name, field in fields_of(record).items():
            if field.column is not None:
                kinds.setdefault(json_name(name), {})[kind] = field
    rows = [("name", "records", "JSON", "meaning"), ("`kind`", "all", "text", ", ".join(KINDS))]
    rows += [(f"`{name}`", *_cells(fields)) for name, fields in kinds.items()]
    return _markdown(*rows)


def fields_on_request() -> str:
    """The fields that are decoded only when they are named."""
    rows = [("name", "JSON", "meaning")]
    for kind, headers in ON_REQUEST.items():
        for name, field in fields_of(headers).items():
            rows.append((f"`{name}`", *_cells({kind: field})[1:]))
    return _markdown(*rows)


def _cells(fields: dict[str, Field]) -> tuple[str, str, str]:
    """The kinds that have a field, its forms, and its meanings where they differ."""
    forms = {JSON_FORMS[field.column] for field in fields.values() if field.column is not None}
    widest = max(forms, key=len)  # "text or number" has "text" in it
    meanings: dict[str, list[str]] = {}
    for kind, field in fields.items():
        meanings.setdefault(field.meaning, []).append(kind)
    texts = [
        meaning if i == 0 else f"of a {' or '.join(kinds)}: {meaning}"
        for i, (meaning, kinds) in enumerate(meanings.items())
    ]
    return "all" if len(fields) == len(KINDS) else ", ".join(fields), widest, "; ".join(texts)


def columns() -> str:
    """The Arrow type of each column, and the kinds of record that have it."""
    types: dict[str, dict[str, list[str]]] = {}
    for kind in KINDS:
        for field in schema(kind):
            name = str(field.type).replace(
                "dictionary<values=string, indices=int32, ordered=0>", "dictionary<int32, string>"
            )
            types.setdefault(field.name, {}).setdefault(name, []).append(kind)
    rows = [("column", "Arrow type", "tables")]
    for column, by_type in types.items():
        for name, kinds in by_type.items():
            rows.append((f"`{column}`", f"`{name}`", ", ".join(kinds)))
    return _markdown(*rows)


def layouts() -> str:
    """The versions of IPFilter's layouts, newest first."""
    versions = sorted(VERSIONS.values(), key=lambda v: v.name.replace("x", "0"), reverse=True)
    return _markdown(
        ("VERSION", "also called", "written by IPFilter", "shipped by", "detected"),
        *((f"`{v.name}`", ", ".join(f"`{alias}`" for alias in v.aliases), v.releases, v.systems,
           "yes" if v.detected else "no") for v in versions),
    )  # fmt: skip


def nflog_options() -> str:
    """The options of a live NFLOG source, as the command line and Python have them."""
    return _options(nflog.OPTIONS, python=True)


def outputs_by_name() -> str:
    """What each output is called, and the ending and extra that it has."""
    rows = [("`--to`", "ending for `convert`", "extra", "can be appended to")]
    for name in outputs.names():
        known = outputs.description(name)
        endings = ", ".join(f"`{ending}`" for ending in known.endings)
        rows.append((f"`{name}`", endings, f"`{known.extra}`" if known.extra else "",
                     "yes" if known.appends else "no"))  # fmt: skip
    return _markdown(*rows)


def _options(options: Iterable[Option], python: bool) -> str:
    rows = [("option", "in Python", "meaning")]
    for option in options:
        flag = option.flag or "--" + option.name.replace("_", "-")
        if option.kind is bool and option.default:
            flag += f"`, `--no-{flag[2:]}"
        rows.append((f"`{flag}`", f"`{option.name}`", option.explained()))
    return _markdown(*rows)


TABLES: dict[str, Callable[[], str]] = {
    "json-fields": json_fields,
    "fields-on-request": fields_on_request,
    "columns": columns,
    "layouts": layouts,
    "nflog-options": nflog_options,
    "outputs": outputs_by_name,
}


def mark_up(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make a definition list of the rows `name   meaning` in a docstring, which is plain text."""
    made: list[str] = []
    row = ""
    for line in (line.replace("*", r"\*") for line in lines):
        match = re.match(r"([\w, ]+?)\s{2,}(\S.*)", line)
        if match:
            made += [] if row else [""]
            row = "definition"
            made += [f"``{match[1]}``", f"    {match[2]}"]
        elif row and line.startswith(" "):
            made.append(f"    {line.strip()}")
        else:
            made += [""] if row else []
            row = ""
            made.append(line)
    lines[:] = made


class Table(SphinxDirective):
    """The directive `pylog-table`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(TABLES[self.arguments[0]]())


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive, as Sphinx asks of an extension."""
    app.add_directive("pylog-table", Table)
    app.connect("autodoc-process-docstring", mark_up)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
