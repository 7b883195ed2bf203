"""Metrics of a pipeline for Prometheus, at /metrics, and whether it is healthy, at /health.

They are served by a thread of their own with prometheus-client, from the numbers that `pylog
status` shows; the loop that receives does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import msgspec

from pylog.errors import BackendError, missing_extra
from pylog.pipeline.reporting import is_healthy, snapshot

if TYPE_CHECKING:
    from pylog.pipeline.run import Run

COUNTERS = {
    "records": "records read by a stack",
    "written": "records given to the output of a stack",
    "bytes": "bytes of the messages that a stack has read",
    "losses": "loss records that a stack has read",
    "lost": "lost records, as far as their number is certain",
    "refused": "records that the peer has refused",
    "dead": "refused records in the file of dead letters",
    "reconnects": "how often the output was opened again",
    "restarts": "how often the process of a stack was started again",
    "dropped_bytes": "bytes dropped because the queue of a stack was full",
    "cpu_s": "CPU time of a stack in seconds",
}
"""Counters of a stack by the names in the snapshot."""
GAUGES = {
    "lag_s": "seconds from the receipt of the newest record that was written until now, 0 when"
    " nothing waits",
    "lag_bytes": "bytes received and not yet delivered",
    "cpu_us_per_record": "CPU time of a stack for each record, in microseconds",
}
SOURCES = {
    "receipts": "how often something was received",
    "bytes": "bytes received",
    "overruns": "how often the system reported a loss",
}
JOURNAL = {
    "end": "bytes ever written to the journal",
    "removed": "bytes of segments that the limits have removed",
    "unwritten": "bytes that a full disk has cost",
}


class _Collector:
    """Gives the metrics of a pipeline at the moment of the question."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        shape = snapshot(self._run)
        for name, text in SOURCES.items():
            made = CounterMetricFamily(f"pylog_source_{name}", text, labels=["source"])
            for source in shape["sources"]:
                made.add_metric([source["name"]], source[name])
            yield made
        up = GaugeMetricFamily("pylog_source_up", "whether a source is open", labels=["source"])
        for source in shape["sources"]:
            up.add_metric([source["name"]], float(source["state"] != "failed"))
        yield up
        for name, text in COUNTERS.items():
            metric = f"pylog_stack_{name.removesuffix('_s')}"
            metric += "_seconds" if name.endswith("_s") else ""
            made = CounterMetricFamily(metric, text, labels=["stack"])
            for stack in shape["stacks"]:
                made.add_metric([stack["name"]], stack.get(name, 0))
            yield made
        left_out = CounterMetricFamily("pylog_stack_left_out", "records that a stage left out",
                                       labels=["stack", "stage"])  # fmt: skip
        for stack in shape["stacks"]:
            for stage, count in stack.get("left_out", {}).items():
                left_out.add_metric([stack["name"], stage], count)
        yield left_out
        for name, text in GAUGES.items():
            metric = name.replace("lag_s", "lag_seconds").replace("_us_", "_microseconds_")
            gauge = GaugeMetricFamily(f"pylog_stack_{metric}", text, labels=["stack"])
            for stack in shape["stacks"]:
                gauge.add_metric([stack["name"]], stack.get(name, 0))
            yield gauge
        running = GaugeMetricFamily("pylog_stack_running", "whether the output of a stack is open",
                                    labels=["stack"])  # fmt: skip
        for stack in shape["stacks"]:
            running.add_metric([stack["name"]], float(stack["state"] == "running"))
        yield running
        for name, text in JOURNAL.items() if "journal" in shape else ():
            made = CounterMetricFamily(f"pylog_journal_{name}_bytes", text)
            made.add_metric([], shape["journal"][name])
            yield made
        if "journal" in shape:
            full = GaugeMetricFamily("pylog_journal_full", "whether the disk is full")
            full.add_metric([], float(shape["journal"]["full"]))
            yield full
        cpu = CounterMetricFamily("pylog_receiving_cpu_seconds", "CPU time of receiving")
        cpu.add_metric([], shape["receiving_cpu_s"])
        yield cpu


def serve(run: Run, host: str, port: int) -> Callable[[], None]:
    """Serve the metrics of a pipeline in a thread; what ends that.

    Raises BackendUnavailable without the extra, BackendError if the address cannot be used.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise missing_extra("metrics", "metrics") from error
    registry = CollectorRegistry(auto_describe=False)
    collector: Any = _Collector(run)
    registry.register(collector)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/metrics":
                self._give(200, "text/plain; version=0.0.4; charset=utf-8",
                           generate_latest(registry))  # fmt: skip
            elif self.path.partition("?")[0] == "/health":
                healthy = is_healthy(run)
                body = msgspec.json.encode({"healthy": healthy})
                self._give(200 if healthy else 503, "application/json", body)
            else:
                self._give(404, "text/plain", b"there are /metrics and /health\n")

        def _give(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: each scrape would be a line."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise BackendError(f"cannot serve metrics at {host}:{port}: {error.strerror}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
