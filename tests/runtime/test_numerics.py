"""Logits and greedy output against transformers, in float32, for random weights in several shapes."""

from __future__ import annotations

import pytest

from tests.checkpoints import Shape, write_checkpoint
from tests.runtime.pair import Pair, assert_greedy, assert_scores

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


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A checkpoint of one of the shapes, loaded by both."""
    directory = tmp_path_factory.mktemp("checkpoint")
    return Pair(write_checkpoint(directory, SHAPES[request.param], seed=1))


@pytest.mark.parametrize("prefill", [120, 37, 1])
def test_logprobs_are_transformers_at_every_position(pair: Pair, prefill: int) -> None:
    """Up to rounding, logprobs and ranks are theirs, whether computed by prefill, in chunks, or by decode."""
    prompts = pair.prompts()
    assert_scores(pair, prompts[-1] + prompts[-2][:23], prefill)


@pytest.mark.parametrize(("chunk_size", "mode"), [(1024, "hybrid"), (24, "hybrid"), (24, "chunked")])
def test_greedy_output_of_a_batch_is_greedy_for_transformers(pair: Pair, chunk_size: int, mode: str) -> None:
    """The 64 tokens of each prompt in a batch are transformers' choices, whatever the chunks."""
    assert_greedy(pair, pair.prompts(), pair.our_greedy(pair.prompts(), chunk_size, mode))


def test_greedy_output_alone_is_greedy_for_transformers(pair: Pair) -> None:
    """The 64 tokens of each prompt that runs alone are transformers' choices."""
    alone = [pair.our_greedy([prompt], 1024, "hybrid")[0] for prompt in pair.prompts()]
    assert_greedy(pair, pair.prompts(), alone)
