"""A Sphinx extension: the parts of the reference that are made from pylog's code.

Where a page has a block `{pylog-reference} NAME`, the Markdown that the function of that name in
PARTS makes is read in its place. So its headings and tables are like those of any page. The text in
the block is for readers of the source.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sphinx.application import Sphinx

from pylog import outputs
from pylog.backends import conntrack, nflog, nftables
from pylog.cli._parser import build_parser, command_names
from pylog.formats.ipl_layouts import VERSIONS
from pylog.options import Option
from pylog.outputs._ipfix_elements import Element
from pylog.outputs._ipfix_exporter import Settings, parts_by_kind
from pylog.outputs._ipfix_options import MEANINGS
from pylog.outputs._ipfix_packets import JOINED as JOINED_PARTS
from pylog.pipeline.keys import SETTINGS, SOURCES, STACKS, Key
from pylog.record.fields import JSON_FORMS, Field, fields_of, json_name
from pylog.record.joined import FLOW, RULE, JoinedRecord
from pylog.record.registry import KINDS, ON_REQUEST
from pylog.table import schema


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


def fields_of_joins() -> str:
    """The fields that --rules and --with-flows add to packets."""
    rows = [("with", "name", "JSON", "meaning")]
    for option, fields in (("--rules", RULE), ("--with-flows", FLOW)):
        for name, field in fields.items():
            rows.append((f"`{option}`", f"`{name}`", *_cells({"packet": field})[1:]))
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


def commands() -> str:
    """Every command: what it does, its usage, and its arguments in their groups."""
    parser = build_parser(command_names(), command_names())
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return "\n".join(_command(name, command) for name, command in action.choices.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    usage = re.sub("^(usage: | {7})", "", formatter.format_help().strip(), flags=re.M)
    parts = [f"## {name}", _escaped(parser.description or ""), f"```text\n{usage}\n```"]
    for group in parser._action_groups:
        rows = [(_invocation(a), _escaped(a.help or "")) for a in group._group_actions]
        if rows:
            title = str(group.title)
            parts += [f"### {name}: {title}", _escaped(group.description or "")]
            parts.append(
                _markdown(("argument" if title.startswith("arg") else "option", ""), *rows)
            )
    if parser.epilog:
        parts += [f"### {name}: notes and examples", f"```text\n{parser.epilog.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _invocation(action: argparse.Action) -> str:
    """How an argument is written on the command line."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    value = str(value).replace("|", "\\|")
    if not action.option_strings:
        return f"`{value}`"
    takes = f" {value}" if action.nargs != 0 else ""
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings)


def _escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([\\*_\[\]<>|])", r"\\\1", text)


def configuration_pylog() -> str:
    """The keys of [pylog] in a configuration."""
    return _keys(SETTINGS)


def configuration_sources() -> str:
    """The keys of [sources.NAME]."""
    return _keys(SOURCES)


def configuration_stacks() -> str:
    """The keys of [[stacks]]."""
    return _keys(STACKS)


def _keys(keys: Mapping[str, Key]) -> str:
    rows = [("key", "value", "what it does", "without it")]
    rows += [(f"`{key.name}`", key.form, _escaped(key.help), _escaped(key.default) or "an error")
             for key in keys.values()]  # fmt: skip
    return _markdown(*rows)


def nflog_options() -> str:
    """The options of a live NFLOG source, as the command line and Python have them."""
    return _options(nflog.OPTIONS)


def nftables_options() -> str:
    """The options of the live source nftables."""
    return _options(nftables.OPTIONS)


def syslog_options() -> str:
    """The options of the output syslog."""
    return _options(outputs.description("syslog").options)


def nfct_options() -> str:
    """The options of the live source nfct."""
    return _options(conntrack.OPTIONS)


def _options(options: Iterable[Option]) -> str:
    """The options of a source, as the command line and Python have them."""
    rows = [("option", "in Python", "meaning")]
    for option in options:
        flag = option.flag or "--" + option.name.replace("_", "-")
        if option.kind is bool and option.default:
            flag += f"`, `--no-{flag[2:]}"
        rows.append((f"`{flag}`", f"`{option.name}`", _escaped(option.explained())))
    return _markdown(*rows)


def outputs_by_name() -> str:
    """What each output is called, and the ending, target and extra that it has."""
    rows = [("`--to`", "endings of FILE", "`--target`", "extra", "can be appended to")]
    for name in outputs.names():
        output = outputs.description(name)
        endings = ", ".join(f"`{ending}`" for ending in output.endings)
        extra = f"`{output.extra}`" if output.extra else ""
        grows = "yes" if output.appends and not output.place else "no"
        rows.append((f"`{name}`", endings, _escaped(output.address), extra, grows))
    return _markdown(*rows)


