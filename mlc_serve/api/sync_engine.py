"""MLCEngine: an engine for programs without asyncio.

It runs an AsyncMLCEngine on an event loop in its own thread, and calls wait for that thread. Any thread may
call, but only one thread may read a streamed reply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar, overload

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.config import EngineConfig, Mode
from mlc_serve.host.event_loop_thread import EventLoopThread
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.replies import ChatCompletion, ChatCompletionChunk, Completion, Reply

Whole = TypeVar("Whole", bound=Reply)
Part = TypeVar("Part", bound=Reply)
Parts = Generator[Part, None, None]


@dataclass(frozen=True)
class Endpoint(Generic[Whole, Part]):
    """The `completions` attribute of an engine or of its `chat`, as in OpenAI's client."""

    _thread: EventLoopThread
    _create: Callable[..., Coroutine[Any, Any, Whole | AsyncGenerator[Part, None]]]

    @overload
    def create(self, *, stream: Literal[False] = False, **fields: Any) -> Whole: ...

    @overload
    def create(self, *, stream: Literal[True], **fields: Any) -> Parts[Part]: ...

    def create(self, *, stream: bool = False, **fields: Any) -> Whole | Parts[Part]:
        """Answer a request whose fields are those of OpenAI's API and the extensions.

        With stream=True, returns a generator of chunks; closing or dropping it ends the request. Raises a
        RequestError.
        """
        reply = self._thread.run(partial(self._create, stream=stream, **fields))
        return _parts(reply, self._thread) if isinstance(reply, AsyncGenerator) else reply


@dataclass(frozen=True)
class SyncChat:
    """The `chat` attribute of an engine, as in OpenAI's client."""

    completions: Endpoint[ChatCompletion, ChatCompletionChunk]


class MLCEngine:
    """A model that answers requests. It takes the arguments of AsyncMLCEngine, and is a context manager."""

    chat: SyncChat
    completions: Endpoint[Completion, Completion]

    def __init__(
        self,
        model: str,
        device: str = "auto",
        *,
        model_lib: str | None = None,
        mode: Mode = "local",
        engine_config: EngineConfig | None = None,
        enable_tracing: bool = False,
    ) -> None:
        """Load a model, which may take a long time, and start its engine. Raises StartupError."""
        engine = AsyncMLCEngine(
            model,
            device,
            model_lib=model_lib,
            mode=mode,
            engine_config=engine_config,
            enable_tracing=enable_tracing,
        )
        self._start(engine)

    @classmethod
    def from_loaded(cls, model: LoadedModel, *, enable_tracing: bool = False) -> MLCEngine:
        """Start an engine on a model that has been loaded."""
        engine = cls.__new__(cls)
        engine._start(AsyncMLCEngine.from_loaded(model, enable_tracing=enable_tracing))
        return engine

    def _start(self, engine: AsyncMLCEngine) -> None:
        self._engine = engine
        self._thread = EventLoopThread("MLCEngine")
        self.chat = SyncChat(Endpoint(self._thread, engine.chat.completions.create))
        self.completions = Endpoint(self._thread, engine.completions.create)

    def __enter__(self) -> MLCEngine:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.terminate()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.name

    @property
    def num_open(self) -> int:
        """The number of choices that have a place."""
        return self._thread.run(self._count_open)

    async def _count_open(self) -> int:
        return self._engine.num_open

    def metrics(self) -> dict[str, Any]:
        """Return the engine's metrics under MLC's names."""
        return self._engine.metrics()

    def abort(self, request_id: str) -> None:
        """End a request with finish reason abort. Does nothing if it is not open."""
        self._thread.run(partial(self._engine.abort, request_id))

    def reset(self) -> None:
        """End all requests with finish reason abort, and reset the prefix cache and the sums of metrics."""
        self._thread.run(self._engine.reset)

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, then end the engine. A second call does nothing."""
        self._engine.terminate()
        self._thread.stop()


async def _close(parts: AsyncGenerator[Part, None]) -> None:
    await parts.aclose()


async def _next(parts: AsyncGenerator[Part, None]) -> Part | None:
    return await anext(parts, None)


def _parts(parts: AsyncGenerator[Part, None], thread: EventLoopThread) -> Parts[Part]:
    """Yield the chunks. Does not wait for `parts` to be closed, since a dropped generator may be finalized on
    any thread.
    """
    try:
        while (part := thread.run(partial(_next, parts))) is not None:
            yield part
    finally:
        thread.post(partial(_close, parts))
