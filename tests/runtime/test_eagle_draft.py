"""EAGLE in the engine: drafts are what the draft model makes of the whole sequence, and change no token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.metrics import EngineMetrics
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.request import EngineRequest, Request
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.proposer import Ask, Proposer
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.engine.trace import NullTrace
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.loading.draft_model import find_draft_model
from mlc_serve.loading.drafting import find_drafting
from mlc_serve.loading.library import find_library
from mlc_serve.runtime.device import DeviceName
from mlc_serve.testing import FakePrefixStore
from tests.checkpoints import write_checkpoint
from tests.eagle_checkpoints import FIRST, THIRD, Array, Draft, Reference, Tensors, write_draft
from tests.greedy import ROUNDING, shortfall
from tests.runtime.arrivals import served

SHAPE = FIRST.target
MAX_TOKENS = 24
# What layers add to the residual is so little that the next token depends mostly on the last one; but a draft
# depends on all pairs before it enough to be another one if the draft model computes others.
WEAK, WEAK_DRAFT = 0.014, 0.05


class Target:
    """A model that is drafted for, and transformers' copy of it."""

    def __init__(self, path: Path) -> None:
        self.path = write_checkpoint(path, SHAPE, seed=5)
        weaken(path / "model.safetensors")
        self.theirs = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32).eval()

    def logits(self, ids: Sequence[int]) -> Array:
        """The logits after each token, `(len(ids), vocab)`."""
        with torch.no_grad():
            result: Array = self.theirs(torch.tensor([list(ids)])).logits[0].numpy()
        return result

    def last_states(self, ids: Sequence[int]) -> Array:
        """What the last norm returns for each token, `(len(ids), hidden)`."""
        with torch.no_grad():
            outputs = self.theirs(torch.tensor([list(ids)]), output_hidden_states=True)
        result: Array = outputs.hidden_states[-1][0].numpy()
        return result


def weaken(file: Path) -> None:
    """Let the layers of a checkpoint add little to the residual."""
    save_file(weakened(load_file(file), WEAK), file, metadata={"format": "pt"})


def weakened(tensors: Tensors, factor: float) -> Tensors:
    """Tensors of layers of which less is added to the residual."""
    return {
        name: tensor * np.float32(factor) if "o_proj" in name or "down_proj" in name else tensor
        for name, tensor in tensors.items()
    }


def skilled(draft: Draft) -> Tensors:
    """An EAGLE-1 model that often guesses right for such a target: its product passes on the embedding."""
    hidden = draft.target.hidden_size
    passes_on = np.concatenate([np.eye(hidden), np.zeros((hidden, hidden))], axis=1)
    product = {"fc.weight": passes_on.astype(np.float32), "fc.bias": np.zeros(hidden, np.float32)}
    return weakened(draft.tensors(), WEAK_DRAFT) | product


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The model that is drafted for."""
    return Target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def skilled_draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EAGLE-1 model that guesses well, as its authors published such models."""
    path = tmp_path_factory.mktemp("skilled")
    write_draft(path, FIRST)
    (path / "model.safetensors").unlink()
    torch.save({name: torch.tensor(t) for name, t in skilled(FIRST).items()}, path / "pytorch_model.bin")
    return path


@pytest.fixture(scope="module")
def random_draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EAGLE-3 model that knows a part of the tokens, and nothing else."""
    return write_draft(tmp_path_factory.mktemp("random"), THIRD)


def load(target: Target, draft: Path, **settings: Any) -> LoadedModel:
    """The target with a draft model."""
    config = EngineConfig(
        model=str(target.path),
        quantization="q0f32",
        verbose=False,
        speculative_mode="eagle",
        additional_models=(str(draft),),
        spec_draft_length=3,
        **settings,
    )
    return load_model(config, "cpu", lambda line: None)


class Recording:
    """Implements Proposer: notes the known tokens and the drafts of each request."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self.seen: list[tuple[list[int], list[int]]] = []

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        drafts = self._proposer.propose(asks)
        for (request, _), draft in zip(asks, drafts, strict=True):
            self.seen.append((list(request.known_ids(0, request.num_tokens)), list(draft)))
        return drafts

    def forget(self, request: Request) -> None:
        """See Proposer."""
        self._proposer.forget(request)


