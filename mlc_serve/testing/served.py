"""A Served without a model. It answers no requests, and a test sets its state."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from mlc_serve.errors import UnsupportedFieldError


class FakeServed:
    """Implements server.served.Served.

    Tests set `is_full`, `is_stuck` and `death`, and read `drained_for` (the timeout of each `drain`, in
    seconds) and `is_terminated`.
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
        """Whether `death` has not been set."""
        return not self.death.is_set()

    def is_healthy(self, stuck_after: float) -> bool:  # noqa: ARG002 - the protocol has it
        """Return whether it is alive and not stuck, whatever `stuck_after` is."""
        return self.is_alive and not self.is_stuck

    def endpoint(self, kind: type[Any]) -> NoReturn:
        """Raise UnsupportedFieldError for every kind of request."""
        raise UnsupportedFieldError(f"The model {self.name!r} can't answer a {kind.__name__}.", "model")

    def microserving(self) -> NoReturn:
        """Raise UnsupportedFieldError."""
        raise UnsupportedFieldError(f"The model {self.name!r} has no prefixes.", "model")

    async def tokenization(self, request: object) -> NoReturn:  # noqa: ARG002 - the protocol has it
        """Raise UnsupportedFieldError."""
        self.tokenizer_info()

    def tokenizer_info(self) -> NoReturn:
        """Raise UnsupportedFieldError."""
        raise UnsupportedFieldError(f"The model {self.name!r} has no tokenizer.", "model")

    def operation(self, kind: type[Any]) -> NoReturn:
        """Raise UnsupportedFieldError for every kind of request."""
        self.endpoint(kind)

    def answers(self, kind: type[Any]) -> bool:  # noqa: ARG002 - the protocol has it
        """Return False for every kind of request."""
        return False

    def card(self) -> dict[str, Any]:
        """Return only the name."""
        return {"name": self.name}

    def metrics(self) -> dict[str, Any]:
        """Return no metrics."""
        return {}

    def event_trace(self) -> None:
        """Return None, since no events are recorded."""

    async def wait_dead(self) -> None:
        """Wait for `death`."""
        await self.death.wait()

    async def reset(self) -> None:
        """Do nothing."""

    async def drain(self, timeout: float) -> None:
        """Note the timeout."""
        self.drained_for.append(timeout)

    def terminate(self) -> None:
        """Note the call."""
        self.is_terminated = True
