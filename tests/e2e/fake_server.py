"""A server process on fake models, for tests that send signals.

    python fake_server.py SHUTDOWN_TIMEOUT

Serves two models, `fake` and `other`. Their devices stop after three tokens of every reply until stdin gets a
line, and crash at a `!`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.engine.sampling import Draw
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import run
from mlc_serve.testing import Choice, FakeBackend, fake_model, likely_letter

HELD_AFTER = 3


def held(gate: threading.Event) -> Choice:
    """The usual choice of tokens, which waits for the gate from the fourth token on."""

    def choose(stored: Sequence[int], draw: Draw) -> int:
        if len(draw.output_ids) >= HELD_AFTER:
            gate.wait()
        return likely_letter(stored, draw)

    return choose


def open_on_input(gate: threading.Event) -> None:
    """Open the gate when stdin gets a line."""
    if sys.stdin.readline():
        gate.set()


def main() -> int:
    """Serve on any free port."""
    logging.basicConfig(level=logging.INFO)
    gate = threading.Event()
    threading.Thread(target=open_on_input, args=(gate,), daemon=True).start()
    context = ServerContext()
    for name in ("fake", "other"):
        backend = FakeBackend(choose=held(gate))
        backend.crash_on = {ord("!")}
        context.add(AsyncMLCEngine.from_loaded(fake_model(name, backend=backend)))
    return run(context, ServerConfig(port=0, shutdown_timeout=float(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
