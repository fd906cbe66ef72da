"""Answers requests for responses: asks the chat endpoint of a model, and keeps what should be stored.

Runs on the event loop. It is the only writer of the ResponseStore.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import time

from mlc_serve.api.endpoint import Endpoint
from mlc_serve.api.long_texts import LONG, LongTexts, is_long
from mlc_serve.api.response_store import ResponseStore, Turn
from mlc_serve.errors import (
    InvalidRequestError,
    PreviousResponseNotFoundError,
    RequestError,
    ResponseNotFoundError,
)
from mlc_serve.frontend.responses.chat_request import chat_request, naming_fields_of_responses
from mlc_serve.frontend.responses.conversation import conversation, output_to_store, sent_items
from mlc_serve.frontend.responses.event_writer import EventWriter
from mlc_serve.frontend.responses.output import begun, ended, new_id, output_items
from mlc_serve.frontend.responses.settings import settings_json
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.replies import ChatCompletion, ChatCompletionChunk
from mlc_serve.protocol.reply_stream import ReplyStream
from mlc_serve.protocol.responses.events import Event
from mlc_serve.protocol.responses.items import ItemReference, StoredItem
from mlc_serve.protocol.responses.replies import ResponseProgress
from mlc_serve.protocol.responses.request import ResponseRequest
from mlc_serve.protocol.responses.whole_response import WholeResponse
from mlc_serve.protocol.whole_reply import WholeReply

ChatEndpoint = Endpoint[ChatCompletionRequest, ChatCompletion, ChatCompletionChunk]
# Batches of events that arrived together. Closing it ends the request.
ResponseEvents = AsyncGenerator[list[Event], None]

_LONGEST_QUOTE = 80


@dataclass(frozen=True)
class Context:
    """What a request refers to: the turn that it continues, and the stored items that it names."""

    before: Turn | None
    referred: Mapping[str, StoredItem]
    earlier: Sequence[StoredItem]

    @property
    def num_bytes(self) -> int:
        """The length of all stored items that belong to the request's conversation."""
        return sum(len(item.text) for item in (*self.earlier, *self.referred.values()))


@dataclass(frozen=True)
class Work:
    """What a request comes to: a chat request, the settings as JSON, and what is stored of it.

    `sent` is None if the response is not to be stored.
    """

    chat: ChatCompletionRequest
    settings: str
    before: Turn | None
    sent: Sequence[StoredItem] | None