def sql_options() -> str:
    """The options of databases, each with the outputs that have it."""
    names = ("postgresql", "mysql", "sqlite")
    described = {name: outputs.description(name) for name in names}
    options = {o.name: o for d in described.values() for o in d.options}
    rows = [("option", "in a configuration", "of", "meaning")]
    for name, option in options.items():
        owners = [n for n, d in described.items() if option in d.options]
        of = "all" if len(owners) == len(names) else ", ".join(owners)
        rows.append((f"`{option.typed}`", f"`{name}`", of, _escaped(option.explained())))
    return _markdown(*rows)


def ipfix_elements() -> str:
    """The information elements of packets and flows, by the fields that they are made of."""
    settings = Settings(headers=True, payload=1)
    rows = [("of", "field", "information element", "number", "")]
    for kind, parts in parts_by_kind(settings, lambda name: None).items():
        if kind is JoinedRecord:
            parts, name = list(JOINED_PARTS), "joined packet"
        else:
            name = kind_name(kind)
        for part in parts:
            fields = ", ".join(f"`{json_name(field)}`" for field in part.fields)
            elements = "<br>".join(f"`{element.name}`" for element in part.elements)
            numbers = "<br>".join(_number(element) for element in part.elements)
            rows.append((name, fields, elements, numbers, _escaped(part.note)))
    return _markdown(*rows)


def _number(element: Element) -> str:
    return f"{element.enterprise}/{element.number}" if element.enterprise else str(element.number)


def ipfix_left_out() -> str:
    """The columns that IPFIX has no element for, by kind of record."""
    settings = Settings(headers=True, payload=1)
    rows = [("records", "columns without an element")]
    for kind, parts in parts_by_kind(settings, lambda name: None).items():
        if kind is not JoinedRecord:
            used = {field for part in parts for field in part.fields} | {"host"}
            names = [
                f"`{json_name(name)}`"
                for name, field in fields_of(kind).items()
                if name not in used and field.column is not None
            ]
            rows.append((kind_name(kind), ", ".join(names)))
    return _markdown(*rows)


def ipfix_options_records() -> str:
    """The options records of IPFIX."""
    rows = [("what it says", "scope", "elements")]
    for meaning, (scopes, elements) in MEANINGS.items():
        names = [f"`{element.name}` ({_number(element)})" for element in elements]
        rows.append((meaning, ", ".join(names[:scopes]), ", ".join(names[scopes:])))
    return _markdown(*rows)


def kind_name(kind: Any) -> str:
    """The name of a kind of record."""
    return next(name for name, record in KINDS.items() if record is kind)


def ipfix_options() -> str:
    """The options of the output ipfix."""
    return _options(outputs.description("ipfix").options)


def kafka_options() -> str:
    """The options of the output kafka."""
    return _options(outputs.description("kafka").options)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "json-fields": json_fields,
    "fields-on-request": fields_on_request,
    "fields-of-joins": fields_of_joins,
    "columns": columns,
    "layouts": layouts,
    "nflog-options": nflog_options,
    "nftables-options": nftables_options,
    "syslog-options": syslog_options,
    "nfct-options": nfct_options,
    "outputs": outputs_by_name,
    "ipfix-elements": ipfix_elements,
    "ipfix-left-out": ipfix_left_out,
    "ipfix-options-records": ipfix_options_records,
    "ipfix-options": ipfix_options,
    "kafka-options": kafka_options,
    "sql-options": sql_options,
    "configuration-pylog": configuration_pylog,
    "configuration-sources": configuration_sources,
    "configuration-stacks": configuration_stacks,
}


def mark_up(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make reStructuredText of a docstring, which is plain text.

    The rows `name   meaning` become a definition list, and an indented part is an example.
    """
    made: list[str] = []
    part = "text"
    for line in lines:
        text = line.replace("*", r"\*")
        row = re.match(r"(\w[\w,. ]*?)\s{2,}(\S.*)", text)
        if row:
            made += [] if part == "rows" else [""]
            made += [f"``{row[1]}``", f"    {row[2]}"]
            part = "rows"
        elif part == "rows" and line.startswith(" "):
            made.append(f"    {text.strip()}")
        elif line.startswith("    "):
            made += [line] if part == "example" else ["", "::", "", line]
            part = "example"
        elif line or part == "rows":
            made += [text] if part == "text" else ["", text]
            part = "text"
        else:
            made.append("")
    lines[:] = made


def put_parts(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the generated parts into the source of a page."""
    block = r"^```\{pylog-reference\} ([\w-]+)\n(?:.+\n)*```$"
    source[0] = re.sub(block, lambda match: PARTS[match[1]](), source[0], flags=re.M)


def setup(app: Sphinx) -> dict[str, Any]:
    """Do both whenever a page or a docstring is read."""
    app.connect("source-read", put_parts)
    app.connect("autodoc-process-docstring", mark_up)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
