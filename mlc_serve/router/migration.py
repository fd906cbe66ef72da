"""Migration: a prefix follows its request, when the request is sent away from the server that has it cached.

That server has too much to do, rests, or has no room. It only copies what it has, which takes it far less
than to compute it does the other one; see Transfers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from functools import partial

from mlc_serve.router.backend import Backend
from mlc_serve.router.counts import Counts
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyPart, RoutedRequest
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt
from mlc_serve.router.transfers import Route, Transfers, end_of_match, may_be_moved, num_tokens_in

# A prefix that is not there after so many seconds is computed instead.
_MOST_SECONDS = 10.0
# After a failure, nothing is moved between the two servers for so many seconds, so that few requests wait.
_PAUSE_SECONDS = 30.0


class Migration:
    """Moves prefixes of at least `min_tokens` tokens, one at a time between two servers."""

    def __init__(
        self,
        fleet: Fleet,
        prefixes: PrefixMap,
        counts: Counts,
        min_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._prefixes = prefixes
        self._min_tokens = min_tokens
        self._clock = clock
        self._transfers = Transfers(fleet, counts)
        self._moving: set[tuple[str, str]] = set()  # senders and receivers, by name
        self._paused_until: dict[tuple[str, str], float] = {}

    def before(
        self,
        reply: AsyncGenerator[ReplyPart, None],
        request: RoutedRequest,
        prompt: Prompt,
        receiver: Backend,
    ) -> AsyncGenerator[ReplyPart, None]:
        """Return a reply that the receiver will give. If another server probably has much more of the prompt,
        that is moved to the receiver before.
        """
        sender = self._sender(request, prompt, receiver)
        if sender is None:
            return reply
        return self._transfers.before(reply, receiver, partial(self._move, Route(request, sender, receiver)))

    def _sender(self, request: RoutedRequest, prompt: Prompt, receiver: Backend) -> Backend | None:
        """Return the server that probably has most of a prompt, or None if moving it saves too little."""
        matched = self._prefixes.matched(prompt.pages) if may_be_moved(request, prompt) else {}
        others = [backend for backend in self._fleet.up if backend is not receiver]
        able = [backend for backend in others if backend.name in matched and backend.may_serve(prompt.model)]
        if not able:
            return None
        sender = max(able, key=lambda backend: matched[backend.name])
        num_saved = num_tokens_in(matched[sender.name] - matched.get(receiver.name, 0))
        return sender if num_saved >= self._min_tokens else None

    async def _move(self, route: Route, parked: AsyncExitStack) -> None:
        pair = route.sender.name, route.receiver.name
        if pair in self._moving or self._paused_until.get(pair, 0.0) > self._clock():
            return
        self._moving.add(pair)
        try:
            outcome = await self._transfers.move(route, end_of_match, self._min_tokens, _MOST_SECONDS, parked)
        finally:
            self._moving.discard(pair)
        if outcome == "failed":
            self._paused_until[pair] = self._clock() + _PAUSE_SECONDS
