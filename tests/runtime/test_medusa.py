"""Medusa's heads on TVM: what they compute, and that their drafts change no token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.loading.library import find_heads_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.row_norm import RowNorm
from tests.medusa_checkpoints import Tensors, following, knowing_heads, random_heads, write_chain, write_heads
from tests.runtime.test_engine_on_tvm import assert_greedy

MAX_TOKENS = 24
RIGHT = (2, 3, 4)  # the distances at which the heads of a chain are right


class Outputs(NamedTuple):
    """The tokens of each request, and how many tokens each step has given to a request."""

    tokens: list[list[int]]
    steps: list[int]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose next token follows from the last one."""
    return write_chain(tmp_path_factory.mktemp("chain"))


def load(target: Path, heads: Path, **settings: Any) -> LoadedModel:
    """A model with these heads."""
    sizes = {"max_num_sequence": 4, "max_total_sequence_length": 1024}
    config = EngineConfig(
        model=str(target),
        quantization="q0f32",
        speculative_mode="medusa",
        additional_models=(str(heads),),
        verbose=False,
        **(sizes | settings),
    )
    return load_model(config, "cpu", lambda line: None)


def run(model: LoadedModel, prompts: Sequence[Sequence[int]], rng: random.Random | None = None) -> Outputs:
    """Greedy outputs for prompts that arrive together, or between steps as `rng` says."""
    core = EngineCore(
        model.backend, model.limits, EngineMetrics("m"), NullTrace(), speculation=model.speculation
    )
    params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    waiting = [
        EngineRequest(str(number), tuple(prompt), params, seed=0, arrival=float(number))
        for number, prompt in enumerate(prompts)
    ]
    outputs = Outputs([[] for _ in prompts], [])
    while waiting or core.has_work:
        while waiting and (rng is None or rng.random() < 0.5):
            core.submit(waiting.pop(0))
        for delta in core.step() if core.has_work else ():
            outputs.tokens[int(delta.request_id)] += delta.token_ids
            outputs.steps.append(len(delta.token_ids))
    return outputs


def expected(prompt: Sequence[int]) -> list[int]:
    """What a chain generates after a prompt."""
    return [following(prompt[-1], distance) for distance in range(1, MAX_TOKENS + 1)]


@pytest.mark.parametrize(
    ("num_blocks", "quantization", "tolerance"), [(1, "q0f32", 1e-4), (2, "q8f32_1", 0.1)]
)
def test_heads_compute_what_they_are_made_for(
    tmp_path: Path, num_blocks: int, quantization: str, tolerance: float
) -> None:
    """Up to rounding and quantization, each head gives its own logits for every state of a batch."""
    tensors = random_heads(num_blocks=num_blocks)
    checkpoint = open_checkpoint(write_heads(tmp_path, tensors))
    config = EngineConfig(model=str(tmp_path), quantization=quantization)
    library = find_heads_library(config, checkpoint, DeviceName("cpu"), lambda line: None)
    weights = find_weights(checkpoint, library, lambda line: None)
    states = np.random.default_rng(2).standard_normal((1, 9, 64), dtype=np.float32)
    for head in range(3):
        logits = library.function(f"head_{head}")(tvm.runtime.tensor(states), weights).numpy()
        assert np.abs(logits[0] - reference(tensors, head, num_blocks, states[0])).max() < tolerance


def reference(tensors: Tensors, head: int, num_blocks: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits of a head."""
    for block in range(num_blocks):
        name = f"{head}.{block}.linear"
        y = x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
        x = x + y / (1 + np.exp(-y))
    logits: NDArray[np.float32] = x @ tensors[f"{head}.{num_blocks}.weight"].T
    return logits


@pytest.mark.parametrize("centered", [False, True])
def test_rows_are_normalised_as_models_do_it(centered: bool) -> None:
    """Rows have a mean square of one afterwards, before weight and bias, and if centered a mean of zero."""
    rng = np.random.default_rng(0)
    weight, bias, rows = (rng.standard_normal(shape, dtype=np.float32) for shape in (64, 64, (3, 64)))
    normal = (RowNorm(weight, bias, 1e-6, centered)(5 + 3 * rows) - bias) / weight
    assert np.square(normal).mean(axis=1) == pytest.approx(1, abs=1e-3)
    means = normal.mean(axis=1)
    assert means == pytest.approx(0, abs=1e-3) if centered else (means > 0.5).all()


def test_right_drafts_are_kept(chain: Path, tmp_path: Path) -> None:
    """With three heads that are always right, each pass gives four tokens, the text's own."""
    heads = write_heads(tmp_path, knowing_heads(chain, RIGHT))
    outputs = run(load(chain, heads, spec_draft_length=3), [[40, 41, 42]])
    assert outputs.tokens == [expected([42])]
    assert outputs.steps == [1, 4, 4, 4, 4, 4, 3]


def test_drafts_go_on_from_those_that_were_kept(chain: Path, tmp_path: Path) -> None:
    """If only the first head is right, each pass gives two tokens, so that its next draft is right again,
    also if more drafts are asked for than there are heads.
    """
    heads = write_heads(tmp_path, knowing_heads(chain, (2, 7, 4)))
    outputs = run(load(chain, heads, spec_draft_length=9), [[40, 41, 42]])
    assert outputs.tokens == [expected([42])]
    assert outputs.steps == [1, *[2] * 11, 1]


def test_a_crowd_gets_what_each_gets_alone(chain: Path, tmp_path: Path) -> None:
    """With few pages, small chunks, shared prefixes and preemption, all drafts of requests in a mixed batch
    are right.
    """
    heads = write_heads(tmp_path, knowing_heads(chain, RIGHT))
    model = load(chain, heads, spec_draft_length=3, **CROWDED)
    prompts = crowd(random.Random(4))
    outputs = run(model, prompts, random.Random(1))
    assert outputs.tokens == [expected(prompt) for prompt in prompts]
    assert np.mean(outputs.steps) > 2


CROWDED = {"max_total_sequence_length": 320, "max_single_sequence_length": 192, "prefill_chunk_size": 40}


def crowd(rng: random.Random) -> list[list[int]]:
    """Prompts that share beginnings of several pages."""
    shared = [[rng.randrange(3, 500) for _ in range(length)] for length in (70, 33, 0)]
    return [
        rng.choice(shared) + [rng.randrange(3, 500) for _ in range(rng.choice((1, 9, 40)))] for _ in range(10)
    ]


def test_wrong_drafts_change_nothing(tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path) -> None:
    """With random heads, and a length that adapts, each token of a crowd is the model's greedy choice."""
    heads = write_heads(tmp_path, random_heads())
    for length in (0, 3):
        model = load(tiny_checkpoint, heads, spec_draft_length=length, **CROWDED)
        prompts = crowd(random.Random(5))
        outputs = run(model, prompts, random.Random(2))
        tiny_model.backend.state.clear()
        for prompt, output in zip(prompts, outputs.tokens, strict=True):
            assert_greedy(tiny_model, prompt, output)
