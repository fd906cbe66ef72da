"""How many requests a server says it has, read from its metrics. A pure function.

A server counts the requests of everybody, also of clients and routers that this router knows nothing about.
"""

from __future__ import annotations

import math
import re

# The gauges of running and of waiting requests, in each maker's names. A server that has several of these
# pairs means the same requests by them.
_PAIRS = (
    (b"mlc_serve_requests_running", b"mlc_serve_requests_waiting"),
    (b"vllm:num_requests_running", b"vllm:num_requests_waiting"),
    (b"sglang:num_running_reqs", b"sglang:num_queue_reqs"),
    (b"llamacpp:requests_processing", b"llamacpp:requests_deferred"),
)
# No server has more; beyond this, a number only says that the server should get no requests.
_MOST = 1_000_000


def requests_in(metrics: bytes) -> int:
    """Return how many requests run or wait, according to metrics in Prometheus' text format. Of a server that
    does not tell, this is 0.
    """
    text = b"\n" + metrics
    for names in _PAIRS:
        values = [value for name in names for value in _values(text, name)]
        if values:
            return int(min(sum(values), _MOST))
    return 0


def _values(text: bytes, name: bytes) -> list[float]:
    """Return the values of a gauge's samples, of which there is one for each model."""
    samples: list[bytes] = re.findall(rb"\n%b(?:\{[^\n]*\})? +([^\s]+)" % re.escape(name), text)
    return [value for value in map(_number, samples) if math.isfinite(value) and value >= 0]


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
