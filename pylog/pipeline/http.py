"""Serves /metrics and /health of a pipeline, in threads of their own.

The loop that receives does not wait for them, and /health answers when that loop hangs. Whoever
asks cannot use up memory: when too many connections are open, the oldest one is closed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import msgspec

from pylog.errors import BackendError, missing_extra
from pylog.notes import notes
from pylog.pipeline.state import problems, warnings

if TYPE_CHECKING:
    from pylog.pipeline.run import Run

MOST = 16
"""How many connections are open at a time."""
LONGEST_S = 10
"""How long a connection may be silent."""


class _Server(ThreadingHTTPServer):
    """Threads for requests, at most MOST."""

    daemon_threads = True
    request_queue_size = 2 * MOST

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._open: list[Any] = []
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(address[:2], handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Bind, and ask no name server for the name of the host, as HTTPServer does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread."""
        with self._lock:
            self._open.append(request)
            oldest = self._open.pop(0) if len(self._open) > MOST else None
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock, contextlib.suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that has left is no news."""
        notes.debug("a connection for metrics failed", exc_info=True)


def serve(run: Run, host: str, port: int) -> tuple[str, Callable[[], None]]:
    """Serve the metrics of a pipeline: where, as HOST:PORT, and what ends that.

    Raises BackendUnavailable without the extra, BackendError if the address cannot be used.
    """
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder
    except ImportError as error:
        raise missing_extra("metrics", "metrics") from error
    from pylog.pipeline.metrics import Collector

    registry = CollectorRegistry(auto_describe=False)
    collector: Any = Collector(run)
    registry.register(collector)
    ProcessCollector(registry=registry)

    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept") or "")
                self._give(200, kind, encode(registry))
            elif path == "/health":
                wrong = list(problems(run))
                shape = {"healthy": not wrong, "problems": wrong, "warnings": list(warnings(run))}
                self._give(503 if wrong else 200, "application/json", msgspec.json.encode(shape))
            else:
                self._give(404, "text/plain", b"there are /metrics and /health\n")

        do_HEAD = do_GET

        def _give(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: each scrape would be a line."""

    try:
        server = _Server(host, port, Handler)
    except OSError as error:
        raise BackendError(f"cannot serve metrics at {host}:{port}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{server.server_port}", stop
