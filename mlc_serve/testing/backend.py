"""A model without a device, whose next token depends on the tokens that its fake state stores.

The tokens are read back page by page, so that a wrong fork, a wrong position or a page that was freed too
early leads to a wrong token. Owns no thread; a test may hold `run`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mlc_serve.engine.backend import SequenceStep, StepResult, TokenLogprobs
from mlc_serve.engine.sampling import Draw
from mlc_serve.engine.sequence_state import SequenceState
from mlc_serve.testing.kv_cache import FakeKVCache
from mlc_serve.testing.tokens import EOS_ID, VOCAB_SIZE

_ALPHABET = tuple(b"abcdefghijklmnopqrstuvwxyz ")
_UNLIKELY = -50.0
_MODULUS = (1 << 61) - 1

Choice = Callable[[Sequence[int], Draw], int]


class State(SequenceState, Protocol):
    """A state of sequences that stores token ids, and returns what a model would still know about them."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> None:
        """Append tokens to a sequence."""

    def num_tokens(self, seq_id: int) -> int:
        """Return the length of a sequence."""

    def seen(self, seq_id: int, num_tokens: int) -> list[int]:
        """Return what a model knows about the first `num_tokens` tokens of a sequence."""


class FakeBackend:
    """A model that writes letters and spaces, each of which is a function of all tokens stored before it.

    A greedy draw takes the likeliest token; other draws take one of the four likeliest, depending on the seed
    and the number of output tokens. A logit bias of 100 forces a token and one of -100 bans it. `min_tokens`
    bans stop tokens, and a constraint's mask bans tokens. `choose` replaces this choice. `state` stores the
    tokens; by default it is a FakeKVCache of `num_pages`.

    Tests may use this: `run` raises if a step contains a token of `crash_on`, and a draw fails if the
    sequence ends in a token of `fail_on`. `run` sets `entered`, then waits for `gate`, which is open until a
    test clears it. `batches` holds the steps of every call.
    """

    def __init__(
        self,
        *,
        page_size: int = 4,
        num_pages: int = 1024,
        max_batch_tokens: int | None = None,
        max_batch_sequences: int | None = None,
        max_batch_draws: int | None = None,
        choose: Choice | None = None,
        state: State | None = None,
    ) -> None:
        self.state: State = state or FakeKVCache(page_size, num_pages)
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_sequences = max_batch_sequences
        self.max_batch_draws = max_batch_draws
        self.choose: Choice = choose or likely_letter
        self.fail_on: set[int] = set()
        self.crash_on: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._num_passes = 0
        self.batches: list[list[SequenceStep]] = []

    def hold_after(self, num_steps: int) -> None:
        """Let `num_steps` more calls of `run` pass the gate, then close it."""
        self._num_passes = num_steps
        self.gate.clear()

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """As Backend.run. Raises RuntimeError for a batch that a real backend could not run."""
        self.entered.set()
        if self._num_passes:
            self._num_passes -= 1
        else:
            self.gate.wait()
        self._check(steps)
        self.batches.append(list(steps))
        return [self._run_one(step) for step in steps]

    def _check(self, steps: Sequence[SequenceStep]) -> None:
        num_tokens = sum(len(step.token_ids) + len(step.draft_ids) for step in steps)
        num_draws = sum(len(step.draws) for step in steps)
        faults = {
            "an empty batch": not steps,
            "a step without tokens": any(not step.token_ids for step in steps),
            "a sequence twice in a batch": len({step.seq_id for step in steps}) < len(steps),
            "too many tokens in a batch": self.max_batch_tokens is not None
            and num_tokens > self.max_batch_tokens,
            "too many sequences in a batch": (
                self.max_batch_sequences is not None and len(steps) > self.max_batch_sequences
            ),
            "too many draws in a batch": self.max_batch_draws is not None
            and num_draws > self.max_batch_draws,
            "a draft without its draw": any(
                len(step.draws) != 1 + len(step.draft_ids) for step in steps if step.draws or step.draft_ids
            ),
            "more pages asked for than are free": self._num_pages_for(steps) > self.state.num_free_pages,
            "a token that crashes the backend": any(
                self.crash_on.intersection(step.token_ids) for step in steps
            ),
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(fault)

    def _num_pages_for(self, steps: Sequence[SequenceStep]) -> int:
        pages_of = self.state.num_pages_of
        lengths = [
            (self.state.num_tokens(step.seq_id), len(step.token_ids) + len(step.draft_ids)) for step in steps
        ]
        return sum(pages_of(length + more) - pages_of(length) for length, more in lengths)

    def _run_one(self, step: SequenceStep) -> StepResult:
        start = self.state.num_tokens(step.seq_id)
        self.state.append(step.seq_id, [*step.token_ids, *step.draft_ids])
        targets = tuple(
            _scored(target, _ranking(self.state.seen(step.seq_id, start + i)), step.num_top_logprobs)
            for i, target in enumerate(step.targets or (), 1)
            if target is not None
        )
        drawn: list[int] = []
        logprobs: list[TokenLogprobs] = []
        for draw, draft_id in zip_longest(step.draws, step.draft_ids):
            stored = self.state.seen(step.seq_id, start + len(step.token_ids) + len(drawn))
            if stored[-1] in self.fail_on or _forbids_all(draw):
                break
            token_id = self.choose(stored, draw)
            drawn.append(token_id)
            if draw.params.num_top_logprobs is not None:
                logprobs.append(logprobs_of(token_id, _ranking(stored), draw.params.num_top_logprobs))
            if token_id != draft_id:
                break
        if step.draws and not drawn:
            failure = f"the draw after token {step.token_ids[-1]} failed"
            return StepResult(target_logprobs=targets, error=failure)
        return StepResult(tuple(drawn), tuple(logprobs), targets)


def _ranking(stored: Sequence[int]) -> tuple[int, ...]:
    """Return the alphabet, the likeliest token first. Each is half as likely as the one before it."""
    state = 7
    for token_id in stored:
        state = (state * 1_000_003 + token_id + 1) % _MODULUS
    start = state % len(_ALPHABET)
    return _ALPHABET[start:] + _ALPHABET[:start]


def logprobs_of(token_id: int, ranking: Sequence[int], num_top: int) -> TokenLogprobs:
    """Return the fake logprobs of a token and of the likeliest ones. Only the alphabet's are likely."""
    ranked = tuple((ranked_id, -(rank + 1) * math.log(2)) for rank, ranked_id in enumerate(ranking))
    return TokenLogprobs(token_id, dict(ranked).get(token_id, _UNLIKELY), ranked[:num_top])


def _scored(token_id: int, ranking: Sequence[int], num_top: int) -> TokenLogprobs:
    """Return the fake logprobs of a prompt's token, with its rank: the last if it is not in the alphabet."""
    rank = ranking.index(token_id) + 1 if token_id in ranking else len(ranking) + 1
    return replace(logprobs_of(token_id, ranking, num_top), rank=rank)


def likely_letter(stored: Sequence[int], draw: Draw) -> int:
    """Choose a token as a FakeBackend does by default."""
    params = draw.params
    forced = [token_id for token_id, bias in params.logit_bias.items() if bias >= 100]
    if forced:
        return forced[0]
    banned = {token_id for token_id, bias in params.logit_bias.items() if bias <= -100}
    if len(draw.output_ids) < params.min_tokens:
        banned |= params.stop_token_ids
    allowed = _allowed(draw)
    candidates = [token_id for token_id in _ranking(stored) if token_id not in banned]
    if allowed is not None:
        candidates = [token_id for token_id in candidates if allowed[token_id]] or [
            token_id for token_id in np.flatnonzero(allowed).tolist() if token_id not in banned
        ]
    if params.temperature == 0:
        return candidates[0]
    return candidates[(draw.seed + len(draw.output_ids)) % min(4, len(candidates))]


def _forbids_all(draw: Draw) -> bool:
    """Whether the draw's constraint leaves no token, as behind a draft that completes or violates it."""
    allowed = _allowed(draw)
    return allowed is not None and not allowed.any()


def _allowed(draw: Draw) -> npt.NDArray[np.uint8] | None:
    """Return a flag for each token that the draw's constraint allows, or None without a constraint."""
    if draw.constraint is None:
        return None
    words = np.zeros(-(-VOCAB_SIZE // 32), np.int32)
    draw.constraint.mask(words, draw.ahead)
    return np.unpackbits(words.view(np.uint8), bitorder="little")


def replay(token_ids: Iterable[int], end_id: int = EOS_ID) -> Choice:
    """Return a choice that answers every prompt with these tokens (such as b"Hello"), then with `end_id`."""
    script = tuple(token_ids)

    def choose(stored: Sequence[int], draw: Draw) -> int:
        position = len(stored) - len(draw.prompt_ids)
        return script[position] if position < len(script) else end_id

    return choose
