"""A limit on the tokens that a model thinks before it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlc_serve.engine.constraint import Constraint, Words

_ANYTHING = -1  # all bits of a word


@dataclass(frozen=True)
class ReasoningLimit:
    """The most tokens of reasoning, the texts that open and end it, and the tokens of the latter.

    `is_open` says that answers begin within the reasoning, because the prompt has opened it; otherwise they
    reason only if they begin with `begin`.
    """

    max_tokens: int
    begin: str
    end: str
    end_ids: tuple[int, ...]
    token_bytes: Callable[[int], bytes] = field(compare=False)
    is_open: bool

    def constraint(self, form: Constraint | None) -> LimitedReasoning:
        """Return a constraint for one answer, which follows `form`, too, if that is not None."""
        return LimitedReasoning(self, form)


@dataclass(frozen=True)
class _Progress:
    """How far an answer is: `text` are its bytes, of which only those that could belong to a mark are kept;
    `num_tokens` those of its reasoning; `num_forced` how many end tokens were written because of the limit.
    """

    is_open: bool
    may_open: bool = True
    text: bytes = b""
    num_tokens: int = 0
    num_forced: int = 0


class LimitedReasoning:
    """Lets a model think for so many tokens, then makes it write the mark that ends its reasoning.

    Implements engine.constraint.Constraint. Otherwise the answer follows `form`, or nothing if that is None;
    a form must allow reasoning itself.
    """

    def __init__(self, limit: ReasoningLimit, form: Constraint | None) -> None:
        self._limit = limit
        self._begin, self._end = limit.begin.encode(), limit.end.encode()
        self._form = form
        self._progress = _Progress(limit.is_open)

    def mask(self, words: Words, ahead: Sequence[int] = ()) -> None:
        """See Constraint.mask."""
        progress = self._after(ahead)
        if self._is_spent(progress):
            self._allow_end(words, progress)
        elif self._form is None:
            words[:] = _ANYTHING
        else:
            self._form.mask(words, ahead)

    def accept(self, token_ids: Sequence[int]) -> None:
        """See Constraint.accept."""
        self._progress = self._after(token_ids)
        if self._form is not None:
            self._form.accept(token_ids)

    def forced(self) -> Sequence[int]:
        """See Constraint.forced."""
        if self._is_spent(self._progress):
            return self._limit.end_ids[self._progress.num_forced :]
        return () if self._form is None else self._form.forced()

    @property
    def is_complete(self) -> bool:
        """See Constraint.is_complete."""
        return self._form is not None and self._form.is_complete

    def _is_spent(self, progress: _Progress) -> bool:
        return progress.is_open and progress.num_tokens >= self._limit.max_tokens

    def _allow_end(self, words: Words, progress: _Progress) -> None:
        token_id = self._limit.end_ids[progress.num_forced]
        words.view(np.uint32)[token_id // 32] |= np.uint32(1 << token_id % 32)

    def _after(self, token_ids: Sequence[int]) -> _Progress:
        progress = self._progress
        for token_id in token_ids:
            if progress.is_open:
                progress = self._going_on(progress, token_id)
            elif progress.may_open:
                progress = self._beginning(progress, token_id)
        return progress

    def _going_on(self, progress: _Progress, token_id: int) -> _Progress:
        """Return the progress after another token of the reasoning, which it may end."""
        text = progress.text + self._limit.token_bytes(token_id)
        if self._end in text:
            return _Progress(is_open=False, may_open=False)
        num_forced = progress.num_forced + self._is_spent(progress)
        kept = text[-len(self._end) :]
        return replace(progress, text=kept, num_tokens=progress.num_tokens + 1, num_forced=num_forced)

    def _beginning(self, progress: _Progress, token_id: int) -> _Progress:
        """Return the progress after another token of an answer that may begin with the mark."""
        text = (progress.text + self._limit.token_bytes(token_id)).lstrip()
        if text.startswith(self._begin):
            return _Progress(is_open=True)
        return replace(progress, text=text, may_open=self._begin.startswith(text))
