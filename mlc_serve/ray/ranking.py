"""Ranking: the replicas that may get a request, the best first. Knows nothing about ray.

What each replica has cached is known from the requests that were sent to it from here, and from what it tells
about itself, so that a router that has just started, or one of several, knows as much as the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlc_serve.config import RouterConfig
from mlc_serve.router.placement import Candidate, rank
from mlc_serve.router.prefix_map import PrefixMap


class Ranking:
    """What a request router knows about the replicas. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prefixes = PrefixMap(clock=clock)
        self._told: dict[str, Mapping[str, Any]] = {}
        self._last_used: dict[str, float] = {}

    def update(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what the present replicas tell about themselves, and forget the others."""
        for name in self._told.keys() - told.keys():
            self._prefixes.forget(name)
            self._last_used.pop(name, None)
        for name, stats in told.items():
            if stats != self._told.get(name):
                self._prefixes.record(name, stats.get("pages", ()))
        self._told = dict(told)

    def ranked(self, loads: Mapping[str, int | None], pages: Sequence[bytes]) -> list[str]:
        """Return the replicas, the best first, for a prompt with these pages.

        `loads` has the open requests of each replica that may get the request. Where that is None, it is what
        the replica last told.
        """
        matched = self._prefixes.matched(pages)
        candidates = [
            Candidate(
                name,
                self._told.get(name, {}).get("load", 0) if load is None else load,
                matched.get(name, 0),
                self._last_used.get(name, 0.0),
            )
            for name, load in loads.items()
        ]
        return [candidate.name for candidate in rank(candidates, len(pages), RouterConfig.load_weight)]

    def routed(self, name: str, pages: Sequence[bytes]) -> None:
        """Note that a replica got a request whose prompt has these pages."""
        self._prefixes.record(name, pages)
        self._last_used[name] = self._clock()
