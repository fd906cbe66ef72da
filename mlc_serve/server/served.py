"""The interface of whatever answers requests under a model's name: an engine that generates text, or one that
makes embeddings.
"""

from __future__ import annotations

from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from mlc_serve.api.endpoint import Asked, Endpoint
from mlc_serve.api.microserving import Microserving
from mlc_serve.api.operation import Operation, Posed
from mlc_serve.protocol.tokenization import TokenizationRequest, TokenizerInfo


class Served(Protocol):
    """Answers requests under one name. All methods are called on the event loop."""

    name: str

    @property
    def context_length(self) -> int:
        """The maximum number of tokens of a request's prompt and output together, or of one input."""

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics for Prometheus."""

    @property
    def is_full(self) -> bool:
        """Whether there is no room for any new request."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer requests."""

    def is_healthy(self, stuck_after: float) -> bool:
        """Return whether it is alive and has not spent `stuck_after` seconds in one step."""

    def endpoint(self, kind: type[Asked]) -> Endpoint[Asked, Any, Any]:
        """Return the endpoint for this kind of request. Raises UnsupportedFieldError if there is none."""

    def microserving(self) -> Microserving:
        """Return the microserving calls. Raises UnsupportedFieldError if there are none."""

    async def tokenization(self, request: TokenizationRequest) -> str:
        """Answer a request about tokens or prompts with JSON. Raises UnsupportedFieldError if it has none."""

    def tokenizer_info(self) -> TokenizerInfo:
        """Return what is known about its tokenizer. Raises UnsupportedFieldError if it has none."""

    def operation(self, kind: type[Posed]) -> Operation[Posed, Any]:
        """Return the operation for this kind of request. Raises UnsupportedFieldError if there is none."""

    def answers(self, kind: type[Any]) -> bool:
        """Return whether there is an endpoint or an operation for this kind of request."""

    def card(self) -> dict[str, Any]:
        """Return what it was started with, for display."""

    def metrics(self) -> dict[str, Any]:
        """Return its metrics under MLC's names."""

    def event_trace(self) -> list[dict[str, Any]] | None:
        """Return the events of recent requests for Chrome's trace viewer, or None if none are recorded."""

    async def wait_dead(self) -> None:
        """Wait until it has failed for good."""

    async def reset(self) -> None:
        """End all requests, and empty the caches."""

    async def drain(self, timeout: float) -> None:
        """Refuse new requests, wait up to `timeout` seconds for the open ones, then end them."""

    def terminate(self) -> None:
        """End all requests and free all resources. A second call does nothing."""
