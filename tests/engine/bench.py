"""An EngineCore on a fake backend, which tests run step by step, and an oracle that computes a request
alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.constraint import Constraint
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.policy import MakePolicy
from mlc_serve.engine.prefix_store import PrefixStore
from mlc_serve.engine.request import EngineRequest, FinishReason, RequestDelta
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.engine.scheduler import Scheduler
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import NullTrace, Trace
from mlc_serve.testing import FakeBackend
from mlc_serve.testing.backend import State


def spec(
    request_id: str,
    prompt: Iterable[int],
    *,
    arrival: float = 0.0,
    seed: int = 0,
    namespace: str = "",
    constraint: Constraint | None = None,
    **params: Any,
) -> EngineRequest:
    """Return a request for the engine; `prompt` may be bytes. It is greedy by default."""
    sampling = SamplingParams(**({"temperature": 0.0, "max_tokens": 4} | params))
    return EngineRequest(request_id, tuple(prompt), sampling, seed, arrival, namespace, constraint)


def limits(**fields: Any) -> EngineLimits:
    """Return limits of 8 sequences, 64 tokens per sequence, 16 tokens per step, and 256 tokens in all."""
    defaults: dict[str, Any] = {
        "max_num_sequence": 8,
        "max_total_sequence_length": 256,
        "max_single_sequence_length": 64,
        "prefill_chunk_size": 16,
    }
    return EngineLimits(**(defaults | fields))


class Clock:
    """A clock that advances at each reading, by default by a millisecond."""

    def __init__(self, tick: float = 0.001) -> None:
        self.now = 1000.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


class Bench:
    """An engine whose pages hold 4 tokens. `outputs`, `reasons` and `deltas` are by request id."""

    def __init__(
        self,
        *,
        num_pages: int = 64,
        trace: Trace | None = None,
        state: State | None = None,
        make_policy: MakePolicy = Scheduler,
        speculation: Speculation | None = None,
        store: PrefixStore | None = None,
        **fields: Any,
    ) -> None:
        self.limits = limits(**fields)
        self.backend = FakeBackend(
            page_size=4,
            num_pages=num_pages,
            max_batch_tokens=self.limits.prefill_chunk_size,
            max_batch_sequences=self.limits.max_num_sequence,
            max_batch_draws=self.limits.max_draws,
            state=state,
        )
        self.metrics = EngineMetrics("fake")
        self.clock = Clock()
        self.core = EngineCore(
            self.backend,
            self.limits,
            self.metrics,
            trace or NullTrace(),
            self.clock,
            make_policy,
            speculation,
            store,
        )
        self.deltas: dict[str, list[RequestDelta]] = {}
        self._num_submitted = 0

    def submit(self, request_id: str, prompt: Iterable[int], **fields: Any) -> EngineRequest:
        """Submit a request. Requests arrive in the order of these calls."""
        self._num_submitted += 1
        request = spec(request_id, prompt, **({"arrival": float(self._num_submitted)} | fields))
        self.core.check(request)
        self.core.submit(request)
        return request

    def step(self, times: int = 1) -> None:
        """Make this many steps."""
        for _ in range(times):
            for delta in self.core.step():
                self.deltas.setdefault(delta.request_id, []).append(delta)

    def finish(self) -> None:
        """Step until nothing is left to do."""
        for _ in range(10_000):
            if not self.core.has_work:
                return
            self.step()
        raise AssertionError("the engine does not come to an end")

    @property
    def batch(self) -> list[int]:
        """Return how many tokens each sequence got in the last forward pass."""
        return [len(step.token_ids) for step in self.backend.batches[-1]]

    def output(self, request_id: str) -> list[int]:
        """Return the tokens that were generated for one request."""
        return [token_id for delta in self.deltas.get(request_id, []) for token_id in delta.token_ids]

    def reasons(self, request_id: str) -> list[FinishReason]:
        """Return the finish reasons of one request; there should be one."""
        return [delta.finish_reason for delta in self.deltas.get(request_id, []) if delta.finish_reason]

    def num_cached(self, request_id: str) -> int:
        """Return how many prompt tokens were found in the prefix cache."""
        return self.deltas[request_id][-1].num_cached_tokens

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        value = self.metrics.registry.get_sample_value(f"mlc_serve_{name}", {"model": "fake", **labels})
        assert value is not None, name
        return value


def oracle(
    request: EngineRequest, limit: int, state: State | None = None, constraint: Constraint | None = None
) -> tuple[list[int], FinishReason]:
    """Return the tokens of a request that runs alone on a large backend, one token per forward pass.

    `constraint` must be a fresh one like the request's own.
    """
    backend = FakeBackend(page_size=4, num_pages=64, state=state)
    backend.state.add_sequence(0)
    params, pending = request.params, list(request.prompt_ids)
    output: list[int] = []
    while True:
        if params.max_tokens is not None and len(output) >= params.max_tokens:
            return output, FinishReason.LENGTH
        if len(request.prompt_ids) + len(output) >= limit:
            return output, FinishReason.LENGTH
        draw = Draw(params, request.prompt_ids, output, request.seed, constraint)
        (result,) = backend.run([SequenceStep(0, pending, [draw])])
        (token_id,) = result.token_ids
        output.append(token_id)
        if constraint is not None:
            constraint.accept([token_id])
        if token_id in params.stop_token_ids or (constraint is not None and constraint.is_complete):
            return output, FinishReason.STOP
        pending = [token_id]
