"""An endpoint of an engine: `create` is for programs and works as in OpenAI's client; `respond` is for the
server.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from mlc_serve.protocol.anthropic.request import MessagesPrompt
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import GenerationRequest
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.reply_stream import ReplyStream
from mlc_serve.protocol.whole_reply import WholeReply

# Reserves places for that many choices until the context is left. Raises a RequestError if too few are free.
Reserve = Callable[[int], AbstractContextManager[None]]

Asked = TypeVar("Asked", bound=GenerationRequest | MessagesPrompt)
Asked_contra = TypeVar("Asked_contra", bound=GenerationRequest | MessagesPrompt, contravariant=True)
Whole = TypeVar("Whole", bound=Reply)
Whole_co = TypeVar("Whole_co", bound=Reply, covariant=True)
Part = TypeVar("Part", bound=Reply)
Part_co = TypeVar("Part_co", bound=Reply, covariant=True)


class Choices(Protocol):
    """A request that takes a place for each of its choices."""

    @property
    def num_choices(self) -> int:
        """The number of choices in the whole reply."""


class Responder(Protocol[Asked_contra, Whole_co, Part_co]):
    """Answers one kind of request. The caller has reserved a place for each choice."""

    async def respond(
        self, request: Asked_contra, request_id: str, owner: str
    ) -> WholeReply[Whole_co] | ReplyStream[Part_co]:
        """Return a whole reply, or a stream if the request asks for one. See Endpoint.respond."""


class Endpoint(Generic[Asked, Whole, Part]):
    """The `completions` attribute of an engine or of its `chat`, as in OpenAI's client.

    The ids of its replies begin with `prefix`.
    """

    def __init__(
        self, kind: type[Asked], prefix: str, responder: Responder[Asked, Whole, Part], reserve: Reserve
    ) -> None:
        self._kind = kind
        self.prefix = prefix
        self._responder = responder
        self._reserve = reserve

    @overload
    async def create(self, *, stream: Literal[False] = False, **fields: Any) -> Whole: ...

    @overload
    async def create(self, *, stream: Literal[True], **fields: Any) -> AsyncGenerator[Part, None]: ...

    async def create(self, *, stream: bool = False, **fields: Any) -> Whole | AsyncGenerator[Part, None]:
        """Answer a request whose fields are those of OpenAI's API and the extensions.

        With stream=True, returns a generator of chunks. Raises a RequestError if the fields are not valid or
        the request fails; once the stream has begun, the generator raises it.
        """
        request = validated(self._kind, {**fields, "stream": stream})
        with self.reserve(request):
            reply = await self.respond(request, f"{self.prefix}{uuid.uuid4().hex}")
        return reply.chunks(self.reserve(request)) if isinstance(reply, ReplyStream) else reply.typed()

    def reserve(self, request: Choices) -> AbstractContextManager[None]:
        """Reserve a place for each choice of a request. `respond` must be called within this context.

        Raises QueueFullError, ShuttingDownError or EngineDeadError before any work is done for the request,
        and InvalidRequestError if one request may not have so many choices.
        """
        return self._reserve(request.num_choices)

    async def respond(
        self, request: Asked, request_id: str, owner: str = ""
    ) -> WholeReply[Whole] | ReplyStream[Part]:
        """Answer a request with a whole reply, or a stream if it asks for one.

        `request_id` becomes the reply's id, and AsyncMLCEngine.abort takes it. Requests of the same `owner`
        reuse each other's computed prefixes.
        """
        return await self._responder.respond(request, request_id, owner)
