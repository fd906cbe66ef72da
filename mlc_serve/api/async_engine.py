"""AsyncMLCEngine: an engine as asyncio programs use it, and the one owner of open streams.

    event loop                                           engine thread (EngineLoop)
    ----------                                           --------------------------
    generate: open a stream, submit  ─────────────────>  step, step, ...
    _dispatch: deltas into streams   <── one call a ───  deliver(deltas of a step)
    generate: text out of deltas         step
    generate closed or cancelled     ─────── abort ───>  ends within one step

Streams are opened, filled and closed on the event loop, and nowhere else. Text is made in each stream's own
generator, so that what breaks there breaks one request. Knows neither HTTP nor a device.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from mlc_serve.config import EngineConfig, Mode
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.loop import EngineLoop
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest, FinishReason, RequestDelta
from mlc_serve.engine.trace import EventTrace, NullTrace, Trace
from mlc_serve.errors import (
    ConfigError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    ReaderTooSlowError,
    RequestError,
    ShuttingDownError,
)
from mlc_serve.frontend.chat_completions import ChatCompletions
from mlc_serve.frontend.choice import Choice, TextDelta, choices
from mlc_serve.frontend.completions import Completions
from mlc_serve.frontend.long_texts import LongTexts
from mlc_serve.frontend.params import GenerationParams, check_prompt, check_sampling
from mlc_serve.frontend.stream import Stream
from mlc_serve.loaded_model import LoadedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chat:
    """`chat` of an engine, as of OpenAI's client."""

    completions: ChatCompletions


