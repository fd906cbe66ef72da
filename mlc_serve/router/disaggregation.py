"""Disaggregation: one server computes a prompt, and another one generates after it.

Long prompts that are new to a decode server are moved there from a prefill server, which computes them; see
Transfers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from functools import partial

from mlc_serve.config import RouterConfig
from mlc_serve.router.backend import Backend
from mlc_serve.router.balance import decode_share, window_end
from mlc_serve.router.counts import Counts
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyPart, RoutedRequest
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt
from mlc_serve.router.transfers import Call, Route, Transfers, may_be_moved, num_tokens_in

# A prompt that is not there after so many seconds is computed by the decode server.
_MOST_SECONDS = 300.0


class Disaggregation:
    """Chooses who computes a prompt, and whether that is worthwhile."""

    def __init__(self, fleet: Fleet, prefixes: PrefixMap, counts: Counts, config: RouterConfig) -> None:
        self._fleet = fleet
        self._prefixes = prefixes
        self._counts = counts
        self._config = config
        self._transfers = Transfers(fleet, counts)

    def decoders(self, able: Sequence[Backend]) -> list[Backend]:
        """Return the servers that generate; those that prefill do it only if there are no others."""
        return [backend for backend in able if not backend.prefills] or list(able)

    def prefilled(
        self,
        reply: AsyncGenerator[ReplyPart, None],
        request: RoutedRequest,
        prompt: Prompt,
        decoder: Backend,
    ) -> AsyncGenerator[ReplyPart, None]:
        """Return a reply that a decode server will give. If that is worthwhile, another server computes the
        prompt before, and it is moved to the decode server.
        """
        return self._transfers.before(reply, decoder, partial(self._move, request, prompt, decoder))

    async def _move(
        self, request: RoutedRequest, prompt: Prompt, decoder: Backend, parked: AsyncExitStack
    ) -> None:
        sender = self._sender(prompt, decoder)
        if sender is None or not self._is_worthwhile(request, prompt, decoder):
            self._counts.transfers.labels("bypassed").inc()
            return
        route = Route(request, sender, decoder)
        if await self._transfers.move(route, self._end, 1, _MOST_SECONDS, parked) == "moved":
            self._prefixes.record(sender.name, prompt.pages)

    def _sender(self, prompt: Prompt, decoder: Backend) -> Backend | None:
        """Return the best server that prefills, or None if there is none or if it is to generate itself."""
        able = [backend for backend in self._fleet.able(prompt.model) if backend.prefills]
        if not able or decoder.prefills:
            return None
        matched = self._prefixes.matched(prompt.pages)
        return self._fleet.ranked(able, len(prompt.pages), matched, self._config.load_weight)[0]

    def _is_worthwhile(self, request: RoutedRequest, prompt: Prompt, decoder: Backend) -> bool:
        """Return whether a decode server would probably have to compute much of a prompt."""
        num_new = len(prompt.pages) - self._prefixes.num_matched(decoder.name, prompt.pages)
        return may_be_moved(request, prompt) and num_tokens_in(num_new) >= self._config.disagg_min_tokens

    async def _end(self, route: Route, call: Call) -> int:
        fixed = self._config.decode_share
        loads = route.sender.load, route.receiver.load
        return window_end(len(call["prompt"]), decode_share(*loads) if fixed is None else fixed)
