"""The mailbox of one open request: what the engine says of its choices, until its one reader takes it.

Used on the event loop only. A reader that is slow finds more deltas at once; the length of the choices bounds
them.
"""

from __future__ import annotations

import asyncio

from mlc_serve.engine.request import RequestDelta
from mlc_serve.errors import RequestError


class Stream:
    """`engine_ids` are those of the choices; `request_id` is what the outside calls the request."""

    def __init__(self, request_id: str | None, engine_ids: list[str]) -> None:
        self.request_id = request_id
        self.engine_ids = engine_ids
        self.closed = asyncio.Event()
        self._deltas: list[RequestDelta] = []
        self._error: RequestError | None = None
        self._something_new = asyncio.Event()

    def put(self, delta: RequestDelta) -> None:
        """Leave a delta for the reader. After `fail` nothing more is read."""
        if self._error is None:
            self._deltas.append(delta)
            self._something_new.set()

    def fail(self, error: RequestError) -> None:
        """Let the reader have what it has not read yet, then this error. The first error stays."""
        if self._error is None:
            self._error = error
            self._something_new.set()

    async def take(self) -> list[RequestDelta]:
        """Wait for deltas and take all there are, at least one. Raises the error given to `fail`."""
        await self._something_new.wait()
        deltas, self._deltas = self._deltas, []
        if self._error is None:
            self._something_new.clear()
        elif not deltas:
            raise self._error
        return deltas
