"""AsyncEmbeddingEngine: a model that makes embeddings for an asyncio program.

    Operation             `embeddings`, `rerank`, `score`: takes fields or a typed request, returns a reply
      Embeddings, ...     makes token ids (frontend/), and a reply of the vectors
        EmbeddingLoop     the engine's thread: takes inputs of the open requests in turn, a batch at a time

Knows nothing about HTTP or devices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, NoReturn

import numpy as np
from prometheus_client import CollectorRegistry

from mlc_serve.api.embeddings import Embeddings, Rerank, Scores
from mlc_serve.api.long_texts import LongTexts
from mlc_serve.api.operation import Operation
from mlc_serve.api.places import Places
from mlc_serve.config import EngineConfig
from mlc_serve.engine.embedder import TokenIds, Vectors
from mlc_serve.engine.embedding_loop import EmbeddingLoop
from mlc_serve.engine.embedding_metrics import EmbeddingMetrics
from mlc_serve.errors import RequestFailedError, ShuttingDownError, UnsupportedFieldError
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.protocol.embeddings import (
    MAX_INPUTS,
    EmbeddingList,
    EmbeddingRequest,
    Ranking,
    RerankRequest,
    ScoreList,
    ScoreRequest,
)

logger = logging.getLogger(__name__)

# An engine counts as stuck if one batch takes longer than this many seconds.
_STUCK_AFTER = 300.0


class AsyncEmbeddingEngine:
    """A model that makes embeddings for many requests at a time.

    It may be used from one event loop at a time. Each input of a request takes a place; there are as many as
    inputs in the largest request (two lists to be compared), and max_queued_requests more. A request for
    which too few are left is refused with QueueFullError. Implements server.served.Served.
    """

    embeddings: Operation[EmbeddingRequest, EmbeddingList]
    rerank: Operation[RerankRequest, Ranking]
    score: Operation[ScoreRequest, ScoreList]

    def __init__(
        self,
        model: str,
        device: str = "auto",
        *,
        model_lib: str | None = None,
        engine_config: EngineConfig | None = None,
    ) -> None:
        """Load a model, which may take a long time, and start its engine. Raises StartupError."""
        from mlc_serve.loading import load_embedding_model  # noqa: PLC0415 - imports TVM

        config = replace(engine_config or EngineConfig(), model=model, model_lib=model_lib)
        self._start(load_embedding_model(config, device, logger.info))

    @classmethod
    def from_loaded(cls, model: LoadedEmbeddingModel) -> AsyncEmbeddingEngine:
        """Start an engine on a model that has been loaded."""
        engine = cls.__new__(cls)
        engine._start(model)
        return engine

    def _start(self, model: LoadedEmbeddingModel) -> None:
        self.name = model.name
        self._model = model
        self._metrics = EmbeddingMetrics(model.name)
        num_places = 2 * MAX_INPUTS + model.limits.max_queued_requests
        self._places = Places(num_places, most_at_once=num_places)
        self._long_texts = LongTexts()
        self._waiting: set[asyncio.Future[Vectors]] = set()
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._death = asyncio.Event()
        self._has_died = False
        self._loop = EmbeddingLoop(model.embedder, model.limits, self._metrics, self._died)
        self._add_operations(model)

    def _add_operations(self, model: LoadedEmbeddingModel) -> None:
        parts = (model, self._long_texts, self.embed)
        self.embeddings = Operation(EmbeddingRequest, "embd-", Embeddings(*parts), self.reserve)
        self.rerank = Operation(RerankRequest, "rerank-", Rerank(*parts), self.reserve)
        self.score = Operation(ScoreRequest, "score-", Scores(*parts), self.reserve)
        self._operations: dict[type[Any], Operation[Any, Any]] = {
            EmbeddingRequest: self.embeddings,
            RerankRequest: self.rerank,
            ScoreRequest: self.score,
        }

    # Making embeddings -------------------------------------------------------------------------------------

    def answers(self, kind: type[Any]) -> bool:
        """Return whether there is an operation for this kind of request."""
        return kind in self._operations

    def endpoint(self, kind: type[Any]) -> NoReturn:  # noqa: ARG002 - the protocol has it
        """Raise UnsupportedFieldError, since the model generates no text."""
        raise UnsupportedFieldError(
            f"The model {self.name!r} makes embeddings; it generates no text.", "model"
        )

    def operation(self, kind: type[Any]) -> Operation[Any, Any]:
        """Return the operation for this kind of request."""
        return self._operations[kind]

    def microserving(self) -> NoReturn:
        """Raise UnsupportedFieldError."""
        self.endpoint(object)

    async def tokenization(self, request: object) -> NoReturn:  # noqa: ARG002 - the protocol has it
        """Raise UnsupportedFieldError."""
        self.tokenizer_info()

    def tokenizer_info(self) -> NoReturn:
        """Raise UnsupportedFieldError, since only models that generate text answer requests about tokens."""
        raise UnsupportedFieldError(
            f"The model {self.name!r} makes embeddings; name a model that generates text.", "model"
        )

    @contextmanager
    def reserve(self, num_inputs: int) -> Iterator[None]:
        """Reserve places for the inputs of a request while it is prepared, answered and sent.

        Raises QueueFullError if too few are left, and EngineDeadError or ShuttingDownError if the engine
        takes no requests.
        """
        self._loop.require_open()
        with self._places.reserve(num_inputs):
            yield

    async def embed(self, inputs: Sequence[TokenIds]) -> Vectors:
        """Return the vectors of valid inputs, `(len(inputs), width)`. If the caller is cancelled, the inputs
        that have not been computed are dropped. Raises EngineDeadError or ShuttingDownError, and
        RequestFailedError if the model makes numbers that are not finite.
        """
        self._event_loop = asyncio.get_running_loop()
        waiting = asyncio.wrap_future(self._loop.submit(inputs))
        self._waiting.add(waiting)
        try:
            vectors = await waiting
        finally:
            self._waiting.discard(waiting)
        if not np.isfinite(vectors).all():
            raise RequestFailedError("The model has made numbers that are not finite.")
        return vectors

    # The engine as a whole ---------------------------------------------------------------------------------

    @property
    def num_open(self) -> int:
        """The number of inputs that have a place."""
        return self._places.num_taken

    @property
    def is_full(self) -> bool:
        """Whether no place is left."""
        return self._places.is_full

    @property
    def is_alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self._loop.alive

    def is_healthy(self, stuck_after: float = _STUCK_AFTER) -> bool:
        """Return whether the engine's thread runs and has not spent `stuck_after` seconds in one batch."""
        is_stuck = self._loop.busy and time.monotonic() - self._loop.last_turn > stuck_after
        return self._loop.alive and not is_stuck

    async def wait_dead(self) -> None:
        """Wait until the engine has failed for good. `terminate` does not count as a failure."""
        self._event_loop = asyncio.get_running_loop()
        if not self._has_died:
            await self._death.wait()

    @property
    def context_length(self) -> int:
        """The maximum number of tokens of an input."""
        return self._model.limits.context_length

    def card(self) -> dict[str, Any]:
        """Return what the engine was started with, for display."""
        return {
            "name": self.name,
            "device": self._model.device,
            "quantization": self._model.quantization,
            "kv_cache": {"page_size": 0, "num_pages": 0},  # nothing is cached
            "limits": asdict(self._model.limits),
        }

    @property
    def registry(self) -> CollectorRegistry:
        """The engine's metrics, for Prometheus."""
        return self._metrics.registry

    def metrics(self) -> dict[str, Any]:
        """Return nothing: MLC has no metrics of embeddings. Ours are in `registry`."""
        return {}

    def event_trace(self) -> None:
        """Return None, since no events are recorded."""

    async def reset(self) -> None:
        """End all requests with RequestFailedError. There is no cache to empty."""
        self._loop.fail_open(RequestFailedError("The engine was reset."))

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them.

        Requests that are refused or ended get ShuttingDownError.
        """
        self._loop.close()
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=timeout)
        self._loop.fail_open(ShuttingDownError("The server is shutting down."))

    def terminate(self) -> None:
        """End all requests with ShuttingDownError, then end the engine's thread.

        Any thread may call this. A second call does nothing.
        """
        self._long_texts.end()
        self._loop.stop()

    def _died(self) -> None:
        """Wake who waits for the engine's death. Called on the engine's thread."""
        self._has_died = True
        if self._event_loop is None or self._event_loop.is_closed():
            return
        try:
            self._event_loop.call_soon_threadsafe(self._death.set)
        except RuntimeError:
            logger.debug("the event loop was closed while the engine was running")
