"""Outputs: the forms that records are written in. Each is a module, discovered by its name: a file
in this package, or an entry point of another distribution (group `pylog.outputs`).

An output module has a `NAME` and a class `Output(target, **options)`, a subclass of outputs.Output.
The target of most outputs is a file (`Target`), whose stream they leave open. With `PLACE` it is a
receiver or a database (`Place`), which the output connects to itself. With `FILE` as well it may be
either, and the class for places is `PlaceOutput`. Constants with the names of a
`Description`'s fields in capitals (`ENDINGS`, `OPTIONS`, `BINARY`, `RAW`...) replace its defaults.
If options can be wrong in a way that an Option cannot express, the module has a function
`check(**options)` that raises ValueError; for the address of a place, `check_address(address,
**options)`.

`check` makes no output: it opens, connects and writes nothing.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

from pylog import discover
from pylog.batch import Batch
from pylog.nearest import advice
from pylog.notes import notes
from pylog.options import Option, resolve
from pylog.record import Record, Row
from pylog.transports.packing import SUFFIXES, first_line, without_suffix

Delivery = Literal["exactly once", "at least once", "best effort"]
"""What an output promises of each record, whatever fails and is started again: see Output."""

Refuse = Callable[[Record | Row, str], None]
"""Takes a record that a peer refuses, or its row, and the reason."""

LONGEST_S = 10.0
"""The longest that a call of an output may block: then it raises BackendError."""


@dataclass(frozen=True)
class Description:
    """The properties of an output, as its module declares them.

    name        its name
    endings     of its files, the usual one first: (".jsonl", ".json"); without the dot they are
                names of the output, too
    options     its options
    binary      whether it is unfit for a terminal
    raw         whether it needs records with their raw bytes
    appends     whether its files may grow: they are complete after each flush, and more may follow;
                else a file is complete when it is closed
    needs_path  whether it needs a regular file with a path
    columns     whether it is faster with columns than with records
    joins       whether it shows the rule and the flow of a packet, as --rules and --with-flows add
    extra       the extra of the distribution that it needs
    place       whether it writes to a Place, not to a file
    file        with `place`: whether it writes files as well
    delivery    of records to its place, if the address does not decide; of files the pipeline does
    address     of a place: what addresses look like, for the help: "tls://HOST[:PORT]"
    like        another output, whose endings its files may have, too
    """

    name: str
    endings: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    binary: bool = False
    raw: bool = False
    appends: bool = True
    needs_path: bool = False
    columns: bool = False
    joins: bool = False
    extra: str | None = None
    place: bool = False
    file: bool = False
    delivery: Delivery = "at least once"
    address: str = ""
    like: str | None = None


@dataclass(frozen=True)
class Target:
    """Where an output writes.

    stream     a binary file object, open for writing
    path       of the file, if it is a file
    colour     whether to mark actions and losses with terminal colours, if the output is text
    appending  whether the file already holds records of the same output
    """

    stream: BinaryIO
    path: str | None = None
    colour: bool = False
    appending: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()


def _count_only(record: Record | Row, reason: str) -> None:
    notes.warning("a record was refused: %s", reason)


@dataclass(frozen=True)
class Place:
    """Where an output writes that is no file: a receiver, a broker, a database.

    address   as the user gives it: tls://siem.example:6514, unix:/run/fw.sock, a DSN
    stream    the name of what is written, as of a stack: a database that stores positions stores
              one for each name; "": it is to store none
    refuse    called by the thread that writes, with each record that the peer refuses and the
              reason; the record then counts as written
    """

    address: str
    stream: str = ""
    refuse: Refuse = _count_only


class Output(ABC):
    """Writes records to a target, in batches; commits say how far it came.

    takes_rows      whether it has `write_rows`
    shows_payload   whether it uses the payload of records
    wanted          by kind, the columns that it takes from a batch; None: it takes records

    The caller follows this order: `position`, then any number of `write` with a `commit` now and
    then, at the end `close`. Between calls it asks for `confirmed`, also when no records come.
    A failure that may pass (no connection, no room, a server that restarts) is BackendError. The
    caller then calls `close`, whose errors it ignores, waits, makes the output anew, asks for its
    `position`, and writes again what came after that, or after what was `confirmed` last.
    No call blocks for longer than LONGEST_S.

    With the position in the transaction of the records (`position` gives it back) each record is
    there exactly once. Where a peer acknowledges, it is there at least once; where none does, it
    was sent once, as best effort.
    """

    takes_rows = False
    shows_payload = True
    wanted: Mapping[str, Sequence[str]] | None = None
    _committed: str | None = None

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take records; they may be kept until `flush`, or until `close` if it does not append."""

    def write_rows(self, rows: Sequence[Row]) -> None:
        """As `write`, for records that a Reader gives as rows."""
        raise TypeError(f"{type(self).__module__} takes records, no rows")

    def lines_of(self, records: Sequence[Record]) -> bytes:
        """The lines of packets, each with its end, which are not written; see `makes_lines`."""
        raise TypeError(f"{type(self).__module__} makes no lines")

    def time_text(self, utc: str) -> str:
        """A time of RFC 3339 in UTC as it stands in a line: with the same decimals."""
        return utc

    def write_lines(self, lines: bytes | memoryview) -> None:
        """Write what `lines_of` gives for packets; the memory is not kept."""
        raise TypeError(f"{type(self).__module__} makes no lines")

    @abstractmethod
    def flush(self) -> None:
        """Write what was kept, as far as the form allows, and flush the stream."""

    def leave_out(self, counts: Mapping[str, int]) -> None:  # noqa: B027
        """Count records, by kind, of which no columns were made because it is not `wanted`."""

    def note_losses(self, seen: bool) -> None:  # noqa: B027
        """Note of a log that was written whether a loss in it would have been seen."""

    def commit(self, position: str) -> None:
        """Make what was written so far permanent, as all records up to `position`, an opaque text.

        An output that can do so stores the position in the same transaction. One whose peer
        acknowledges later sends what it has kept, and does not wait: see `confirmed`.
        """
        self.flush()
        self._committed = position

    def position(self) -> str | None:
        """The position that the target holds: of the last commit that took effect, by this process
        or an earlier one. None: it holds none, or cannot store one.
        """
        return None

    def confirmed(self) -> str | None:
        """The newest position of a `commit` whose records are permanent in the target, or
        acknowledged by the peer; None: of no commit so far. Does not wait.
        """
        return self._committed

    @property
    def reconnects(self) -> int:
        """How many connections it has made after the first, by itself."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Write the rest. The stream of a file stays open; the connection to a place is closed."""


