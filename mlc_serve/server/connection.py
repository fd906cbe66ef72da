"""One client's connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, which tells `on_activity` when bytes come in."""

    def __init__(self, *args: Any, on_activity: Callable[[], None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._on_activity = on_activity

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        self._on_activity()
        super().data_received(data)
