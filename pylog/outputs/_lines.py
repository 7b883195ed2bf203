"""Line formats: the outputs of which each record is a line, and what else their lines are good for.

A module of an output with a function `lines(**options)` is a line format: the function takes the
options of the output and gives `Lines`. So JSON, ECS, CEF and the like are written to files by
their own outputs, and sent elsewhere by others (syslog, tcp), which know them by name only. A text
with braces is a format, too: a template, see `pylog.outputs.template`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pylog import outputs
from pylog.batch import Batch
from pylog.nearest import advice
from pylog.notes import notes
from pylog.options import Option
from pylog.outputs._named import COLUMN_OPTIONS, RENAME
from pylog.record import Record, Row
from pylog.zones import TZ


class Lines(NamedTuple):
    """Makes the line of each record.

    line      without the line end; "" for a record that has none, and with "\\n" between several
    report    what has no line, at the end, as sentences
    content   the line without a time and host, which a header of syslog says; None: `line` has none
    of_rows   the lines of rows, with printable characters only; None: it takes no rows
    """

    line: Callable[[Record], str]
    report: Callable[[], list[str]] = list
    content: Callable[[Record], str] | None = None
    of_rows: Callable[[Sequence[Row]], list[str]] | None = None


FORMAT = Option(
    "format", str, "json",
    "the form of each record: json, ecs, cef, kernel, ipmon, text, or a template, as"
    " {timestamp} {action} {saddr}", metavar="FORMAT",
)  # fmt: skip
FORMAT_OPTIONS = (FORMAT, *COLUMN_OPTIONS, RENAME, TZ)
"""The options of outputs that send lines in any format."""


def formats() -> list[str]:
    """The names of all line formats."""
    return [name for name in outputs.names() if hasattr(outputs._module(name), "lines")]


def lines_of(format: str, **options: Any) -> Lines:
    """The lines of a format, a name or a template.

    options   of FORMAT_OPTIONS; those with their default value are left out

    Raises ValueError for a format that does not exist, or that lacks an option or its value.
    """
    format = str(format)
    name, given = _named(format), {}
    for option in FORMAT_OPTIONS[1:]:
        value = options.get(option.name, option.default)
        if value != option.default:
            given[option.name] = value
    if name != format:
        given["template"] = format
    try:
        settings = outputs.check(name, given)
    except ValueError as error:
        raise ValueError(f"format {name}: {error}") from None
    made: Lines = outputs._module(name).lines(**settings)  # type: ignore[attr-defined]
    return made


def reads_raw(format: str) -> bool:
    """Whether a format needs records with their raw bytes; ValueError as `lines_of`."""
    return outputs.description(_named(str(format))).raw


def shows_joins(format: str) -> bool:
    """Whether a format shows the rule and the flow of a packet; ValueError as `lines_of`."""
    return outputs.description(_named(str(format))).joins


def _named(format: str) -> str:
    """The output that has a format."""
    if "{" in format:
        return "template"
    names = [name for name in formats() if name != "template"]
    if format not in names:
        raise ValueError(
            f"no format {format!r}{advice(format, names)}; a template has names in braces, as"
            " '{saddr} {dport}'"
        )
    return format


class LinesOutput(outputs.Output):
    """Writes the lines of a format to a file, in UTF-8."""

    def __init__(self, target: outputs.Target, lines: Lines) -> None:
        self._stream, self._lines = target.stream, lines

    def write(self, batch: Batch) -> None:
        line = self._lines.line
        made = [text for record in batch.records() if (text := line(record))]
        if made:
            self._stream.write(("\n".join(made) + "\n").encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for sentence in self._lines.report():
            notes.warning("%s", sentence)
