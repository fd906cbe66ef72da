"""Counts the tokens that a request has used, delta by delta."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlc_serve.engine.speculation.draft_totals import DraftTotals
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.protocol.openai import StreamOptions
from mlc_serve.protocol.replies import CompletionTokensDetails, PromptTokensDetails, Usage, UsageExtra


class UsageCount:
    """Counts each prompt once for all its choices, with the cached tokens that its first choice found.

    `num_reasoning_tokens` says how many tokens of the output were reasoning so far. If `tells_drafts`, the
    usage says what drafts did.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        num_reasoning_tokens: Callable[[], int] = lambda: 0,
        *,
        tells_drafts: bool = False,
    ) -> None:
        self._num_prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._n = n
        self._num_reasoning_tokens = num_reasoning_tokens
        self._tells_drafts = tells_drafts
        self._num_cached = [0] * len(prompts)
        self._num_output_tokens = 0
        self._drafts: dict[int, DraftTotals] = {}

    def add(self, delta: TextDelta) -> None:
        """Count the tokens of one delta."""
        self._num_output_tokens += len(delta.token_ids)
        if delta.num_cached_tokens:
            prompt, choice = divmod(delta.index, self._n)
            if choice == 0:
                self._num_cached[prompt] = delta.num_cached_tokens
        if delta.drafts is not None:
            self._drafts[delta.index] = delta.drafts

    def of_chunk(self, options: StreamOptions | None) -> dict[str, Any]:
        """Return the usage field of a chunk before the last; it is null if only the last has the usage."""
        if options is None or not options.wants_usage:
            return {}
        return {"usage": self.usage if options.continuous_usage_stats else None}

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return Usage(
            prompt_tokens=self._num_prompt_tokens,
            completion_tokens=self._num_output_tokens,
            total_tokens=self._num_prompt_tokens + self._num_output_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(self._num_cached)),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=self._num_reasoning_tokens()),
            **({"extra": _extra(DraftTotals.of_all(self._drafts.values()))} if self._tells_drafts else {}),
        )


def _extra(drafts: DraftTotals) -> UsageExtra:
    return UsageExtra(
        num_spec_steps=drafts.num_passes,
        num_draft_tokens=drafts.num_drafts,
        num_accepted_draft_tokens=drafts.num_kept,
        mean_acceptance_length=drafts.tokens_per_pass,
        draft_acceptance_rate=drafts.share_kept,
    )
