"""MLCEngine: an engine as programs without asyncio use it.

An AsyncMLCEngine whose event loop runs on a thread of its own; calls here wait for that thread. Any thread
may call, but a streamed reply is read by one.
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
    """`completions` of an engine, or of its `chat`, as of OpenAI's client."""

    _thread: EventLoopThread
    _create: Callable[..., Coroutine[Any, Any, Whole | AsyncGenerator[Part, None]]]

    @overload
    def create(self, *, stream: Literal[False] = False, **fields: Any) -> Whole: ...

    @overload
    def create(self, *, stream: Literal[True], **fields: Any) -> Parts[Part]: ...

    def create(self, *, stream: bool = False, **fields: Any) -> Whole | Parts[Part]:
        """Answer a request given as OpenAI's fields and the extensions; with stream=True, part by part.

        To close or drop the generator of parts ends the request. Raises a RequestError.
        """
        reply = self._thread.run(partial(self._create, stream=stream, **fields))
        return _parts(reply, self._thread) if isinstance(reply, AsyncGenerator) else reply


@dataclass(frozen=True)
class SyncChat:
    """`chat` of an engine, as of OpenAI's client."""

    completions: Endpoint[ChatCompletion, ChatCompletionChunk]


class MLCEngine:
    """A model that answers requests. The arguments are those of AsyncMLCEngine; also a context manager."""

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
        """Load a model, which may take long, and start its engine. Raises StartupError."""
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
        """Start an engine on a model that is in memory."""
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
        """Choices of requests that are not at their end."""
        return self._thread.run(self._count_open)

    async def _count_open(self) -> int:
        return self._engine.num_open

    def metrics(self) -> dict[str, Any]:
        """The engine's metrics under MLC's names."""
        return self._engine.metrics()

    def abort(self, request_id: str) -> None:
        """End a request with finish reason abort; one that is not open is left alone."""
        self._thread.run(partial(self._engine.abort, request_id))

    def reset(self) -> None:
        """End all requests with finish reason abort; forget cached prefixes and sums of metrics."""
        self._thread.run(self._engine.reset)

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, and the engine. Idempotent."""
        self._engine.terminate()
        self._thread.stop()


async def _close(parts: AsyncGenerator[Part, None]) -> None:
    await parts.aclose()


async def _next(parts: AsyncGenerator[Part, None]) -> Part | None:
    return await anext(parts, None)


def _parts(parts: AsyncGenerator[Part, None], thread: EventLoopThread) -> Parts[Part]:
    """The closing is not waited for: a dropped iterator may be finalized on any thread."""
    try:
        while (part := thread.run(partial(_next, parts))) is not None:
            yield part
    finally:
        thread.post(partial(_close, parts))
