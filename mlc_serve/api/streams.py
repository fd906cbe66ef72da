"""Streams owns the open requests, and connects the event loop with the engine's thread.

    event loop                                          engine thread (EngineLoop)
    ----------                                          --------------------------
    open: register a stream, submit  ────────────────>  step, step, ...
    _dispatch: deltas into streams   <─ call per step ─  deliver(deltas of a step)
    stream closed, for any reason    ───── abort ────>  unfinished choices end within one step

Streams are opened, filled and closed only on the event loop. Knows nothing about text, HTTP or devices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlc_serve.api.queued_tokens import QueuedTokens
from mlc_serve.api.stream import Stream
from mlc_serve.api.timeouts import Timeouts
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.loop import EngineLoop
from mlc_serve.engine.request import EngineRequest, FinishReason, RequestDelta
from mlc_serve.errors import EngineDeadError, ReaderTooSlowError, RequestError, ShuttingDownError

logger = logging.getLogger(__name__)


class Streams:
    """The open requests of one engine, whose thread runs from the start until `terminate`.

    It may be used from one event loop at a time; another one may use it when no stream is open.
    """

    def __init__(self, core: EngineCore, queued_tokens: QueuedTokens, timeouts: Timeouts) -> None:
        self._streams: dict[str, Stream] = {}  # by the engine's id of each choice
        self._queued_tokens = queued_tokens
        self._timeouts = timeouts
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._refusal: Callable[[], RequestError] | None = None
        self._has_died = False
        self._death = asyncio.Event()
        self.loop = EngineLoop(core, self._deliver, self._died)
        self.loop.start()

    def require_open(self) -> None:
        """Raise EngineDeadError or ShuttingDownError if the engine no longer takes requests."""
        if self._refusal is not None:
            raise self._refusal()

    @property
    def is_queue_full(self) -> bool:
        """Whether the prompts of the open requests leave no room for another one to wait."""
        return not self._queued_tokens.has_room(self._open)

    def require_room(self) -> None:
        """Raise QueueFullError if the queue is full."""
        self._queued_tokens.require_room(self._open)

    @contextmanager
    def open(self, requests: Sequence[EngineRequest], request_id: str | None = None) -> Iterator[Stream]:
        """Submit the choices of a request, and yield the stream of their deltas.

        When the context is left, choices that have not ended are aborted. `abort` takes `request_id`. Raises
        what `require_open` and EngineLoop.submit raise, and QueueFullError if these prompts may not wait.
        """
        self.require_open()
        self._adopt_running_loop()
        stream = Stream(request_id, {request.request_id: len(request.prompt_ids) for request in requests})
        self._queued_tokens.require_room(self._open, sum(stream.waiting.values()))
        self._streams.update(dict.fromkeys(stream.engine_ids, stream))
        try:
            with self._timeouts.watching(stream, requests[0].arrival, self._give_up):
                for request in requests:
                    self.loop.submit(request)
                yield stream
        finally:
            self._close(stream)

    def stop(self, engine_id: str) -> None:
        """End one choice of an open stream, because its text is complete."""
        self._streams[engine_id].unfinished.discard(engine_id)
        self.loop.abort(engine_id, FinishReason.STOP)

    def abort(self, request_id: str) -> None:
        """End the requests that were opened with this `request_id`, if there are any."""
        for engine_id, stream in self._streams.items():
            if stream.request_id == request_id:
                self.loop.abort(engine_id)

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them.

        Requests that are refused or ended get ShuttingDownError.
        """
        self._refuse_with(_shutting_down)
        streams = self._open
        try:
            await asyncio.wait_for(asyncio.gather(*(stream.closed.wait() for stream in streams)), timeout)
        except TimeoutError:
            self._fail_all(_shutting_down)
            for engine_id in self._streams:
                self.loop.abort(engine_id)

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, then end the engine's thread.

        Any thread may call this. A second call does nothing.
        """
        self._refuse_with(_shutting_down)
        self._call_on_event_loop(self._fail_all, _shutting_down)
        self.loop.stop()

    async def wait_dead(self) -> None:
        """Wait until the engine has failed for good. `terminate` does not count as a failure."""
        self._adopt_running_loop()
        if not self._has_died:
            await self._death.wait()

    def is_healthy(self, stuck_after: float) -> bool:
        """Return whether the engine's thread runs and has not spent `stuck_after` seconds in one step."""
        is_stuck = self.loop.busy and time.monotonic() - self.loop.last_turn > stuck_after
        return self.loop.alive and not is_stuck

    @property
    def _open(self) -> set[Stream]:
        return set(self._streams.values())

    def _close(self, stream: Stream) -> None:
        for engine_id in stream.engine_ids:
            del self._streams[engine_id]
        for engine_id in stream.unfinished:
            self.loop.abort(engine_id)
        stream.closed.set()

    def _adopt_running_loop(self) -> None:
        """Deliver deltas to the running event loop from now on.

        Raises RuntimeError if streams are open on another event loop.
        """
        running = asyncio.get_running_loop()
        if self._event_loop is not running and self._streams:
            raise RuntimeError("the engine has open streams on another event loop")
        self._event_loop = running

    def _refuse_with(self, error: Callable[[], RequestError]) -> None:
        """Refuse requests with this error from now on. Only the first error counts."""
        self._refusal = self._refusal or error

    # Called on the engine's thread -------------------------------------------------------------------------

    def _deliver(self, deltas: list[RequestDelta]) -> None:
        self._call_on_event_loop(self._dispatch, deltas)

    def _died(self, cause: BaseException) -> None:
        reason = f"The engine has stopped working: {cause}"
        self._refusal = lambda: EngineDeadError(reason)
        self._has_died = True
        self._call_on_event_loop(self._death.set)
        self._call_on_event_loop(self._fail_all, self._refusal)

    def _call_on_event_loop(self, callback: Callable[..., object], *args: Any) -> None:
        """Schedule a callback on the event loop, from any thread. Does nothing if there is none or it is
        closed.
        """
        if self._event_loop is None or self._event_loop.is_closed():
            return
        try:
            self._event_loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.debug("the event loop was closed while the engine was running")

    def _dispatch(self, deltas: list[RequestDelta]) -> None:
        """Put each delta into its stream, unless that has been closed."""
        for delta in deltas:
            stream = self._streams.get(delta.request_id)
            if stream is not None and not stream.put(delta):
                self._give_up(stream, _too_slow())

    def _give_up(self, stream: Stream, error: RequestError) -> None:
        """End a request with this error, which its reader gets after what was generated before."""
        stream.fail(error)
        for engine_id in stream.engine_ids:
            self.loop.abort(engine_id)

    def _fail_all(self, error: Callable[[], RequestError]) -> None:
        for stream in self._open:
            stream.fail(error())


def _too_slow() -> RequestError:
    return ReaderTooSlowError("The reply was read more slowly than it was written; it ends here.")


def _shutting_down() -> RequestError:
    return ShuttingDownError("The server is shutting down.")
