"""Reads the configuration of a pipeline: a TOML file, checked completely before anything is opened.

Each error names the file, the table and the key, and what was meant; all errors of a file are
reported together. Nothing is connected to, and no secret is read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pylog import backends, outputs
from pylog.actions import Actions
from pylog.errors import as_backend_error
from pylog.nearest import advice
from pylog.options import Option
from pylog.pipeline import joins
from pylog.pipeline.keys import SETTINGS, SOURCES, STACKS, Key
from pylog.pipeline.stages import Settings as StageSettings
from pylog.pipeline.stages import Stages
from pylog.pipeline.start import check_start
from pylog.secrets import Secret, secret_of

TABLES = ("pylog", "sources", "stacks")
PARTITIONED_SIZE, PARTITIONED_S = 128 * 10**6, 300.0
"""When a part of a data set is complete, unless the configuration says otherwise."""


class ConfigError(ValueError):
    """What is wrong with a configuration, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Settings:
    """The table [pylog]; times in seconds, sizes in bytes."""

    journal: Path | None = None
    journal_size: int = 10 * 10**9
    journal_age: float | None = None
    segment_size: int = 64 * 10**6
    queue: int = 64 * 10**6
    metrics: tuple[str, int] | None = None
    socket: str | None = None
    drain: float = 20.0


@dataclass(frozen=True)
class Source:
    """A table [sources.NAME].

    address   what is read
    options   of the backend, as given
    """

    name: str
    address: str
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: str | None = None
    label: str | None = None
    actions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether the process that receives reads it; else each stack reads it for itself."""
        return backends.is_live(self.address)


@dataclass(frozen=True)
class Stack:
    """A table [[stacks]].

    to, suffix   the output, and the compression of its files
    options      of the output, as given; secrets are Secret
    """

    name: str
    sources: Sequence[str]
    to: str
    target: str | Secret
    suffix: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    joins: joins.Settings = field(default_factory=joins.Settings)
    stages: StageSettings = field(default_factory=StageSettings)
    start: str = "now"
    partition: str | None = None
    rotate_size: int | None = None
    rotate_time: float | None = None
    dead_letters: str | None = None

    @property
    def is_place(self) -> bool:
        """Whether its output writes to a place, not to files."""
        if self.partition is not None or isinstance(self.target, Secret):
            return self.partition is None and outputs.description(self.to).place
        return outputs.is_place(self.to, self.target)


@dataclass(frozen=True)
class Pipeline:
    """A complete configuration."""

    path: str
    settings: Settings
    sources: Mapping[str, Source]
    stacks: Sequence[Stack]


def load(path: str) -> Pipeline:
    """The configuration in a file. Raises BackendError if it cannot be read, and ConfigError."""
    with as_backend_error("read", path):
        data = Path(path).read_bytes()
    try:
        return parsed(data.decode(), path)
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: byte {error.start} is no UTF-8"]) from None


def parsed(text: str, path: str = "configuration") -> Pipeline:
    """The configuration in a text; ConfigError."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return _Reading(path).pipeline(tables)


