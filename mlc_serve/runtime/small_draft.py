"""Drafts of a second, smaller model with the same tokens (Leviathan, Kalman and Matias, 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import tvm

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.runtime.compiled_rows import rows_for
from mlc_serve.runtime.draft import Draft, extended
from mlc_serve.runtime.draft_cache import DraftCache
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import States
from mlc_serve.runtime.passes import passes_for
from mlc_serve.runtime.sampler import Sampler
from mlc_serve.runtime.vocabulary import fitted


class SmallDraft:
    """Implements engine.speculation.proposer.Proposer and runtime.companion.Companion.

    Sequences that the draft model has not computed are computed here, at most `prefill_chunk_size` tokens of
    all together at a time, and not drafted for until this is done.
    """

    taps: tuple[int, ...] = ()

    def __init__(
        self, library: Library, params: list[tvm.runtime.Tensor], limits: EngineLimits, vocab_size: int
    ) -> None:
        """`vocab_size` is that of the model that is drafted for."""
        self._passes = passes_for(library, params, limits)
        self._sampler = Sampler(rows_for(library))
        self._cache = DraftCache(self._passes.state)
        self._budget = limits.prefill_chunk_size
        self._longest = limits.max_single_sequence_length
        self._own_vocab_size, self._vocab_size = library.info.vocab_size, vocab_size

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        drafts = [Draft.of(ask) for ask in asks]
        growing = self._caught_up(drafts)
        while growing:
            growing = [draft for draft in growing if draft.may_grow]
            growing = self._drawn(growing, [draft.drafts[-1:] for draft in growing])
        return [draft.drafts for draft in drafts]

    def _caught_up(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Compute what is known of the sequences, and draw first drafts for those that this completes."""
        budget, num_pages = self._budget, 0
        parts: list[tuple[Draft, Sequence[int]]] = []
        for draft in drafts:
            missing = self._missing(draft, budget, num_pages)
            budget -= len(missing)
            if missing:
                num_pages += self._cache.num_new_pages(draft.seq_id, len(missing) + draft.most)
                parts.append((draft, missing))
        return self._drawn([draft for draft, _ in parts], [missing for _, missing in parts])

    def _missing(self, draft: Draft, budget: int, num_taken: int) -> Sequence[int]:
        """Return the known tokens of a sequence to compute now: none if there is no room for a draft, or if
        the draft model does not have one of the tokens, which then pads the other vocabulary.
        """
        request, start = draft.request, self._cache.length(draft.seq_id)
        needed = request.num_tokens - start + draft.most
        if start + needed > self._longest or needed > self._cache.room(draft.seq_id, num_taken):
            return ()
        missing = request.known_ids(start, min(start + budget, request.num_tokens))
        return missing if max(missing, default=0) < self._own_vocab_size else ()

    def _drawn(self, drafts: Sequence[Draft], token_ids: Sequence[Sequence[int]]) -> list[Draft]:
        """Append tokens to the sequences of drafts, draw the next drafts where all tokens are then computed,
        and return those for which this worked.
        """
        if not drafts:
            return []
        steps = [SequenceStep(draft.seq_id, ids) for draft, ids in zip(drafts, token_ids, strict=True)]
        complete, rows, end = [], [], 0
        for draft, ids in zip(drafts, token_ids, strict=True):
            end += len(ids)
            self._cache.appended(draft.seq_id, len(ids))
            if self._cache.length(draft.seq_id) == draft.request.num_tokens + len(draft.drafts):
                complete.append(draft)
                rows.append(end - 1)
        logits = self._passes.forward(steps, rows).logits
        return extended(complete, fitted(logits, self._vocab_size), self._sampler)

    def forget(self, request: Request) -> None:
        """See Proposer. What is kept belongs to sequences."""

    def add_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self._cache.add_sequence(seq_id)

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """See Companion."""
        self._cache.fork_sequence(parent, child, length)

    def truncate(self, seq_id: int, length: int) -> None:
        """See Companion."""
        self._cache.truncate(seq_id, length)

    def remove_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self._cache.remove_sequence(seq_id)

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """See Companion. The draft model computes only sequences that it drafts for."""

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """See Companion. The draft model computes them before it drafts."""

    def clear(self) -> None:
        """See Companion."""
        self._cache.clear()
