"""A fake supervisor, which sends an event with its status and one for each change."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UP: dict[str, Any] = {
    "process_running": True,
    "http_available": True,
    "port": 8000,
    "pid": 4711,
    "error": None,
    "since": "2026-01-01T00:00:00Z",
}


class FakeSupervisor:
    """A status that one listener gets first, and again after each `change`."""

    def __init__(self) -> None:
        self.status = UP
        self._changes: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._changes.put(UP)

    def change(self, **fields: Any) -> None:
        """Change the status, and send it to the listener."""
        self.status = self.status | fields
        self._changes.put(self.status)

    def close(self) -> None:
        """End the event stream."""
        self._changes.put(None)

    def changes(self) -> Iterator[dict[str, Any]]:
        """The status and each change, until `close`."""
        yield from iter(self._changes.get, None)


@contextmanager
def fake_supervisor() -> Iterator[tuple[FakeSupervisor, str]]:
    """A supervisor and its URL."""
    supervisor = FakeSupervisor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/events" else 404)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if self.path == "/events":
                self._send_events()

        def _send_events(self) -> None:
            for status in supervisor.changes():
                self.wfile.write(f"event: mlc-status-changed\ndata: {json.dumps(status)}\n\n".encode())
                self.wfile.flush()

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing during tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield supervisor, f"http://127.0.0.1:{server.server_port}"
        finally:
            supervisor.close()
            server.shutdown()
            thread.join()
