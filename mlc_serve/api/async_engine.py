"""AsyncMLCEngine: a model that answers requests from an asyncio program.

It puts together the layers that a request passes, from top to bottom:

    Endpoint            `chat.completions`, `completions`: takes fields or a typed request, returns a reply
      ChatCompletions   makes the prompt and parameters (frontend/), and a whole reply or chunks
        Generation      opens a stream for the request, and decodes its tokens to text
          Streams       the event loop's side of the engine
            EngineLoop  the engine's thread: plan, run, commit

Knows nothing about HTTP or devices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from mlc_serve.api.chat_completions import ChatCompletions
from mlc_serve.api.completions import Completions
from mlc_serve.api.endpoint import Asked, Endpoint
from mlc_serve.api.generation import Generation
from mlc_serve.api.long_texts import LongTexts
from mlc_serve.api.messages import Messages, MessageTokens
from mlc_serve.api.microserving import Microserving
from mlc_serve.api.output_forms import OutputForms
from mlc_serve.api.places import Places
from mlc_serve.api.prefix_return import NothingReturns, PrefixReturn, StoredPrefixes
from mlc_serve.api.queued_tokens import QueuedTokens
from mlc_serve.api.start_generate import StartGenerate
from mlc_serve.api.streams import Streams
from mlc_serve.api.timeouts import Timeouts
from mlc_serve.api.tokenization import Tokenization
from mlc_serve.config import EngineConfig, Mode
from mlc_serve.config.speculation import MODEL_MODES
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.trace import EventTrace, NullTrace, Trace
from mlc_serve.errors import ConfigError, UnsupportedFieldError
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.params import GenerationParams, check_prompt, check_sampling
from mlc_serve.grammar import Grammars
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.anthropic.request import CountTokensRequest, MessagesRequest
from mlc_serve.protocol.microserving import StartGenerateRequest
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest
from mlc_serve.protocol.replies import ChatCompletion, ChatCompletionChunk, Completion
from mlc_serve.protocol.tokenization import TokenizationRequest, TokenizerInfo
from mlc_serve.spill.file_store import FileStore
from mlc_serve.spill.opening import open_store

logger = logging.getLogger(__name__)

# An engine counts as stuck if one step takes longer than this many seconds.
_STUCK_AFTER = 300.0
# How many seconds storing prefixes may take when the engine drains: at least and at most.
_SAVE_SECONDS = 1.0, 10.0

ChatEndpoint = Endpoint[ChatCompletionRequest, ChatCompletion, ChatCompletionChunk]
CompletionEndpoint = Endpoint[CompletionRequest, Completion, Completion]


@dataclass(frozen=True)
class Chat:
    """The `chat` attribute of an engine, as in OpenAI's client."""

    completions: ChatEndpoint


