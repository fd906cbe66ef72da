"""Serve's options for the deployments."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.ray import options
from mlc_serve.ray.arguments import read_arguments
from mlc_serve.ray.options import engine_options, front_options


def of_engine(**arguments: Any) -> dict[str, Any]:
    """The options for the replicas."""
    return engine_options(read_arguments(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 8), ({"mode": "interactive"}, 2), ({"mode": "server"}, 128), ({"max_num_sequence": 10}, 20)],
)
def test_a_replica_gets_enough_requests_to_fill_its_batches(arguments: dict[str, Any], expected: int) -> None:
    """A replica is sent twice as many requests as it runs at once; Serve's default of 5 would be too few."""
    assert of_engine(**arguments)["max_ongoing_requests"] == expected


def test_a_fixed_number_of_replicas_does_not_scale() -> None:
    """A number is a number, and auto is a range with a target."""
    assert of_engine(replicas=3)["num_replicas"] == 3
    assert "autoscaling_config" not in of_engine(replicas=3)
    automatic = of_engine(replicas="auto", min_replicas=0, max_replicas=4, max_num_sequence=6)
    assert "num_replicas" not in automatic
    assert automatic["autoscaling_config"] == {
        "min_replicas": 0,
        "max_replicas": 4,
        "target_ongoing_requests": 6,
    }


def test_draining_lasts_longer_than_the_requests_may() -> None:
    """Serve ends a replica only after its requests' time is over, and the front after the replicas."""
    settings = read_arguments({"shutdown_timeout": 60})
    of_replica = engine_options(settings)["graceful_shutdown_timeout_s"]
    assert 60 < of_replica < front_options(settings)["graceful_shutdown_timeout_s"]


@pytest.mark.parametrize(
    ("cores", "replicas", "expected"), [(8, "2", 4), (8, "3", 2), (2, "4", 0.5), (8, "auto", 4), (1, "1", 1)]
)
def test_replicas_share_the_cores(
    cores: int, replicas: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All replicas fit on a machine like this one, unless the user says otherwise."""
    monkeypatch.setattr(options, "num_cores", lambda: cores)
    assert of_engine(replicas=replicas)["ray_actor_options"]["num_cpus"] == expected
    assert of_engine(cpus_per_replica=0.25)["ray_actor_options"]["num_cpus"] == 0.25


def test_only_routing_by_prefix_has_a_request_router() -> None:
    """Routing by load is Serve's own."""
    assert "request_router_config" in of_engine()
    assert "request_router_config" not in of_engine(routing="load")


def test_the_users_own_options_take_precedence() -> None:
    """`deployment` and `front` have options of Serve's, which replace ours."""
    assert of_engine(deployment={"max_ongoing_requests": 3})["max_ongoing_requests"] == 3
    assert front_options(read_arguments({"front": {"num_replicas": 2}}))["num_replicas"] == 2