class Counting:
    """Implements DraftLengths: a fixed length, and counts of the drafts that were kept."""

    def __init__(self, length: int) -> None:
        self._lengths = FixedLengths(length)
        self.num_drafts = self.num_kept = 0

    def choose(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """See DraftLengths."""
        return self._lengths.choose(requests, num_spare)

    def measured(self, num_rows: int, longest: int, draft_seconds: float, seconds: float) -> None:
        """See DraftLengths."""

    def forget(self, request: Request) -> None:
        """See DraftLengths."""

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """See DraftLengths."""
        self.num_drafts += num_drafts
        self.num_kept += num_kept


def run(model: LoadedModel, prompts: list[list[int]], speculation: Speculation) -> dict[str, list[int]]:
    """The greedy output of each request by its number, when requests arrive between steps."""
    core = EngineCore(model.backend, model.limits, EngineMetrics("e"), NullTrace(), speculation=speculation)
    params, rng = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS), random.Random(1)
    requests = [
        EngineRequest(str(i), tuple(prompt), params, seed=0, arrival=float(i))
        for i, prompt in enumerate(prompts)
    ]
    return served(core, requests, rng)


def proposer_of(model: LoadedModel) -> Proposer:
    """What drafts for a model."""
    return model.speculation._proposer


def assert_greedy(target: Target, prompts: list[list[int]], outputs: dict[str, list[int]]) -> None:
    """Check that all outputs are complete, and that each of their tokens is the likeliest, up to rounding."""
    for i, prompt in enumerate(prompts):
        output = outputs[str(i)]
        assert len(output) == MAX_TOKENS
        logits: NDArray[np.float32] = target.logits(prompt + output[:-1])[len(prompt) - 1 :]
        assert shortfall(logits, output) < ROUNDING


def random_prompts(lengths: Sequence[int]) -> list[list[int]]:
    """Random prompts of these lengths."""
    rng = random.Random(5)
    return [[rng.randrange(3, SHAPE.vocab_size) for _ in range(length)] for length in lengths]


def test_drafts_follow_from_the_whole_sequence(target: Target, skilled_draft: Path) -> None:
    """In mixed batches, with prompts in chunks, and whether the drafts before were kept or not, each draft is
    the draft model's likeliest chain after all known tokens. Some are kept, and no token is another one.
    """
    model = load(
        target,
        skilled_draft,
        max_num_sequence=4,
        max_total_sequence_length=1024,
        max_single_sequence_length=192,
        prefill_chunk_size=40,
        prefix_cache_mode="disable",
    )
    prompts = random_prompts((1, 5, 16, 33, 90, 41))
    recording, counting = Recording(proposer_of(model)), Counting(3)
    outputs = run(model, prompts, Speculation(recording, counting))

    assert_greedy(target, prompts, outputs)
    reference = Reference(FIRST, skilled(FIRST), target.path)
    drafted = [(known, drafts) for known, drafts in recording.seen if drafts]
    assert len(drafted) > 0.9 * len(recording.seen)
    for known, drafts in drafted:
        states = target.last_states(known[:-1])
        logits = reference.chain([*known[1:], *drafts[:-1]], states, len(drafts) - 1)
        assert shortfall(logits, drafts) < ROUNDING
    assert 0.15 < counting.num_kept / counting.num_drafts < 0.95


@pytest.mark.parametrize("kind", ["skilled", "random"])
def test_any_mix_gives_the_tokens_of_plain_decoding(
    kind: str, target: Target, skilled_draft: Path, random_draft: Path
) -> None:
    """With few pages, small chunks, shared prefixes and preemption, drafts good and bad change no token."""
    model = load(
        target,
        skilled_draft if kind == "skilled" else random_draft,
        max_num_sequence=6,
        max_total_sequence_length=320,
        max_single_sequence_length=192,
        prefill_chunk_size=40,
    )
    shared = random_prompts((70, 33, 0))
    rng = random.Random(7)
    prompts = [rng.choice(shared) + prompt for prompt in random_prompts([1, 9, 16, 40] * 4)]
    counting = Counting(3)
    outputs = run(model, prompts, Speculation(proposer_of(model), counting))
    assert_greedy(target, prompts, outputs)
    share = counting.num_kept / counting.num_drafts
    assert share > 0.15 if kind == "skilled" else share < 0.05


