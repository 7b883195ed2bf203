"""Show the help of pylog, of a command, of filters, or a list: of the layouts, or of the columns.

`pylog help read` is `pylog read --help`.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator

from pylog.cli import answer
from pylog.cli._parser import build_parser, command_names, command_parser, unknown_command

USAGE = "[COMMAND | layouts | columns | filter]"
HELP = "show the help of a command"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog help`."""
    parser.add_argument(
        "topic",
        nargs="?",
        metavar="COMMAND",
        help="a command, what to list: layouts, columns; or filter, for --where",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog help`."""
    topic = arguments.topic
    if topic is None:
        print(build_parser(command_names(), ()).format_help(), end="")
    elif topic in LISTS:
        answer(*LISTS[topic]())
    elif topic in command_names():
        print(command_parser(topic).format_help(), end="")
    else:
        unknown_command(topic, list(LISTS))
    return 0


def _layouts() -> Iterator[str]:
    """The layouts, by format."""
    from pylog.formats import ipl_layouts
    from pylog.formats.registry import registered

    for name, module in registered().by_name.items():
        names = module.layout_names()
        if names and name != "ipl":
            yield f"{name}: {', '.join(names)}"
    yield ""
    yield "IPFilter: ipl-VERSION-ABI, as ipl-5.1.2-lp64le. pylog info shows that of a log."
    yield ""
    yield f"{'VERSION':14}wrote the log"
    for version in ipl_layouts.VERSIONS.values():
        systems = f" ({version.systems})" if version.systems else ""
        yield from _row(version.name, f"IPFilter {version.releases}{systems}", 14)
    yield ""
    yield f"{'ABI':14}of a machine with"
    for name, text in _ABIS.items():
        yield from _row(name, text, 14)
    yield ""
    yield "To an ABI are added, in this order:"
    for name, text in _ABI_OPTIONS.items():
        yield from _row(name, text, 14)


_ABIS = {
    "lp64le": "64 bits, little-endian: x86-64, aarch64",
    "lp64be": "64 bits, big-endian: sparc64, ppc64",
    "ilp32le": "32 bits, little-endian: i386",
    "ilp32le8": "32 bits, little-endian, 64-bit integers aligned to 8 bytes: ARM, MIPS",
    "ilp32be": "32 bits, big-endian: sparc, powerpc, MIPS",
}
_ABI_OPTIONS = {
    "-time64": "times of NetBSD 6 and later: 64-bit seconds",
    "-nounit": "no fl_unit: NetBSD and others, but not FreeBSD and Solaris",
    "-name32": "interface names of 32 bytes: Solaris, illumos",
    "-quad32": "counters of 32 bits: old builds on other systems than the BSDs",
}


def _columns() -> Iterator[str]:
    """The columns of records, with their meaning and the kinds that have them."""
    from pylog.record import ON_REQUEST, fields_of, json_name, kinds
    from pylog.record.joined import FLOW, RULE

    yield from _row("kind", f"what the record is: {', '.join(kinds())}", 16)
    held: dict[str, tuple[str, list[str]]] = {}
    for kind, record in kinds().items():
        for name, field in fields_of(record).items():
            if field.column is not None:
                held.setdefault(json_name(name), (field.meaning, []))[1].append(kind)
    for name, (meaning, names) in held.items():
        of = "" if len(names) == len(kinds()) else f" [{', '.join(names)}]"
        yield from _row(name, f"{meaning}{of}", 16)
    yield ""
    yield "Of packets, only where --columns names them:"
    for headers in ON_REQUEST.values():
        for name, field in fields_of(headers).items():
            yield from _row(name, field.meaning, 16)
    for option, fields in (("--rules", RULE), ("--with-flows", FLOW)):
        yield ""
        yield f"Of packets, only with {option}:"
        for name, field in fields.items():
            yield from _row(name, field.meaning, 16)


def _row(name: str, text: str, width: int) -> list[str]:
    """A name, and a text beside it that is wrapped."""
    first, *more = textwrap.wrap(text, 78 - width) or [""]
    return [f"{name:{width}}{first}", *(" " * width + line for line in more)]


def _filter() -> Iterator[str]:
    """The filter language."""
    from pylog.cli._where import FILTER
    from pylog.filter import grammar

    yield from FILTER.splitlines()
    yield ""
    yield from (f"  {line}".rstrip() for line in grammar().splitlines())


LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "layouts": _layouts, "columns": _columns, "filter": _filter,
}  # fmt: skip
