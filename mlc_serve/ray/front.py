"""Front: takes requests from Serve's proxies, and passes each on to the replica that is best for it.

The proxies choose by the head of a request alone. The front reads the body, so that the choice can depend on
the prompt, and so that a request can be sent to another replica if one is lost before its reply has begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from mlc_serve.errors import RequestError, ServerLostError
from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.ray.call import Call, Parts
from mlc_serve.router.message import ReplyHead
from mlc_serve.router.prompt import RESPONSES, prompt_of
from mlc_serve.router.stored_responses import ResponseIdReader, StoredResponses, response_in_path
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.event_forms import event_form_of

logger = logging.getLogger(__name__)

# When so many replicas were lost with a request, it is not sent to another one.
_MOST_LOST = 3
# Serve's proxy adds this header. The replica has got the id from there, so that both are the same.
_SENT_BY_SERVE = b"x-request-id"
# A longer request is read on another thread, which takes more than a few milliseconds.
_MOST_READ_AT_ONCE = 16 * 1024


class Replicas(Protocol):
    """Where calls are answered."""

    def answer(self, call: Call) -> AsyncGenerator[Parts, None]:
        """Send a call to a replica, and yield its reply. If the generator is closed, the replica is told.

        Raises ServerLostError, before the first parts or after them, and QueueFullError.
        """


class Front:
    """An ASGI application. `limits` bound what it reads in a request; a longer one has no prompt.

    Raises the RequestError that a request fails with, unless a stream has told it.
    """

    def __init__(self, replicas: Replicas, limits: JsonLimits) -> None:
        self._replicas = replicas
        self._limits = limits
        self._stored = StoredResponses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        try:
            call = await self._read(Request(scope, receive))
            await unless_disconnected(receive, self._answer(call, _Reply(call.request.path, send)))
        except ClientDisconnect:
            logger.debug("a client of %s has gone away", scope["path"])

    async def _read(self, request: Request) -> Call:
        call = Call.of(request.scope, await request.body())
        if len(call.request.body) <= _MOST_READ_AT_ONCE:
            prompt = prompt_of(call.request, self._limits)
        else:
            prompt = await asyncio.to_thread(prompt_of, call.request, self._limits)
        about = response_in_path(call.request.path) or prompt.continues
        return call._replace(prompt=prompt, holder=about and self._stored.maker(about))

    async def _answer(self, call: Call, reply: _Reply) -> None:
        """Send a call to replicas until the reply has begun."""
        most_lost = _MOST_LOST if call.request.is_repeatable else 1
        for num_lost in range(most_lost):
            try:
                await self._answer_once(call._replace(num_lost=num_lost), reply)
                return
            except ServerLostError as error:
                logger.warning("%s: %s, %d before it", call.request.path, error, num_lost)
                if reply.is_stream:
                    await reply.fail(error)
                    return
                if reply.has_begun or num_lost == most_lost - 1:
                    raise

    async def _answer_once(self, call: Call, reply: _Reply) -> None:
        note = _NewResponse(call, self._stored)
        async with aclosing(self._replicas.answer(call)) as batches:
            async for parts in batches:
                for part in parts:
                    note.saw(part)
                    await reply.send(part)
        await reply.end()


class _NewResponse:
    """Notes which replica makes the response of /v1/responses that a reply contains, if it contains one."""

    def __init__(self, call: Call, stored: StoredResponses) -> None:
        self._is_awaited = call.request.method == "POST" and call.request.path == RESPONSES
        self._stored = stored
        self._reader = ResponseIdReader()
        self._replica = ""

    def saw(self, part: ReplyHead | bytes) -> None:
        """Read the next part of a reply."""
        if not self._is_awaited:
            return
        if isinstance(part, ReplyHead):
            self._replica = (part.value(b"x-routed-to") or b"").decode()
            self._is_awaited = part.status == 200
        elif (response_id := self._reader.read(part)) is not None:
            self._stored.record(response_id, self._replica)
            self._is_awaited = False


class _Reply:
    """What has been sent to the client: nothing, a part of a whole reply, or a part of a stream."""

    def __init__(self, path: str, send: Send) -> None:
        self._path = path
        self._send = send
        self.has_begun = False
        self.is_stream = False

    async def send(self, part: ReplyHead | bytes) -> None:
        """Send a part of a replica's reply."""
        if isinstance(part, ReplyHead):
            self.has_begun, self.is_stream = True, part.is_event_stream
            headers = [header for header in part.headers if header[0] != _SENT_BY_SERVE]
            await self._send({"type": "http.response.start", "status": part.status, "headers": headers})
        else:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End a complete reply."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: RequestError) -> None:
        """End a stream with an event that says why."""
        form = event_form_of(self._path)
        await self.send(form.error(error).encode() + form.end)
        await self.end()
