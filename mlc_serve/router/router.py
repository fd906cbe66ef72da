"""Router: chooses a server for each request and passes the request and its reply on.

    request ─ read ─> prompt ─ rank ─> servers, the best first ─ send ─┬─> reply
                                                          ^            │
                                                          └── the next ┘ if a server can't be reached, has
                                                              no room, or is lost before its reply has begun

Owns the fleet, the map of prefixes and the counts. Runs on one event loop. To route in another way, derive a
class and override `translate_request`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from mlc_serve.config import RouterConfig, ServerConfig
from mlc_serve.errors import NoServerError, QueueFullError, RequestError, ServerLostError
from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.router.backend import Backend
from mlc_serve.router.counts import Counts
from mlc_serve.router.disaggregation import Disaggregation
from mlc_serve.router.exposition import joined
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.health import METRICS, MODELS, HealthWatch, fetch
from mlc_serve.router.holders import Holders
from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.migration import Migration
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt, prompt_of

# A server that answers so has no room, and another one may have.
_NO_ROOM = frozenset({429, 503})
# How long a server without room rests if it does not say, in seconds.
_REST_SECONDS = 1.0
# After so many servers without room, a request is refused as the last one did.
_MOST_REFUSALS = 3
# A reply that is not streamed and not longer than this is kept until it is complete, so that another server
# can answer if this one is lost meanwhile.
_MOST_KEPT_BYTES = 1024 * 1024
# A longer request is read on another thread, which takes more than a few milliseconds.
_MOST_READ_AT_ONCE = 16 * 1024
_NUM_READERS = 2
_METRICS_SECONDS = 5.0


class Router:
    """Routes requests to servers. A body that exceeds the limits of `server` is not read for its prompt."""

    def __init__(
        self, backends: Sequence[Backend], config: RouterConfig, server: ServerConfig | None = None
    ) -> None:
        server = server or ServerConfig()
        self.config = config
        self.prefixes = PrefixMap()
        self.fleet = Fleet(backends, self.prefixes.forget, config.max_server_requests)
        self.counts = Counts(self.fleet)
        self._holders = Holders(self.fleet)
        self._disaggregation = (
            Disaggregation(self.fleet, self.prefixes, self.counts, config)
            if config.router_mode == "disagg"
            else None
        )
        self._migration = (
            Migration(self.fleet, self.prefixes, self.counts, config.migration_min_tokens)
            if config.router_mode == "prefix" and config.migration_min_tokens
            else None
        )
        self._limits = JsonLimits(server.max_body_elements, server.max_body_depth)
        self._watch = HealthWatch(self.fleet, config.poll_interval, config.poll_timeout)
        self._readers = ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="requests")

    async def start(self) -> None:
        """Find out which servers serve, and watch them from now on."""
        await self._watch.start()

    async def drain(self, timeout: float) -> None:
        """Wait until no request is running, but no longer than `timeout` seconds; then end the rest."""
        await self.fleet.until_idle(timeout)
        await self._watch.stop()
        self.fleet.close()
        self._readers.shutdown(wait=False)

    async def translate_request(
        self, request: RoutedRequest, request_id: str
    ) -> AsyncGenerator[ReplyPart, None]:
        """Answer one request: yield the head of the reply, then the parts of its body.

        Subclasses may override this. They may change the request (`request._replace`), call `super()`, or
        make an order of servers of their own for `first_of`; `fleet` has the servers. RequestErrors are
        answered in the form of the API that the path belongs to, also in a stream that has begun.
        """
        if request.method == "GET" and request.path == MODELS and (models := self._different_models()):
            yield ReplyHead(200, ((b"content-type", b"application/json"),))
            yield models
            return
        prompt = await self.read(request)
        holder = await self._holders.find(request, prompt)
        ranking = self.ranking(prompt) if holder is None else [holder]
        reply = self.first_of(ranking, request, request_id, prompt)
        if self._disaggregation is not None and holder is None:
            reply = self._disaggregation.prefilled(reply, request, prompt, ranking[0])
        elif self._migration is not None and holder is None:
            reply = self._migration.before(reply, request, prompt, ranking[0])
        async with aclosing(self._holders.noting(request, reply)) as parts:
            async for part in parts:
                yield part

    async def read(self, request: RoutedRequest) -> Prompt:
        """Return what a request says about its prompt."""
        if len(request.body) <= _MOST_READ_AT_ONCE:
            return prompt_of(request, self._limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, prompt_of, request, self._limits)

    def ranking(self, prompt: Prompt) -> list[Backend]:
        """Return the servers that can take a request with this prompt, the best first. Raises RequestError if
        there is none.
        """
        able = self.fleet.able(prompt.model)
        if not able:
            raise self._why_none()
        if self._disaggregation is not None:
            able = self._disaggregation.decoders(able)
        by_prefix = self.config.router_mode != "round-robin" and prompt.pages
        matched = self.prefixes.matched(prompt.pages) if by_prefix else {}
        return self.fleet.ranked(able, len(prompt.pages), matched, self.config.load_weight)

    def _why_none(self) -> RequestError:
        if self.fleet.up:
            return QueueFullError("Every server behind this router has as many requests as it may have.")
        return NoServerError("None of the servers behind this router is ready.")

    async def first_of(
        self, ranking: Sequence[Backend], request: RoutedRequest, request_id: str, prompt: Prompt
    ) -> AsyncGenerator[ReplyPart, None]:
        """Yield the reply of the first of the servers that has room for a request.

        If one is lost before its reply has begun, the request is sent to another one, once, unless it may
        change something on the server. Raises ServerLostError if that does not help.
        """
        head, rest = await self._begun(ranking, request, request_id, prompt)
        async with aclosing(rest):
            yield head
            async for part in rest:
                yield part

    async def _begun(
        self, ranking: Sequence[Backend], request: RoutedRequest, request_id: str, prompt: Prompt
    ) -> tuple[ReplyPart, AsyncGenerator[ReplyPart, None]]:
        """Return the head of a reply, and what follows. The caller closes the latter."""
        num_refused = num_lost = 0
        for position, backend in enumerate(ranking, 1):
            is_last = position == len(ranking)
            parts = self.send(backend, request, request_id, prompt)
            try:
                head = await anext(parts)
            except ServerLostError as error:
                num_lost += error.was_sent
                may_repeat = not error.was_sent or (request.is_repeatable and num_lost == 1)
                if is_last or not may_repeat:
                    raise
                self.counts.retries.labels("lost").inc()
                continue
            num_refused += _refuses(head)
            if is_last or not _refuses(head) or num_refused == _MOST_REFUSALS:
                return head, parts
            await parts.aclose()
            self.counts.retries.labels("refused").inc()
        raise self._why_none()

    async def send(
        self, backend: Backend, request: RoutedRequest, request_id: str, prompt: Prompt
    ) -> AsyncGenerator[ReplyPart, None]:
        """Send a request to one server. Yield the head of its reply, with the name of the server, then the
        parts of the body. Raises ServerLostError.
        """
        upstream, outcome = backend.upstream, "aborted"
        if upstream is None:
            raise ServerLostError(f"{backend.name} is not running.", was_sent=False)
        self._note_prefix(backend, prompt)
        with self.fleet.running(backend):
            try:
                reply = upstream.reply(request, request_id, backend.api_key)
                async with aclosing(_kept_if_short(reply)) as parts:
                    head = await anext(parts)
                    if _refuses(head):
                        outcome = "refused"
                        self.fleet.rest(backend, _wait_in(head))
                    yield head.routed(backend.name) if isinstance(head, ReplyHead) else head
                    async for part in parts:
                        yield part
                outcome = "ok" if outcome == "aborted" else outcome
            except ServerLostError as error:
                outcome = "lost"
                if not error.was_sent:  # else the request may be at fault, and a probe will find out
                    self.fleet.saw_failure(backend, error.message)
                raise
            finally:
                self.counts.requests.labels(backend.name, outcome).inc()

    def _note_prefix(self, backend: Backend, prompt: Prompt) -> None:
        if prompt.pages:
            known = self.prefixes.num_matched(backend.name, prompt.pages)
            self.counts.pages.labels("known").inc(known)
            self.counts.pages.labels("new").inc(len(prompt.pages) - known)
            self.prefixes.record(backend.name, prompt.pages)

    def _different_models(self) -> bytes | None:
        """Return the list of all models if the servers have different ones. Otherwise any server has it."""
        lists = [backend.models for backend in self.fleet.up if backend.models is not None]
        if all(models.keys() == lists[0].keys() for models in lists):
            return None
        entries: dict[str, Any] = {}
        for models in lists:
            entries = {**models, **entries}
        ids = list(entries)
        page = {"object": "list", "data": list(entries.values()), "has_more": False}
        return json.dumps({**page, "first_id": ids[0], "last_id": ids[-1]}).encode()

    async def metrics(self) -> bytes:
        """Return the metrics of all servers that answer and of the router, in Prometheus' text format."""
        asked = self.fleet.up
        texts = await asyncio.gather(*(_metrics_of(backend) for backend in asked))
        by_server = {backend.name: text for backend, text in zip(asked, texts, strict=True) if text}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._written, by_server)

    def _written(self, by_server: dict[str, str]) -> bytes:
        own = self.counts.process_text()
        return self.counts.text() + joined({"router": own, **by_server}).encode()


