"""The interface of a scheduling policy, which decides how much each request computes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Protocol

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.plan import Plan
from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool
from mlc_serve.engine.speculation.speculation import Speculation


class Policy(Protocol):
    """Owns the waiting and the running requests, and writes their `state` and `seq_id`.

    A policy takes the pages for what it plans from the pool, and takes no more than are free.
    """

    @property
    def waiting(self) -> Sized:
        """The requests that hold no sequence."""

    @property
    def running(self) -> Sequence[Request]:
        """The requests that hold a sequence."""

    def add(self, request: Request) -> None:
        """Add a request to the waiting ones."""

    def remove(self, request: Request) -> None:
        """Forget a waiting or running request, and give its sequence to the prefix cache."""

    def plan(self) -> Plan:
        """Return the next forward pass, within the limits. It is empty only if there is no request."""


MakePolicy = Callable[[EngineLimits, SequencePool, PrefixCache, Pacing, Speculation], Policy]
