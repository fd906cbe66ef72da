"""Transfers: moves the beginning of a prompt from one server to another, before the request is sent there.

    router                         receiver                       sender
      ├── /tokenize ──────────────────> token ids
      ├── /microserving/prep_recv ────> what is cached; an address
      ├── /microserving/remote_send ──────────────────────────────> the first tokens, up to an end
      │                                 the prefix cache  <──────── sends what the receiver lacks
      ├── the client's own request ───> finds the prefix, computes the rest, generates
      └── /microserving/abort ────────> the prefix is kept no longer than others

The client's request is not changed, so that replies of every form are the receiver's own. If anything fails
on the way, the receiver computes the prompt itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

from mlc_serve.errors import ServerLostError
from mlc_serve.router.backend import Backend
from mlc_serve.router.counts import Counts
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyPart, RoutedRequest
from mlc_serve.router.prompt import PAGE_BYTES, RESPONSES, Prompt

logger = logging.getLogger(__name__)

COMPLETIONS = "/v1/completions"
# Where a server tells the tokens of a conversation's prompt, by the path at which it is continued.
_TOKENIZE = {
    "/v1/chat/completions": "/tokenize",
    "/v1/messages": "/tokenize/messages",
    RESPONSES: "/tokenize/responses",
}
_PREP_RECV = "/microserving/prep_recv"
_REMOTE_SEND = "/microserving/remote_send"
_MATCH = "/microserving/match"
_ABORT = "/microserving/abort"
# Typical text has so many bytes in a token, which is enough to tell short prompts from long ones.
_BYTES_PER_TOKEN = 4
_ABORT_SECONDS = 10.0
_MOST_REPLY_BYTES = 16 * 1024 * 1024
# The client's headers that the calls have, too: prefixes belong to who has sent them.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
_JSON = (b"content-type", b"application/json")


class Route(NamedTuple):
    """From which server to which the beginning of a request's prompt is to be moved."""

    request: RoutedRequest
    sender: Backend
    receiver: Backend


# A call of the router for a request: its `prompt`, and what else says to whom the prefix belongs.
Call = Mapping[str, Any]
# Returns where the part of a prompt ends that is to be moved, which is before the prompt's last token. May
# raise ServerLostError and CallFailedError.
End = Callable[[Route, Call], Awaitable[int]]


class CallFailedError(Exception):
    """A server has refused a call, or its answer makes no sense."""


def may_be_moved(request: RoutedRequest, prompt: Prompt) -> bool:
    """Return whether a request has a prompt of its own, whose tokens a server tells."""
    return request.path in (COMPLETIONS, *_TOKENIZE) and prompt.continues is None


def num_tokens_in(num_pages: int) -> int:
    """Return about how many tokens so many pages of a prompt's text have."""
    return num_pages * PAGE_BYTES // _BYTES_PER_TOKEN


