"""The objects that all endpoints of one application share."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from mlc_serve.api.responses import Responses
from mlc_serve.config import ServerConfig
from mlc_serve.kv_transfer.kv_port import KVPort
from mlc_serve.server.context import ServerContext
from mlc_serve.server.json_bodies import JsonBodies
from mlc_serve.server.metrics import ServerMetrics


@dataclass(frozen=True)
class Serving:
    """The shared objects. Each application has one Serving in `state.serving`."""

    context: ServerContext
    config: ServerConfig
    bodies: JsonBodies
    metrics: ServerMetrics
    responses: Responses
    kv_port: KVPort


def serving_of(request: Request) -> Serving:
    """Return the Serving of the application that answers a request."""
    serving: Serving = request.app.state.serving
    return serving
