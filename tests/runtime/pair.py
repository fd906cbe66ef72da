"""A checkpoint that is loaded by this package and by transformers, and what each says about it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
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
from mlc_serve.runtime.runner import TVMBackend
from tests.greedy import ROUNDING, shortfall

PROMPT_LENGTHS = (1, 5, 16, 17, 40, 97)
NUM_GREEDY = 64


class Pair:
    """A checkpoint, loaded by our runtime in a quantization scheme and by transformers in float32."""

    def __init__(self, directory: Path, quantization: str = "q0f32", theirs: Any = None) -> None:
        config = EngineConfig(
            model=str(directory),
            quantization=quantization,
            max_num_sequence=8,
            max_total_sequence_length=2048,
            verbose=False,
        )
        self.ours: LoadedModel = load_model(config, "cpu", lambda line: None)
        self.theirs = theirs or AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32)
        self.theirs.eval()

    def prompts(self) -> list[list[int]]:
        """Random prompts of mixed lengths."""
        rng, size = np.random.default_rng(7), self.ours.tokenizer.vocab_size
        return [[int(token) for token in rng.integers(3, size, length)] for length in PROMPT_LENGTHS]

    def their_logprobs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Transformers' logprobs, `(len(ids), vocab)`."""
        with torch.no_grad():
            logits = self.theirs(torch.tensor([list(ids)])).logits[0]
        result: NDArray[np.float32] = torch.log_softmax(logits.float(), dim=-1).numpy()
        return result

    def our_logprobs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Our logprobs, `(len(ids), vocab)`, computed in one prefill."""
        backend = self.ours.backend
        assert isinstance(backend, TVMBackend)
        backend.state.clear()
        backend.state.add_sequence(0)
        logits = torch.tensor(backend.forward([SequenceStep(0, list(ids))], list(range(len(ids)))))
        result: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).numpy()
        backend.state.clear()
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

    def scored(self, pieces: Sequence[Sequence[int]]) -> list[TokenLogprobs]:
        """Our scores of each token after the first, when the pieces are appended one after another."""
        ids = [token for piece in pieces for token in piece]
        backend = self.ours.backend
        backend.state.clear()
        backend.state.add_sequence(0)
        scores: list[TokenLogprobs] = []
        position = 0
        for piece in pieces:
            position += len(piece)
            targets = [
                *ids[position - len(piece) + 1 : position],
                ids[position] if position < len(ids) else None,
            ]
            (result,) = backend.run([SequenceStep(0, list(piece), targets=targets, num_top_logprobs=3)])
            scores += result.target_logprobs
        backend.state.clear()
        return scores


def assert_scores(pair: Pair, ids: Sequence[int], piece_size: int) -> None:
    """Check that logprobs and ranks of all tokens are transformers', up to rounding, when `piece_size` tokens
    are appended at a time.
    """
    assert_scores_of(pair, [ids[start : start + piece_size] for start in range(0, len(ids), piece_size)])


def assert_scores_of(pair: Pair, pieces: Sequence[Sequence[int]]) -> None:
    """The same for pieces of any lengths, which are appended one after another."""
    ids = [token for piece in pieces for token in piece]
    theirs = pair.their_logprobs(ids)
    expected = [float(theirs[i, token]) for i, token in enumerate(ids[1:])]
    scores = pair.scored(pieces)
    ours = [score.logprob for score in scores]
    assert len(ours) == len(expected)
    assert max(abs(a - b) for a, b in zip(ours, expected, strict=True)) < ROUNDING
    assert all(math.isfinite(value) for value in ours)
    for score, row, own in zip(scores, theirs, expected, strict=False):
        assert score.rank is not None
        assert (row > own + ROUNDING).sum() < score.rank <= (row > own - ROUNDING).sum()
        best = np.sort(row)[::-1][:3]
        assert np.abs(best - [logprob for _, logprob in score.top]).max() < ROUNDING


def assert_greedy(pair: Pair, prompts: list[list[int]], outputs: list[list[int]]) -> None:
    """Check that all outputs are complete, and that transformers could choose each of their tokens."""
    assert [len(output) for output in outputs] == [NUM_GREEDY] * len(prompts)
    assert max(map(pair.shortfall, prompts, outputs)) < ROUNDING
