"""What all endpoints of one application share, and how they find it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from mlc_serve.config import ServerConfig
from mlc_serve.server.context import ServerContext
from mlc_serve.server.json_bodies import JsonBodies
from mlc_serve.server.metrics import ServerMetrics


@dataclass(frozen=True)
class Serving:
    """An application has one in `state.serving`."""

    context: ServerContext
    config: ServerConfig
    bodies: JsonBodies
    metrics: ServerMetrics


def serving_of(request: Request) -> Serving:
    """That of the application that answers a request."""
    serving: Serving = request.app.state.serving
    return serving
