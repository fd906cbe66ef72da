"""A request inside the engine: one sequence of tokens, known and computed. A client's `n` choices are `n`
requests.

The scheduler writes `state` and `seq_id`, and EngineCore's commit writes the tokens and counters, all on the
engine's thread. Knows nothing about text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple

from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.constraint import Constraint
from mlc_serve.engine.sampling import Draw, SamplingParams


class FinishReason(StrEnum):
    """Why a request ended. Every accepted request ends with exactly one of these."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True)
class EngineRequest:
    """What is submitted to the engine: ids, not text. `arrival` is time.monotonic() seconds.

    Only requests with the same `cache_namespace` reuse each other's computed prefixes. Once the request is
    submitted, only the engine may use its `constraint`.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    seed: int
    arrival: float
    cache_namespace: str = ""
    constraint: Constraint | None = None


class RequestState(Enum):
    """Where a request is.

    WAITING ── admitted ──> RUNNING ── finished ──> ENDED
       ^─── preempted ─────────┘  (a waiting request may end as well)
    """

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class Request:
    """An accepted request and its progress.

    It holds a sequence, `seq_id`, exactly while its state is RUNNING.

    `num_computed` tokens of prompt_ids + output_ids are in the KV cache; steps bring this number up to
    `num_tokens`. The request ends at the latest when `max_length` tokens are known. `num_cached` tokens of
    the prompt were found in the prefix cache when the request was first admitted; it is None before.
    `num_prompt_logprobs` counts the prompt logprobs that were delivered. `was_passed_over` says that a later
    request was given the pages that this one waits for. `draw` refers to `output_ids`, so it always sees the
    latest output. Times are time.monotonic() seconds, and None before the event.
    """

    spec: EngineRequest
    max_length: int
    state: RequestState = RequestState.WAITING
    output_ids: list[int] = field(default_factory=list)
    seq_id: int | None = None
    num_computed: int = 0
    num_cached: int | None = None
    num_prompt_logprobs: int = 0
    was_passed_over: bool = False
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    num_prompt: int = field(init=False)
    draw: Draw = field(init=False)

    def __post_init__(self) -> None:
        self.num_prompt = len(self.spec.prompt_ids)
        spec = self.spec
        self.draw = Draw(spec.params, spec.prompt_ids, self.output_ids, spec.seed, spec.constraint)

    def start(self, seq_id: int) -> None:
        """Run on a sequence from now on."""
        self.seq_id, self.state = seq_id, RequestState.RUNNING

    def wait_again(self) -> None:
        """Wait without a sequence; all tokens will be computed again."""
        self.seq_id, self.state = None, RequestState.WAITING
        self.num_computed = 0

    def end(self) -> None:
        """Hold no sequence any more, and never run again."""
        self.seq_id, self.state = None, RequestState.ENDED

    @property
    def held_seq_id(self) -> int:
        """The sequence that a running request holds; RuntimeError if it holds none."""
        if self.seq_id is None:
            raise RuntimeError(f"request {self.spec.request_id} holds no sequence")
        return self.seq_id

    @property
    def num_tokens(self) -> int:
        """The number of tokens known so far: prompt and output."""
        return self.num_prompt + len(self.output_ids)

    @property
    def num_uncomputed(self) -> int:
        """The number of known tokens that are not in the KV cache: at least 1 until the request ends."""
        return self.num_prompt + len(self.output_ids) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether only the token drawn last is left to compute."""
        num_output = len(self.output_ids)
        return num_output > 0 and self.num_prompt + num_output - self.num_computed == 1

    @property
    def is_prompt_computed(self) -> bool:
        """Whether the whole prompt is in the KV cache."""
        return self.num_computed >= self.num_prompt

    @property
    def may_reuse_prefix(self) -> bool:
        """Whether the request may reuse a computed prefix. It may not while prompt logprobs are due, since
        these need the logits at every position of the prompt.
        """
        is_scored = self.spec.params.num_prompt_logprobs is not None
        return not is_scored or self.num_prompt_logprobs == self.num_prompt - 1

    @property
    def is_complete(self) -> bool:
        """Whether the constraint lets nothing follow the output."""
        return self.spec.constraint is not None and self.spec.constraint.is_complete

    def accepted(self, token_ids: tuple[int, ...]) -> tuple[int, ...]:
        """Let the constraint, if there is one, follow tokens that are going to be appended to the output.
        Return them, up to the one after which nothing may follow.
        """
        constraint = self.spec.constraint
        if constraint is None:
            return token_ids
        for count, token_id in enumerate(token_ids, 1):
            constraint.accept((token_id,))
            if constraint.is_complete:
                return token_ids[:count]
        return token_ids

    def forced(self) -> Sequence[int]:
        """Return the tokens that the constraint forces to come next. There are none if logprobs are asked
        for, which only draws have.
        """
        constraint = self.spec.constraint
        if constraint is None or self.spec.params.num_top_logprobs is not None:
            return ()
        return constraint.forced()

    def draws(self, draft_ids: Sequence[int]) -> Sequence[Draw]:
        """Return the draw of the next token, and of the token after each draft."""
        if not draft_ids:
            return (self.draw,)
        return [self.draw, *(self.draw.after(draft_ids[:stop]) for stop in range(1, len(draft_ids) + 1))]

    def known_ids(self, start: int, stop: int) -> Sequence[int]:
        """Return the known tokens at positions [start, stop)."""
        boundary = self.num_prompt
        if start >= boundary:
            return self.output_ids[start - boundary : stop - boundary]
        if stop <= boundary:
            return self.spec.prompt_ids[start:stop]
        return [*self.spec.prompt_ids[start:], *self.output_ids[: stop - boundary]]


class RequestDelta(NamedTuple):
    """What one step added to one request.

    Only the last delta of a request has a `finish_reason`. If a stop token ended the request, it is the last
    of `token_ids`, is counted in usage, and `stop_token` is true (its text is not shown).
    `num_cached_tokens` is set from the first delta on. `error` is set if `finish_reason` is ERROR.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_token: bool = False
    error: str | None = None
