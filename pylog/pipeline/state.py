"""The state of a pipeline while it runs: what it has read and written, and what is wrong.

`pylog status`, the metrics, /health and the service manager all show this, so they agree. A thread
that serves metrics may ask while the loop runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from pylog.pipeline.sinks import delivery
from pylog.record import rfc3339
from pylog.secrets import Secret

if TYPE_CHECKING:
    from pylog.pipeline.processes import StackProcess
    from pylog.pipeline.run import Run

HEALTHY_S = 10.0
"""A loop that has not gone round for so long is not healthy."""
_INTERNAL = ("place", "confirmed", "observed_ns", "problem", "start_cpu_s")
"""Counts that are shown in another form."""


def snapshot(run: Run) -> dict[str, Any]:
    """The state of a pipeline, for JSON: sources, stacks and the journal."""
    receiver = run.receiver
    journal = receiver.journal
    sources = [_source(run, name) for name in list(run.pipeline.sources)]
    shape: dict[str, Any] = {
        "pid": os.getpid(),
        "configuration": run.pipeline.path,
        "started": rfc3339(int(run.started * 1e9)),
        "healthy": not (wrong := list(problems(run))),
        "problems": wrong,
        "warnings": list(warnings(run)),
        "receiving_cpu_s": round(sum(source["cpu_s"] for source in sources), 6),
        "sources": sources,
        "stacks": [_stack(run, stack) for stack in list(run.stacks.values())],
    }
    if run.metrics is not None:
        shape["metrics"] = run.metrics
    if journal is not None:
        shape["journal"] = {
            "folder": str(journal.folder),
            "end": journal.end,
            "removed": journal.removed,
            "unwritten": journal.unwritten,
            "full": journal.is_full,
        }
    return shape


def _source(run: Run, name: str) -> dict[str, Any]:
    source, receiver = run.pipeline.sources[name], run.receiver
    is_open = any(intake.source.name == name for intake in list(receiver.intakes))
    failed = receiver.failed.get(name)
    totals = receiver.totals(name)
    state = "open" if is_open else "failed" if failed else "by stacks"
    shape: dict[str, Any] = {"name": name, "from": source.address, "state": state}
    if failed:
        shape["problem"] = failed
    return shape | {
        "receipts": totals.receipts,
        "bytes": totals.bytes,
        "overruns": totals.overruns,
        "reconnects": max(0, totals.openings - 1),
        "cpu_s": round(totals.cpu_s, 6),
    }


def _stack(run: Run, process: StackProcess) -> dict[str, Any]:
    stack, counts = process.stack, process.totals
    journal, queue = run.receiver.journal, process.queue
    behind, lag_s = 0, 0.0
    if process.is_live:
        place, at = max(counts.place, counts.confirmed), time.monotonic()
        if journal is not None:
            behind, lag_s = max(0, journal.end - place), run.growth.age_s(place, at)
        elif queue is not None:
            behind, lag_s = max(0, queue.total - place), process.growth.age_s(place, at)
    target = str(stack.target) if isinstance(stack.target, Secret) else stack.target
    reading_s = max(0.0, counts.cpu_s - counts.start_cpu_s)
    shape = {
        name: value for name in counts.__struct_fields__
        if name not in _INTERNAL and (value := getattr(counts, name)) is not None
    }  # fmt: skip
    shape["sources"] = {
        source: msgspec.structs.asdict(own) for source, own in counts.sources.items()
    } or {source: {name: getattr(counts, name) for name in ("records", "bytes", "losses", "lost")}
          for source in stack.sources}  # fmt: skip
    made: dict[str, Any] = {
        "name": stack.name, "from": list(stack.sources), "to": stack.to, "target": target,
        "delivery": delivery(stack, journal is not None),
    }  # fmt: skip
    made |= shape | {
        "cpu_s": round(counts.cpu_s, 6),
        "cpu_us_per_record": round(reading_s / counts.records * 1e6, 2) if counts.records else 0,
        "lag_s": round(lag_s, 3),
        "lag_bytes": behind,
        "restarts": process.restarts,
        "dropped_bytes": 0 if queue is None else queue.dropped,
    }
    if counts.observed_ns is not None:
        made["newest"] = rfc3339(counts.observed_ns)
    if counts.problem:
        made["problem"] = counts.problem
    return made


def problems(run: Run) -> Iterator[str]:
    """Why the pipeline is not healthy: it loses records, or a person has to act."""
    silent_s = time.monotonic() - run.beat_at
    if silent_s >= HEALTHY_S:
        yield f"the loop that receives has hung for {silent_s:.0f} s"
    for name, problem in list(run.receiver.failed.items()):
        yield f"source {name}: {problem}"
    journal = run.receiver.journal
    if journal is not None and journal.is_full:
        yield f"the disk of the journal {journal.folder} is full"
    for stack in list(run.stacks.values()):
        if stack.counts.state == "failed":
            yield f"stack {stack.stack.name} has failed: {stack.counts.problem}"


def warnings(run: Run) -> Iterator[str]:
    """What is wrong now and may pass: outputs that are tried again."""
    for stack in list(run.stacks.values()):
        counts = stack.counts
        if counts.problem and counts.state != "failed":
            yield f"stack {stack.stack.name}: {counts.problem}"


def receives(run: Run) -> bool:
    """Whether a live source is open, or there is none to be open."""
    return bool(run.receiver.intakes) or not run.receiver.failed


def line(run: Run) -> str:
    """The state in a line, for people."""
    wrong = [*problems(run), *warnings(run)]
    counts = [stack.totals for stack in list(run.stacks.values())]
    written, lost = sum(c.written for c in counts), sum(c.lost for c in counts)
    text = f"sources: {len(run.pipeline.sources)}, stacks: {len(counts)}, written: {written}"
    return "; ".join([*wrong, f"{text}, lost: {lost}"])