class AsyncMLCEngine:
    """A model that answers many requests at a time.

    It may be used from one event loop at a time; another one may use it when no request is open.
    There are max_num_sequence + max_queued_requests places, and each choice of a request takes one. A request
    for which too few are left is refused with QueueFullError. Implements server.served.Served.
    """

    chat: Chat
    completions: CompletionEndpoint

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
        config = (engine_config or EngineConfig()).agreed(model=model, model_lib=model_lib, mode=mode)
        if config.additional_models and config.speculative_mode not in MODEL_MODES:
            raise ConfigError("additional_models: an engine has one model; serve() serves several")
        from mlc_serve.loading import load_model  # noqa: PLC0415 - imports TVM, which from_loaded doesn't need

        self._start(load_model(config, device, logger.info), enable_tracing)

    @classmethod
    def from_loaded(cls, model: LoadedModel, *, enable_tracing: bool = False) -> AsyncMLCEngine:
        """Start an engine on a model that has been loaded."""
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
        self._model = model
        self._metrics = EngineMetrics(model.name)
        num_places = model.limits.max_num_sequence + model.limits.max_queued_requests
        self._places = Places(num_places, min(model.limits.max_choices, num_places))
        store = open_store(model, self._metrics.registry)
        core = EngineCore(
            model.backend, model.limits, self._metrics, self.trace, speculation=model.speculation, store=store
        )
        self.streams = _streams(core, model.limits)
        self._prefixes = _prefixes(store, self.streams, model.limits)
        self._generation = Generation(self.streams, model.tokenizer, self._prefixes)
        self._long_texts = LongTexts()
        self._tokenization = Tokenization(model)
        self._add_endpoints(model)

    def _add_endpoints(self, model: LoadedModel) -> None:
        forms = OutputForms(Grammars(model.tokenizer, model.info.vocab_size), self._long_texts)
        chat = ChatCompletions(model, self._generation, self._long_texts, forms)
        completions = Completions(model, self._generation, self._long_texts, forms)
        messages = Messages(model.name, chat, self._long_texts)
        tokens = MessageTokens(chat, self._long_texts)
        self._microserving = Microserving(
            model, completions, self._generation, self.streams, self.reserve, self._places.reserve
        )
        start = StartGenerate(completions, self._microserving.parked, self._metrics.transfers)
        self.chat = Chat(Endpoint(ChatCompletionRequest, "chatcmpl-", chat, self.reserve))
        self.completions = Endpoint(CompletionRequest, "cmpl-", completions, self.reserve)
        self._endpoints: dict[type[Any], Endpoint[Any, Any, Any]] = {
            ChatCompletionRequest: self.chat.completions,
            CompletionRequest: self.completions,
            MessagesRequest: Endpoint(MessagesRequest, "msg_", messages, self.reserve),
            CountTokensRequest: Endpoint(CountTokensRequest, "count_", tokens, self.reserve),
            StartGenerateRequest: Endpoint(StartGenerateRequest, "cmpl-", start, self.reserve),
        }

    # Generating text -------------------------------------------------------------------------------------

    def endpoint(self, kind: type[Asked]) -> Endpoint[Asked, Any, Any]:
        """Return the endpoint for this kind of request. Raises UnsupportedFieldError if there is none."""
        endpoint = self._endpoints.get(kind)
        if endpoint is None:
            raise UnsupportedFieldError(f"The model {self.name!r} can't answer a {kind.__name__}.", "model")
        return endpoint

    def answers(self, kind: type[Any]) -> bool:
        """Return whether there is an endpoint or an operation for this kind of request."""
        return kind in self._endpoints

    def operation(self, kind: type[Any]) -> NoReturn:  # noqa: ARG002 - the protocol has it
        """Raise UnsupportedFieldError, since the model only generates text."""
        raise UnsupportedFieldError(
            f"The model {self.name!r} generates text; it makes no embeddings, rankings or scores.", "model"
        )

    def microserving(self) -> Microserving:
        """Return the calls that move prefixes between servers."""
        return self._microserving

    @contextmanager
    def reserve(self, num_choices: int) -> Iterator[None]:
        """Reserve places for the choices of a request while it is prepared, answered and sent.

        Raises QueueFullError if too few are left or no further prompt may wait, InvalidRequestError if one
        request may not have so many, and EngineDeadError or ShuttingDownError if the engine takes none.
        """
        self.streams.require_open()
        self.streams.require_room()
        with self._places.reserve(num_choices):
            yield

    def generate(
        self, prompt_ids: Sequence[int], params: GenerationParams, request_id: str | None = None
    ) -> AsyncGenerator[TextDelta, None]:
        """Continue a prompt; deltas of choice i have index i. Closing the generator ends the request.

        Raises InvalidRequestError if the prompt is not valid or a token id is not in the vocabulary, and
        ContextLengthError if the prompt is too long. The generator raises QueueFullError before anything is
        submitted, and RequestFailedError, EngineDeadError or ShuttingDownError later.
        """
        check_prompt(prompt_ids, self._model, "prompt_ids")
        check_sampling(params.sampling, self._model)
        return self._generate_one_by_one(prompt_ids, params, request_id)

    async def _generate_one_by_one(
        self, prompt_ids: Sequence[int], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[TextDelta, None]:
        with self.reserve(params.n):
            async with aclosing(self._generation.run([prompt_ids], params, request_id)) as batches:
                async for deltas in batches:
                    for delta in deltas:
                        yield delta

    # Tokens and prompts ------------------------------------------------------------------------------------

    async def tokenization(self, request: TokenizationRequest) -> str:
        """Answer a request about tokens or prompts with JSON. It needs no place.

        Raises InvalidRequestError or ContextLengthError.
        """
        return await self._tokenization.answer(request)

    def tokenizer_info(self) -> TokenizerInfo:
        """Return what is known about the tokenizer, and the chat template."""
        return self._tokenization.info()

    # The engine as a whole ---------------------------------------------------------------------------------

    @property
    def num_open(self) -> int:
        """The number of choices that have a place."""
        return self._places.num_taken

    @property
    def is_full(self) -> bool:
        """Whether no place is left, or no further prompt may wait."""
        return self._places.is_full or self.streams.is_queue_full

    @property
    def is_alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self.streams.loop.alive

    def is_healthy(self, stuck_after: float = _STUCK_AFTER) -> bool:
        """Return whether the engine's thread runs and has not spent `stuck_after` seconds in one step."""
        return self.streams.is_healthy(stuck_after)

    async def wait_dead(self) -> None:
        """Wait until the engine has failed for good. `terminate` does not count as a failure."""
        await self.streams.wait_dead()

    @property
    def context_length(self) -> int:
        """The maximum number of tokens of prompt and output together."""
        return self.limits.max_single_sequence_length

    @property
    def page_size(self) -> int:
        """The number of tokens in a page of the KV cache."""
        return self._model.backend.state.page_size

    @property
    def num_pages(self) -> int:
        """The number of pages of the KV cache."""
        return self._model.backend.state.num_pages

    def card(self) -> dict[str, Any]:
        """Return what the engine was started with, for display."""
        return {
            "name": self.name,
            "device": self.device,
            "quantization": self.quantization,
            "kv_cache": {"page_size": self.page_size, "num_pages": self.num_pages},
            "limits": asdict(self.limits),
        }

    @property
    def registry(self) -> CollectorRegistry:
        """The engine's metrics, for Prometheus."""
        return self._metrics.registry

    def metrics(self) -> dict[str, Any]:
        """Return the engine's metrics under MLC's names."""
        return self._metrics.snapshot()

    def event_trace(self) -> list[dict[str, Any]] | None:
        """Return the events of recent requests for Chrome's trace viewer, or None if none are recorded."""
        return self.trace.dump()

    async def abort(self, request_id: str) -> None:
        """End a request with finish reason abort. Does nothing if it is not open."""
        self.streams.abort(request_id)

    async def reset(self) -> None:
        """End all requests with finish reason abort, and reset the prefix cache and the sums of metrics.

        Raises EngineDeadError.
        """
        self._microserving.abort_all()
        await asyncio.wrap_future(self.streams.loop.call(EngineCore.reset))

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them. Until then,
        prefixes that are cached can be sent to other servers. In the rest of this time, or one second, those
        that are worth it are stored, if they are to be.

        Requests that are refused or ended get ShuttingDownError.
        """
        start = time.monotonic()
        self._microserving.parked.abort_all()
        await self.streams.drain(timeout)
        self._microserving.abort_all()
        least, most = _SAVE_SECONDS
        await self._prefixes.save(min(max(timeout - (time.monotonic() - start), least), most))

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, then end the engine's thread.

        Any thread may call this. A second call does nothing.
        """
        self._long_texts.end()
        self._tokenization.end()
        self.streams.terminate()
        self._prefixes.end()


def _prefixes(store: FileStore | None, streams: Streams, limits: EngineLimits) -> PrefixReturn:
    """Half of the KV cache may be filled for requests that have not begun."""
    if store is None:
        return NothingReturns()
    return StoredPrefixes(store, streams.loop, limits.max_total_sequence_length // 2)


def _streams(core: EngineCore, limits: EngineLimits) -> Streams:
    queued_tokens = QueuedTokens(limits.max_queued_tokens)
    return Streams(core, queued_tokens, Timeouts(limits.first_token_timeout, limits.request_timeout))
