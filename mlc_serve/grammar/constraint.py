"""A grammar as a constraint on one sequence's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import llguidance
import numpy as np

from mlc_serve.engine.constraint import Words


class GrammarConstraint:
    """Implements engine.constraint.Constraint.

    Where the grammar may end, the request's own end tokens are allowed. Unless `jumps`, tokens without an
    alternative are not forced but drawn.
    """

    def __init__(
        self, matcher: llguidance.LLMatcher, end_id: int, stop_token_ids: frozenset[int], *, jumps: bool
    ) -> None:
        """`matcher` is this sequence's own, and `end_id` is its Vocabulary's."""
        self._matcher = matcher
        self._end_word, self._end_bit = end_id // 32, np.uint32(1 << end_id % 32)
        self._stop_token_ids = stop_token_ids
        self._jumps = jumps

    def mask(self, words: Words, ahead: Sequence[int] = ()) -> None:
        """See Constraint.mask. Raises RuntimeError if the grammar became too complex to be followed."""
        num_ahead = self._matcher.try_consume_tokens(list(ahead)) if ahead else 0
        if num_ahead == len(ahead):
            self._write(words)
        if num_ahead:
            self._matcher.rollback(num_ahead)

    def accept(self, token_ids: Sequence[int]) -> None:
        """See Constraint.accept."""
        for token_id in token_ids:
            if token_id not in self._stop_token_ids or not self._matcher.is_accepting():
                self._matcher.consume_token(token_id)

    def forced(self) -> Sequence[int]:
        """See Constraint.forced."""
        return self._matcher.compute_ff_tokens() if self._jumps else ()

    @property
    def is_complete(self) -> bool:
        """See Constraint.is_complete."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def _write(self, words: Words) -> None:
        allowed = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        if self._matcher.is_error():
            raise RuntimeError(f"the grammar can't be followed any further: {self._matcher.get_error()}")
        bits = words.view(np.uint32)
        bits[: len(allowed)] = allowed[: len(bits)]
        if self._end_word < len(bits):  # the end token's id is one of the ids that pad the model's vocabulary
            bits[self._end_word] &= ~self._end_bit
        if allowed[self._end_word] & self._end_bit:
            for token_id in self._stop_token_ids:
                bits[token_id // 32] |= np.uint32(1 << token_id % 32)
