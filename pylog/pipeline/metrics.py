"""Metrics of a pipeline for Prometheus, of the numbers that `pylog status` shows.

They are made at the moment of the question, with prometheus-client. Names follow its conventions:
base units (seconds, bytes), counters end in _total, a counter of a pipeline that starts again
begins at 0. What belongs to a stack and a source has both as labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pylog
from pylog.pipeline.state import snapshot

if TYPE_CHECKING:
    from pylog.pipeline.run import Run


class Metric(NamedTuple):
    """A metric.

    name   without pylog_ and _total
    key    of the number in the snapshot
    help   what it counts
    """

    name: str
    key: str
    help: str


SOURCE = (
    Metric("source_receipts", "receipts", "How often something was received of a source."),
    Metric("source_bytes", "bytes", "Bytes received of a source."),
    Metric("source_overruns", "overruns", "How often the system reported that it lost something."),
    Metric("source_reconnects", "reconnects", "How often a source was opened again."),
    Metric("source_cpu_seconds", "cpu_s", "CPU time of receiving and passing on."),
)
"""Counters of a source."""
STACK_SOURCE = (
    Metric("stack_records", "records", "Records that a stack has read, losses among them."),
    Metric("stack_bytes", "bytes", "Bytes of the messages that a stack has read."),
    Metric("stack_losses", "losses", "Loss records that a stack has read."),
    Metric("stack_lost_records", "lost", "Records that are lost, where their number is certain."),
)
"""Counters of a stack and a source."""
STACK = (
    Metric("stack_written_records", "written", "Records given to the output of a stack."),
    Metric("stack_refused_records", "refused", "Records that the peer of an output refused."),
    Metric("stack_dead_letters", "dead", "Refused records in the file of dead letters."),
    Metric("stack_failures", "failures", "How often an output failed, and was to be opened again."),
    Metric("stack_reconnects", "reconnects", "How often an output was connected again."),
    Metric("stack_restarts", "restarts", "How often the process of a stack was started again."),
    Metric("stack_dropped_bytes", "dropped_bytes", "Bytes dropped because a queue was full."),
    Metric("stack_cpu_seconds", "cpu_s", "CPU time of a stack."),
)
"""Counters of a stack."""
STACK_NOW = (
    Metric("stack_lag_seconds", "lag_s", "Time since the oldest record that is not delivered was"
           " received; 0 when nothing waits."),
    Metric("stack_lag_bytes", "lag_bytes", "Bytes received and not yet delivered."),
    Metric("stack_cpu_seconds_per_record", "cpu_per_record", "CPU time of a stack for a record, on"
           " average."),
    Metric("stack_running", "running", "Whether the output of a stack is open."),
)  # fmt: skip
"""Gauges of a stack."""
JOURNAL = (
    Metric("journal_written_bytes", "end", "Bytes ever written to the journal."),
    Metric("journal_removed_bytes", "removed", "Bytes that the limits of the journal removed."),
    Metric("journal_unwritten_bytes", "unwritten", "Bytes lost because the disk was full."),
)
"""Counters of the journal."""
LEFT_OUT = Metric("stack_left_out_records", "left_out", "Records that a stage left out.")


def families(shape: Mapping[str, Any]) -> Iterator[Any]:
    """The families of metrics of a snapshot, for prometheus-client."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def family(kind: Any, metric: Metric, rows: Any, *labels: str) -> Any:
        made = kind(f"pylog_{metric.name}", metric.help, labels=labels)
        for values, number in rows:
            made.add_metric(values, float(number))
        return made

    sources, stacks = shape["sources"], [_with_gauges(stack) for stack in shape["stacks"]]
    yield family(GaugeMetricFamily, Metric("healthy", "", "Whether /health answers 200."),
                 [([], shape["healthy"])])  # fmt: skip
    yield family(GaugeMetricFamily, Metric("build_info", "", "The version of pylog."),
                 [([pylog.__version__], 1)], "version")  # fmt: skip
    yield family(GaugeMetricFamily, Metric("source_up", "", "Whether a source is open."),
                 [([s["name"]], s["state"] != "failed") for s in sources], "source")  # fmt: skip
    for metric in SOURCE:
        yield family(CounterMetricFamily, metric,
                     [([s["name"]], s[metric.key]) for s in sources], "source")  # fmt: skip
    for metric in STACK_SOURCE:
        rows = [([stack["name"], source], counts[metric.key]) for stack in stacks
                for source, counts in stack["sources"].items()]  # fmt: skip
        yield family(CounterMetricFamily, metric, rows, "stack", "source")
    for kind, metrics in ((CounterMetricFamily, STACK), (GaugeMetricFamily, STACK_NOW)):
        for metric in metrics:
            rows = [([stack["name"]], stack[metric.key]) for stack in stacks]
            yield family(kind, metric, rows, "stack")
    rows = [([stack["name"], stage], count) for stack in stacks
            for stage, count in stack["left_out"].items()]  # fmt: skip
    yield family(CounterMetricFamily, LEFT_OUT, rows, "stack", "stage")
    if "journal" in shape:
        journal = shape["journal"]
        for metric in JOURNAL:
            yield family(CounterMetricFamily, metric, [([], journal[metric.key])])
        full = Metric("journal_full", "", "Whether the disk of the journal is full.")
        yield family(GaugeMetricFamily, full, [([], journal["full"])])


def _with_gauges(stack: Mapping[str, Any]) -> dict[str, Any]:
    per_record = stack["cpu_us_per_record"] / 1e6
    return {**stack, "cpu_per_record": per_record, "running": stack["state"] == "running"}


class Collector:
    """Gives the metrics of a pipeline at the moment of the question."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def collect(self) -> Iterator[Any]:
        """The families, for a registry of prometheus-client."""
        return families(snapshot(self._run))
