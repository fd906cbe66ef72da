"""A second model that drafts: the texts are those of the first one alone, whatever the second one says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.request import EngineRequest, Request
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.proposer import Ask, Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.loading.draft_model import find_draft_model
from mlc_serve.loading.drafting import Target, find_drafting
from mlc_serve.loading.library import find_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.runtime.device import find_device
from mlc_serve.runtime.runner import TVMBackend
from mlc_serve.testing import FakeConstraint
from tests.checkpoints import Shape, write_checkpoint
from tests.greedy import ROUNDING, shortfall

LENGTH = 4
DRAFT_CONTEXT = 96
# The same tokens as tests.checkpoints' default, and 16 ids that pad the vocabulary.
PADDED = Shape(
    hidden_size=32,
    num_layers=1,
    intermediate_size=64,
    vocab_size=528,
    num_unused_ids=16,
    context_window_size=DRAFT_CONTEXT,
)


@pytest.fixture(scope="module")
def directories(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with the same tokens: one, another one of the same shape, and a smaller one with padding."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "same": tiny_checkpoint,
        "other": write_checkpoint(folder / "other", seed=12),
        "padded": write_checkpoint(folder / "padded", PADDED, seed=5),
    }


def load(target: Path, draft: Path | None, length: int | None = LENGTH, **settings: Any) -> LoadedModel:
    """A model, perhaps with one that drafts for it."""
    drafting: dict[str, Any] = {}
    if draft is not None:
        drafting = {
            "speculative_mode": "small_draft",
            "additional_models": (str(draft),),
            "spec_draft_length": length,
        }
    fields: dict[str, Any] = {"max_num_sequence": 8, "max_total_sequence_length": 2048} | settings
    config = EngineConfig(model=str(target), quantization="q0f32", verbose=False, **drafting, **fields)
    return load_model(config, "cpu", lambda line: None)


@dataclass
class Run:
    """The outputs of requests by their ids, and how many passes they took."""

    outputs: dict[str, list[int]]
    num_passes: int
    num_preempted: int = 0


def run(model: LoadedModel, requests: Sequence[EngineRequest], rng: random.Random | None = None) -> Run:
    """Serve requests, all at once, or between passes if there is a `rng`."""
    model.backend.state.clear()
    metrics = EngineMetrics("tvm")
    core = EngineCore(model.backend, model.limits, metrics, NullTrace(), speculation=model.speculation)
    waiting, found = list(requests), Run({one.request_id: [] for one in requests}, 0)
    while waiting or core.has_work:
        while waiting and (rng is None or rng.random() < 0.4 or not core.has_work):
            core.submit(waiting.pop(0))
        for delta in core.step():
            assert delta.error is None
            found.outputs[delta.request_id] += delta.token_ids
        found.num_passes += 1
    preempted = metrics.registry.get_sample_value("mlc_serve_preemptions_total", {"model": "tvm"})
    return replace(found, num_preempted=int(preempted or 0))


def request(
    name: str, prompt: Sequence[int], max_tokens: int = 24, seed: int = 0, **params: Any
) -> EngineRequest:
    """A request, greedy unless `params` say otherwise."""
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": max_tokens, **params})
    return EngineRequest(name, tuple(prompt), sampling, seed, arrival=float(len(name)))


def tokens(length: int, seed: int = 0) -> list[int]:
    """A random prompt."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 500, length)]


def assert_as_alone(plain: LoadedModel, one: EngineRequest, output: Sequence[int]) -> None:
    """Check that each token is what `plain` draws there, with nothing else in its cache; a greedy one is a
    likeliest one, up to rounding.
    """
    assert len(output) == one.params.max_tokens
    backend = plain.backend
    assert isinstance(backend, TVMBackend)
    backend.state.clear()
    backend.state.add_sequence(0)
    prompt, ids = one.prompt_ids, [*one.prompt_ids, *output[:-1]]
    first = Draw(one.params, prompt, (), one.seed)
    draws = [first, *(first.after(output[:count]) for count in range(1, len(output)))]
    if one.params == SamplingParams(temperature=0.0, max_tokens=one.params.max_tokens):
        logits = backend.forward([SequenceStep(0, ids)], list(range(len(prompt) - 1, len(ids))))
        assert shortfall(logits, output) < ROUNDING
        return
    (result,) = backend.run([SequenceStep(0, ids[: len(prompt)], draws, output[:-1])])
    assert list(result.token_ids) == list(output)


@pytest.fixture(scope="module")
def plain(directories: dict[str, Path]) -> LoadedModel:
    """The model that is drafted for, without drafts."""
    return load(directories["same"], None)


