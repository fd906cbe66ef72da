"""The part of Ray Serve's protocol that mlc_serve.ray uses, in memory, so that its tests need no Ray.

tests/cluster tests the same with a real Ray.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple


class RayError(Exception):
    """Base of what Ray raises when an actor or a task fails."""


class RayServeException(Exception):  # noqa: N818  Ray's name
    """Base of what Serve raises."""


class BackPressureError(RayServeException):
    """More requests wait at a handle than may."""


class Application(NamedTuple):
    """A deployment with the arguments of its constructor."""

    cls: type[Any]
    options: Mapping[str, Any]
    arguments: Sequence[Any]


class Deployment(NamedTuple):
    """A class with options."""

    cls: type[Any]
    chosen: Mapping[str, Any]

    def options(self, **options: Any) -> Deployment:
        """This deployment with other options."""
        return Deployment(self.cls, options)

    def bind(self, *arguments: Any) -> Application:
        """The application that Serve would start."""
        return Application(self.cls, self.chosen, arguments)


class ReplicaID(NamedTuple):
    """The name of a replica."""

    unique_id: str


class RunningReplica(NamedTuple):
    """A replica with what it has told."""

    replica_id: ReplicaID
    routing_stats: Mapping[str, Any]


class PendingRequest(NamedTuple):
    """A request that waits for a replica."""

    args: Sequence[Any]


class RequestRouter:
    """The base of request routers. `loads` has what is known of the replicas' queues."""

    def __init__(self, loads: Mapping[ReplicaID, int] | None = None) -> None:
        self.replica_queue_len_cache = dict(loads or {})
        self.updates: list[Sequence[RunningReplica]] = []

    def update_replicas(self, replicas: Sequence[RunningReplica]) -> None:
        """Note the replicas."""
        self.updates.append(replicas)


class Response:
    """What a handle that streams returns: yields its steps, and raises those that are exceptions."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self._steps = steps
        self.is_cancelled = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            yield step

    def cancel(self) -> None:
        """Note that the call is to be ended."""
        self.is_cancelled = True


class Handle:
    """A handle whose calls are answered with these steps."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self.response = Response(steps)
        self.chosen: Mapping[str, Any] = {}

    def options(self, **options: Any) -> Handle:
        """Note the options."""
        self.chosen = options
        return self

    def remote(self, *_: Any) -> Response:
        """Answer a call."""
        return self.response


def _ingress() -> Callable[[type[Any]], type[Any]]:
    return lambda cls: cls


def _deployment(cls: type[Any]) -> Deployment:
    return Deployment(cls, {})


def modules() -> dict[str, ModuleType]:
    """The modules of the fake, by the names that they are imported by."""
    contents: dict[str, dict[str, Any]] = {
        "ray": {},
        "ray.exceptions": {"RayError": RayError},
        "ray.serve": {"ingress": _ingress, "deployment": _deployment, "Application": Application},
        "ray.serve.exceptions": {
            "BackPressureError": BackPressureError,
            "RayServeException": RayServeException,
        },
        "ray.serve.handle": {"DeploymentHandle": Handle, "DeploymentResponseGenerator": Response},
        "ray.serve.request_router": {
            "PendingRequest": PendingRequest,
            "ReplicaID": ReplicaID,
            "ReplicaResult": object,
            "RequestRouter": RequestRouter,
            "RunningReplica": RunningReplica,
        },
    }
    found = {name: ModuleType(name) for name in contents}
    for name, module in found.items():
        vars(module).update(contents[name], __path__=[])
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(found[parent], own, module)
    return found
