"""Drafts of a model that reads the hidden states of the model that it drafts for (EAGLE, Li et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tvm

from mlc_serve.engine.backend import SequenceStep
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.proposer import Ask
from mlc_serve.runtime.compiled_rows import rows_for
from mlc_serve.runtime.draft import Draft, extended
from mlc_serve.runtime.draft_cache import DraftCache
from mlc_serve.runtime.eagle_functions import Drafted, EagleFunctions, Pairs
from mlc_serve.runtime.library import Library
from mlc_serve.runtime.model_functions import Logits, States
from mlc_serve.runtime.pending_pairs import PendingPairs
from mlc_serve.runtime.sampler import Sampler
from mlc_serve.runtime.sequence_cache import cache_for
from mlc_serve.runtime.vocabulary import fitted, spread

# A step with at least this many tokens is a piece of a prompt. Its pairs don't wait for drafts, because the
# time that drafts take is measured, and should not depend on prompts.
_PROMPT_PIECE = 32


class EagleFacts(NamedTuple):
    """What a draft model and its target have agreed on. `taps` are the target's, whose states of a token have
    `states_width` values in all, and those of the draft model `hidden_size`. The target has `vocab_size`
    tokens; if the draft model knows fewer, `token_ids` are these.
    """

    taps: tuple[int, ...]
    states_width: int
    hidden_size: int
    vocab_size: int
    token_ids: npt.NDArray[np.int32] | None = None


class EagleDraft:
    """Implements engine.speculation.proposer.Proposer and runtime.companion.Companion.

    The draft model computes pairs of a token and the state of the token before it. Those of a prompt are
    computed at once. All others wait until drafts are asked for, or until all that wait exceed
    `prefill_chunk_size`, so that no pair of a draft is computed before it is known whether the draft is kept.

    The cache of a sequence may lack pairs: those of an incomplete page where it was forked, those of tokens
    that were imported, and all that came before the cache had no room left, when it is started anew. What
    comes later is then nearer to what came before than it should be, which rotary positions bear, because
    only differences of positions count. And behind a fork, the last pair has the token that follows in the
    parent. All of this can only make drafts worse.
    """

    def __init__(
        self, library: Library, params: list[tvm.runtime.Tensor], limits: EngineLimits, facts: EagleFacts
    ) -> None:
        self.taps = facts.taps
        self._facts = facts
        state = cache_for(library, limits)
        widths = facts.states_width, facts.hidden_size
        self._functions = EagleFunctions(library, params, limits, state, widths)
        self._sampler = Sampler(rows_for(library))
        self._cache = DraftCache(state)
        self._pending: dict[int, PendingPairs] = {}
        self._most_pairs, self._most_sequences = limits.prefill_chunk_size, limits.max_num_sequence

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer. Pairs that have the draft model's own states are taken back at the end."""
        drafts = [Draft.of(ask) for ask in asks]
        growing = self._started(drafts)
        lengths = {draft.seq_id: self._cache.length(draft.seq_id) for draft in growing}
        while growing:
            parts = [Pairs(draft.seq_id, draft.drafts[-1:], [own]) for draft, own in growing.items()]
            growing = self._grown(list(growing), self._functions.extend(parts))
            self._appended(parts)
        for seq_id, length in lengths.items():
            self._cache.truncate(seq_id, length)
        return [draft.drafts for draft in drafts]

    def _started(self, drafts: Sequence[Draft]) -> dict[Draft, States]:
        """Compute the pairs that wait, within the limit of a pass, and draw the first token of each draft
        whose sequence is then computed. Returns what _grown does.
        """
        parts: list[Pairs] = []
        complete, rows, num_pairs, num_pages = [], [], 0, 0
        for draft in drafts:
            part = self._all_pairs(draft, self._most_pairs - num_pairs, num_pages)
            if part is None:
                continue
            parts.append(part)
            num_pairs += len(part.token_ids)
            num_pages += self._cache.num_new_pages(draft.seq_id, len(part.token_ids) + draft.most)
            if not self._pending[draft.seq_id].num_states:
                complete.append(draft)
                rows.append(num_pairs - 1)
        if not parts:
            return {}
        drafted = self._functions.follow(parts, rows)
        self._appended(parts)
        return self._grown(complete, drafted)

    def _all_pairs(self, draft: Draft, most: int, num_taken: int) -> Pairs | None:
        """Take up to `most` of the pairs that wait for a request, whose last token is known now. There may be
        none, or no room for them and the draft.
        """
        request, pending = draft.request, self._pending[draft.seq_id]
        count = min(pending.num_states, most)
        if not count or not self._make_room(draft.seq_id, pending.num_states + draft.most, num_taken):
            return None
        (last,) = request.known_ids(request.num_tokens - 1, request.num_tokens)
        return Pairs(draft.seq_id, *pending.take(count, last))

    def _grown(self, drafts: Sequence[Draft], drafted: Drafted) -> dict[Draft, States]:
        """Draw the next token of each draft, and return the drafts that may grow further, with the states
        `(1, hidden_size)` that belong to it.
        """
        states = dict(zip(drafts, drafted.states[:, None].copy(), strict=True))
        grown = extended(drafts, self._logits(drafted.logits), self._sampler)
        return {draft: states[draft] for draft in grown if draft.may_grow}

    def _logits(self, logits: Logits) -> Logits:
        """Logits of the draft model's tokens as logits of the target's."""
        token_ids, vocab_size = self._facts.token_ids, self._facts.vocab_size
        return fitted(logits, vocab_size) if token_ids is None else spread(logits, token_ids, vocab_size)

    def _appended(self, parts: Sequence[Pairs]) -> None:
        for part in parts:
            self._cache.appended(part.seq_id, len(part.token_ids))

    def _make_room(self, seq_id: int, num_pairs: int, num_taken: int) -> bool:
        """Whether `num_pairs` fit into a sequence if others take `num_taken` of the free pages. If not, the
        sequence is first started anew.
        """
        if self._cache.room(seq_id, num_taken) < num_pairs:
            self._cache.remove_sequence(seq_id)
            self._cache.add_sequence(seq_id)
        return self._cache.room(seq_id, num_taken) >= num_pairs

    def _catch_up(self, seq_ids: Iterable[int]) -> None:
        """Compute all pairs of these sequences whose tokens are known."""
        waiting = [seq_id for seq_id in seq_ids if self._pending[seq_id].num_pairs]
        while waiting:
            parts = self._next_pairs(waiting)
            if parts:
                self._functions.follow(parts, ())
                self._appended(parts)
            waiting = [seq_id for seq_id in waiting if self._pending[seq_id].num_pairs]

    def _next_pairs(self, seq_ids: Sequence[int]) -> list[Pairs]:
        """Take pairs of these sequences for one pass. Those for which there is no room are forgotten."""
        parts: list[Pairs] = []
        num_left, num_pages = self._most_pairs, 0
        for seq_id in seq_ids:
            pending = self._pending[seq_id]
            count = min(pending.num_pairs, num_left)
            if not count or len(parts) == self._most_sequences:
                break
            pairs = Pairs(seq_id, *pending.take(count))
            if self._make_room(seq_id, count, num_pages):
                num_left -= count
                num_pages += self._cache.num_new_pages(seq_id, count)
                parts.append(pairs)
        return parts

    def forget(self, request: Request) -> None:
        """See Proposer. What is kept belongs to sequences."""

    def add_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self._cache.add_sequence(seq_id)
        self._pending[seq_id] = PendingPairs()

    def fork_sequence(self, parent: int, child: int, length: int) -> None:
        """See Companion."""
        pending = self._pending[parent]
        num_later = max(pending.start - length, 0)
        self._cache.fork_sequence(parent, child, max(self._cache.length(parent) - num_later, 0))
        self._pending[child] = pending.before(length)

    def truncate(self, seq_id: int, length: int) -> None:
        """See Companion."""
        self._pending[seq_id].truncate(length)

    def remove_sequence(self, seq_id: int) -> None:
        """See Companion."""
        self._cache.remove_sequence(seq_id)
        del self._pending[seq_id]

    def passed(self, steps: Sequence[SequenceStep], states: States) -> None:
        """See Companion."""
        if sum(pending.num_pairs for pending in self._pending.values()) + len(states) > self._most_pairs:
            self._catch_up(self._pending)
        end = 0
        for step in steps:
            token_ids = (*step.token_ids, *step.draft_ids)
            end += len(token_ids)
            self._pending[step.seq_id].append(token_ids, states[end - len(token_ids) : end])
        self._catch_up(
            [step.seq_id for step in steps if len(step.token_ids) >= _PROMPT_PIECE and not step.draft_ids]
        )

    def imported(self, seq_id: int, num_tokens: int) -> None:
        """See Companion. Pairs that wait are forgotten with those of the imported tokens."""
        self._pending[seq_id] = PendingPairs(self._pending[seq_id].end + num_tokens)

    def clear(self) -> None:
        """See Companion."""
        self._cache.clear()
        self._pending.clear()