@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9}], ids=str)
def test_a_model_that_drafts_for_itself_is_always_right(
    directories: dict[str, Path], plain: LoadedModel, params: dict[str, Any]
) -> None:
    """Greedy drafts are kept, and so are sampled ones, as they are drawn with the same numbers: each pass
    gives five tokens, and two models of the same kind can be loaded at once.
    """
    model = load(directories["same"], directories["same"])
    one = request("a", tokens(20), max_tokens=41, seed=3, **params)
    found = run(model, [one])
    assert_as_alone(plain, one, found.outputs["a"])
    assert found.num_passes <= 1 + 8 + 1  # one more if rounding made two draws differ


def mixed_requests() -> list[EngineRequest]:
    """Greedy and sampled requests with penalties, biases and logprobs, of several lengths."""
    return [
        request("a", tokens(5)),
        request("b", tokens(70, seed=1), seed=4, temperature=1.0),
        request("c", tokens(33, seed=2), seed=5, temperature=0.7, top_p=0.8, frequency_penalty=0.6),
        request("d", tokens(16, seed=3), repetition_penalty=1.3),
        request("e", tokens(1, seed=4), seed=6, temperature=1.2, top_k=30, logit_bias={77: 6.0, 80: -5.0}),
        request("f", tokens(40, seed=5), seed=7, temperature=1.0, min_p=0.01, num_top_logprobs=2),
    ]


@pytest.mark.parametrize("draft", ["same", "other", "padded"])
def test_a_mixed_batch_gets_what_each_gets_alone(
    directories: dict[str, Path], plain: LoadedModel, draft: str
) -> None:
    """Whether the drafts are good or those of a model that knows nothing, and with prompts that both models
    compute in several chunks, beside others that decode.
    """
    model = load(directories["same"], directories[draft], prefill_chunk_size=24)
    found = run(model, mixed_requests(), random.Random(3))
    for one in mixed_requests():
        assert_as_alone(plain, one, found.outputs[one.request_id])


def test_a_draft_model_with_more_tokens_than_the_model_is_one(directories: dict[str, Path]) -> None:
    """The ids that pad one vocabulary are never drafted for a model that has no such ids, and the other way
    round they are never drawn.
    """
    model, alone = load(directories["padded"], directories["same"]), load(directories["padded"], None)
    requests = [
        replace(one, params=replace(one.params, logit_bias={520: 3.0})) for one in mixed_requests()[1:3]
    ]
    for one in [*mixed_requests(), *requests]:
        assert_as_alone(alone, one, run(model, [one]).outputs[one.request_id])


@pytest.mark.parametrize("draft", ["same", "other"])
@pytest.mark.parametrize("num_prompt", [14, 15, 16, 17, 18])
def test_a_page_may_end_anywhere_inside_of_drafts(
    directories: dict[str, Path], plain: LoadedModel, num_prompt: int, draft: str
) -> None:
    """After all drafts were kept, and after none were, both models go on with the right keys and values."""
    model = load(directories["same"], directories[draft])
    one = request("a", tokens(num_prompt), max_tokens=22)
    found = run(model, [one])
    assert_as_alone(plain, one, found.outputs["a"])
    if draft == "same":
        assert found.num_passes <= 1 + 5 + 1


@pytest.mark.parametrize("draft", ["same", "other"])
def test_crowded_sequences_get_what_each_gets_alone(
    directories: dict[str, Path], plain: LoadedModel, draft: str
) -> None:
    """With few pages, small chunks, prefixes that are shared, preemption and requests that come between
    passes, each request goes on where it was.
    """
    rng = random.Random(5)
    shared = [tokens(length, seed=length) for length in (70, 33, 0)]
    requests = [
        request(
            "x" * (i + 1),
            rng.choice(shared) + tokens(rng.choice((1, 9, 16, 40)), seed=100 + i),
            max_tokens=40,
        )
        for i in range(10)
    ]
    model = load(
        directories["same"],
        directories[draft],
        max_num_sequence=5,
        max_total_sequence_length=224,
        max_single_sequence_length=192,
        prefill_chunk_size=40,
    )
    found = run(model, requests, random.Random(1))
    assert found.num_preempted > 0
    for one in requests:
        assert_as_alone(plain, one, found.outputs[one.request_id])


