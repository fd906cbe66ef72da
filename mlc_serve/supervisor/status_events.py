"""Status events: callbacks get a new status at once, and async iterators when they read it.

Runs on one event loop. It never waits for a reader: a slow one misses the oldest changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from mlc_serve.supervisor.status import STATUS_CHANGED, MLCServerStatus

logger = logging.getLogger(__name__)

BUFFERED = 16

Callback = Callable[[MLCServerStatus], object]


class StatusEvents:
    """The callbacks and iterators that get one server's status."""

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._streams: list[StatusStream] = []
        self._closed = False

    def add_callback(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with each new status from now on. Return a function that ends this."""
        self._callbacks.append(callback)

        def remove() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return remove

    def stream(self, buffered: int = BUFFERED) -> StatusStream:
        """Return an async iterator over each new status from now on. It keeps the last `buffered` unread."""
        stream = StatusStream(buffered, self._streams.remove)
        self._streams.append(stream)
        if self._closed:
            stream.close()
        return stream

    def emit(self, status: MLCServerStatus) -> None:
        """Pass a new status to all callbacks and iterators. Log what a callback raises."""
        for stream in self._streams:
            stream.put(status)
        for callback in list(self._callbacks):
            try:
                callback(status)
            except Exception:  # a faulty callback must not stop the supervisor
                logger.exception("a callback for %s failed", STATUS_CHANGED)

    def close(self) -> None:
        """End each iterator after the statuses that it still holds."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()


class StatusStream:
    """An async iterator over new statuses. It ends when its source or its reader closes it."""

    def __init__(self, buffered: int, remove: Callable[[StatusStream], None]) -> None:
        self._unread: deque[MLCServerStatus] = deque(maxlen=buffered)
        self._news = asyncio.Event()
        self._open = True
        self._remove = remove

    def put(self, status: MLCServerStatus) -> None:
        """Add a status, in place of the oldest unread one if there is no room."""
        self._unread.append(status)
        self._news.set()

    def close(self) -> None:
        """Accept no further status, and end after the unread ones. May be called twice."""
        if self._open:
            self._open = False
            self._remove(self)
            self._news.set()

    def __aiter__(self) -> StatusStream:
        return self

    async def __anext__(self) -> MLCServerStatus:
        while not self._unread:
            if not self._open:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()
