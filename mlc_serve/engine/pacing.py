"""How many prompt tokens a forward pass takes along with running streams.

Every stream waits for the whole pass, so that a long prompt beside decodes is felt as a gap. Passes that were
timed tell what decodes alone cost lately and what a prompt token adds to them. In units of such a pass of
decodes: where passes take prompts for s more, p prompts wait in proportion to p / s and the gaps of d streams
grow by d * s, whose sum is least at s = sqrt(p / d). A prompt's wait, which comes once, counts nine times, so
that it is three times that here. But a prompt adds one pass at most: a single one doubles the gaps. And
prompts get that much however many streams there are.

Runs on the engine's thread; knows no clock and no requests.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from statistics import median_low

# Prompts go on however dear a token seems; beside a single stream this still fits within three gaps.
_MIN_TOKENS = 8
# How much more a prompt's wait weighs than a gap of a stream.
_WAIT_WEIGHT = 9
# What a pass of decodes cost says nothing about batches further apart than this, as a factor.
_NEAR = 1.5
# After so many passes with prompts in them the cost of decodes alone is measured again.
_MAX_AGE = 32
# A cost is the median of so many measurements, so that passes that something else held up don't count.
_NUM_MEASURED = 8
# Prompt tokens are never free, though a disturbed measurement can make them look so: at least this share of
# their pass.
_LEAST_ADDED = 1 / 16


class Pacing:
    """Learns from `measured` and answers `prompt_tokens`."""

    def __init__(self) -> None:
        self._num_decodes = 0
        self._decode_seconds: deque[float] = deque(maxlen=_NUM_MEASURED)
        self._token_seconds: deque[float] = deque(maxlen=_NUM_MEASURED)
        self._age = 0

    def prompt_tokens(self, num_decodes: int, num_prompts: int) -> int:
        """Prompt tokens that a pass may take beside `num_decodes` (at least one) streams when `num_prompts`
        could use some.

        0 if it isn't known what the decodes cost alone: that pass measures it, and is no longer than what the
        streams are used to.
        """
        if self._age >= _MAX_AGE or not self._is_near(num_decodes):
            return 0
        token_seconds = median_low(self._token_seconds) if self._token_seconds else 0.0
        if not token_seconds:
            return _MIN_TOKENS
        share = max(1.0, min(num_prompts, sqrt(_WAIT_WEIGHT * num_prompts / num_decodes)))
        return max(_MIN_TOKENS, int(share * median_low(self._decode_seconds) / token_seconds))

    def measured(self, num_decodes: int, num_prompt_tokens: int, seconds: float) -> None:
        """A pass over these took so long."""
        if not num_prompt_tokens:
            self._measured_decodes(num_decodes, seconds)
        elif num_decodes:
            self._age += 1
            self._measured_both(num_decodes, num_prompt_tokens, seconds)
        elif not self._token_seconds:
            # Too much, for the fixed cost of a pass is in it, but there is nothing better yet.
            self._token_seconds.append(seconds / num_prompt_tokens)

    def _measured_decodes(self, num_decodes: int, seconds: float) -> None:
        if self._age >= _MAX_AGE or not self._is_near(num_decodes):
            self._decode_seconds.clear()
        self._decode_seconds.append(seconds)
        self._num_decodes, self._age = num_decodes, 0

    def _measured_both(self, num_decodes: int, num_prompt_tokens: int, seconds: float) -> None:
        """Few tokens add less than what passes differ by."""
        if num_prompt_tokens >= _MIN_TOKENS and self._is_near(num_decodes):
            added = max(seconds - median_low(self._decode_seconds), _LEAST_ADDED * seconds)
            self._token_seconds.append(added / num_prompt_tokens)

    def _is_near(self, num_decodes: int) -> bool:
        return num_decodes <= _NEAR * self._num_decodes and self._num_decodes <= _NEAR * num_decodes