def test_a_forked_prefix_is_not_computed_again_by_the_draft_model(directories: dict[str, Path]) -> None:
    """A second request with the same long prompt is drafted for from its first pass on."""
    model = load(directories["same"], directories["same"], max_num_sequence=2, prefill_chunk_size=16)
    prompt = tokens(100)
    requests = [request("a", prompt, max_tokens=21), request("bb", [*prompt, 5], max_tokens=21)]
    model.backend.state.clear()
    core = EngineCore(
        model.backend, model.limits, EngineMetrics("tvm"), NullTrace(), speculation=model.speculation
    )
    num_passes: list[int] = []
    for one in requests:
        core.submit(one)
        num_passes.append(0)
        while core.has_work:
            core.step()
            num_passes[-1] += 1
    first, second = num_passes
    assert first >= 7 + 6  # seven chunks, and again as many for the draft model, which does not draft then
    assert second <= 1 + 4 + 2


def test_a_constraint_holds_for_drafts_and_draws(directories: dict[str, Path], plain: LoadedModel) -> None:
    """Drafts follow the constraint of their request, so that a model that drafts for itself is right."""

    def constrained() -> EngineRequest:
        constraint = FakeConstraint([range(70, 90), range(100, 130), [140]], 512)
        return replace(request("a", tokens(12), max_tokens=26), constraint=constraint)

    model = load(directories["same"], directories["same"])
    found = run(model, [constrained()])
    assert found.outputs["a"] == run(plain, [constrained()]).outputs["a"]
    assert found.num_passes <= 1 + 5 + 1


class Noting:
    """A proposer that notes how long sequences were, and how many drafts another one had for them."""

    def __init__(self, own: Proposer) -> None:
        self._own = own
        self.noted: list[tuple[int, int]] = []

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        drafts = self._own.propose(asks)
        self.noted += [(ask.request.num_tokens, len(found)) for ask, found in zip(asks, drafts, strict=True)]
        return drafts

    def forget(self, one: Request) -> None:
        """See Proposer."""
        self._own.forget(one)


def with_limits(directory: Path, **fields: Any) -> tuple[LoadedModel, Noting]:
    """A model that drafts for itself, where the cache of the one that drafts has other limits."""
    drafting: dict[str, Any] = {"speculative_mode": "small_draft", "additional_models": (str(directory),)}
    config = EngineConfig(model=str(directory), quantization="q0f32", **drafting)
    checkpoint, place = open_checkpoint(directory), find_device("cpu")
    library = find_library(config, checkpoint, place, print)
    model, weights = load(directory, None), find_weights(checkpoint, library, print)
    draft = find_draft_model(config, checkpoint)
    found = find_drafting(config, checkpoint, library, draft, place, print)
    target = Target(checkpoint, library, weights)
    drafter = found.start(replace(model.limits, **fields), target, print)
    backend = TVMBackend(library, weights, model.limits, drafter.companion)
    noting = Noting(drafter.proposer)
    return replace(model, backend=backend, speculation=Speculation(noting, FixedLengths(LENGTH))), noting


def test_a_sequence_without_room_in_the_draft_model_is_not_drafted_for(
    directories: dict[str, Path], plain: LoadedModel
) -> None:
    """If its cache holds fewer tokens than the model's, the first sequences are drafted for as far as they
    fit; the others go on without drafts, and all get what they get alone.
    """
    model, noting = with_limits(directories["same"], max_total_sequence_length=64)
    requests = [request("x" * i, tokens(18, seed=i), max_tokens=40) for i in (1, 2, 3)]
    found = run(model, requests)
    for one in requests:
        assert_as_alone(plain, one, found.outputs[one.request_id])
    assert {num_drafts > 0 for _, num_drafts in noting.noted} == {True, False}


def test_a_sequence_longer_than_the_draft_models_context_goes_on(
    directories: dict[str, Path], plain: LoadedModel
) -> None:
    """It is drafted for as long as the draft model can see all of it."""
    model, noting = with_limits(directories["same"], max_single_sequence_length=50)
    one = request("a", tokens(30), max_tokens=40)
    assert_as_alone(plain, one, run(model, [one]).outputs["a"])
    assert {num_drafts for length, num_drafts in noting.noted if length + LENGTH <= 50} == {LENGTH}
    assert {num_drafts for length, num_drafts in noting.noted if length + LENGTH > 50} == {0}


def test_lengths_may_be_adaptive(directories: dict[str, Path], plain: LoadedModel) -> None:
    """Without a length, the engine chooses; texts are the same, though their drafts come and go."""
    model = load(directories["same"], directories["other"], length=None)
    requests = mixed_requests()
    found = run(model, requests, random.Random(2))
    for one in requests:
        assert_as_alone(plain, one, found.outputs[one.request_id])
