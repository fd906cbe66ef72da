"""A server process on a fake model, which moves prefixes in small portions.

    python microserver.py SECONDS

It gives up a peer that is silent for so many seconds, and a parked request without a call.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import ServerConfig
from mlc_serve.kv_transfer.kv_port import KVPort
from mlc_serve.kv_transfer.limits import TransferLimits
from mlc_serve.server import app
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import run
from mlc_serve.testing import fake_model


def main() -> int:
    """Serve on any free port."""
    logging.basicConfig(level=logging.INFO)
    seconds = float(sys.argv[1])
    limits = TransferLimits(portion=seconds, hello=seconds, lease=seconds, portion_bytes=400)
    # The app makes the port, and has no setting for these limits.
    app.KVPort = partial(KVPort, limits=limits)  # type: ignore[assignment, attr-defined]
    context = ServerContext()
    context.add(AsyncMLCEngine.from_loaded(fake_model()))
    return run(context, ServerConfig(port=0, shutdown_timeout=0))


if __name__ == "__main__":
    sys.exit(main())
