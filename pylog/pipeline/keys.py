"""The keys of a configuration, each declared once: the reference page, the errors and the values
that the pipeline uses come from these tables.

The options of sources and outputs are not among them: those are declared by the backend or output,
and stand beside these keys in the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pylog import units
from pylog.secrets import Secret, hidden, secret_of


class Key(NamedTuple):
    """A key of a table.

    form      what its value is, in words
    help      what it does
    convert   value -> what the pipeline uses; ValueError for another value
    default   the value without it, as the reference shows it; "": it is needed
    """

    name: str
    form: str
    help: str
    convert: Callable[[Any], Any]
    default: str = "none"


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"is {value!r}, but must be a text")
    return value


def target(value: Any) -> str | Secret:
    """A text without a password in it, or the place of a secret."""
    secret = secret_of(value)
    if secret is not None:
        return secret
    value = text(value)
    if hidden(value) != value:
        raise ValueError(
            f"{hidden(value)} has a password in it: write the address elsewhere, and name its"
            ' place, as { file = "/etc/pylog/target" }'
        )
    return str(value)


def names(value: Any) -> list[str]:
    """A list of texts, or one text."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise ValueError(f"is {value!r}, but must be a list of texts")
    if len(set(values)) < len(values):
        raise ValueError(f"is {value!r}, but must name each once")
    return values


def sources(value: Any) -> list[str]:
    """As `names`, at least one."""
    values = names(value)
    if not values:
        raise ValueError("is [], but must name a source")
    return values


def texts(value: Any) -> dict[str, str]:
    """A table of texts."""
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(f"is {value!r}, but must be a table of texts")
    return dict(value)


def table(value: Any) -> dict[str, Any]:
    """A table; its keys may have dots, as extra.site, with or without quotes."""
    if not isinstance(value, Mapping):
        raise ValueError(f"is {value!r}, but must be a table")
    flat = {name: part for name, part in value.items() if name != "extra"}
    extra = value.get("extra", {})
    return flat | (
        {f"extra.{name}": part for name, part in extra.items()}
        if isinstance(extra, Mapping)
        else {"extra": extra}
    )


def truth(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"is {value!r}, but must be true or false")
    return value


def count(value: Any) -> int:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"is {value!r}, but must be a whole number above 0")
    return value


def size(value: Any) -> int:
    """A number of bytes, as 100M or 100000000."""
    return units.size(_measure(value))


def seconds(value: Any) -> float:
    """A time in seconds, as 5m or 300."""
    return units.seconds(_measure(value))


def _measure(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is {value!r}, but must be a text as 100M or 5m")
    return str(value)


def rate(value: Any) -> float:
    """A rate, as 100/s."""
    return units.rate(text(value))


def address(value: Any) -> tuple[str, int]:
    """HOST:PORT; port 0 is any that is free."""
    host, colon, port = str(value).rpartition(":")
    if (
        not isinstance(value, str)
        or not colon
        or not host
        or not port.isdecimal()
        or int(port) > 65535
    ):
        raise ValueError(f"is {value!r}, but must be HOST:PORT, as 127.0.0.1:9470")
    return host.removeprefix("[").removesuffix("]"), int(port)


def one_of(*words: str) -> Callable[[Any], str]:
    """One of these words."""

    def convert(value: Any) -> str:
        if value not in words:
            raise ValueError(f"is {value!r}, but must be one of {', '.join(words)}")
        return str(value)

    return convert


def given(values: Sequence[Key]) -> dict[str, Key]:
    """The keys by name."""
    return {key.name: key for key in values}


SETTINGS = given((
    Key("journal", "folder", "what is received is kept there, and each stack reads it at its own"
        " pace; without it, each stack has a queue in memory", text),
    Key("journal_size", "size", "the oldest segments are removed when the journal is larger", size,
        "10G"),
    Key("journal_age", "time", "segments that were written last before that time are removed",
        seconds),
    Key("segment_size", "size", "the size at which a segment of the journal is complete", size,
        "64M"),
    Key("queue", "size", "without a journal: how much each stack may lag behind; then what is"
        " received is lost to it", size, "64M"),
    Key("metrics", "HOST:PORT", "where to serve /metrics for Prometheus, and /health; it needs the"
        " extra metrics", address),
    Key("socket", "path", "the socket that `pylog status` asks; nobody else may", text,
        "pylog.sock in the journal, $RUNTIME_DIRECTORY or /run"),
    Key("drain", "time", "how long to deliver what was received, at most, when pylog is to end",
        seconds, "20s"),
))  # fmt: skip
"""Keys of [pylog]."""

SOURCES = given((
    Key("from", "source", "what is read: nflog:5,6, nftables:+trace, ipl:, a file", text, ""),
    Key("layout", "name", "the layout, in place of detection", text),
    Key("label", "text", "records get it as `origin`; those of a stack with several sources get the"
        " source's name", text),
    Key("actions", "table", "what prefixes stand for, as { 'drop*' = 'block' }", texts),
))  # fmt: skip
"""Keys of [sources.NAME], beside the options of the source."""

STACKS = given((
    Key("name", "text", "its name, which no other stack has; its position is kept under that name",
        text, ""),
    Key("from", "list of names", "the sources whose records it gets", sources, ""),
    Key("rules", "truth", "packets of NFLOG get the rule of nftables that logged them, as with"
        " --rules; a source of the stack must be nftables:, or a file that has the ruleset", truth,
        "false"),
    Key("with_flows", "truth", "packets of NFLOG get their flow, as with --with-flows; a source of"
        " the stack must be nfct:, or a file that has the flows", truth, "false"),
    Key("flows", "truth", "one record for each flow when it has ended, in place of its events, as"
        " with --flows", truth, "false"),
    Key("active_timeout", "time", "with flows: report a flow that goes on each time it has lived so"
        " long", seconds, "never"),
    Key("flow_limit", "number", "with flows: so many living flows are held; the oldest of more is"
        " reported early", count, "262144"),
    Key("where", "expression", "which records it takes, in the filter language", text, "all"),
    Key("set", "table", "columns that get another value, as { action = 'block' }; extra.NAME adds a"
        " part to `extra`", table),
    Key("drop", "list of columns", "columns that are left out", names),
    Key("every", "number", "take the first of so many records", count),
    Key("rate", "rate", "take at most so many records in a time, as 100/s", rate),
    Key("dedup", "time", "leave out records that repeat an earlier one within that time, but for"
        " times, numbers and payload", seconds),
    Key("to", "output", "what is written", text, "what the ending of the target says"),
    Key("target", "file, folder or address", "where it is written; a table names the place of an"
        " address that is secret; - is standard output", target, ""),
    Key("start", "time", "where a new stack begins in the journal: now, oldest, or a date or time"
        " as 2026-11-01 (UTC)", text, "now"),
    Key("partition", "word", "write a data set into the folder `target`: day, hour or none", one_of(
        "day", "hour", "none")),
    Key("rotate_size", "size", "begin a new file at that size; a part of a data set is complete at"
        " it", size),
    Key("rotate_time", "time", "begin a new file after that time; a part of a data set is complete"
        " after it", seconds),
    Key("dead_letters", "path", "a file for records that the output refuses", text,
        "dead/NAME.jsonl in the journal"),
))  # fmt: skip
"""Keys of [[stacks]], beside the options of the output."""
