"""Logits and greedy output against transformers, in float32, for random weights in several shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep, TokenLogprobs
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from tests.checkpoints import Shape, write_checkpoint
from tests.greedy import ROUNDING, shortfall

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# YaRN keeps, mixes and divides some of a head's 16 dimensions; most prompts exceed the original window.
YARN_SCALING = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 4.0,
    "beta_slow": 0.5,
}
# Each shape is compiled, which takes most of the time. So one shape has several properties.
SHAPES = {
    "llama": Shape(),
    "llama-tied-gqa3-rope-linear": Shape(
        tied=True,
        hidden_size=96,
        num_heads=6,
        num_kv_heads=2,
        intermediate_size=192,
        vocab_size=500,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
    ),
    "llama-head-dim-mqa-rope-llama3": Shape(
        num_heads=4,
        num_kv_heads=1,
        head_dim=48,
        num_layers=3,
        rope_scaling=LLAMA3_SCALING,
        rope_theta=500000.0,
    ),
    "llama-rope-yarn-biased": Shape(rope_scaling=YARN_SCALING, biased=True),
    "qwen2": Shape(architecture="qwen2", norm_eps=1e-6, rope_theta=1000000.0),
    "qwen2-tied-padded": Shape(
        architecture="qwen2",
        tied=True,
        num_heads=8,
        num_kv_heads=8,
        num_unused_ids=24,
        rope_scaling={"type": "dynamic", "factor": 4.0},
    ),
    "qwen3": Shape(
        architecture="qwen3",
        tied=True,
        num_heads=6,
        num_kv_heads=1,
        head_dim=48,
        norm_eps=1e-6,
        rope_theta=1000000.0,
    ),
}
PROMPT_LENGTHS = (1, 5, 16, 17, 40, 97)
NUM_GREEDY = 64


class Pair:
    """A checkpoint, loaded by our runtime and by transformers."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        write_checkpoint(directory, shape, seed=1)
        config = EngineConfig(
            model=str(directory),
            quantization="q0f32",
            max_num_sequence=8,
            max_total_sequence_length=2048,
            verbose=False,
        )
        self.ours: LoadedModel = load_model(config, "cpu", lambda line: None)
        self.theirs = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()

    def their_logprobs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Transformers' logprobs, `(len(ids), vocab)`."""
        with torch.no_grad():
            logits = self.theirs(torch.tensor([list(ids)])).logits[0]
        result: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).numpy()
        return result

    def shortfall(self, prompt: Sequence[int], output: Sequence[int]) -> float:
        """How many nats below the likeliest the worst token of `output` is for transformers."""
        logprobs = self.their_logprobs([*prompt, *output[:-1]])
        return shortfall(logprobs[len(prompt) - 1 :], output)

    def our_greedy(self, prompts: Sequence[Sequence[int]], chunk_size: int, mode: str) -> list[list[int]]:
        """NUM_GREEDY greedy tokens for each of the prompts, which run together."""
        limits = replace(self.ours.limits, prefill_chunk_size=chunk_size, prefill_mode=mode)  # type: ignore[arg-type]
        self.ours.backend.state.clear()
        core = EngineCore(self.ours.backend, limits, EngineMetrics("numerics"), NullTrace())
        params = SamplingParams(temperature=0.0, max_tokens=NUM_GREEDY)
        for i, prompt in enumerate(prompts):
            core.submit(EngineRequest(str(i), tuple(prompt), params, seed=0, arrival=time.monotonic()))
        outputs: list[list[int]] = [[] for _ in prompts]
        while core.has_work:
            for delta in core.step():
                outputs[int(delta.request_id)] += delta.token_ids
        return outputs


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A checkpoint of one of the shapes, loaded by both."""
    return Pair(tmp_path_factory.mktemp("checkpoint"), SHAPES[request.param])


def prompts_for(shape_vocab: int) -> list[list[int]]:
    """Random prompts of mixed lengths."""
    rng = np.random.default_rng(7)
    return [[int(token) for token in rng.integers(3, shape_vocab, length)] for length in PROMPT_LENGTHS]


def scored(pair: Pair, pieces: Sequence[Sequence[int]]) -> list[TokenLogprobs]:
    """Our scores of each token after the first, when the pieces are appended one after another."""
    ids = [token for piece in pieces for token in piece]
    backend = pair.ours.backend
    backend.state.clear()
    backend.state.add_sequence(0)
    scores: list[TokenLogprobs] = []
    position = 0
    for piece in pieces:
        position += len(piece)
        targets = [*ids[position - len(piece) + 1 : position], ids[position] if position < len(ids) else None]
        (result,) = backend.run([SequenceStep(0, list(piece), targets=targets, num_top_logprobs=3)])
        scores += result.target_logprobs
    backend.state.clear()
    return scores


@pytest.mark.parametrize("prefill", [120, 37, 1])
def test_logprobs_are_transformers_at_every_position(pair: Pair, prefill: int) -> None:
    """Up to rounding, logprobs and ranks are theirs, whether computed by prefill, in chunks, or by decode."""
    prompts = prompts_for(pair.ours.tokenizer.vocab_size)
    ids = prompts[-1] + prompts[-2][:23]
    pieces = [ids[start : start + prefill] for start in range(0, len(ids), prefill)]
    theirs = pair.their_logprobs(ids)
    expected = [float(theirs[i, token]) for i, token in enumerate(ids[1:])]
    scores = scored(pair, pieces)
    ours = [score.logprob for score in scores]
    assert len(ours) == len(expected)
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < ROUNDING
    assert all(math.isfinite(value) for value in ours)
    for score, row, own in zip(scores, theirs, expected, strict=False):
        assert score.rank is not None
        assert (row > own + ROUNDING).sum() < score.rank <= (row > own - ROUNDING).sum()
        best = np.sort(row)[::-1][:3]
        assert np.abs(best - [logprob for _, logprob in score.top]).max() < ROUNDING


@pytest.mark.parametrize(("chunk_size", "mode"), [(1024, "hybrid"), (24, "hybrid"), (24, "chunked")])
def test_greedy_output_of_a_batch_is_greedy_for_transformers(pair: Pair, chunk_size: int, mode: str) -> None:
    """The 64 tokens of each prompt in a batch are transformers' choices, whatever the chunks."""
    prompts = prompts_for(pair.ours.tokenizer.vocab_size)
    assert_greedy(pair, prompts, pair.our_greedy(prompts, chunk_size, mode))


def test_greedy_output_alone_is_greedy_for_transformers(pair: Pair) -> None:
    """The 64 tokens of each prompt that runs alone are transformers' choices."""
    prompts = prompts_for(pair.ours.tokenizer.vocab_size)
    assert_greedy(pair, prompts, [pair.our_greedy([prompt], 1024, "hybrid")[0] for prompt in prompts])


def assert_greedy(pair: Pair, prompts: list[list[int]], outputs: list[list[int]]) -> None:
    """Check that all outputs are complete, and that transformers could choose each of their tokens."""
    assert [len(output) for output in outputs] == [NUM_GREEDY] * len(prompts)
    assert max(map(pair.shortfall, prompts, outputs)) < ROUNDING