class Responses:
    """Answers requests for all models of a server.

    A conversation that a request continues may take at most `max_conversation_bytes`, as if the client had
    sent it.
    """

    def __init__(self, store: ResponseStore, max_conversation_bytes: int) -> None:
        self._store = store
        self._max_conversation_bytes = max_conversation_bytes
        self._long_texts = LongTexts()

    async def respond(
        self, request: ResponseRequest, chat: ChatEndpoint, model: str, response_id: str, owner: str
    ) -> WholeResponse | ResponseEvents:
        """Answer a request with a whole response, or with events if it asks for a stream.

        The caller has reserved a place of the chat endpoint, whose model has the name `model`. Raises a
        RequestError; so does the generator of events before it has yielded any.
        """
        work = await self._work(request, self._context(request, owner), model)
        with naming_fields_of_responses():
            reply = await chat.respond(work.chat, response_id, owner)
        if isinstance(reply, ReplyStream):
            return self._events(reply, work, response_id, owner)
        return self._whole(reply, work, response_id, owner)

    def response(self, response_id: str, owner: str) -> bytes:
        """Return the JSON of a stored response. Raises ResponseNotFoundError."""
        return self._turn(response_id, owner).response

    def input_items(self, response_id: str, owner: str) -> Sequence[StoredItem]:
        """Return the items that were sent for a stored response. Raises ResponseNotFoundError."""
        return self._turn(response_id, owner).sent

    def delete(self, response_id: str, owner: str) -> None:
        """Delete a stored response. Raises ResponseNotFoundError."""
        if not self._store.delete(owner, response_id):
            raise _not_found(response_id)

    def _turn(self, response_id: str, owner: str) -> Turn:
        turn = self._store.get(owner, response_id)
        if turn is None:
            raise _not_found(response_id)
        return turn

    # Before the model is asked ---------------------------------------------------------------------------

    def _context(self, request: ResponseRequest, owner: str) -> Context:
        """Return what the request refers to. Raises a RequestError if that is not stored, or too long."""
        before = None
        if request.previous_response_id is not None:
            before = self._store.get(owner, request.previous_response_id)
            if before is None:
                raise _no_previous(request.previous_response_id)
        referred = self._referred(request, owner)
        context = Context(before, referred, before.conversation() if before else [])
        if context.num_bytes > self._max_conversation_bytes:
            raise InvalidRequestError(
                f"previous_response_id: the stored conversation has {context.num_bytes} bytes, and this "
                f"server continues at most {self._max_conversation_bytes}; send a shorter one as input.",
                "previous_response_id",
            )
        return context

    def _referred(self, request: ResponseRequest, owner: str) -> dict[str, StoredItem]:
        referred = {}
        for position, item in enumerate(request.input):
            if isinstance(item, ItemReference):
                stored = self._store.item(owner, item.id)
                if stored is None:
                    path = f"input.{position}.id"
                    raise InvalidRequestError(
                        f"{path}: no item {item.id[:_LONGEST_QUOTE]!r} is stored; send the item itself.", path
                    )
                referred[item.id] = stored
        return referred

    async def _work(self, request: ResponseRequest, context: Context, model: str) -> Work:
        """Return what is to be done, which is made on another thread if the conversation is long."""
        is_kept = request.store and self._store.keeps_any
        prepare = partial(_prepared, request, context, model, is_kept=is_kept)
        if context.num_bytes > LONG or is_long(request):
            return await self._long_texts.read(prepare)
        return prepare()

    # When the model has answered --------------------------------------------------------------------------

    def _whole(
        self, reply: WholeReply[ChatCompletion], work: Work, response_id: str, owner: str
    ) -> WholeResponse:
        outline = reply.outline
        (choice,) = outline.choices
        output = output_items(choice.message, choice.finish_reason, logprobs=bool(reply.logprobs))
        start = begun(response_id, outline.created)
        progress = ended(start, output, choice.finish_reason, outline.usage, int(time()))
        whole = WholeResponse(progress, work.settings, next(iter(reply.logprobs), None))
        self._keep(whole, work, owner)
        return whole

    async def _events(
        self, reply: ReplyStream[ChatCompletionChunk], work: Work, response_id: str, owner: str
    ) -> ResponseEvents:
        writer = EventWriter(response_id, work.settings)
        first = [*writer.begin()]
        try:
            async with aclosing(reply.parts) as batches:
                async for batch in batches:
                    yield [*first, *(event for part in batch for event in writer.add(part))]
                    first = []
        except RequestError as error:
            if first:
                raise
            yield [*writer.fail(error)]
            return
        last = [*writer.end()]
        self._keep(WholeResponse(writer.progress, work.settings), work, owner)
        yield [*first, *last]

    def _keep(self, whole: WholeResponse, work: Work, owner: str) -> None:
        """Store a response that has not failed, if it should be stored."""
        progress: ResponseProgress = whole.progress
        if work.sent is None or progress.status == "failed":
            return
        turn = Turn(whole.outline.encode(), work.sent, output_to_store(progress.output), work.before)
        self._store.add(owner, progress.id, turn)


def new_response_id() -> str:
    """Return an id for a response."""
    return new_id("resp")


def _prepared(request: ResponseRequest, context: Context, model: str, *, is_kept: bool) -> Work:
    items = conversation(context.earlier, request.input, context.referred)
    return Work(
        chat_request(request, items),
        settings_json(request, model, store=is_kept),
        context.before,
        sent_items(request.input, context.referred) if is_kept else None,
    )


def _not_found(response_id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(f"No response {response_id[:_LONGEST_QUOTE]!r} is stored.")


def _no_previous(response_id: str) -> PreviousResponseNotFoundError:
    return PreviousResponseNotFoundError(
        f"previous_response_id: no response {response_id[:_LONGEST_QUOTE]!r} is stored; send the whole "
        "conversation as input.",
        "previous_response_id",
    )
