"""Pacing: how much prompts may add to the gaps of running streams, on simulated machines."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import pytest

from mlc_serve.engine.backend import SequenceStep, StepResult
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.pacing import Pacing
from mlc_serve.engine.trace import NullTrace
from mlc_serve.testing import FakeKVCache
from tests.engine.bench import Clock, limits, spec

# Seconds of a pass, of each decode in it and of each prompt token in it: a small and a larger model on a few
# cores, and an accelerator, where a prompt token costs next to nothing.
Costs = tuple[float, float, float]
SMALL, LARGER, ACCELERATOR = (3.5e-3, 0.67e-3, 0.26e-3), (14.5e-3, 2.7e-3, 1.69e-3), (1e-2, 5e-5, 2e-5)
MACHINES = pytest.mark.parametrize(
    "costs", [SMALL, LARGER, ACCELERATOR], ids=["small", "larger", "accelerator"]
)


class Machine:
    """A backend whose passes take time according to `costs`, and always write the same token."""

    def __init__(self, costs: Costs, clock: Clock) -> None:
        self.state = FakeKVCache(16, 2048)
        self.passes: list[tuple[int, int]] = []
        self._costs = costs
        self._clock = clock

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """Advance the clock, and record the numbers of decodes and prompt tokens in `passes`."""
        num_decodes = sum(bool(step.draws) and bool(step.draws[0].output_ids) for step in steps)
        num_tokens = sum(len(step.token_ids) for step in steps) - num_decodes
        self.passes.append((num_decodes, num_tokens))
        fixed, per_decode, per_token = self._costs
        self._clock.now += fixed + per_decode * num_decodes + per_token * num_tokens
        return [StepResult((7,) if step.draws else ()) for step in steps]


class Load:
    """Requests on an engine on a simulated machine; `token_times` are by request id."""

    def __init__(self, costs: Costs) -> None:
        self.clock = Clock(tick=0.0)
        self.machine = Machine(costs, self.clock)
        engine_limits = limits(
            max_num_sequence=32,
            max_total_sequence_length=32768,
            max_single_sequence_length=2048,
            prefill_chunk_size=1024,
            prefix_cache_mode="disable",
        )
        self.core = EngineCore(self.machine, engine_limits, EngineMetrics("m"), NullTrace(), self.clock)
        self.token_times: dict[str, list[float]] = {}
        self.num_ended = 0

    def submit(self, name: str, num_prompt: int, max_tokens: int) -> None:
        """Submit a request that arrives now."""
        self.token_times[name] = []
        prompt = [1] * num_prompt
        self.core.submit(spec(name, prompt, arrival=self.clock.now, max_tokens=max_tokens))

    def step(self) -> None:
        """Make one step."""
        for delta in self.core.step():
            self.token_times[delta.request_id] += [self.clock.now] * len(delta.token_ids)
            self.num_ended += delta.finish_reason is not None

    def until_first_token(self, name: str) -> float:
        """Return the seconds from now until the first token of a request."""
        start = self.clock.now
        while not self.token_times[name]:
            self.step()
        return self.clock.now - start

    def gaps(self, name: str) -> list[float]:
        """Return the seconds between the tokens of a request."""
        times = self.token_times[name]
        return [times[i] - times[i - 1] for i in range(1, len(times))]

    def streams(self, number: int, num_prompt: int = 20) -> None:
        """Start this many streams, and let them run for a while."""
        for i in range(number):
            self.submit(f"stream{i}", num_prompt, 1500)
        for _ in range(20 + number):
            self.step()


@MACHINES
@pytest.mark.parametrize("number", [1, 8, 31])
def test_a_long_prompt_delays_streams_by_less_than_three_gaps(costs: Costs, number: int) -> None:
    """While 900 prompt tokens are computed, every gap of a running stream is less than three normal gaps, and
    the prompt takes at most about three times as long as alone.
    """
    load = Load(costs)
    load.streams(number)
    before = load.gaps("stream0")
    for name in ("first", "second", "third"):
        load.submit(name, 900, 2)
        waited = load.until_first_token(name)
    during = load.gaps("stream0")[len(before) :]
    assert max(during) < 2.6 * median(before[-10:])
    assert waited < 3 * (costs[0] + 900 * costs[2])


def test_without_streams_a_pass_takes_all_it_can() -> None:
    """Without decodes, prompts get the whole budget."""
    load = Load(SMALL)
    load.streams(1)
    load.core.abort_all()
    load.submit("a", 1500, 1)
    load.until_first_token("a")
    assert load.machine.passes[-2:] == [(0, 1024), (0, 476)]


@pytest.mark.parametrize(("num_clients", "num_prompt"), [(8, 128), (32, 128), (32, 512)])
def test_pacing_costs_no_throughput(
    num_clients: int, num_prompt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that always have an open request get at least 96 % of the tokens that they get
    without pacing.
    """

    def seconds() -> float:
        load, num_sent = Load(SMALL), 0
        start = load.clock.now
        while load.num_ended < 96:
            while num_sent < min(96, load.num_ended + num_clients):
                load.submit(str(num_sent), num_prompt, 64)
                num_sent += 1
            load.step()
        return load.clock.now - start

    paced = seconds()
    monkeypatch.setattr(Pacing, "prompt_tokens", lambda *_: 1024)
    assert seconds() > 0.96 * paced


