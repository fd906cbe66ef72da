"""RWKV-6 against its published equations: logprobs, greedy output, and states that are taken back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.runtime.runner import TVMBackend
from tests.greedy import ROUNDING, shortfall
from tests.rwkv6_checkpoints import RWKV6Shape, reference_logprobs, write_rwkv6

SHAPES = {
    "two layers": RWKV6Shape(),
    "three layers of many heads": RWKV6Shape(
        hidden_size=96, num_layers=3, head_size=8, intermediate_size=160, vocab_size=330
    ),
}
HISTORY = 3
NUM_GREEDY = 64


class Model:
    """A checkpoint of random weights, loaded by our runtime, and the equations for it."""

    def __init__(self, directory: Path, shape: RWKV6Shape, scheme: str = "q0f32") -> None:
        self.shape = shape
        self.weights = write_rwkv6(directory, shape, seed=3)
        config = EngineConfig(
            model=str(directory),
            quantization=scheme,
            kv_state_kind="rnn_state",
            max_num_sequence=4,
            max_history_size=HISTORY,
            verbose=False,
        )
        self.loaded: LoadedModel = load_model(config, "cpu", lambda line: None)
        assert isinstance(self.loaded.backend, TVMBackend)
        self.backend = self.loaded.backend

    def prompt(self, length: int) -> list[int]:
        """Random ids, the same ones for the same length."""
        return [
            int(token) for token in np.random.default_rng(length).integers(1, self.shape.vocab_size, length)
        ]

    def expected(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """The logprobs after each token, by the equations."""
        result: NDArray[np.float64] = reference_logprobs(self.weights, self.shape, ids)
        return result

    def start(self, num_sequences: int) -> None:
        """Forget all sequences, and start some."""
        self.loaded.backend.state.clear()
        for seq_id in range(num_sequences):
            self.loaded.backend.state.add_sequence(seq_id)

    def logprobs(self, steps: Sequence[SequenceStep]) -> NDArray[np.float64]:
        """The logprobs after each token of all steps, which run together."""
        num_rows = sum(len(step.token_ids) + len(step.draft_ids) for step in steps)
        logits = self.backend.forward(steps, list(range(num_rows))).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        result: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return result


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of one of the shapes."""
    return Model(tmp_path_factory.mktemp("rwkv6"), SHAPES[request.param])


@pytest.mark.parametrize("size", [70, 32, 1])
def test_logprobs_are_those_of_the_equations_at_every_position(model: Model, size: int) -> None:
    """Up to rounding, whether computed by prefill, in chunks, or by decode."""
    ids = model.prompt(70)
    model.start(1)
    pieces = [SequenceStep(0, ids[start : start + size]) for start in range(0, len(ids), size)]
    ours = np.concatenate([model.logprobs([piece]) for piece in pieces])
    assert np.abs(ours - model.expected(ids)).max() < ROUNDING


def test_sequences_of_one_batch_do_not_mix(model: Model) -> None:
    """In passes that decode some sequences and prefill others, each row is that of its sequence alone."""
    prompts = [model.prompt(length) for length in (9, 23, 1, 14)]
    model.start(4)
    model.logprobs([SequenceStep(0, prompts[0][:-1]), SequenceStep(1, prompts[1][:5])])
    steps = [SequenceStep(2, prompts[2]), SequenceStep(1, prompts[1][5:]), SequenceStep(0, prompts[0][-1:])]
    rows = model.logprobs([*steps, SequenceStep(3, prompts[3])])
    expected = [model.expected(prompts[step.seq_id])[-len(step.token_ids) :] for step in steps]
    assert np.abs(rows - np.concatenate([*expected, model.expected(prompts[3])])).max() < ROUNDING


@pytest.mark.parametrize("num_wrong", range(HISTORY + 1))
def test_drafts_that_were_taken_back_leave_no_trace(model: Model, num_wrong: int) -> None:
    """After up to max_history_size drafts were computed and popped, a sequence goes on as if they had not."""
    prompt, drafts, rest = model.prompt(12), model.prompt(HISTORY), model.prompt(5)
    model.start(2)
    model.logprobs([SequenceStep(0, prompt[:-1]), SequenceStep(1, prompt)])
    rows = model.logprobs([SequenceStep(0, prompt[-1:], draft_ids=drafts), SequenceStep(1, rest[:1])])
    assert np.abs(rows[:-1] - model.expected([*prompt, *drafts])[len(prompt) - 1 :]).max() < ROUNDING
    model.loaded.backend.state.pop(0, num_wrong)
    kept = [*prompt, *drafts[: HISTORY - num_wrong]]
    after = model.logprobs([SequenceStep(0, rest)])
    assert np.abs(after - model.expected([*kept, *rest])[len(kept) :]).max() < ROUNDING


@pytest.mark.parametrize(("chunk_size", "mode"), [(1024, "hybrid"), (24, "chunked")])
def test_greedy_output_is_that_of_the_equations(model: Model, chunk_size: int, mode: str) -> None:
    """The 64 tokens of each of many prompts, of which four run at a time, are the equations' choices."""
    prompts = [model.prompt(length) for length in (1, 5, 16, 40, 70, 3)]
    limits = replace(model.loaded.limits, prefill_chunk_size=chunk_size, prefill_mode=mode)  # type: ignore[arg-type]
    model.start(0)
    core = EngineCore(model.loaded.backend, limits, EngineMetrics("rwkv6"), NullTrace())
    params = SamplingParams(temperature=0.0, max_tokens=NUM_GREEDY)
    for i, prompt in enumerate(prompts):
        core.submit(EngineRequest(str(i), tuple(prompt), params, seed=0, arrival=time.monotonic()))
    outputs: list[list[int]] = [[] for _ in prompts]
    while core.has_work:
        for delta in core.step():
            outputs[int(delta.request_id)] += delta.token_ids
    for prompt, output in zip(prompts, outputs, strict=True):
        assert len(output) == NUM_GREEDY
        logprobs = model.expected([*prompt, *output[:-1]])[len(prompt) - 1 :]
        assert shortfall(logprobs.astype(np.float32), output) < ROUNDING


def test_the_default_scheme_is_close(tmp_path: Path) -> None:
    """The mean divergence of the distributions of 4-bit weights from the equations' is small."""
    model = Model(tmp_path, SHAPES["two layers"], "q4f16_1")
    ids = model.prompt(70)
    model.start(1)
    ours, exact = model.logprobs([SequenceStep(0, ids)]), model.expected(ids)
    assert (np.exp(exact) * (exact - ours)).sum(axis=1).mean() < 0.1
