"""What a trace of a request contains, under the names of OpenTelemetry's conventions for generative AI.

Knows nothing about how traces are sent; server/spans.py does that if it is installed and wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from mlc_serve.errors import ConfigError

Attribute = str | int | float | bool | Sequence[str]


class Ended(NamedTuple):
    """A request that has ended. `parent` has the headers that name the trace it belongs to."""

    operation: str
    model: str | None
    seconds: float
    attributes: Mapping[str, Attribute]
    error: str | None
    parent: Mapping[str, str]


class Tracer(Protocol):
    """Takes the requests that have ended. It never waits."""

    def saw(self, request: Ended) -> None:
        """Record a request."""

    def close(self) -> None:
        """Record no more. This may take a few seconds."""


def tracer_for(endpoint: str | None, environment: Mapping[str, str]) -> Tracer | None:
    """Return what records requests at a collector's address; None if there is none.

    Raises ConfigError if the packages that this needs are not installed.
    """
    if endpoint is None:
        return None
    try:
        from mlc_serve.server.spans import Spans, batched  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise ConfigError(
            f"otlp_traces_endpoint needs OpenTelemetry: pip install 'mlc_serve[otel]' ({error})"
        ) from error
    return Spans(batched(endpoint), environment)
