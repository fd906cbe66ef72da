"""A model without a device, whose next token follows from what its fake KV cache stores.

The tokens are read back page by page, so that a wrong fork, a wrong position or a page freed too early shows
as a wrong token. Owns no thread; `run` may be held by a test.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence

from mlc_serve.engine.backend import SequenceStep, StepResult, TokenLogprobs
from mlc_serve.engine.sampling import Draw
from mlc_serve.testing.kv_cache import FakeKVCache
from mlc_serve.testing.tokens import EOS_ID

_ALPHABET = tuple(b"abcdefghijklmnopqrstuvwxyz ")
_UNLIKELY = -50.0
_MODULUS = (1 << 61) - 1

Choice = Callable[[Sequence[int], Draw], int]


class FakeBackend:
    """A model that writes letters and spaces, each a function of all tokens that are stored before it.

    Greedy draws take the likeliest token, others one of the four likeliest by seed and number of output
    tokens. A logit bias of 100 forces a token and one of -100 bans it; `min_tokens` bans stop tokens.
    `choose` replaces the choice.

    For a test to use: `run` raises where a token of `crash_on` comes in, and a draw fails where the sequence
    ends in one of `fail_on`; it sets `entered`, then waits for `gate`, which is open until cleared. `batches`
    holds every call's steps.
    """

    def __init__(
        self,
        *,
        page_size: int = 4,
        num_pages: int = 1024,
        max_batch_tokens: int | None = None,
        max_batch_sequences: int | None = None,
        choose: Choice | None = None,
    ) -> None:
        self.kv = FakeKVCache(page_size, num_pages)
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_sequences = max_batch_sequences
        self.choose: Choice = choose or likely_letter
        self.fail_on: set[int] = set()
        self.crash_on: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._num_passes = 0
        self.batches: list[list[SequenceStep]] = []

    def hold_after(self, num_steps: int) -> None:
        """Let so many more steps pass the gate, and close it behind them."""
        self._num_passes = num_steps
        self.gate.clear()

    def run(self, steps: Sequence[SequenceStep]) -> list[StepResult]:
        """As Backend.run; raises RuntimeError for a batch that a real backend could not take."""
        self.entered.set()
        if self._num_passes:
            self._num_passes -= 1
        else:
            self.gate.wait()
        self._check(steps)
        self.batches.append(list(steps))
        return [self._run_one(step) for step in steps]

    def _check(self, steps: Sequence[SequenceStep]) -> None:
        num_tokens = sum(len(step.token_ids) for step in steps)
        faults = {
            "an empty batch": not steps,
            "a step without tokens": any(not step.token_ids for step in steps),
            "a sequence twice in a batch": len({step.seq_id for step in steps}) < len(steps),
            "too many tokens in a batch": self.max_batch_tokens is not None
            and num_tokens > self.max_batch_tokens,
            "too many sequences in a batch": (
                self.max_batch_sequences is not None and len(steps) > self.max_batch_sequences
            ),
            "more pages asked for than are free": self._num_pages_for(steps) > self.kv.num_free_pages,
            "a token that crashes the backend": any(
                self.crash_on.intersection(step.token_ids) for step in steps
            ),
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(fault)

    def _num_pages_for(self, steps: Sequence[SequenceStep]) -> int:
        size = self.kv.page_size
        lengths = [(self.kv.num_tokens(step.seq_id), len(step.token_ids)) for step in steps]
        return sum(-(-(length + more) // size) - -(-length // size) for length, more in lengths)

    def _run_one(self, step: SequenceStep) -> StepResult:
        start = self.kv.num_tokens(step.seq_id)
        self.kv.append(step.seq_id, step.token_ids)
        stored = self.kv.token_ids(step.seq_id)
        targets = tuple(
            logprobs_of(target, _ranking(stored[: start + i + 1]), step.num_top_logprobs)
            for i, target in enumerate(step.targets or ())
            if target is not None
        )
        if step.draw is None:
            return StepResult(target_logprobs=targets)
        if stored[-1] in self.fail_on:
            return StepResult(target_logprobs=targets, error=f"the draw after token {stored[-1]} failed")
        token_id = self.choose(stored, step.draw)
        num_top = step.draw.params.num_top_logprobs
        logprobs = None if num_top is None else logprobs_of(token_id, _ranking(stored), num_top)
        return StepResult(token_id=token_id, logprobs=logprobs, target_logprobs=targets)


def _ranking(stored: Sequence[int]) -> tuple[int, ...]:
    """The alphabet from the likeliest token down; each is half as likely as the one before."""
    state = 7
    for token_id in stored:
        state = (state * 1_000_003 + token_id + 1) % _MODULUS
    start = state % len(_ALPHABET)
    return _ALPHABET[start:] + _ALPHABET[:start]


def logprobs_of(token_id: int, ranking: Sequence[int], num_top: int) -> TokenLogprobs:
    """The fake logprobs of a token and of the likeliest; outside of the alphabet all is unlikely."""
    ranked = tuple((ranked_id, -(rank + 1) * math.log(2)) for rank, ranked_id in enumerate(ranking))
    return TokenLogprobs(token_id, dict(ranked).get(token_id, _UNLIKELY), ranked[:num_top])


def likely_letter(stored: Sequence[int], draw: Draw) -> int:
    """The default choice of a FakeBackend."""
    params = draw.params
    forced = [token_id for token_id, bias in params.logit_bias.items() if bias >= 100]
    if forced:
        return forced[0]
    banned = {token_id for token_id, bias in params.logit_bias.items() if bias <= -100}
    if len(draw.output_ids) < params.min_tokens:
        banned |= params.stop_token_ids
    candidates = [token_id for token_id in _ranking(stored) if token_id not in banned]
    if params.temperature == 0:
        return candidates[0]
    return candidates[(draw.seed + len(draw.output_ids)) % min(4, len(candidates))]


def replay(token_ids: Iterable[int], end_id: int = EOS_ID) -> Choice:
    """A choice that answers every prompt with the same tokens (as bytes: b"Hello"), then with `end_id`."""
    script = tuple(token_ids)

    def choose(stored: Sequence[int], draw: Draw) -> int:
        position = len(stored) - len(draw.prompt_ids)
        return script[position] if position < len(script) else end_id

    return choose
