"""Disaggregation: one server computes a prompt, and another one generates after it.

    router                         decode server                  prefill server
      ├── /tokenize ──────────────────> token ids
      ├── /microserving/prep_recv ────> what is cached; an address
      ├── /microserving/remote_send ──────────────────────────────> computes [0, end)
      │                                 the prefix cache  <──────── sends what the decode server lacks
      ├── the client's own request ───> finds the prefix, computes the rest, generates
      └── /microserving/abort ────────> the prefix is kept no longer than others

The client's request is not changed, so that replies of every form are the decode server's own. If anything
fails on the way, the decode server computes the prompt itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from mlc_serve.config import RouterConfig
from mlc_serve.errors import ServerLostError
from mlc_serve.router.backend import Backend
from mlc_serve.router.balance import decode_share, window_end
from mlc_serve.router.counts import Counts
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyPart, RoutedRequest
from mlc_serve.router.prefix_map import PrefixMap
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
_ABORT = "/microserving/abort"
# Typical text has so many bytes in a token, which is enough to tell short prompts from long ones.
_BYTES_PER_TOKEN = 4
# A prompt that is not there after so many seconds is computed by the decode server.
_MOST_SECONDS = 300.0
_ABORT_SECONDS = 10.0
_MOST_REPLY_BYTES = 16 * 1024 * 1024
# The client's headers that the calls have, too: prefixes belong to who has sent them.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
_JSON = (b"content-type", b"application/json")


class CallFailedError(Exception):
    """A server has refused a call, or its answer makes no sense."""


class Disaggregation:
    """Moves prompts between the servers of a fleet, and counts what came of it."""

    def __init__(self, fleet: Fleet, prefixes: PrefixMap, counts: Counts, config: RouterConfig) -> None:
        self._fleet = fleet
        self._prefixes = prefixes
        self._counts = counts
        self._config = config
        self._releasing: set[asyncio.Task[None]] = set()

    def decoders(self, able: Sequence[Backend]) -> list[Backend]:
        """Return the servers that generate; those that prefill do it only if there are no others."""
        return [backend for backend in able if not backend.prefills] or list(able)

    async def prefilled(
        self,
        reply: AsyncGenerator[ReplyPart, None],
        request: RoutedRequest,
        prompt: Prompt,
        decoder: Backend,
    ) -> AsyncGenerator[ReplyPart, None]:
        """Yield a reply that a decode server will give. If that is worthwhile, another server computes the
        prompt before, and it is moved to the decode server.
        """
        async with aclosing(reply), AsyncExitStack() as parked:
            with self._fleet.running(decoder):  # others should see that it will have this request
                await self._move(request, prompt, decoder, parked)
            async for part in reply:
                await parked.aclose()  # the reply has begun, so that the prefix has been found
                yield part

    async def _move(
        self, request: RoutedRequest, prompt: Prompt, decoder: Backend, parked: AsyncExitStack
    ) -> None:
        """Have a prompt computed and moved, if that is worthwhile. `parked` is closed when it was used.

        Raises nothing: without the prefix, the decode server computes it.
        """
        sender = self._sender(prompt, decoder)
        if sender is None or not self._is_worthwhile(request, prompt, decoder):
            self._counts.transfers.labels("bypassed").inc()
            return
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                outcome = await self._moved(request, decoder, sender, parked)
        except (ServerLostError, CallFailedError, TimeoutError) as error:
            outcome = "failed"
            why = str(error) or f"it took more than {_MOST_SECONDS:g} s"
            logger.warning("a prompt was not moved from %s to %s: %s", sender.name, decoder.name, why)
        if outcome == "moved":
            self._prefixes.record(sender.name, prompt.pages)
        self._counts.transfers.labels(outcome).inc()

    def _sender(self, prompt: Prompt, decoder: Backend) -> Backend | None:
        """Return the best server that prefills, or None if there is none or if it is to generate itself."""
        able = [backend for backend in self._fleet.able(prompt.model) if backend.prefills]
        if not able or decoder.prefills:
            return None
        matched = self._prefixes.matched(prompt.pages)
        return self._fleet.ranked(able, len(prompt.pages), matched, self._config.load_weight)[0]

    def _is_worthwhile(self, request: RoutedRequest, prompt: Prompt, decoder: Backend) -> bool:
        """Return whether a decode server would probably have to compute much of a prompt."""
        if request.path not in (COMPLETIONS, *_TOKENIZE) or prompt.continues is not None:
            return False
        num_new = len(prompt.pages) - self._prefixes.num_matched(decoder.name, prompt.pages)
        return num_new * PAGE_BYTES // _BYTES_PER_TOKEN >= self._config.disagg_min_tokens

    async def _moved(
        self, request: RoutedRequest, decoder: Backend, sender: Backend, parked: AsyncExitStack
    ) -> str:
        """Make the calls, and return what came of them. Raises ServerLostError and CallFailedError."""
        fields = _fields(request)
        token_ids = await self._tokens(decoder, request, fields)
        if token_ids is None:
            return "bypassed"
        end = window_end(len(token_ids), self._share(sender, decoder))
        user = f"router-{secrets.token_hex(16)}"
        call: dict[str, Any] = {"prompt": token_ids, "user": user, "max_tokens": 1, "end": end}
        call |= {name: fields[name] for name in ("model", "cache_salt") if name in fields}
        parked.callback(self._release, request, decoder, {"model": fields.get("model"), "user": user})
        prepared = await _call(decoder, request, _PREP_RECV, call)
        begin, address = prepared.get("prefix_matched_length"), prepared.get("kv_append_metadata")
        if not isinstance(begin, int) or not isinstance(address, str):
            raise CallFailedError(f"{decoder.name}'s answer to {_PREP_RECV} makes no sense")
        if begin >= end:
            return "cached"
        with self._fleet.running(sender):
            await _call(sender, request, _REMOTE_SEND, {**call, "begin": begin, "kv_addr_info": address})
        return "moved"

    def _share(self, sender: Backend, decoder: Backend) -> float:
        fixed = self._config.decode_share
        return decode_share(sender.load, decoder.load) if fixed is None else fixed

    async def _tokens(
        self, decoder: Backend, request: RoutedRequest, fields: Mapping[str, Any]
    ) -> list[int] | None:
        """Return the token ids of a prompt, or None if there are several prompts."""
        path, asked = _TOKENIZE.get(request.path, "/tokenize"), fields
        if request.path == COMPLETIONS:
            prompt = fields.get("prompt")
            if isinstance(prompt, list) and prompt and all(isinstance(entry, int) for entry in prompt):
                return prompt
            if not isinstance(prompt, str):
                return None
            asked = {name: fields[name] for name in ("model", "prompt") if name in fields}
        tokens = (await _call(decoder, request, path, asked)).get("tokens")
        if not isinstance(tokens, list) or len(tokens) < 2:
            raise CallFailedError(f"{decoder.name} does not tell the tokens of a prompt")
        return tokens

    def _release(self, request: RoutedRequest, decoder: Backend, body: Mapping[str, Any]) -> None:
        """Tell a decode server to keep a prefix no longer than others. Does not wait for its answer."""
        task = asyncio.create_task(_abort(decoder, request, body))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)


async def _abort(decoder: Backend, request: RoutedRequest, body: Mapping[str, Any]) -> None:
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            await _call(decoder, request, _ABORT, body)
    except (ServerLostError, CallFailedError, TimeoutError) as error:
        logger.debug("%s will let go of a prefix by itself: %s", decoder.name, error)


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
