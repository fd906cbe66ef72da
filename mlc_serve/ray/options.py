"""Serve's options for an application's deployments, inferred from the settings. Knows nothing about ray."""

from __future__ import annotations

from typing import Any

from mlc_serve.config import DEFAULT_MODE, LOCAL_SEQUENCES, EngineConfig
from mlc_serve.host.threads import num_cores
from mlc_serve.ray.arguments import Settings

ENGINE_NAME = "Engine"
FRONT_NAME = "Front"
REQUEST_ROUTER = "mlc_serve.ray.request_router:PrefixRequestRouter"
# How often each replica tells the routers what it has cached, in seconds.
STATS_PERIOD = 3.0
# With automatic scaling, the machine's cores are divided among this many replicas.
_AUTO_SHARES = 2
# A replica has this many requests per running sequence, so that it never waits for its next one.
_REQUESTS_PER_SEQUENCE = 2
# The sequences that a replica of mode "server" is assumed to run, since the model decides when it is loaded.
_SERVER_SEQUENCES = 64
# A start that fails fails again, unless a download or another process was the reason.
_MOST_STARTS = 3
# A replica gets this many seconds more than its requests, so that they end before it does.
_SHUTDOWN_MARGIN = 5.0
# The front replica holds a request until its reply has been sent, so that it must take all of them.
_FRONT_REQUESTS = 100_000


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the options for the replicas that hold the model. The user's own options take precedence."""
    sequences = _num_sequences(settings.engine)
    options: dict[str, Any] = {
        "name": ENGINE_NAME,
        "ray_actor_options": {"num_cpus": num_cpus(settings)},
        "max_ongoing_requests": _REQUESTS_PER_SEQUENCE * sequences,
        "max_queued_requests": settings.engine.max_queued_requests or 1,
        "graceful_shutdown_timeout_s": settings.server.shutdown_timeout + _SHUTDOWN_MARGIN,
        "max_constructor_retry_count": _MOST_STARTS,
        **_scale(settings, sequences),
    }
    if settings.deployment.routing == "prefix":
        options["request_router_config"] = {
            "request_router_class": REQUEST_ROUTER,
            "request_routing_stats_period_s": STATS_PERIOD,
        }
    return {**options, **settings.options}


def front_options(settings: Settings) -> dict[str, Any]:
    """Return the options for the front, which passes requests on to the replicas with the model.

    It reserves no CPU, since otherwise it could not start where the replicas have reserved all of them. There
    is one, because it knows which replica stores which response.
    """
    patience = engine_options(settings)["graceful_shutdown_timeout_s"]
    options: dict[str, Any] = {
        "name": FRONT_NAME,
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": _FRONT_REQUESTS,
        "graceful_shutdown_timeout_s": patience + _SHUTDOWN_MARGIN,
    }
    return {**options, **settings.front_options}


def num_cpus(settings: Settings) -> float:
    """Return the CPUs that a replica reserves: as many as set, or its share of this machine's cores."""
    if settings.deployment.cpus_per_replica is not None:
        return settings.deployment.cpus_per_replica
    cores, shares = num_cores(), settings.deployment.num_replicas or _AUTO_SHARES
    return float(cores // shares) if cores >= shares else cores / shares


def _scale(settings: Settings, sequences: int) -> dict[str, Any]:
    deployment = settings.deployment
    if deployment.num_replicas is not None:
        return {"num_replicas": deployment.num_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": deployment.min_replicas,
            "max_replicas": deployment.max_replicas,
            "target_ongoing_requests": deployment.requests_per_replica or sequences,
        }
    }


def _num_sequences(engine: EngineConfig) -> int:
    """Return how many sequences a replica probably runs at once."""
    by_mode = {"interactive": 1, "local": LOCAL_SEQUENCES, "server": _SERVER_SEQUENCES}
    return engine.max_num_sequence or by_mode[engine.mode or DEFAULT_MODE]