TEXT = "text"
"""The output of a file whose name does not say."""

UNWRITTEN = frozenset({
    ".xz", ".lzma", ".bz2", ".z", ".lz", ".lz4", ".lzo", ".br", ".zip", ".7z", ".tar", ".tgz",
    ".rar", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".avro", ".orc", ".hdf5", ".h5", ".mdb",
    ".accdb",
})  # fmt: skip
"""Endings of compressed files and of tables that text must not be hidden under."""


class Form(NamedTuple):
    """What a file, or standard output, is to hold: an output, compressed if there is a suffix."""

    name: str
    suffix: str = ""


class OutputModule(Protocol):
    """What every output module has."""

    NAME: str
    Output: Any


@cache
def _collected() -> discover.Collected:
    collected = discover.collect(
        "pylog.outputs", __name__, __path__, "NAME",
        lambda module: discover.lacking(module, OutputModule),
    )  # fmt: skip
    for problem in collected.problems.values():
        notes.warning("%s", problem)
    return collected


@cache
def _modules() -> dict[str, OutputModule]:
    modules = sorted(_collected().modules, key=lambda module: str(module.NAME))
    return discover.claimed("output name", ((module.NAME, module) for module in modules))


@cache
def _only(name: str) -> OutputModule | None:
    """The output of that name, without importing all; None: all must be looked at."""
    module: OutputModule | None = discover.only("pylog.outputs", __name__, __path__, name)
    return module if module is not None and getattr(module, "NAME", None) == name else None


