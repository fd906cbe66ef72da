"""The mailbox of one open request, which holds the deltas of its choices until its one reader takes them.

Used on the event loop only. A slow reader gets more deltas at once, up to the size of the mailbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import accumulate

from mlc_serve.engine.request import RequestDelta
from mlc_serve.errors import RequestError

# Sizes count deltas and the logprobs in them. Each of these takes up to 300 bytes in memory.
MAX_WAITING = 2**17
# This many can be decoded and sent within about 5 ms, at 10 us each.
MAX_TAKEN = 512


class Stream:
    """The open stream of one request, from the number of prompt tokens by the engine's id of each choice.

    `engine_ids` are the engine's ids, and `unfinished` are those for which no last delta has come and that
    were not stopped. `waiting` has the number of prompt tokens of those that have neither a token nor an end.
    `request_id` is the caller's name for the request.
    """

    def __init__(self, request_id: str | None, prompt_tokens: Mapping[str, int]) -> None:
        self.request_id = request_id
        self.engine_ids = list(prompt_tokens)
        self.unfinished = set(prompt_tokens)
        self.waiting = dict(prompt_tokens)
        self.closed = asyncio.Event()
        self._deltas: list[RequestDelta] = []
        self._size = 0
        self._error: RequestError | None = None
        self._something_new: asyncio.Future[None] | None = None  # while the reader waits

    @property
    def has_begun(self) -> bool:
        """Whether one of the choices has a token or an end."""
        return len(self.waiting) < len(self.engine_ids)

    def put(self, delta: RequestDelta) -> bool:
        """Store a delta for the reader, and return whether there is room for more.

        After `fail` the delta is dropped, and there is always room.
        """
        if self.waiting and (delta.token_ids or delta.finish_reason is not None):
            self.waiting.pop(delta.request_id, None)
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
        """Raise this error to the reader once it has read all stored deltas. Only the first error counts."""
        if self._error is None:
            self._error = error
            self._wake_reader()

    async def take(self) -> list[RequestDelta]:
        """Wait for deltas, and return those that are there: at least one, and not many more than MAX_TAKEN.

        Lets other tasks run first if deltas are waiting already. Raises the error given to `fail`.
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
        """Remove and return the first deltas, up to the one that reaches MAX_TAKEN."""
        sizes = accumulate(map(_size, self._deltas))
        count, taken = next((i, size) for i, size in enumerate(sizes, 1) if size >= MAX_TAKEN)
        deltas = self._deltas[:count]
        del self._deltas[:count]
        self._size -= taken
        return deltas

    def _wake_reader(self) -> None:
        """Wake the reader if it waits.

        It waits on a bare future, because it waits once per token and an asyncio.Event costs twice as much.
        """
        if self._something_new is not None and not self._something_new.done():
            self._something_new.set_result(None)
            self._something_new = None


def _size(delta: RequestDelta) -> int:
    """Return 1 plus the number of logprobs in a delta."""
    return 1 + sum(
        1 + len(entry.top) for entries in (delta.logprobs, delta.prompt_logprobs) for entry in entries
    )
