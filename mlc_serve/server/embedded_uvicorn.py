"""Uvicorn for a program that has other things to do on its event loop, and handles signals itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp


class EmbeddedUvicorn(uvicorn.Server):
    """Uvicorn that leaves the signals to the program. Setting `should_exit` ends `serve`."""

    def __init__(self, app: ASGIApp, flush_seconds: int, settings: dict[str, Any]) -> None:
        """`settings` are those of uvicorn_settings. At the end, complete replies get `flush_seconds`."""
        super().__init__(
            uvicorn.Config(
                app,
                **settings,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_graceful_shutdown=flush_seconds,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
