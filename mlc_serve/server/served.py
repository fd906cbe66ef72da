"""What the name of a model leads to: an engine that generates text, or whatever else answers requests."""

from __future__ import annotations

from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from mlc_serve.api.endpoint import Asked, Endpoint


class Served(Protocol):
    """Answers requests under one name. All of it is called on the event loop.

    `context_length` is the most tokens that a request may come to. `registry` holds its metrics.
    """

    name: str

    @property
    def context_length(self) -> int:
        """Tokens."""

    @property
    def registry(self) -> CollectorRegistry:
        """Its metrics, for Prometheus."""

    @property
    def is_full(self) -> bool:
        """Whether it would refuse any new request for want of room."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer."""

    def is_healthy(self, stuck_after: float) -> bool:
        """Whether it is alive, and has not been busy with one thing for `stuck_after` seconds."""

    def endpoint(self, kind: type[Asked]) -> Endpoint[Asked, Any, Any]:
        """What answers this kind of request. Raises UnsupportedFieldError if nothing does."""

    def card(self) -> dict[str, Any]:
        """What it was started with, for people to look at."""

    def metrics(self) -> dict[str, Any]:
        """Its metrics under MLC's names."""

    def event_trace(self) -> list[dict[str, Any]] | None:
        """The events of recent requests, as Chrome's trace viewer reads them; None if none are recorded."""

    async def wait_dead(self) -> None:
        """Wait until it has failed for good."""

    async def reset(self) -> None:
        """End all requests, and forget what it has cached."""

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them."""

    def terminate(self) -> None:
        """End all requests and free what it holds. The second call does nothing."""
