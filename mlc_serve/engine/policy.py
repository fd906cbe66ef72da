"""Who computes how much next: what the engine asks of a scheduling policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Protocol

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.plan import Plan
from mlc_serve.engine.prefix_cache import PrefixCache
from mlc_serve.engine.request import Request
from mlc_serve.engine.sequence_pool import SequencePool


class Policy(Protocol):
    """Owns the requests that wait and those that run, and writes their state and their sequence.

    It asks the pool for the pages of what it plans, and for none that is not free.
    """

    @property
    def waiting(self) -> Sized:
        """The requests that hold no sequence."""

    @property
    def running(self) -> Sequence[Request]:
        """The requests that hold one."""

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""

    def remove(self, request: Request) -> None:
        """Forget a request that waits or runs, and give its sequence to the prefix cache."""

    def plan(self) -> Plan:
        """The next forward pass, within the limits. It is empty only if there is no request."""


MakePolicy = Callable[[EngineLimits, SequencePool, PrefixCache, Pacing], Policy]