def test_a_prefix_that_is_reused_serves_drafts_too(target: Target, skilled_draft: Path) -> None:
    """A request that finds its prompt computed is drafted for as well as one that computes it."""
    model = load(target, skilled_draft, max_num_sequence=2, max_total_sequence_length=512)
    (prompt,) = random_prompts((97,))
    shares = []
    speculation = Speculation(proposer_of(model), counting := Counting(3))
    core = EngineCore(model.backend, model.limits, EngineMetrics("e"), NullTrace(), speculation=speculation)
    for name in ("first", "second"):
        params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
        core.submit(EngineRequest(name, tuple(prompt), params, seed=0, arrival=0.0))
        cached = 0
        while core.has_work:
            cached = max(delta.num_cached_tokens for delta in core.step())
        assert (cached > 0) == (name == "second")
        shares.append(counting.num_kept / counting.num_drafts)
        counting.num_drafts = counting.num_kept = 0
    assert shares[1] > shares[0] - 0.2


def test_a_prefix_that_comes_from_elsewhere_is_drafted_for(target: Target, skilled_draft: Path) -> None:
    """The draft model lacks the states of imported tokens, in front of which it may have those of a fork. It
    drafts from what follows, and no token is another one.
    """
    model = load(target, skilled_draft, max_num_sequence=2, max_total_sequence_length=512)
    (prompt,) = random_prompts((97,))
    page = model.backend.state.page_size
    speculation = Speculation(proposer_of(model), counting := Counting(3))
    for held in (0, 32):
        store = FakePrefixStore(page)
        first = EngineCore(model.backend, model.limits, EngineMetrics("e"), NullTrace(), store=store)
        served(first, [_request("first", prompt)], random.Random(1))
        while first.prefixes.offer_next():
            pass
        model.backend.state.clear()
        metrics = EngineMetrics("e")
        core = EngineCore(model.backend, model.limits, metrics, NullTrace(), speculation=speculation)
        if held:
            served(core, [_request("half", prompt[: held + 1])], random.Random(1))
        prefix = Prefix("", prompt)
        assert core.prefixes.bring_in(prefix, store.read(prefix, held, 96)) == 96
        counting.num_drafts = counting.num_kept = 0
        outputs = served(core, [_request("0", prompt)], random.Random(1))
        assert_greedy(target, [prompt], outputs)
        assert counting.num_kept > 0
        model.backend.state.clear()


def _request(name: str, prompt: Sequence[int]) -> EngineRequest:
    params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    return EngineRequest(name, tuple(prompt), params, seed=0, arrival=0.0)


def test_what_the_draft_model_takes_is_counted(target: Target, skilled_draft: Path) -> None:
    """Its own weights are, those of its target are not again, and its layer's keys and values and the states
    that are kept are.
    """
    config = EngineConfig(
        model=str(target.path),
        quantization="q0f32",
        speculative_mode="eagle",
        additional_models=(str(skilled_draft),),
    )
    checkpoint, place = open_checkpoint(target.path), DeviceName("cpu")
    draft = find_draft_model(config, checkpoint)
    assert draft is not None
    library = find_library(config, checkpoint, place, print, draft.taps)
    plain = library.info
    info = find_drafting(config, checkpoint, library, draft, place, print).info_with(plain)
    assert info.param_bytes - plain.param_bytes == 4 * sum(t.size for t in FIRST.tensors().values())
    assert 2 * info.kv_bytes_per_token == 3 * plain.kv_bytes_per_token
    assert info.workspace_bytes_per_token > plain.workspace_bytes_per_token + 4 * SHAPE.hidden_size
