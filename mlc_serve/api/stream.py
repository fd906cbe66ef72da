"""The mailbox of one open request: what the engine says of its choices, until its one reader takes it.

Used on the event loop only. A reader that is slow finds more deltas at once, as many as a mailbox holds.
"""

from __future__ import annotations

import asyncio
from itertools import accumulate

from mlc_serve.engine.request import RequestDelta
from mlc_serve.errors import RequestError

# Sizes count deltas and the logprobs in them. Either takes up to 300 bytes here.
MAX_WAITING = 2**17
# What is turned into text and sent within about 5 ms, if it takes 10 us each.
MAX_TAKEN = 512


class Stream:
    """`engine_ids` are those of the choices, of which `unfinished` are those that go on for all that the
    reader's side knows; `request_id` is what the outside calls the request.
    """

    def __init__(self, request_id: str | None, engine_ids: list[str]) -> None:
        self.request_id = request_id
        self.engine_ids = engine_ids
        self.unfinished = set(engine_ids)
        self.closed = asyncio.Event()
        self._deltas: list[RequestDelta] = []
        self._size = 0
        self._error: RequestError | None = None
        self._something_new: asyncio.Future[None] | None = None  # while the reader waits

    def put(self, delta: RequestDelta) -> bool:
        """Leave a delta for the reader, and say whether there is room for more.

        After `fail` nothing is kept, so that there is room for everything.
        """
        if delta.finish_reason is not None:
            self.unfinished.discard(delta.request_id)
        if self._error is not None:
            return True
        self._deltas.append(delta)
        self._size += _size(delta) if delta.logprobs or delta.prompt_logprobs else 1
        if self._something_new is not None:
            self._wake_reader()
        return self._size <= MAX_WAITING

    def fail(self, error: RequestError) -> None:
        """Let the reader have what it has not read yet, then this error. The first error stays."""
        if self._error is None:
            self._error = error
            self._wake_reader()

    async def take(self) -> list[RequestDelta]:
        """Wait for deltas and take those that are there, at least one and not many more than MAX_TAKEN.

        Other tasks run before the next ones are taken. Raises the error given to `fail`.
        """
        if self._deltas:
            await asyncio.sleep(0)
        elif self._error is None:
            self._something_new = asyncio.get_running_loop().create_future()
            await self._something_new
        if not self._deltas and self._error is not None:
            raise self._error
        if self._size > MAX_TAKEN:
            return self._take_first()
        deltas, self._deltas, self._size = self._deltas, [], 0
        return deltas

    def _take_first(self) -> list[RequestDelta]:
        """The first deltas, up to the one with which MAX_TAKEN is reached."""
        sizes = accumulate(map(_size, self._deltas))
        count, taken = next((i, size) for i, size in enumerate(sizes, 1) if size >= MAX_TAKEN)
        deltas = self._deltas[:count]
        del self._deltas[:count]
        self._size -= taken
        return deltas

    def _wake_reader(self) -> None:
        """A bare future: an asyncio.Event costs twice as much, and there is a wait for every token."""
        if self._something_new is not None and not self._something_new.done():
            self._something_new.set_result(None)
            self._something_new = None


def _size(delta: RequestDelta) -> int:
    """One, and one for each logprob."""
    return 1 + sum(
        1 + len(entry.top) for entries in (delta.logprobs, delta.prompt_logprobs) for entry in entries
    )
