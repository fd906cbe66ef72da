"""build_app: the application that `serve run`, `serve build` and `serve deploy` take."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from mlc_serve.host.threads import use_cores
from mlc_serve.protocol.json_text import JsonLimits
from mlc_serve.ray.arguments import read_arguments
from mlc_serve.ray.front import Front
from mlc_serve.ray.handle_replicas import HandleReplicas
from mlc_serve.ray.options import engine_options, front_options
from mlc_serve.ray.replica import Replica
from mlc_serve.server.lifecycle import favor_event_loop
from mlc_serve.server.middleware.body_limit import BodyLimit
from mlc_serve.server.middleware.errors import EXCEPTION_HANDLERS


class EngineReplica(Replica):
    """A replica in an actor of Ray's, which computes with as many threads as it has reserved CPUs."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        use_cores(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        settings = read_arguments(arguments)
        _log_as_serve_does(settings.server.log_level)
        from mlc_serve.loading import load_embedding_model, load_served  # noqa: PLC0415  loads TVM

        name: str = serve.get_replica_context().replica_id.unique_id
        super().__init__(name, arguments, load_served, load_embedding_model)
        favor_event_loop()

    def __del__(self) -> None:
        """End the engines. Serve calls this when it has drained the replica."""
        if hasattr(self, "application"):  # the constructor may have failed
            self.close()


@serve.ingress()
class IngressReplica(EngineReplica):
    """A replica that Serve's proxies send requests to themselves."""

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the server's own application. Serve calls this after the constructor."""
        return self.application


@serve.ingress()
class FrontReplica:
    """Passes requests on to the replicas of a handle."""

    def __init__(self, arguments: Mapping[str, Any], replicas: DeploymentHandle) -> None:
        config = read_arguments(arguments).server
        _log_as_serve_does(config.log_level)
        self._max_body_bytes = config.max_body_bytes
        limits = JsonLimits(config.max_body_elements, config.max_body_depth)
        self._front = Front(HandleReplicas(replicas), limits)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return an application that passes every request on. Serve adds handlers of its own to it."""
        return Starlette(
            routes=[Route("/{path:path}", self._front)],
            middleware=[Middleware(BodyLimit, max_bytes=self._max_body_bytes)],
            exception_handlers=EXCEPTION_HANDLERS,
        )


def build_app(arguments: Mapping[str, Any]) -> serve.Application:
    """Return the application for these arguments; see mlc_serve.ray.arguments. Raises ConfigError.

    With routing by prefix, requests come in at a deployment of their own, which reads their prompts.
    """
    settings = read_arguments(arguments)
    options = engine_options(settings)
    if settings.deployment.routing == "load":
        return serve.deployment(IngressReplica).options(**options).bind(dict(arguments))
    replicas = serve.deployment(EngineReplica).options(**options).bind(dict(arguments))
    return serve.deployment(FrontReplica).options(**front_options(settings)).bind(dict(arguments), replicas)


def _log_as_serve_does(level: str) -> None:
    """Write our records to the log of the replica that Serve keeps."""
    ours = logging.getLogger("mlc_serve")
    ours.setLevel(level.upper())
    for handler in logging.getLogger("ray.serve").handlers:
        ours.addHandler(handler)
