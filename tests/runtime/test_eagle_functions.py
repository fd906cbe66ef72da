"""Compiled EAGLE draft models compute what their equations say, whatever they take from their target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.loading.draft_model import decoder_of
from mlc_serve.loading.eagle_model import read_eagle_model, read_token_ids
from mlc_serve.loading.library import find_eagle_library
from mlc_serve.loading.weights import find_eagle_weights
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.eagle_functions import EagleFunctions, Pairs
from mlc_serve.runtime.model_functions import Logits
from mlc_serve.runtime.sequence_cache import SequenceCache, cache_for
from mlc_serve.runtime.vocabulary import fitted, spread
from tests.checkpoints import Shape, write_checkpoint
from tests.eagle_checkpoints import FIRST, THIRD, Array, Draft, Layout, Reference, write_draft

TIED = Shape(tied=True)
LIMITS = EngineLimits(
    max_num_sequence=4,
    max_total_sequence_length=256,
    max_single_sequence_length=64,
    prefill_chunk_size=64,
)
ROUNDING = 1e-3


@dataclass(frozen=True)
class Case:
    """A draft model, how it is written, and in which scheme it runs."""

    draft: Draft
    layout: Layout = "eagle"
    scheme: str = "q0f32"


CASES = {
    "eagle-1": Case(FIRST),
    "eagle-1 of a tied target in 8 bits": Case(Draft(TIED, 1, has_embedding=True), "speculators", "q8f32_1"),
    "eagle-3": Case(THIRD),
    "eagle-3 with every option": Case(
        Draft(
            TIED,
            3,
            num_taps=2,
            state_norms="each",
            normed_residual=True,
            feeds_normed=True,
            has_embedding=True,
            has_head_norms=True,
            keys={"eagle_aux_hidden_state_layer_ids": [1, 2]},
        ),
        "speculators",
    ),
}


class Loaded:
    """A draft model that is compiled, and its reference."""

    def __init__(self, directory: Path, case: Case) -> None:
        draft = case.draft
        target_path = write_checkpoint(directory / "target", draft.target, seed=5)
        path, tensors = directory / "draft", draft.tensors()
        checkpoint = open_checkpoint(write_draft(path, draft, case.layout, tensors))
        target = open_checkpoint(target_path)
        eagle = read_eagle_model(checkpoint, decoder_of(target, "eagle"))
        config = EngineConfig(model=str(path), quantization=case.scheme)
        library = find_eagle_library(config, checkpoint, target, DeviceName("cpu"), print)
        weights = find_eagle_weights(checkpoint, eagle, target, library, {}, print)
        self.state: SequenceCache = cache_for(library, LIMITS)
        widths = eagle.states_width, eagle.hidden_size
        self.functions = EagleFunctions(library, weights, LIMITS, self.state, widths)
        self.reference = Reference(draft, tensors, target_path)
        self.draft = draft
        self._token_ids = read_token_ids(checkpoint, eagle)

    def logits(self, logits: Logits) -> Any:
        """Logits of the target's tokens."""
        if self._token_ids is None:
            return fitted(logits, self.draft.target.vocab_size)
        return spread(logits, self._token_ids, self.draft.target.vocab_size)


@pytest.fixture(scope="module", params=CASES, ids=str)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Each of the draft models in turn."""
    return Loaded(tmp_path_factory.mktemp("eagle"), CASES[request.param])


def pairs(loaded: Loaded, length: int, seed: int) -> tuple[list[int], Array]:
    """Random tokens and states."""
    rng, shape = np.random.default_rng(seed), loaded.draft.target
    ids = [int(token) for token in rng.integers(3, shape.vocab_size, length)]
    return ids, rng.standard_normal((length, loaded.draft.num_taps * shape.hidden_size), dtype=np.float32)


def assert_close(loaded: Loaded, ours: Array, expected: Array, rounding: float) -> None:
    """Check that logits are close, and that the same tokens have none."""
    is_known = np.isfinite(expected)
    assert (np.isfinite(ours) == is_known).all()
    assert is_known.sum() == (loaded.draft.draft_vocab_size or loaded.draft.target.vocab_size)
    assert np.abs(ours[is_known] - expected[is_known]).max() < rounding * np.abs(expected[is_known]).max()


def test_logits_follow_from_the_equations(loaded: Loaded, request: pytest.FixtureRequest) -> None:
    """Two sequences, the second in pieces, have the right logits after the target's states, and then after
    the draft model's own, which can be taken back.
    """
    is_exact = "8 bits" not in request.node.name
    rounding = ROUNDING if is_exact else 0.1
    loaded.state.clear()
    lengths, chains = (23, 9), ([7, 11, 5], [4, 9, 300])
    inputs = [pairs(loaded, length, seed) for seed, length in enumerate(lengths)]
    projected = [loaded.reference.project(states) for _, states in inputs]
    for seq_id in range(2):
        loaded.state.add_sequence(seq_id)
    (first_ids, first), (ids, states) = inputs
    loaded.functions.follow([Pairs(1, ids[:5], [states[:2], states[2:5]])], ())
    parts = [Pairs(0, first_ids, [first]), Pairs(1, ids[5:], [states[5:]])]
    drafted = loaded.functions.follow(parts, [22, 26])
    for turn in range(4):
        for seq_id, (own_ids, _) in enumerate(inputs):
            known = own_ids + chains[seq_id][:turn]
            expected = loaded.reference.chain(known, projected[seq_id], turn)[-1]
            assert_close(loaded, loaded.logits(drafted.logits)[seq_id], expected, rounding)
        if turn < 3:
            own = drafted.states.copy()
            steps = [Pairs(i, chains[i][turn : turn + 1], [own[i : i + 1]]) for i in range(2)]
            drafted = loaded.functions.extend(steps)
    loaded.state.pop(1, 3)
    more_ids, more = pairs(loaded, 3, seed=9)
    drafted = loaded.functions.follow([Pairs(1, more_ids, [more])], [2])
    whole = np.concatenate([projected[1], loaded.reference.project(more)])
    (expected,) = loaded.reference.chain(ids + more_ids, whole, 0)
    assert_close(loaded, loaded.logits(drafted.logits)[0], expected, rounding)
