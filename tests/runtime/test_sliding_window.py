"""Windows through which whole sequences are seen, against transformers and against their definition."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding, linear, silu

from mlc_serve.config import EngineConfig
from mlc_serve.config.sliding_window import SlidingWindow
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest, Request
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.runtime.runner import TVMBackend
from mlc_serve.testing import FakeProposer
from tests.family_checkpoints import write_family
from tests.greedy import ROUNDING, shortfall

# Windows and sinks that begin within pages, also sinks on several pages, and only a token's own beside them.
WINDOWS = [SlidingWindow(40), SlidingWindow(57, 20), SlidingWindow(17, 16)]
CONTEXT, CHUNK = 64, 96


class Windowed(NamedTuple):
    """A Mistral whose context is shorter than the tests' sequences, seen through a window."""

    window: SlidingWindow
    theirs: Any
    ours: LoadedModel


@pytest.fixture(scope="module", params=WINDOWS, ids=str)
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Windowed:
    """Transformers' model has the window in its configuration; ours gets it as a setting alone."""
    window, directory = request.param, tmp_path_factory.mktemp("checkpoint")
    keys = {"sliding_window": window.size, "max_position_embeddings": CONTEXT}
    theirs = write_family(directory, "mistral", keys)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"sliding_window": None}))
    return Windowed(window, theirs, _load(directory, window))


def _load(directory: Path, window: SlidingWindow) -> LoadedModel:
    config = EngineConfig(
        model=str(directory),
        quantization="q0f32",
        sliding_window_size=window.size,
        attention_sink_size=window.sinks,
        prefill_chunk_size=CHUNK,
        max_num_sequence=3,
        max_total_sequence_length=16 * window.most_pages(CHUNK, 16),
        verbose=False,
    )
    return load_model(config, "cpu", lambda line: None)


def test_logprobs_are_those_of_the_definition_at_every_position(windowed: Windowed) -> None:
    """Far past window and context, in chunks that are longer than the window, in short ones and in decode."""
    ids = _prompt(300)
    expected = _logprobs(windowed, ids)
    for chunks in ([96, 96, 96], [1, 5, 70, 1, 41, 3, 15, 96]):
        lengths = [*chunks, *[1] * (len(ids) - sum(chunks))]
        assert np.abs(_appended(windowed.ours, ids, lengths) - expected).max() < 1e-4


def test_sequences_of_a_batch_are_windowed_each_for_itself(windowed: Windowed) -> None:
    """Passes that decode some sequences and prefill others give the same as each sequence alone."""
    prompts = [_prompt(length, seed=length) for length in (150, 90, 7)]
    alone = [_generated(windowed.ours, [prompt])[0] for prompt in prompts]
    assert _generated(windowed.ours, prompts) == alone
    for prompt, output in zip(prompts, alone, strict=True):
        logprobs = _logprobs(windowed, [*prompt, *output[:-1]])
        assert shortfall(logprobs[len(prompt) - 1 :], output) < ROUNDING


def test_generation_goes_on_past_the_context_in_bounded_memory(windowed: Windowed) -> None:
    """The KV cache of a model with room for a window and a chunk serves requests of any length, which are
    preempted and computed again where they don't fit together, and all pages are free in the end.
    """
    assert windowed.ours.limits.max_single_sequence_length > 10 * CONTEXT
    most = windowed.window.most_pages(CHUNK, 16)
    assert windowed.ours.backend.state.num_pages == most
    _generated(windowed.ours, [_prompt(150), _prompt(20, seed=1)], num_tokens=200)
    assert windowed.ours.backend.state.num_free_pages == most


@pytest.mark.parametrize("num_right", [0, 2, 5])
def test_drafts_past_the_window_change_nothing(windowed: Windowed, num_right: int) -> None:
    """Far past window and context, whether drafts are kept or taken back, each token is the definition's."""
    (output,) = _generated(windowed.ours, [_prompt(50)], num_tokens=120)

    def tell(request: Request, most: int) -> list[int]:
        start = len(request.output_ids)
        return [*output[start : start + num_right], *[3] * most][:most]

    speculation = Speculation(FakeProposer(tell), FixedLengths(5))
    (drafted,) = _generated(windowed.ours, [_prompt(50)], num_tokens=120, speculation=speculation)
    logprobs = _logprobs(windowed, [*_prompt(50), *drafted[:-1]])
    assert shortfall(logprobs[49:], drafted) < ROUNDING
    most = windowed.window.most_pages(CHUNK, 16)
    assert windowed.ours.backend.state.num_free_pages == most


def _prompt(length: int, seed: int = 7) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 300, length)]


