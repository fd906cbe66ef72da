"""How a model is deployed on Ray Serve."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config import DeploymentConfig
from mlc_serve.errors import ConfigError


def test_a_number_or_auto() -> None:
    """The number of replicas is fixed, or the load decides."""
    assert DeploymentConfig(replicas="3").num_replicas == 3
    assert DeploymentConfig(replicas="auto").num_replicas is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"replicas": "0"}, "replicas"),
        ({"replicas": "-1"}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas"),
        ({"cpus_per_replica": 0}, "cpus_per_replica"),
        ({"routing": "random"}, "routing"),
    ],
)
def test_wrong_values_are_named(settings: dict[str, Any], named: str) -> None:
    """A value that can't be followed is refused with its name."""
    with pytest.raises(ConfigError, match=f"^{named} is "):
        DeploymentConfig(**settings)
