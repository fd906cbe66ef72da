"""The hidden states that a library gives beside logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.loading.library import find_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.model_functions import States
from mlc_serve.runtime.runner import TVMBackend
from tests.family_checkpoints import write_family

Rows = NDArray[np.float32]

LIMITS = EngineLimits(4, 512, 256, 64)
LENGTHS = (5, 1, 40)
TAPS = (2, 0, 1)  # in another order than the layers


class Recorder:
    """A companion that remembers the states of each pass."""

    def __init__(self, taps: tuple[int, ...]) -> None:
        self.taps = taps
        self.states: list[Rows] = []

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """See Companion."""
        self.states.append(states.copy())

    def add_sequence(self, seq_id: int) -> None:
        """See Companion."""

    def remove_sequence(self, seq_id: int) -> None:
        """See Companion."""

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """See Companion."""

    def truncate(self, seq_id: int, length: int) -> None:
        """See Companion."""

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """See Companion."""

    def clear(self) -> None:
        """See Companion."""


class Passes:
    """The logits and the states of a few passes: three prompts, of which the second has a draft, and a decode
    of all.
    """

    def __init__(self, directory: Path, quantization: str, taps: tuple[int, ...]) -> None:
        config = EngineConfig(model=str(directory), quantization=quantization)
        checkpoint, place = open_checkpoint(directory), DeviceName("cpu")
        library = find_library(config, checkpoint, place, lambda line: None, taps)
        weights = find_weights(checkpoint, library, lambda line: None)
        recorder = Recorder(taps)
        backend = TVMBackend(library, weights, LIMITS, recorder)
        rng = np.random.default_rng(3)
        self.ids = [[int(token) for token in rng.integers(3, 300, length + 1)] for length in LENGTHS]
        for seq_id in range(3):
            backend.state.add_sequence(seq_id)
        first, second, third = (ids[:-1] for ids in self.ids)
        prompts = [
            SequenceStep(0, first[:3]),
            SequenceStep(1, second, draft_ids=[9]),
            SequenceStep(2, third),
        ]
        self.logits = [backend.forward(prompts, [2, 4, 44]).copy()]
        backend.state.pop(1, 1)
        self.logits.append(backend.forward([SequenceStep(0, first[3:])], [1]).copy())
        decodes = [SequenceStep(seq_id, ids[-1:]) for seq_id, ids in enumerate(self.ids)]
        self.logits.append(backend.forward(decodes, [0, 1, 2]).copy())
        prefill, rest, decode = recorder.states
        self.states = [
            np.concatenate([prefill[:3], rest, decode[:1]]),
            np.concatenate([prefill[3:4], decode[1:2]]),
            np.concatenate([prefill[5:], decode[2:]]),
        ]


def test_states_are_those_that_transformers_has(tiny_checkpoint: Path) -> None:
    """Up to rounding, for every token of prompts and decodes, and in the order that was asked for. The last
    tap is what the last norm takes.
    """
    theirs = AutoModelForCausalLM.from_pretrained(str(tiny_checkpoint), dtype=torch.float32).eval()
    assert_states_are_theirs(tiny_checkpoint, theirs, theirs.model.norm)


def test_models_with_biases_and_learned_positions_give_states_too(tmp_path: Path) -> None:
    """The first tap has the positions in it."""
    theirs = write_family(tmp_path, "gpt2", {"num_key_value_heads": None, "intermediate_size": None})
    assert_states_are_theirs(tmp_path, theirs, theirs.transformer.ln_f)


def assert_states_are_theirs(directory: Path, theirs: Any, last_norm: Any) -> None:
    """Check the states of a model's library against those of transformers' copy of the model."""
    passes, width = Passes(directory, "q0f32", TAPS), theirs.config.hidden_size
    for ids, states in zip(passes.ids, passes.states, strict=True):
        with torch.no_grad():
            last, first, second = torch.split(torch.tensor(states), width, dim=1)
            ours = [first, second, last_norm(last)]
            expected = theirs(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for own, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(own, other[0], atol=1e-4, rtol=1e-4)


def test_logits_are_those_without_taps(tiny_checkpoint: Path) -> None:
    """They are equal bit for bit, in a scheme whose products normalise their rows themselves. Without taps
    states have no width.
    """
    plain, tapped = (Passes(tiny_checkpoint, "q8f32_1", taps) for taps in ((), (2,)))
    for own, expected in zip(tapped.logits, plain.logits, strict=True):
        np.testing.assert_array_equal(own, expected)
    assert [states.shape for states in plain.states] == [(6, 0), (2, 0), (41, 0)]
    assert [states.shape for states in tapped.states] == [(6, 64), (2, 64), (41, 64)]
