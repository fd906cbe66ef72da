"""The settings of a router."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config import RouterConfig
from mlc_serve.errors import ConfigError


def test_replicas_are_for_those_who_name_no_server() -> None:
    """By default two servers are started, or none beside servers that run already."""
    assert RouterConfig().num_replicas == 2
    assert RouterConfig(backends=("http://a",)).num_replicas == 0
    assert RouterConfig(backends=("http://a",), replicas=3).num_replicas == 3


@pytest.mark.parametrize(
    ("settings", "num_prefilling", "share"),
    [
        ({}, 1, 0.0),
        ({"replicas": 4, "prefill_replicas": 2, "pd_balance_factor": "0.2"}, 2, 0.2),
        ({"backends": ("a",), "prefill_backends": ("b",), "pd_balance_factor": "auto"}, 0, None),
    ],
)
def test_disagg_has_two_roles(settings: dict[str, Any], num_prefilling: int, share: float | None) -> None:
    """Some servers prefill, and a share of the prompt is left to the others."""
    config = RouterConfig(router_mode="disagg", **settings)
    assert (config.num_prefill_replicas, config.decode_share) == (num_prefilling, share)
    assert RouterConfig(replicas=4, prefill_replicas=2).num_prefill_replicas == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replicas": 0}, "replicas is 0"),
        ({"router_mode": "random"}, "router_mode"),
        ({"backend_api_key": "a\nb"}, "backend_api_key"),
        ({"pd_balance_factor": "0.5"}, "pd_balance_factor"),
        ({"prefill_backends": ("a",)}, "prefill_backends"),
        ({"router_mode": "disagg", "replicas": 1}, "besides those that prefill"),
        ({"router_mode": "disagg", "prefill_replicas": 0}, "--prefill-backend"),
        ({"router_mode": "disagg", "pd_balance_factor": "1"}, "from 0 to below 1"),
        ({"router_mode": "disagg", "pd_balance_factor": "nan"}, "from 0 to below 1"),
        ({"router_mode": "disagg", "pd_balance_factor": "half"}, "'half': expected a number"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], words: str) -> None:
    """The message names the setting and says what was expected."""
    with pytest.raises(ConfigError, match=words):
        RouterConfig(**settings)
