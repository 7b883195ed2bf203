"""Draws a configuration as text, for `pylog check`: what flows from where to where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pylog.pipeline.config import Pipeline, Source, Stack
from pylog.pipeline.joins import Settings as JoinSettings
from pylog.pipeline.sinks import delivery
from pylog.pipeline.stages import Settings
from pylog.secrets import Secret, hidden


def drawn(pipeline: Pipeline) -> Iterator[str]:
    """The lines of the drawing. Secrets are shown as their places."""
    settings = pipeline.settings
    if settings.journal is not None:
        age = "" if settings.journal_age is None else f" or {_time(settings.journal_age)}"
        yield f"journal {settings.journal}, at most {_size(settings.journal_size)}{age}"
    else:
        yield f"no journal: each stack has a queue of {_size(settings.queue)}"
    if settings.metrics is not None:
        yield f"metrics at {settings.metrics[0]}:{settings.metrics[1]}"
    for name, source in pipeline.sources.items():
        stacks = [stack for stack in pipeline.stacks if name in stack.sources]
        yield ""
        yield f"{name}: {source.address}{_options(source.options)}{_of_source(source)}"
        if not stacks:
            yield "  (no stack reads it)"
        for number, stack in enumerate(stacks, 1):
            last = number == len(stacks)
            corner, line = ("└─", "   ") if last else ("├─", "│  ")
            first = next(n for n in pipeline.sources if n in stack.sources) == name
            yield f"  {corner} {stack.name}" + ("" if first else ", as above")
            if first:
                for text in _of_stack(stack, settings.journal is not None):
                    yield f"  {line}  {text}"


def _of_source(source: Source) -> str:
    parts = [] if source.layout is None else [f"layout {source.layout}"]
    parts += [f"{pattern} = {action}" for pattern, action in source.actions.items()]
    parts += [] if source.label is None else [f"called {source.label}"]
    return "".join(f", {part}" for part in parts)


def _of_stack(stack: Stack, durable: bool) -> Iterator[str]:
    if len(stack.sources) > 1:
        yield f"of {', '.join(stack.sources)}"
    yield from _joins(stack.joins)
    yield from _stages(stack.stages)
    target = str(stack.target) if isinstance(stack.target, Secret) else hidden(stack.target)
    form = stack.to + stack.suffix
    kind = "" if stack.partition is None else " data set"
    yield f"-> {form}{kind} {target}{_options(stack.options)} ({delivery(stack, durable)})"
    limits = [_size(stack.rotate_size)] if stack.rotate_size else []
    limits += [_time(stack.rotate_time)] if stack.rotate_time else []
    if stack.partition is not None:
        by = "" if stack.partition == "none" else f" by {stack.partition}"
        limits = limits or ["128 MB", "5 m"]
        yield f"   parts{by}, complete after {' or '.join(limits)}"
    elif limits:
        yield f"   a new file after {' or '.join(limits)}"


def _joins(joins: JoinSettings) -> Iterator[str]:
    with_words = [word for on, word in ((joins.rules, "rules"), (joins.with_flows, "flows")) if on]
    if with_words:
        yield f"packets with their {' and '.join(with_words)}"
    if joins.flows:
        age = joins.active_timeout
        reported = "" if age is None else f", and for one that lives every {_time(age)}"
        yield f"a record for each flow{reported}"


def _stages(stages: Settings) -> Iterator[str]:
    if stages.where is not None:
        yield f"where {stages.where}"
    if stages.set:
        yield "set " + ", ".join(f"{name} = {value!r}" for name, value in stages.set.items())
    if stages.drop:
        yield "drop " + ", ".join(stages.drop)
    if stages.every is not None:
        yield f"every {stages.every}. record"
    if stages.rate is not None:
        yield f"at most {stages.rate:g} records/s"
    if stages.dedup is not None:
        yield f"without repetitions within {_time(stages.dedup)}"


def _options(options: Mapping[str, Any]) -> str:
    """Options as text: throughput, qthresh = 5."""
    texts = []
    for name, value in options.items():
        shown = hidden(value) if isinstance(value, str) else value
        texts.append(name if value is True else f"{name} = {shown}")
    return f" [{', '.join(texts)}]" if texts else ""


def _size(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} bytes"


def _time(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"