def _refuses(head: ReplyPart) -> bool:
    """Return whether a reply says that the server has no room."""
    return isinstance(head, ReplyHead) and head.status in _NO_ROOM


def _wait_in(head: ReplyPart) -> float:
    """Return for how many seconds a server that refuses wants no requests."""
    wait = head.value(b"retry-after") if isinstance(head, ReplyHead) else None
    return float(wait[:6]) if wait is not None and wait.isdigit() else _REST_SECONDS


async def _metrics_of(backend: Backend) -> str:
    """Return a server's own metrics; nothing if it shows none."""
    try:
        async with asyncio.timeout(_METRICS_SECONDS):
            status, body = await fetch(backend, METRICS)
    except (ServerLostError, TimeoutError):
        return ""
    return body.decode(errors="replace") if status == 200 else ""


async def _kept_if_short(reply: AsyncGenerator[ReplyPart, None]) -> AsyncGenerator[ReplyPart, None]:
    """Yield a reply. If it is short and not streamed, its head comes only when its body is complete."""
    async with aclosing(reply):
        head = await anext(reply)
        if isinstance(head, ReplyHead) and head.is_short(_MOST_KEPT_BYTES):
            parts = [part async for part in reply]
            yield head
            for part in parts:
                yield part
            return
        yield head
        async for part in reply:
            yield part
