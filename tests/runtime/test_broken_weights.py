"""A model with some wrong weights: the requests that use them fail, and no others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_serve.config import EngineConfig
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest, FinishReason, RequestDelta
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from tests.checkpoints import write_checkpoint

POISON = 7  # the token whose values overflow float32
GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
SCORED = SamplingParams(temperature=0.0, max_tokens=2, num_top_logprobs=3, num_prompt_logprobs=3)
NO_NUMBER = "the model's output is not a number"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model in which only POISON has a first component that is not zero, and the first layer makes of it
    numbers that overflow float32.
    """
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=3)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.embed_tokens.weight"][:, 0] = np.arange(512) == POISON
    tensors["model.layers.0.self_attn.v_proj.weight"][:, 0] = 3e38
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = EngineConfig(
        model=str(directory),
        quantization="q0f32",
        max_num_sequence=4,
        max_total_sequence_length=128,
        prefill_chunk_size=32,
        verbose=False,
    )
    return load_model(config, "cpu", lambda line: None)


def run(
    model: LoadedModel, prompts: Sequence[Sequence[int]], params: SamplingParams = GREEDY
) -> list[list[RequestDelta]]:
    """All deltas of each prompt, when they run together in a new engine on the same KV cache."""
    core = EngineCore(model.backend, model.limits, EngineMetrics("broken"), NullTrace())
    for i, prompt in enumerate(prompts):
        core.submit(EngineRequest(str(i), tuple(prompt), params, seed=0, arrival=time.monotonic()))
    deltas: list[list[RequestDelta]] = [[] for _ in prompts]
    while core.has_work:
        for delta in core.step():
            deltas[int(delta.request_id)].append(delta)
    core.reset()
    return deltas


def ids(deltas: Sequence[RequestDelta]) -> list[int]:
    """The tokens of a reply."""
    return [token for delta in deltas for token in delta.token_ids]


def prompt(length: int, seed: int) -> list[int]:
    """A random prompt without the token POISON."""
    return [int(token) for token in np.random.default_rng(seed).integers(10, 500, length)]


def test_a_request_that_meets_them_fails_alone(model: LoadedModel) -> None:
    """Requests beside it, and those that get its pages later, give the tokens that they give alone."""
    sound = [prompt(20, 1), prompt(3, 2)]
    expected = [ids(run(model, [one])[0]) for one in sound]
    for _ in range(3):  # the pages of one go to another
        poisoned = [*prompt(9, 3), POISON, *prompt(40, 4)]
        first, failed, last = run(model, [sound[0], poisoned, sound[1]])
        assert [ids(first), ids(last)] == expected
        assert (failed[-1].finish_reason, failed[-1].error) == (FinishReason.ERROR, NO_NUMBER)
        assert ids(failed) == []
    assert [ids(deltas) for deltas in run(model, sound)] == expected


def test_a_prompt_whose_logprobs_are_no_numbers_fails(model: LoadedModel) -> None:
    """Such a prompt fails at once, in its first delta."""
    (failed,) = run(model, [[*prompt(9, 3), POISON, *prompt(60, 4)]], SCORED)
    assert (failed[-1].finish_reason, failed[-1].error) == (FinishReason.ERROR, NO_NUMBER)
    assert len(failed) == 1