class _Reading:
    """The reading of a configuration, which collects its errors."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[str] = []

    def pipeline(self, tables: Mapping[str, Any]) -> Pipeline:
        for name in tables:
            if name not in TABLES:
                self._problem("", f"no table [{name}]{advice(name, TABLES)}")
        settings = self._settings(tables.get("pylog", {}))
        sources = dict(self._sources(tables.get("sources", {})))
        stacks = list(self._stacks(tables.get("stacks", []), sources, settings))
        self._check_pipeline(stacks, tables)
        if self._problems:
            raise ConfigError(self._problems)
        return Pipeline(self._path, settings, sources, stacks)

    def _problem(self, where: str, text: str) -> None:
        self._problems.append(": ".join(filter(None, (self._path, where, text))))

    def _check_pipeline(self, stacks: Sequence[Stack], tables: Mapping[str, Any]) -> None:
        if not tables.get("stacks"):
            self._problem("", "there is no [[stacks]], so nothing would be written")
        names = [stack.name for stack in stacks]
        targets = [s.target for s in stacks if isinstance(s.target, str) and not s.is_place]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._problem(f"stack {name!r}", "another stack has the same name")
        for target in sorted({target for target in targets if targets.count(target) > 1}):
            self._problem("", f"two stacks write to {target}")

    # Tables

    def _keys(
        self, where: str, given: Any, keys: Mapping[str, Key], options: Mapping[str, Option] | None
    ) -> dict[str, Any]:
        """The converted values of the keys that are given.

        options   may stand beside the keys; None: which there are is unclear
        """
        if not isinstance(given, Mapping):
            first = next(iter(keys))
            self._problem(where, f"is {given!r}, but must be a table, with {first} = ...")
            return {}
        values = {}
        for name, value in given.items():
            if name in keys:
                try:
                    values[name] = keys[name].convert(value)
                except ValueError as error:
                    self._problem(where, f"{name} {_worded(error)}")
            elif name not in (options or ()):
                hint = advice(name, [*keys, *(options or ())])
                if options is not None or "mean" in hint:
                    self._problem(where, f"no key {name}{hint}")
        for key in keys.values():
            if not key.default and key.name not in given:
                self._problem(where, f"{key.name} is missing: {key.help}")
        return values

    def _settings(self, given: Any) -> Settings:
        values = self._keys("[pylog]", given, SETTINGS, {})
        if "journal" in values:
            values["journal"] = Path(values["journal"])
        made = Settings(**values)
        if made.segment_size > made.journal_size:
            self._problem("[pylog]", "segment_size is larger than journal_size")
        return made

    def _sources(self, given: Any) -> Iterator[tuple[str, Source]]:
        if not isinstance(given, Mapping):
            self._problem("[sources]", "must be a table of tables, as [sources.fw]")
            return
        for name, entries in given.items():
            where = f"[sources.{name}]"
            address = entries.get("from") if isinstance(entries, Mapping) else None
            options = self._options_of(where, address) if isinstance(address, str) else None
            before = len(self._problems)
            values = self._keys(where, entries, SOURCES, options)
            if options is None or len(self._problems) > before:
                continue
            own = {key: value for key, value in entries.items() if key not in SOURCES}
            yield name, Source(name, values.pop("from"), own, **values)
            self._check_source(where, values.get("actions"), str(address), own)

    def _options_of(self, where: str, address: str) -> dict[str, Option] | None:
        """The options of the source of an address; None, and a problem, for one that is wrong."""
        name, colon, _ = address.partition(":")
        if colon and backends.named(address) is None and not Path(address).exists():
            hint = advice(name, backends.modules())
            if "mean" in hint:
                self._problem(where, f"from: no source {name}{hint}")
                return None
        try:
            return {option.name: option for option in backends.options_of(address)}
        except ValueError as error:
            self._problem(where, f"from: {error}")
            return None

    def _check_source(
        self, where: str, actions: Any, address: str, options: Mapping[str, Any]
    ) -> None:
        try:
            backends.check(address, options)
            if actions:
                Actions(actions)
        except ValueError as error:
            self._problem(where, str(error))

    def _stacks(
        self, given: Any, sources: Mapping[str, Source], settings: Settings
    ) -> Iterator[Stack]:
        if not isinstance(given, list):
            self._problem("[[stacks]]", "must be tables with two brackets, as [[stacks]]")
            return
        for number, entries in enumerate(given, 1):
            name = entries.get("name") if isinstance(entries, Mapping) else None
            where = f"stack {name!r}" if isinstance(name, str) and name else f"stack {number}"
            before = len(self._problems)
            form = self._form(where, entries)
            options = None
            if form is not None:
                options = {option.name: option for option in outputs.description(form.name).options}
            values = self._keys(where, entries, STACKS, options)
            stages = self._stages(where, values)
            for source in values.get("from", ()):
                if source not in sources and f"sources.{source}" not in "".join(self._problems):
                    self._problem(where, f"from: no source {source}{advice(source, sources)}")
            if form is None or options is None:
                continue
            own = {key: value for key, value in entries.items() if key in options}
            with_secrets = self._own_options(where, form, own)
            if len(self._problems) > before:
                continue
            joined = {key: values.pop(key) for key in joins.Settings._fields if key in values}
            values.pop("to", None)
            names, settings_of_joins = values.pop("from"), joins.Settings(**joined)
            addresses = [sources[name].address for name in names if name in sources]
            kind = joins.only_kind(settings_of_joins, addresses, form.name)
            if kind is not None:
                with_secrets.setdefault("kind", kind)
            stack = Stack(sources=names, to=form.name, suffix=form.suffix, options=with_secrets,
                          joins=settings_of_joins, stages=stages, **values)  # fmt: skip
            self._check_stack(where, stack, settings)
            self._check_joins(where, stack, sources)
            yield stack

    def _form(self, where: str, entries: Any) -> outputs.Form | None:
        """The output of a stack; None, and perhaps a problem, if that is unclear."""
        if not isinstance(entries, Mapping):
            return None
        to, target = entries.get("to"), entries.get("target")
        try:
            if isinstance(to, str) and to in outputs.names() and _is_place(to, entries):
                return outputs.Form(to)
            if isinstance(target, str) and entries.get("partition") is None:
                return outputs.form(target, to if isinstance(to, str) else None)
            if isinstance(to, str):
                return outputs.form(None, to)
            if target is not None:
                folder = "" if entries.get("partition") is None else " into the folder"
                self._problem(where, f"to is missing: what is to be written{folder}, as json")
        except ValueError as error:
            self._problem(where, str(error).replace("--to", "to"))
        return None

    def _stages(self, where: str, values: dict[str, Any]) -> StageSettings:
        """The stages among the values of a stack, which are taken out; and check its start."""
        settings = StageSettings(
            **{key: values.pop(key) for key in StageSettings._fields if key in values}
        )
        for checked, key in ((StageSettings(settings.where), "where"),
                             (settings._replace(where=None), "")):  # fmt: skip
            try:
                Stages(checked)
            except ValueError as error:
                self._problem(": ".join(filter(None, (where, key))), str(error))
        try:
            check_start(values.get("start", "now"))
        except ValueError as error:
            self._problem(where, str(error))
        return settings

    def _own_options(
        self, where: str, form: outputs.Form, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The options of the output of a stack, of which secrets are Secret."""
        made: dict[str, Any] = {}
        try:
            made = {n: _option(form.name, n, value) for n, value in options.items()}
            outputs.check(form.name, plain(made))
        except ValueError as error:
            self._problem(where, str(error))
        return made

    def _check_stack(self, where: str, stack: Stack, settings: Settings) -> None:
        description = outputs.description(stack.to)
        files = {"partition": stack.partition, "rotate_size": stack.rotate_size,
                 "rotate_time": stack.rotate_time}  # fmt: skip
        if stack.is_place or (description.place and not description.file):
            if isinstance(stack.target, str):
                self._check_address(where, stack)
            for name in (name for name, value in files.items() if value is not None):
                self._problem(where, f"{name} is of files, and {stack.to} writes to none")
        elif isinstance(stack.target, Secret):
            self._problem(where, "target must be the path of a file")
        elif stack.target == "-" and (description.binary or any(files.values()) or stack.suffix):
            self._problem(where, f"{stack.to} is not written to standard output: name a file")
        elif stack.partition is None and not description.appends:
            self._problem(where, f"a file of {stack.to} is complete when it is closed: with"
                          " partition = \"none\" it is a data set of such files")  # fmt: skip
        elif stack.partition is not None and description.needs_path:
            self._problem(where, f"{stack.to} cannot be partitioned")
        if stack.start != "now" and settings.journal is None:
            self._problem(where, "start is a place in the journal, and there is no journal")

    def _check_joins(self, where: str, stack: Stack, sources: Mapping[str, Source]) -> None:
        read = [joins.Read(s.address, s.options) for name in stack.sources
                if (s := sources.get(name)) is not None]  # fmt: skip
        if len(read) < len(stack.sources):
            return  # a source is wrong
        for problem in joins.check(stack.joins, read, stack.to, plain(stack.options)):
            self._problem(where, problem)

    def _check_address(self, where: str, stack: Stack) -> None:
        try:
            outputs.check_address(stack.to, str(stack.target), plain(stack.options))
        except ValueError as error:
            self._problem(where, f"target: {error}")


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with a word in place of each secret."""
    return {n: "secret" if isinstance(v, Secret) else v for n, v in options.items()}


def _is_place(to: str, entries: Mapping[str, Any]) -> bool:
    """Whether the entries of a stack name a place."""
    target = entries.get("target")
    if entries.get("partition") is not None and outputs.description(to).file:
        return False
    return (
        outputs.is_place(to, target) if isinstance(target, str) else outputs.description(to).place
    )


def _option(output: str, name: str, value: Any) -> Any:
    """The value of an option of an output; a table that names the place of a secret is a Secret."""
    declared = next((o for o in outputs.description(output).options if o.name == name), None)
    if declared is None or declared.kind is dict:
        return value
    secret = secret_of(value)
    if secret is None and declared.secret:
        raise ValueError(
            f'{name} is secret: name its place, as {{ file = "/etc/pylog/{name}" }}, and not itself'
        )
    return value if secret is None else secret


def _worded(error: ValueError) -> str:
    """The text of an error after the name of a key."""
    text = str(error)
    return text if text.startswith("is ") else f"is not valid: {text}"