def test_a_burst_and_streams_bear_with_each_other() -> None:
    """24 prompts beside 8 streams have their first tokens after at most 1.8 times what their tokens cost, and
    no gap of a stream is longer than four passes of all.
    """
    load = Load(SMALL)
    load.streams(8)
    before = load.gaps("stream0")
    for i in range(24):
        load.submit(str(i), 128, 500)
    waited = load.until_first_token("23")
    assert waited < 1.8 * 24 * 128 * SMALL[2]
    fixed, per_decode, _ = SMALL
    assert max(load.gaps("stream0")[len(before) :]) < 4 * (fixed + 32 * per_decode)


def test_five_tokens_behind_a_burst_have_their_answer_within_a_second() -> None:
    """A prompt of five tokens behind 32 prompts of 128 has its first token within 0.3 s."""
    load = Load(SMALL)
    for i in range(32):
        load.submit(str(i), 128, 64)
    load.submit("short", 5, 64)
    assert load.until_first_token("short") < 0.3


def test_what_decodes_cost_is_measured_first() -> None:
    """Prompts wait for a pass of decodes alone if none was measured yet or the batch size has changed."""
    pacing = Pacing()
    assert pacing.prompt_tokens(1, 1) == 0
    pacing.measured(1, 0, 0.01)
    assert pacing.prompt_tokens(1, 1) > 0
    assert pacing.prompt_tokens(2, 1) == 0
    pacing.measured(16, 0, 0.1)
    assert pacing.prompt_tokens(20, 1) > 0
    assert pacing.prompt_tokens(10, 1) == 0


def test_prompts_always_get_on() -> None:
    """Each pass with prompts takes at least 8 of their tokens, however expensive they seem."""
    pacing = Pacing()
    pacing.measured(1, 0, 0.001)
    for _ in range(10):
        assert pacing.prompt_tokens(1, 1) == 8
        pacing.measured(1, 16, 10.0)


def test_the_cost_of_decodes_is_measured_again() -> None:
    """While a prompt is being computed, one of 33 passes has only decodes."""
    load = Load(SMALL)
    load.streams(1)
    load.submit("a", 1900, 1)
    load.until_first_token("a")
    during = load.machine.passes[-66:]
    alone = [i for i, (_, num_tokens) in enumerate(during) if num_tokens == 0]
    assert len(alone) == 2
    assert alone[1] - alone[0] == 33


def test_what_prompts_add_grows_with_the_root_of_how_many_there_are() -> None:
    """If a pass of four decodes costs as much as 100 prompt tokens, one prompt gets 100, 4 get 300 and 16 get
    600.
    """
    pacing = Pacing()
    pacing.measured(0, 1024, 1.024)
    pacing.measured(4, 0, 0.1)
    assert [pacing.prompt_tokens(4, number) for number in (1, 4, 16)] == pytest.approx([100, 300, 600], abs=1)


def test_a_pass_that_something_held_up_says_little() -> None:
    """A single pass of ten times the normal length changes the prompts' share by at most half."""
    pacing = Pacing()
    pacing.measured(0, 1024, 1.024)
    pacing.measured(4, 0, 0.1)
    pacing.measured(4, 0, 1.0)
    assert pacing.prompt_tokens(4, 1) <= 150
    pacing.measured(4, 100, 10.0)
    assert pacing.prompt_tokens(4, 1) >= 67


def test_a_clock_that_stands_still_is_survived() -> None:
    """If passes are shorter than the clock's resolution, prompts still get their minimum."""
    pacing = Pacing()
    pacing.measured(0, 5, 0.0)
    for _ in range(5):
        pacing.measured(2, 0, 0.0)
        pacing.measured(2, 10, 0.0)
        assert pacing.prompt_tokens(2, 4) >= 8


def test_tokens_that_seem_free_stay_countable() -> None:
    """If prompts seem to add nothing to a pass, their share is large but does not overflow."""
    pacing = Pacing()
    pacing.measured(2, 0, 0.1)
    for _ in range(5000):
        pacing.measured(2, 1000, 0.1)
    pacing.measured(2, 0, 0.1)
    assert 1024 < pacing.prompt_tokens(2, 1) < 1_000_000
