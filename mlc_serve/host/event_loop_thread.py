"""EventLoopThread: lets programs without an event loop use objects that need one. Any thread may call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from mlc_serve.errors import ShuttingDownError

T = TypeVar("T")


class _Call(Generic[T]):
    """A coroutine that runs on the event loop, and the caller in another thread that waits for its end.

    Ctrl-C may interrupt the caller anywhere, even in the `__enter__` of a lock, which then stays locked
    forever. Therefore the two share no lock that Python code takes (concurrent.futures has such locks);
    SimpleQueue is written in C.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self._outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def begin(self) -> None:
        """Start the coroutine. Must be called on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Cancel the coroutine if it runs. Must be called on the event loop."""
        if self._task is not None:
            self._task.cancel()

    def wait(self) -> T:
        """Wait in the caller's thread, and return or raise what the coroutine returns or raises."""
        value, error = self._outcome.get()
        if error is not None:
            raise error
        return cast("T", value)

    async def _run(self) -> None:
        try:
            self._outcome.put((await self._start(), None))
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._outcome.put((None, error))
        finally:
            self._task = None


class EventLoopThread:
    """An event loop that runs until `stop`. `name` is the name of the object that uses it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine, and return its result. If the wait is interrupted, the coroutine is cancelled.

        Raises ShuttingDownError after `stop`.
        """
        call = _Call(start)
        try:
            if not self._call_soon(call.begin):
                raise ShuttingDownError(f"{self._name} was terminated.")
            return call.wait()
        except BaseException:
            self._call_soon(call.cancel)
            raise

    def post(self, start: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine without waiting for it. Does nothing after `stop`."""
        self._call_soon(_Call(start).begin)

    def stop(self) -> None:
        """Wait for the coroutines that run, then end the loop and its thread. May be called twice."""
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
        """Let the event loop call `callback`. Does nothing and returns False if the loop is stopping."""
        with self._lock:
            if not self._stopping:
                self._loop.call_soon_threadsafe(callback)
            return not self._stopping

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
