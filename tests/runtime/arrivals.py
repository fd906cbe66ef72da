"""Requests that arrive while an engine serves others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.request import EngineRequest

_STEPS_BOUND = 3000


def served(core: EngineCore, requests: Sequence[EngineRequest], rng: random.Random) -> dict[str, list[int]]:
    """The output of each request by its id, when requests are submitted between steps."""
    waiting = list(requests)
    outputs: dict[str, list[int]] = {spec.request_id: [] for spec in waiting}
    for _ in range(_STEPS_BOUND):
        while waiting and rng.random() < 0.5:
            core.submit(waiting.pop(0))
        if core.has_work:
            for delta in core.step():
                outputs[delta.request_id] += delta.token_ids
        elif not waiting:
            return outputs
    raise AssertionError("the engine does not come to an end")
