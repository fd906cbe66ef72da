"""The limits of an engine, after every limit that was not configured has been inferred."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlc_serve.config import PrefillMode, PrefixCacheMode
from mlc_serve.config.sliding_window import SlidingWindow


@dataclass(frozen=True)
class ModelInfo:
    """The facts about a compiled model from which limits are inferred.

    Fields with `bytes` in their names are in bytes; lengths and `page_size` are in tokens. A model without
    keys and values has no bytes per token, and one without recurrent states no bytes per sequence. With a
    `window`, a sequence holds only what its next token sees.
    """

    context_window_size: int
    prefill_chunk_size: int
    max_batch_size: int
    vocab_size: int
    param_bytes: int
    kv_bytes_per_token: int
    workspace_bytes_per_token: int
    page_size: int
    state_bytes_per_sequence: int = 0
    window: SlidingWindow | None = None

    def with_draft_model(self, draft: ModelInfo) -> ModelInfo:
        """What limits are inferred from if another model drafts, which keeps as many tokens."""
        return replace(
            self,
            prefill_chunk_size=min(self.prefill_chunk_size, draft.prefill_chunk_size),
            max_batch_size=min(self.max_batch_size, draft.max_batch_size),
            param_bytes=self.param_bytes + draft.param_bytes,
            kv_bytes_per_token=self.kv_bytes_per_token + draft.kv_bytes_per_token,
            workspace_bytes_per_token=self.workspace_bytes_per_token + draft.workspace_bytes_per_token,
        )

    @property
    def state_kind(self) -> str:
        """What the model keeps for a sequence, by MLC's name."""
        if not self.state_bytes_per_sequence:
            return "kv_cache"
        return "hybrid" if self.kv_bytes_per_token else "rnn_state"


@dataclass(frozen=True)
class EngineLimits:
    """The limits of the scheduler. Lengths are in tokens.

    `max_single_sequence_length` bounds the prompt and output of one request together, and is at most
    `max_total_sequence_length`, the capacity of the KV cache. `prefill_chunk_size` bounds the tokens of one
    forward pass, and `max_num_sequence` its sequences. `max_scored_tokens` bounds the prompt tokens of one
    pass whose logprobs are wanted: they take longer than others, and the backend computes no more at a time.
    `max_draws` bounds the draws of one pass, those after drafts included.
    `max_recycling_sequences` bounds the finished sequences that the prefix cache keeps; None sets no bound.
    `max_queued_requests` bounds the requests that have been accepted but do not run yet, and
    `max_queued_tokens`, if it isn't None, the prompt tokens of those that have no token yet. `max_choices`
    bounds the choices that one client's request asks for, over all its prompts.
    `first_token_timeout` and `request_timeout` bound the seconds from a request's arrival to its first
    token and to its end; None sets no bound. `max_history_size` is how many tokens can be taken off a
    sequence with a recurrent state.
    """

    max_num_sequence: int
    max_total_sequence_length: int
    max_single_sequence_length: int
    prefill_chunk_size: int
    max_scored_tokens: int = 128
    max_draws: int = 128
    prefill_mode: PrefillMode = "hybrid"
    prefix_cache_mode: PrefixCacheMode = "radix"
    max_recycling_sequences: int | None = None
    max_queued_requests: int = 1024
    max_queued_tokens: int | None = None
    max_choices: int = 128
    first_token_timeout: float | None = None
    request_timeout: float | None = None
    max_history_size: int = 0