class Transfers:
    """Moves prompts between the servers of a fleet, and counts what came of it."""

    def __init__(self, fleet: Fleet, counts: Counts) -> None:
        self._fleet = fleet
        self._counts = counts
        self._releasing: set[asyncio.Task[None]] = set()

    async def before(
        self,
        reply: AsyncGenerator[ReplyPart, None],
        receiver: Backend,
        move: Callable[[AsyncExitStack], Awaitable[None]],
    ) -> AsyncGenerator[ReplyPart, None]:
        """Yield a reply that the receiver will give, after `move` has done what it can. What `move` leaves
        for the end of the transfer is done when the reply has begun.
        """
        async with aclosing(reply), AsyncExitStack() as parked:
            with self._fleet.running(receiver):  # others should see that it will have this request
                await move(parked)
            async for part in reply:
                await parked.aclose()  # the reply has begun, so that the prefix has been found
                yield part

    async def move(self, route: Route, end: End, least: int, seconds: float, parked: AsyncExitStack) -> str:
        """Move a prompt up to its `end`, unless the receiver lacks fewer than `least` of these tokens, and
        return what came of it: moved, cached, bypassed or failed. `parked` is closed when it was used.

        Raises nothing, and takes no longer than `seconds`.
        """
        sender, receiver = route.sender, route.receiver
        try:
            async with asyncio.timeout(seconds):
                outcome = await self._moved(route, end, least, parked)
        except (ServerLostError, CallFailedError, TimeoutError) as error:
            outcome = "failed"
            why = str(error) or f"it took more than {seconds:g} s"
            logger.warning("a prompt was not moved from %s to %s: %s", sender.name, receiver.name, why)
        self._counts.transfers.labels(outcome).inc()
        return outcome

    async def _moved(self, route: Route, end: End, least: int, parked: AsyncExitStack) -> str:
        """Make the calls, and return what came of them. Raises ServerLostError and CallFailedError."""
        request, sender, receiver = route
        fields = _fields(request)
        token_ids = await _tokens(receiver, request, fields)
        if token_ids is None:
            return "bypassed"
        user = f"router-{secrets.token_hex(16)}"
        call: dict[str, Any] = {"prompt": token_ids, "user": user, "max_tokens": 1}
        call |= {name: fields[name] for name in ("model", "cache_salt") if name in fields}
        call["end"] = await end(route, call)
        if call["end"] < least:
            return "bypassed"
        parked.callback(self._release, request, receiver, {"model": fields.get("model"), "user": user})
        prepared = await _call(receiver, request, _PREP_RECV, call)
        begin, address = prepared.get("prefix_matched_length"), prepared.get("kv_append_metadata")
        if not isinstance(begin, int) or not isinstance(address, str):
            raise CallFailedError(f"{receiver.name}'s answer to {_PREP_RECV} makes no sense")
        if call["end"] - begin < least:
            return "cached"
        with self._fleet.running(sender):
            await _call(sender, request, _REMOTE_SEND, {**call, "begin": begin, "kv_addr_info": address})
        self._counts.moved_tokens.inc(call["end"] - begin)
        return "moved"

    def _release(self, request: RoutedRequest, receiver: Backend, body: Mapping[str, Any]) -> None:
        """Tell a receiver to keep a prefix no longer than others. Does not wait for its answer."""
        task = asyncio.create_task(_abort(receiver, request, body))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)


async def end_of_match(route: Route, call: Call) -> int:
    """Return how many of a prompt's tokens the sender has cached, without the last one. An `End`."""
    answer = await _call(route.sender, route.request, _MATCH, call)
    length = answer.get("prefix_matched_length")
    if type(length) is not int or length < 0:
        raise CallFailedError(f"{route.sender.name}'s answer to {_MATCH} makes no sense")
    return min(length, len(call["prompt"]) - 1)


async def _tokens(receiver: Backend, request: RoutedRequest, fields: Mapping[str, Any]) -> list[int] | None:
    """Return the token ids of a prompt, or None if there are several prompts."""
    path, asked = _TOKENIZE.get(request.path, "/tokenize"), fields
    if request.path == COMPLETIONS:
        prompt = fields.get("prompt")
        if isinstance(prompt, list) and prompt and all(isinstance(entry, int) for entry in prompt):
            return prompt
        if not isinstance(prompt, str):
            return None
        asked = {name: fields[name] for name in ("model", "prompt") if name in fields}
    tokens = (await _call(receiver, request, path, asked)).get("tokens")
    if not isinstance(tokens, list) or len(tokens) < 2:
        raise CallFailedError(f"{receiver.name} does not tell the tokens of a prompt")
    return tokens


async def _abort(receiver: Backend, request: RoutedRequest, body: Mapping[str, Any]) -> None:
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            await _call(receiver, request, _ABORT, body)
    except (ServerLostError, CallFailedError, TimeoutError) as error:
        logger.debug("%s will let go of a prefix by itself: %s", receiver.name, error)


def _fields(request: RoutedRequest) -> dict[str, Any]:
    """Return the fields of a request whose prompt has been read, so that its limits have been checked."""
    fields = json.loads(request.body)
    return fields if isinstance(fields, dict) else {}


async def _call(
    backend: Backend, request: RoutedRequest, path: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a server's answer to a call for a request. Raises ServerLostError and CallFailedError."""
    headers = tuple(header for header in request.headers if header[0] in _CREDENTIALS)
    call = RoutedRequest("POST", path, path.encode(), (*headers, _JSON), json.dumps(body).encode())
    status, text = await backend.answer(call, backend.api_key, _MOST_REPLY_BYTES)
    if status != 200:
        raise CallFailedError(f"{backend.name} answered {path} with {status}: {text[:200]!r}")
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise CallFailedError(f"{backend.name}'s answer to {path} is not JSON") from error
    return answer if isinstance(answer, dict) else {}
