"""The engine on TVM's real KV cache: shared prefixes, eviction and preemption change no token."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.config import EngineConfig, PrefillMode, PrefixCacheMode
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.runtime.runner import TVMBackend
from tests.checkpoints import write_checkpoint
from tests.greedy import ROUNDING, shortfall
from tests.runtime.arrivals import served

MAX_TOKENS = 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), seed=3)


def load(directory: Path, **config: Any) -> LoadedModel:
    """The checkpoint, loaded with the given settings."""
    settings = EngineConfig(model=str(directory), quantization="q0f32", verbose=False, **config)
    return load_model(settings, "cpu", lambda line: None)


def request(name: str, prompt: list[int], arrival: float) -> EngineRequest:
    """A greedy request."""
    params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    return EngineRequest(name, tuple(prompt), params, seed=0, arrival=arrival)


def run(model: LoadedModel, prompts: list[list[int]], rng: random.Random) -> dict[str, list[int]]:
    """The output of each request by its name, when requests arrive between steps."""
    core = EngineCore(model.backend, model.limits, EngineMetrics("tvm"), NullTrace())
    return served(core, [request(str(i), prompt, float(i)) for i, prompt in enumerate(prompts)], rng)


def prompts_with_shared_beginnings(rng: random.Random) -> list[list[int]]:
    """Prompts with one of two shared beginnings of several pages, and some that share nothing."""
    shared = [[rng.randrange(3, 500) for _ in range(length)] for length in (70, 33, 0)]
    return [
        rng.choice(shared) + [rng.randrange(3, 500) for _ in range(rng.choice((1, 9, 16, 40)))]
        for _ in range(20)
    ]


def assert_greedy(model: LoadedModel, prompt: list[int], output: list[int]) -> None:
    """Check that each token is the likeliest for `model` with nothing else in its cache, up to rounding."""
    backend = model.backend
    assert isinstance(backend, TVMBackend)
    assert len(output) == MAX_TOKENS
    ids = prompt + output[:-1]
    backend.state.add_sequence(0)
    logits = backend.forward([SequenceStep(0, ids)], list(range(len(prompt) - 1, len(ids))))
    backend.state.remove_sequence(0)
    assert shortfall(logits, output) < ROUNDING


@pytest.mark.parametrize("prefix_cache", ["radix", "disable"])
@pytest.mark.parametrize("prefill_mode", ["hybrid", "chunked"])
def test_any_mix_gives_the_tokens_of_each_request_alone(
    directory: Path, prefix_cache: PrefixCacheMode, prefill_mode: PrefillMode
) -> None:
    """With few pages, small chunks, shared prefixes and preemption, each request gets what it gets alone."""
    prompts = prompts_with_shared_beginnings(random.Random(5))
    crowded = load(
        directory,
        max_num_sequence=6,
        max_total_sequence_length=320,
        max_single_sequence_length=192,
        prefill_chunk_size=40,
        prefix_cache_mode=prefix_cache,
        prefill_mode=prefill_mode,
    )
    outputs = run(crowded, prompts, random.Random(1))
    alone = load(directory, max_num_sequence=1, prefix_cache_mode="disable")
    for i, prompt in enumerate(prompts):
        assert_greedy(alone, prompt, outputs[str(i)])