class AsyncMLCEngine:
    """A model that answers requests, many at a time.

    To be used from one event loop at a time: the first that asks for something, until nothing of it is open.
    Every choice of a request has a place, from before any work is done for it until nothing is left of it.
    Requests for which there are too few of the max_num_sequence + max_queued_requests places are refused with
    QueueFullError.
    """

    chat: Chat
    completions: Completions

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
        config = (engine_config or EngineConfig()).agreed(model=model, model_lib=model_lib, mode=mode)
        if config.additional_models:
            raise ConfigError("additional_models: an engine has one model; serve() serves several")
        from mlc_serve.loading import load_model  # noqa: PLC0415 - loads TVM, which a server's tests do without

        loaded = load_model(model, device, model_lib=model_lib, mode=mode, config=config, report=logger.info)
        self._start(loaded, enable_tracing)

    @classmethod
    def from_loaded(cls, model: LoadedModel, *, enable_tracing: bool = False) -> AsyncMLCEngine:
        """Start an engine on a model that is in memory."""
        engine = cls.__new__(cls)
        engine._start(model, enable_tracing)
        return engine

    def _start(self, model: LoadedModel, enable_tracing: bool) -> None:
        self.name = model.name
        self.device = model.device
        self.quantization = model.quantization
        self.limits = model.limits
        self.tokenizer = model.tokenizer
        self.chat_template = model.chat_template
        self.defaults = model.defaults
        self.trace: Trace = EventTrace() if enable_tracing else NullTrace()
        self._long_texts = LongTexts()
        self.chat = Chat(ChatCompletions(model, self._generate, self.reserve, self._long_texts))
        self.completions = Completions(model, self._generate, self.reserve, self._long_texts)
        self._model = model
        self._metrics = EngineMetrics(model.name)
        self._streams: dict[str, Stream] = {}
        self._num_open = 0
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._end: Callable[[], RequestError] | None = None
        self._has_died = False
        self._death = asyncio.Event()
        core = EngineCore(model.backend, model.limits, self._metrics, self.trace)
        self.loop = EngineLoop(core, self._deliver, self._died)
        self.loop.start()

    # Asking for text -------------------------------------------------------------------------------------

    @contextmanager
    def reserve(self, num_choices: int) -> Iterator[None]:
        """Keep places for the choices of a request while it is prepared, answered and sent.

        Raises QueueFullError if there are too few, InvalidRequestError if there never are that many, and
        EngineDeadError or ShuttingDownError if the engine takes no requests.
        """
        self._require_open()
        self._require_room(num_choices)
        self._num_open += num_choices
        try:
            yield
        finally:
            self._num_open -= num_choices

    def _require_open(self) -> None:
        if self._end is not None:
            raise self._end()

    def _require_room(self, num_choices: int) -> None:
        most = self._num_places
        if num_choices > most:
            raise InvalidRequestError(
                f"n: {num_choices} choices are asked for in all, and this server takes at most {most}.", "n"
            )
        if self._num_open + num_choices > most:
            raise QueueFullError(f"{self._num_open} of at most {most} requests are open; try again later.")

    @property
    def _num_places(self) -> int:
        return self.limits.max_num_sequence + self.limits.max_queued_requests

    def generate(
        self, prompt_ids: Sequence[int], params: GenerationParams, request_id: str | None = None
    ) -> AsyncGenerator[TextDelta, None]:
        """Continue a prompt; deltas of choice i have index i. To close the generator ends the request.

        Raises InvalidRequestError for the prompt or for token ids that the model doesn't have, or
        ContextLengthError. The generator raises QueueFullError,
        RequestFailedError, EngineDeadError and ShuttingDownError, the first before anything is submitted.
        """
        check_prompt(prompt_ids, self._model, "prompt_ids")
        check_sampling(params.sampling, self._model)
        return self._generate_one_by_one(prompt_ids, params, request_id)

    async def _generate_one_by_one(
        self, prompt_ids: Sequence[int], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[TextDelta, None]:
        with self.reserve(params.n):
            async with aclosing(self._generate([prompt_ids], params, request_id)) as batches:
                async for deltas in batches:
                    for delta in deltas:
                        yield delta

    async def _generate(
        self, prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[list[TextDelta], None]:
        """As frontend.generate.Generate, for choices that have their places."""
        self._require_open()
        specs = _engine_requests(prompts, params, request_id)
        engine_ids = [spec.request_id for spec in specs]
        running = dict(zip(engine_ids, choices(len(specs), params, self.tokenizer), strict=True))
        stream = self._open(engine_ids, request_id)
        try:
            self._submit(specs)
            while running:
                texts, failure = self._push(await stream.take(), running)
                if texts:
                    yield texts
                if failure is not None:
                    raise failure
        finally:
            self._close(stream, unfinished=running)

    def _push(
        self, deltas: list[RequestDelta], running: dict[str, Choice]
    ) -> tuple[list[TextDelta], RequestError | None]:
        """The text of deltas, up to the one that tells of a failure, if one does."""
        texts: list[TextDelta] = []
        for delta in deltas:
            choice = running.get(delta.request_id)
            if choice is None:
                continue
            try:
                text = choice.push(delta)
            except RequestError as failure:
                return texts, failure
            if text.finish_reason is not None:
                del running[delta.request_id]
            if text.finish_reason is not delta.finish_reason:
                self.loop.abort(delta.request_id, FinishReason.STOP)
            texts.append(text)
        return texts, None

    def _open(self, engine_ids: list[str], request_id: str | None) -> Stream:
        """Register one stream for all choices of a request."""
        self._adopt_running_loop()
        stream = Stream(request_id, engine_ids)
        self._streams.update(dict.fromkeys(engine_ids, stream))
        return stream

    def _submit(self, specs: Sequence[EngineRequest]) -> None:
        for spec in specs:
            self.loop.submit(spec)

    def _close(self, stream: Stream, unfinished: dict[str, Choice]) -> None:
        for engine_id in stream.engine_ids:
            del self._streams[engine_id]
        for engine_id in unfinished:
            self.loop.abort(engine_id)
        stream.closed.set()

    def _adopt_running_loop(self) -> None:
        """Deltas go to the event loop that asks. Raises RuntimeError if streams of another are open."""
        running = asyncio.get_running_loop()
        if self._event_loop is not running and self._streams:
            raise RuntimeError("the engine has open streams on another event loop")
        self._event_loop = running

    # What the engine's thread says -------------------------------------------------------------------------

    def _deliver(self, deltas: list[RequestDelta]) -> None:
        self._call_on_event_loop(self._dispatch, deltas)

    def _died(self, cause: BaseException) -> None:
        reason = f"The engine has stopped working: {cause}"
        self._end = lambda: EngineDeadError(reason)
        self._has_died = True
        self._call_on_event_loop(self._death.set)
        self._call_on_event_loop(self._fail_all, self._end)

    def _call_on_event_loop(self, callback: Callable[..., object], *args: Any) -> None:
        """From any thread. Without an event loop, or after its end, there is nobody to tell."""
        if self._event_loop is None or self._event_loop.is_closed():
            return
        try:
            self._event_loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.debug("the event loop has closed under the engine")

    def _dispatch(self, deltas: list[RequestDelta]) -> None:
        """Streams that were closed meanwhile get nothing."""
        for delta in deltas:
            stream = self._streams.get(delta.request_id)
            if stream is not None and not stream.put(delta):
                self._give_up(stream)

    def _give_up(self, stream: Stream) -> None:
        """End a request whose reader doesn't keep up with the engine."""
        stream.fail(ReaderTooSlowError("The reply was read more slowly than it was written; it ends here."))
        for engine_id in stream.engine_ids:
            self.loop.abort(engine_id)

    def _fail_all(self, error: Callable[[], RequestError]) -> None:
        for stream in set(self._streams.values()):
            stream.fail(error())

    # The engine as a whole ---------------------------------------------------------------------------------

    @property
    def num_open(self) -> int:
        """Choices of requests that have a place."""
        return self._num_open

    @property
    def is_full(self) -> bool:
        """Whether no place is left."""
        return self._num_open >= self._num_places

    @property
    def is_alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self.loop.alive

    def is_healthy(self, stuck_after: float = 300.0) -> bool:
        """Whether the engine's thread runs, and has not been within one step for `stuck_after` seconds."""
        return self.is_alive and not (self.loop.busy and time.monotonic() - self.loop.last_turn > stuck_after)

    async def wait_dead(self) -> None:
        """Wait until the engine has failed for good. `terminate` is no failure."""
        self._adopt_running_loop()
        if not self._has_died:
            await self._death.wait()

    @property
    def page_size(self) -> int:
        """Tokens in a page of the KV cache."""
        return self._model.backend.kv.page_size

    @property
    def num_pages(self) -> int:
        """Pages of the KV cache."""
        return self._model.backend.kv.num_pages

    @property
    def registry(self) -> CollectorRegistry:
        """The engine's metrics, for Prometheus."""
        return self._metrics.registry

    def metrics(self) -> dict[str, Any]:
        """The engine's metrics under MLC's names."""
        return self._metrics.snapshot()

    async def abort(self, request_id: str) -> None:
        """End a request with finish reason abort; one that is not open is left alone."""
        for engine_id, stream in self._streams.items():
            if stream.request_id == request_id:
                self.loop.abort(engine_id)

    async def reset(self) -> None:
        """End all requests with finish reason abort; forget cached prefixes and sums of metrics.

        Raises EngineDeadError.
        """
        await asyncio.wrap_future(self.loop.call(EngineCore.reset))

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them.

        Both the refused and the ended get ShuttingDownError.
        """
        self._end = self._end or _shutting_down
        streams = set(self._streams.values())
        try:
            await asyncio.wait_for(asyncio.gather(*(stream.closed.wait() for stream in streams)), timeout)
        except asyncio.TimeoutError:
            self._fail_all(_shutting_down)
            for engine_id in self._streams:
                self.loop.abort(engine_id)

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, and the engine's thread. From any thread; idempotent."""
        self._end = self._end or _shutting_down
        self._call_on_event_loop(self._fail_all, _shutting_down)
        self._long_texts.end()
        self.loop.stop()


def _shutting_down() -> RequestError:
    return ShuttingDownError("The server is shutting down.")


def _engine_requests(
    prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
) -> list[EngineRequest]:
    """One request a choice, prompt by prompt. Their ids begin with the given one and are unique."""
    arrival = time.monotonic()
    beginning = "" if request_id is None else f"{request_id}-"
    return [
        EngineRequest(
            f"{beginning}{uuid.uuid4().hex}",
            prompt_ids,
            params.sampling,
            params.seed_of(choice),
            arrival,
            params.cache_namespace,
        )
        for prompt_ids in map(tuple, prompts)
        for choice in range(params.n)
    ]
