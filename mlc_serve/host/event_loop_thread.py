"""An event loop in a thread, for objects that work on asyncio and are called by programs that don't.

Any thread may call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from mlc_serve.errors import ShuttingDownError

T = TypeVar("T")


class _Call(Generic[T]):
    """A coroutine that runs on the event loop, and the caller in another thread who waits for its end.

    Ctrl-C may hit the caller anywhere, even in the `__enter__` of a lock, which then stays locked for good.
    So the two share no lock that Python code takes, as concurrent.futures does: SimpleQueue is written in C.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self._outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def begin(self) -> None:
        """Start the coroutine; on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """End the coroutine if it has begun and not ended; on the event loop."""
        if self._task is not None:
            self._task.cancel()

    def wait(self) -> T:
        """What the coroutine returns or raises; in the caller's thread."""
        value, error = self._outcome.get()
        if error is not None:
            raise error
        return cast("T", value)

    async def _run(self) -> None:
        try:
            self._outcome.put((await self._start(), None))
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self._outcome.put((None, error))
        finally:
            self._task = None


class EventLoopThread:
    """An event loop that runs until `stop`. `name` is that of the object whose work it does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine. What interrupts the wait cancels it. ShuttingDownError after `stop`."""
        call = _Call(start)
        try:
            if not self._call_soon(call.begin):
                raise ShuttingDownError(f"{self._name} was terminated.")
            return call.wait()
        except BaseException:
            self._call_soon(call.cancel)
            raise

    def post(self, start: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Let a coroutine run, without waiting for it. After `stop` it isn't run."""
        self._call_soon(_Call(start).begin)

    def stop(self) -> None:
        """Wait for what runs, end the loop and its thread. The second time does nothing."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        rest = _Call(self._settle)
        self._loop.call_soon_threadsafe(rest.begin)
        rest.wait()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call_soon(self, callback: Callable[[], None]) -> bool:
        """Let the event loop call something, unless it is stopping."""
        with self._lock:
            if not self._stopping:
                self._loop.call_soon_threadsafe(callback)
            return not self._stopping

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
