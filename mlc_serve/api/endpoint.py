"""One kind of request to an engine: called as OpenAI's client calls it, or as a server does."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import GenerationRequest
from mlc_serve.protocol.replies import ChatCompletion, Completion
from mlc_serve.protocol.reply_stream import Chunk, ReplyStream
from mlc_serve.protocol.whole_reply import WholeReply

# Keeps places for so many choices until it is left. Raises a RequestError if there is no room for them.
Reserve = Callable[[int], AbstractContextManager[None]]

Asked = TypeVar("Asked", bound=GenerationRequest)
Asked_contra = TypeVar("Asked_contra", bound=GenerationRequest, contravariant=True)
Whole = TypeVar("Whole", bound=ChatCompletion | Completion)
Whole_co = TypeVar("Whole_co", bound=ChatCompletion | Completion, covariant=True)
Part = TypeVar("Part", bound=Chunk)
Part_co = TypeVar("Part_co", bound=Chunk, covariant=True)


class Responder(Protocol[Asked_contra, Whole_co, Part_co]):
    """What answers one kind of request whose choices have their places."""

    async def respond(
        self, request: Asked_contra, request_id: str, owner: str
    ) -> WholeReply[Whole_co] | ReplyStream[Part_co]:
        """A whole reply, or a stream if the request wants one. See Endpoint.respond."""


class Endpoint(Generic[Asked, Whole, Part]):
    """`completions` of an engine, or of its `chat`, as of OpenAI's client.

    `prefix` is what the ids of its replies begin with.
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
        """Answer a request given as OpenAI's fields and the extensions; with stream=True, part by part.

        Raises a RequestError: here for what is wrong with the fields, from the stream for what comes later.
        """
        request = validated(self._kind, {**fields, "stream": stream})
        with self.reserve(request):
            reply = await self.respond(request, f"{self.prefix}-{uuid.uuid4().hex}")
        return reply.chunks(self.reserve(request)) if isinstance(reply, ReplyStream) else reply.typed()

    def reserve(self, request: Asked) -> AbstractContextManager[None]:
        """Keep a place for each choice of a request; whoever calls `respond` does so inside of it.

        Raises QueueFullError, ShuttingDownError or EngineDeadError, before anything is done for the request,
        and InvalidRequestError for more choices than there are places.
        """
        return self._reserve(request.num_choices)

    async def respond(
        self, request: Asked, request_id: str, owner: str = ""
    ) -> WholeReply[Whole] | ReplyStream[Part]:
        """Answer a request.

        `request_id` becomes the reply's id and is what AsyncMLCEngine.abort takes. Requests of one `owner`
        reuse each other's computed prefixes.
        """
        return await self._responder.respond(request, request_id, owner)
