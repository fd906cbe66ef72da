"""The number of requests that a server's metrics tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.router.reported_requests import requests_in

OURS = """# HELP mlc_serve_requests_running Requests that hold a sequence in the KV cache
# TYPE mlc_serve_requests_running gauge
mlc_serve_requests_running{model="a } 7"} 2.0
mlc_serve_requests_running{model="b"} 3.0
# TYPE mlc_serve_requests_waiting gauge
mlc_serve_requests_waiting{model="a } 7"} 4.0
mlc_serve_requests_running_for_long 100
"""


@pytest.mark.parametrize(
    ("metrics", "number"),
    [
        ("", 0),
        ("other_metric 3\n", 0),
        (OURS, 9),
        (f"{OURS}vllm:num_requests_running 9\n", 9),
        ('vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_waiting{engine="0"} 2\n', 3),
        ("sglang:num_running_reqs 1.0 1700000000000\nsglang:num_queue_reqs 1\n", 2),
        ("llamacpp:requests_processing 1\r\nllamacpp:requests_deferred 0\r\n", 1),
        ("mlc_serve_requests_running NaN\n", 0),
        ("mlc_serve_requests_running -1\n", 0),
        ("mlc_serve_requests_running many\n", 0),
        ("mlc_serve_requests_running 1e300\n", 1_000_000),
        ("mlc_serve_requests_running +Inf\nmlc_serve_requests_waiting 1\n", 1),
    ],
)
def test_running_and_waiting_requests_are_added(metrics: str, number: int) -> None:
    """Those of all models count, under one maker's names; what is no number of requests is left out."""
    assert requests_in(metrics.encode()) == number


@given(st.binary(max_size=200))
def test_any_reply_tells_a_number(metrics: bytes) -> None:
    """A server can't make the router fail by what it sends."""
    for beginning in (b"", b"mlc_serve_requests_running ", b'mlc_serve_requests_running{model="'):
        assert 0 <= requests_in(beginning + metrics) <= 1_000_000
