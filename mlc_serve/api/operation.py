"""An operation of an engine whose reply is never streamed: `create` is for programs and works as in OpenAI's
client; `respond` is for the server.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from mlc_serve.protocol.embeddings import EmbeddingRequest, EmbeddingUsage, RerankRequest, ScoreRequest
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.replies import Reply

# Reserves places for that many inputs until the context is left. Raises a RequestError if too few are free.
Reserve = Callable[[int], AbstractContextManager[None]]

Posed = TypeVar("Posed", bound=EmbeddingRequest | RerankRequest | ScoreRequest)
Posed_contra = TypeVar(
    "Posed_contra", bound=EmbeddingRequest | RerankRequest | ScoreRequest, contravariant=True
)
Whole = TypeVar("Whole", bound=Reply)
Whole_co = TypeVar("Whole_co", bound=Reply, covariant=True)


class Answer(Protocol[Whole_co]):
    """A whole reply."""

    @property
    def usage(self) -> EmbeddingUsage:
        """The tokens that were used."""

    def json(self) -> Iterator[str]:
        """Yield the reply's JSON in pieces, each of which takes about a millisecond to write."""

    def typed(self) -> Whole_co:
        """Return the reply as an object."""


class Operator(Protocol[Posed_contra, Whole_co]):
    """Answers one kind of request. The caller has reserved a place for each input."""

    async def respond(self, request: Posed_contra, request_id: str) -> Answer[Whole_co]:
        """Return the reply. `request_id` is its id, if it has one."""


class Operation(Generic[Posed, Whole]):
    """The `embeddings`, `rerank` or `score` attribute of an engine. The ids of its replies begin with
    `prefix`.
    """

    def __init__(
        self, kind: type[Posed], prefix: str, operator: Operator[Posed, Whole], reserve: Reserve
    ) -> None:
        self._kind = kind
        self.prefix = prefix
        self._operator = operator
        self._reserve = reserve

    async def create(self, **fields: Any) -> Whole:
        """Answer a request with these fields. Raises a RequestError."""
        request = validated(self._kind, fields)
        with self.reserve(request):
            return (await self.respond(request, f"{self.prefix}{uuid.uuid4().hex}")).typed()

    def reserve(self, request: Posed) -> AbstractContextManager[None]:
        """Reserve a place for each input of a request. `respond` must be called within this context.

        Raises QueueFullError, ShuttingDownError or EngineDeadError before any work is done for the request.
        """
        return self._reserve(request.num_inputs)

    async def respond(self, request: Posed, request_id: str) -> Answer[Whole]:
        """Answer a request. `request_id` becomes the reply's id, if it has one."""
        return await self._operator.respond(request, request_id)