def names() -> list[str]:
    """The names of all outputs."""
    return list(_modules())


def problem(name: str) -> str | None:
    """Why an output of another distribution cannot be used; None: it can, or there is none."""
    return None if _exists(name) else _collected().problems.get(name)


def _exists(name: str) -> bool:
    return _only(name) is not None or name in _modules()


def endings() -> dict[str, str]:
    """The output of each ending of a file; ValueError for an ending that two claim."""
    claims = [(e, module) for n, module in _modules().items() for e in description(n).endings]
    return {e: module.NAME for e, module in discover.claimed("ending", claims).items()}


def _with_ending(ending: str) -> str | None:
    """The output whose files have that ending; None: there is none."""
    name = ending[1:]
    if _only(name) is not None and ending in description(name).endings:
        return name
    return endings().get(ending)


def form_of(path: str) -> Form | None:
    """What the ending of a path says: fw.json, fw.csv.gz; None if it says nothing.

    Raises ValueError for a compressed file of an output that cannot be written so.
    """
    stem, suffix = without_suffix(path)
    name = _with_ending(os.path.splitext(stem)[1].lower())
    return None if name is None else _checked(Form(name, suffix), path)


def form(path: str | None, to: str | None = None) -> Form:
    """What to write into a file: what its ending says, or `to`, the name or ending of an output.

    path   None or "-": standard output
    to     "json", "jsonl" or "json.gz"; None: the ending decides, and text is written without one

    Raises ValueError for a name that does not exist, for one that contradicts the ending, and for
    an ending as `check_ending`. That of a text file (.log, .txt) contradicts no output whose form
    is text.
    """
    by_ending = None if path in (None, "-") else form_of(str(path))
    if path is not None and by_ending is None:
        check_ending(path)
    suffix = "" if path is None else without_suffix(path)[1]
    if to is None:
        return by_ending or Form(TEXT, suffix)
    word, to_suffix = without_suffix(to)
    name = word if _exists(word) else _with_ending(f".{word.lower()}") or word
    chosen = description(name)
    if by_ending is not None and by_ending.name != name:
        if by_ending.name != chosen.like and (chosen.binary or by_ending.name != TEXT):
            raise ValueError(
                f"--to says {to}, but the ending of {path} says {by_ending.name}: leave out --to,"
                " or name another file"
            )
    elif to_suffix and to_suffix != suffix and (suffix or by_ending is not None):
        raise ValueError(f"--to says {to}, but {path} does not end in {to_suffix}")
    return _checked(Form(name, to_suffix or suffix), path if suffix else to)


def check_ending(path: str) -> None:
    """ValueError for the ending of a compression, or of a table, that is not written.

    Other unknown endings are those of text.
    """
    ending = os.path.splitext(path)[1]
    if ending.lower() in UNWRITTEN:
        raise ValueError(
            f"{path}: {ending} is not written; what can be: {', '.join(_main_endings())}, and with"
            f" {' or '.join(SUFFIXES)} after that compressed"
        )


def _main_endings() -> list[str]:
    """The usual ending of each output that has one."""
    return [description(name).endings[0] for name in dict.fromkeys(endings().values())]


def _checked(form: Form, word: str | None) -> Form:
    """The form; ValueError if its output is not one that can be compressed as it is written."""
    if form.suffix and not description(form.name).appends:
        raise ValueError(f"{word}: {form.name} is not written with {form.suffix}")
    return form


@cache
def description(name: str) -> Description:
    """The properties of an output; ValueError for a name that does not exist."""
    module = _module(name)
    declared = {field.name: field.name.upper() for field in fields(Description)}
    return Description(**{n: getattr(module, c) for n, c in declared.items() if hasattr(module, c)})