def _appended(model: LoadedModel, ids: Sequence[int], lengths: Sequence[int]) -> NDArray[np.float32]:
    """Our logprobs `(len(ids), vocab)`, where so many tokens are appended at a time. A sequence never holds
    more pages than are counted.
    """
    backend = model.backend
    assert isinstance(backend, TVMBackend)
    state, position, logits = backend.state, 0, []
    state.clear()
    state.add_sequence(0)
    for length in lengths:
        step = SequenceStep(0, list(ids[position : position + length]))
        logits.append(backend.forward([step], list(range(length))).copy())
        position += length
        assert state.num_pages - state.num_free_pages <= state.num_pages_of(position)
    state.clear()
    return np.asarray(torch.log_softmax(torch.tensor(np.concatenate(logits)), dim=-1))


def _generated(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    num_tokens: int = 40,
    speculation: Speculation | None = None,
) -> list[list[int]]:
    """Greedy tokens for prompts that run together."""
    model.backend.state.clear()
    core = EngineCore(
        model.backend, model.limits, EngineMetrics("windows"), NullTrace(), speculation=speculation
    )
    params = SamplingParams(temperature=0.0, max_tokens=num_tokens)
    for i, prompt in enumerate(prompts):
        core.submit(EngineRequest(str(i), tuple(prompt), params, seed=0, arrival=time.monotonic()))
    outputs: list[list[int]] = [[] for _ in prompts]
    while core.has_work:
        for delta in core.step():
            outputs[int(delta.request_id)] += delta.token_ids
    assert [len(output) for output in outputs] == [num_tokens] * len(prompts)
    return outputs


# ---------------------------------------------------------------- the definition


def _logprobs(windowed: Windowed, ids: Sequence[int]) -> NDArray[np.float32]:
    """The logprobs `(len(ids), vocab)`: transformers' if there are no sinks, which it does not know."""
    with torch.no_grad():
        if windowed.window.sinks:
            logits = _Reference(windowed.theirs, windowed.window).logits(torch.tensor(list(ids)))
        else:
            logits = windowed.theirs(torch.tensor([list(ids)])).logits[0]
    return np.asarray(torch.log_softmax(logits.float(), dim=-1))


class _Reference:
    """A Mistral in float64. Sinks are seen from as far as if the other tokens of the window came right after
    them.
    """

    def __init__(self, theirs: Any, window: SlidingWindow) -> None:
        self.config, self.window = theirs.config, window
        self.weights = {name: value.double() for name, value in theirs.state_dict().items()}

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits of each token."""
        x = embedding(ids, self.weights["model.embed_tokens.weight"])
        for layer in range(self.config.num_hidden_layers):
            name = f"model.layers.{layer}"
            x = x + self._attention(f"{name}.self_attn", self._norm(f"{name}.input_layernorm", x))
            x = x + self._mlp(f"{name}.mlp", self._norm(f"{name}.post_attention_layernorm", x))
        return self._product("lm_head", self._norm("model.norm", x))

    def _product(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weights[f"{name}.weight"])

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        mean = x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps
        normalised: torch.Tensor = x / mean.sqrt() * self.weights[f"{name}.weight"]
        return normalised

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        gate, up = self._product(f"{name}.gate_proj", x), self._product(f"{name}.up_proj", x)
        return self._product(f"{name}.down_proj", silu(gate) * up)

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self._heads(f"{name}.{part}_proj", x) for part in "qkv")
        output = torch.stack([self._attend(q[i], k[: i + 1], v[: i + 1]) for i in range(len(x))])
        return self._product(f"{name}.o_proj", output.flatten(1))

    def _heads(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Heads `(s, hq, d)`, where those of keys and values are repeated."""
        heads = self._product(name, x).reshape(len(x), -1, self.config.hidden_size // 4)
        return heads.repeat_interleave(4 // heads.shape[1], 1)

    def _attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """A token's query `(h, d)` over the keys and values `(n, h, d)` up to its own."""
        seen = self._seen(len(keys))
        places = torch.arange(len(seen))
        turned, turned_keys = self._turned(query[None], places[-1:]), self._turned(keys[seen], places)
        scores = torch.einsum("ohd,nhd->hn", turned, turned_keys) * query.shape[-1] ** -0.5
        return torch.einsum("hn,nhd->hd", scores.softmax(-1), values[seen])

    def _seen(self, count: int) -> list[int]:
        """The tokens that the last of `count` sees. They lie side by side in a cache that holds no others."""
        first = max(count - self.window.recent, self.window.sinks)
        return [*range(min(self.window.sinks, count)), *range(first, count)]

    def _turned(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        angles = places[:, None, None] * 10000.0 ** -(torch.arange(half).double() / half)
        first, second = x[..., :half], x[..., half:]
        return torch.cat(
            [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1
        )
