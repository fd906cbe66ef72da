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
        self._something_new: asyncio.Future[None] | None = None  # while the reader waits

    def put(self, delta: RequestDelta) -> None:
        """Leave a delta for the reader. After `fail` nothing more is read."""
        if self._error is None:
            self._deltas.append(delta)
            self._wake_reader()

    def fail(self, error: RequestError) -> None:
        """Let the reader have what it has not read yet, then this error. The first error stays."""
        if self._error is None:
            self._error = error
            self._wake_reader()

    async def take(self) -> list[RequestDelta]:
        """Wait for deltas and take all there are, at least one. Raises the error given to `fail`."""
        if not self._deltas and self._error is None:
            self._something_new = asyncio.get_running_loop().create_future()
            await self._something_new
        deltas, self._deltas = self._deltas, []
        if not deltas and self._error is not None:
            raise self._error
        return deltas

    def _wake_reader(self) -> None:
        """A bare future: an asyncio.Event costs twice as much, and there is a wait for every token."""
        if self._something_new is not None and not self._something_new.done():
            self._something_new.set_result(None)