def check(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of an output, with defaults for those that are not given.

    Raises ValueError for an output or option that does not exist, or a value that is not valid.
    """
    settings = resolve(name, description(name).options, options or {})
    more = getattr(_module(name), "check", None)
    if more is not None:
        more(**settings)
    return settings


def needs_raw(name: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether an output with these options needs records with their raw bytes.

    An output of which that depends on the options has a function `needs_raw(**options)`.
    """
    more = getattr(_module(name), "needs_raw", None)
    return description(name).raw or (more is not None and bool(more(**check(name, options))))


def makes_lines(name: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether an output with these options writes a line for each packet that depends on nothing
    but its record, so that many are made at once: it has `lines_of` and `write_lines`.

    Such an output has a function `makes_lines(**options)`.
    """
    more = getattr(_module(name), "makes_lines", None)
    return more is not None and bool(more(**check(name, options)))


def shows_joins(name: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether an output with these options shows the rule and the flow of a packet.

    An output of which that depends on the options has a function `shows_joins(**options)`.
    """
    more = getattr(_module(name), "shows_joins", None)
    return description(name).joins or (more is not None and bool(more(**check(name, options))))


def showing_joins() -> list[str]:
    """The outputs, and line formats, that show the rule and the flow of a packet."""
    return [name for name in names() if description(name).joins]


def delivery(name: str, address: str) -> Delivery:
    """What an output promises of records that it sends to an address.

    An output of which that depends on the address has a function `delivery_to(address)`.
    """
    more = getattr(_module(name), "delivery_to", None)
    promised: Delivery = description(name).delivery if more is None else more(address)
    return promised


def is_place(name: str, target: str) -> bool:
    """Whether a target of an output is a place. If the output writes files as well, its function
    `is_place(target)` decides.
    """
    decides = getattr(_module(name), "is_place", None)
    return description(name).place and (decides is None or bool(decides(target)))


def check_address(name: str, address: str, options: Mapping[str, Any] | None = None) -> None:
    """ValueError for an address that the output of a place cannot have; connects to nothing."""
    if not address:
        shown = description(name).address or "its address"
        raise ValueError(f"{name} needs a target, which is missing: {shown}")
    more = getattr(_module(name), "check_address", None)
    if more is not None:
        more(address, **check(name, options))


def check_appending(name: str, path: str, options: Mapping[str, Any] | None = None) -> None:
    """ValueError for a file that what the output writes does not fit behind, by its first line.

    An output that has a say in it has a function `check_appending(first_line, **options)`.
    """
    fits = getattr(_module(name), "check_appending", None)
    if fits is None or not os.path.isfile(path) or not os.path.getsize(path):
        return
    try:
        fits(first_line(path), **check(name, options))
    except ValueError as error:
        raise ValueError(f"cannot append to {path}: {error}") from None


def open(name: str, target: Target | Place, options: Mapping[str, Any] | None = None) -> Output:
    """Make the output of that name, which writes to the target; ValueError as from `check`, and for
    a file where the output needs a place, or the other way round.

    The output of a place connects: BackendError if that fails.
    """
    settings = check(name, options)
    if isinstance(target, Place):
        if not description(name).place:
            raise ValueError(f"{name} writes files: {target.address} is none")
        check_address(name, target.address, options)
        module = _module(name)
        made: Output = getattr(module, "PlaceOutput", module.Output)(target, **settings)
        return made
    if description(name).place and not description(name).file:
        raise ValueError(f"{name} writes to no file, but to a target: name it")
    if target.path is None and description(name).needs_path:
        raise ValueError(f"{name} needs a file: name one")
    made = _module(name).Output(target, **settings)
    return made


def _module(name: str) -> OutputModule:
    if (module := _only(name)) is not None:
        return module
    if name not in _modules():
        raise ValueError(problem(name) or f"no output {name!r}{advice(name, names())}")
    return _modules()[name]
