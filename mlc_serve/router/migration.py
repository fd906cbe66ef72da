"""Migration: a prefix follows a request that leaves the server which has it. Implements MovePolicy.

A request goes to another server than the one that has its prefix cached when that one has too much to do,
rests, or is full. Moving the keys and values of the prefix takes a small part of the time that computing them
again would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.prefix_map import PrefixMap
from mlc_serve.router.prompt import Prompt, num_tokens_in
from mlc_serve.router.prompt_moves import Move

# After a move has failed, none is tried between the same two servers for so many seconds: they may be of
# another make, or have different models.
_PAUSE_SECONDS = 30.0


class Migration:
    """Brings what another server has of a prompt, if that is at least `min_tokens` more than the decode
    server has. `clock` returns seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        prefixes: PrefixMap,
        min_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._prefixes = prefixes
        self._min_tokens = min_tokens
        self._clock = clock
        self._paused_until: dict[tuple[str, str], float] = {}

    def choose(self, prompt: Prompt, decoder: Backend) -> Move | None:
        """See MovePolicy."""
        matched = self._prefixes.matched(prompt.pages)
        holders = [
            backend
            for backend in self._fleet.up
            if backend is not decoder and backend.name in matched and backend.may_serve(prompt.model)
        ]
        if not holders:
            return None
        holder = max(holders, key=lambda backend: (matched[backend.name], -backend.load))
        num_more = matched[holder.name] - matched.get(decoder.name, 0)
        if num_tokens_in(num_more) < self._min_tokens or self._is_paused(holder, decoder):
            return None
        return Move(holder, 1 - matched[holder.name] / len(prompt.pages))

    def failed(self, sender: Backend, decoder: Backend) -> None:
        """See MovePolicy."""
        self._paused_until[sender.name, decoder.name] = self._clock() + _PAUSE_SECONDS

    def _is_paused(self, sender: Backend, decoder: Backend) -> bool:
        return self._clock() < self._paused_until.get((sender.name, decoder.name), 0.0)
