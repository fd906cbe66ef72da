"""Fleet: the servers behind the router. It alone writes what is known about them. Runs on one event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mlc_serve.router.backend import Backend
from mlc_serve.router.placement import Candidate, rank
from mlc_serve.router.upstream import Upstream

logger = logging.getLogger(__name__)

# A server is out after so many failures in a row, and back after one success.
_FAILURES_UNTIL_OUT = 2
# The requests of a server that has failed for so many seconds are given up.
ABANDON_SECONDS = 30.0
# A server that refuses requests for lack of room rests for as long as it says, within these bounds.
_REST_SECONDS = (0.5, 30.0)


class Fleet:
    """Servers by name. `on_return` is called with the name of each server that serves (again), since it may
    have started anew.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        on_return: Callable[[str], object],
        max_running: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = {backend.name: backend for backend in backends}
        self._on_return = on_return
        self._max_running = max_running
        self._clock = clock
        self._is_idle = asyncio.Event()

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    @property
    def num_running(self) -> int:
        """How many requests are being answered."""
        return sum(backend.num_running for backend in self)

    @property
    def up(self) -> list[Backend]:
        """The servers that answer."""
        return [backend for backend in self if backend.is_up]

    def able(self, model: str | None) -> list[Backend]:
        """Return the servers that can take a request for a model now.

        If none that answers is known to serve the model, one of the others may tell the client why. If all of
        them rest, the request is a try whether they still have no room.
        """
        up = self.up
        serving = [backend for backend in up if backend.may_serve(model)] or up
        with_room = [backend for backend in serving if not self._is_full(backend)]
        return [backend for backend in with_room if backend.resting_until <= self._clock()] or with_room

    def ranked(
        self, able: Sequence[Backend], num_pages: int, matched: Mapping[str, int], load_weight: float
    ) -> list[Backend]:
        """Return these servers, the best first, for a prompt of so many pages. `matched` says how many of its
        first pages each server has cached.
        """
        candidates = [
            Candidate(backend.name, backend.load, matched.get(backend.name, 0), backend.last_used)
            for backend in able
        ]
        return [self[candidate.name] for candidate in rank(candidates, num_pages, load_weight)]

    def _is_full(self, backend: Backend) -> bool:
        return self._max_running is not None and backend.num_running >= self._max_running

    @contextmanager
    def running(self, backend: Backend) -> Iterator[None]:
        """Count a request as one of a server's for as long as the block takes."""
        backend.num_running += 1
        backend.last_used = self._clock()
        try:
            yield
        finally:
            backend.num_running -= 1
            if self.num_running == 0:
                self._is_idle.set()

    async def until_idle(self, timeout: float) -> None:
        """Wait until no request is being answered, but no longer than `timeout` seconds."""
        self._is_idle.clear()
        try:
            async with asyncio.timeout(timeout):
                while self.num_running:
                    await self._is_idle.wait()
                    self._is_idle.clear()
        except TimeoutError:
            logger.warning("%d requests have not ended within %g s", self.num_running, timeout)

    def rest(self, backend: Backend, seconds: float) -> None:
        """Note that a server wants no further requests for some time."""
        shortest, longest = _REST_SECONDS
        backend.resting_until = self._clock() + min(max(seconds, shortest), longest)

    def move(self, name: str, upstream: Upstream | None) -> None:
        """Note that a server has started at another address, or has none now."""
        backend = self._backends[name]
        if backend.upstream is not None:
            backend.upstream.close()
        backend.upstream = upstream
        self._take_out(backend, "it has ended or starts anew")

    def saw_success(self, backend: Backend, models: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Note that a server answers, and which models it serves if that was asked for."""
        backend.num_failures = 0
        if models is not None:
            backend.models = models
        if not backend.is_up:
            backend.is_up, backend.resting_until = True, 0.0
            logger.info("%s serves", backend.name)
            self._on_return(backend.name)

    def saw_requests(self, backend: Backend, reported: int, own: int) -> None:
        """Note how many requests a server has, which `own` ones of this router may be among."""
        backend.num_others = max(0, reported - own)

    def saw_failure(self, backend: Backend, why: str) -> None:
        """Note that a probe or a connection has failed."""
        if backend.num_failures == 0:
            backend.failing_since = self._clock()
        backend.num_failures += 1
        if backend.num_failures >= _FAILURES_UNTIL_OUT:
            self._take_out(backend, why)
        if self._clock() - backend.failing_since > ABANDON_SECONDS and backend.upstream is not None:
            backend.upstream.close()

    def _take_out(self, backend: Backend, why: str) -> None:
        if backend.is_up:
            backend.is_up, backend.models, backend.num_others = False, None, 0
            logger.warning("%s is out: %s", backend.name, why)

    def close(self) -> None:
        """Close all connections. Replies that are being read end with ServerLostError."""
        for backend in self:
            if backend.upstream is not None:
                backend.upstream.close()
