"""Something that is served without a model: it answers nothing, and is as well as a test wants it to be."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from mlc_serve.errors import UnsupportedFieldError


class FakeServed:
    """Implements server.served.Served. Tests write `is_full`, `is_stuck` and `death`, and read `drained_for`
    (seconds, for each drain) and `is_terminated`.
    """

    def __init__(self, name: str = "fake", context_length: int = 512) -> None:
        self.name = name
        self.context_length = context_length
        self.registry = CollectorRegistry()
        self.is_full = False
        self.is_stuck = False
        self.is_terminated = False
        self.drained_for: list[float] = []
        self.death = asyncio.Event()

    @property
    def is_alive(self) -> bool:
        """Until `death` is set."""
        return not self.death.is_set()

    def is_healthy(self, stuck_after: float) -> bool:  # noqa: ARG002 - the protocol has it
        """Whether it is alive and not stuck, for however long."""
        return self.is_alive and not self.is_stuck

    def endpoint(self, kind: type[Any]) -> NoReturn:
        """It answers no kind of request."""
        raise UnsupportedFieldError(f"The model {self.name!r} answers no {kind.__name__}.", "model")

    def card(self) -> dict[str, Any]:
        """Its name alone."""
        return {"name": self.name}

    def metrics(self) -> dict[str, Any]:
        """None."""
        return {}

    def event_trace(self) -> None:
        """None are recorded."""

    async def wait_dead(self) -> None:
        """Wait for `death`."""
        await self.death.wait()

    async def reset(self) -> None:
        """There is nothing to forget."""

    async def drain(self, timeout: float) -> None:
        """Nothing is open."""
        self.drained_for.append(timeout)

    def terminate(self) -> None:
        """Note it."""
        self.is_terminated = True
