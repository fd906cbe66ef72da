"""Decides how many prompt tokens a forward pass computes beside the decodes of running streams.

Every stream waits for the whole pass, so its client sees a gap when prompt tokens join the decodes. From
timed passes we know what decodes alone have cost lately and what each prompt token adds.

Take the time of a pass of decodes alone as 1, and let prompts add s to it. Then p prompts wait in proportion
to p / s, and the gaps of d streams grow by d * s together. The sum is least at s = sqrt(p / d). We weigh a
prompt's wait nine times, because it happens only once, which makes s three times as large. Two bounds apply:
s is at most p, so a single prompt at most doubles the gaps, and s is at least 1 however many streams there
are.

Runs on the engine's thread, and knows nothing about clocks and requests.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from statistics import median_low

# Prompts always get this many tokens, however expensive they seem. Beside a single stream, such a pass still
# takes no longer than three gaps.
_MIN_TOKENS = 8
# The weight of a prompt's wait, relative to the gaps of a stream.
_WAIT_WEIGHT = 9
# The cost of a pass of decodes is not used for batches that are larger or smaller by more than this factor.
_NEAR = 1.5
# After this many passes with prompts in them, the cost of decodes alone is measured again.
_MAX_AGE = 32
# A cost is the median of this many measurements, so that a pass that something else delayed doesn't count.
_NUM_MEASURED = 8
# Prompt tokens are assumed to take at least this share of their pass, since a disturbed measurement can make
# them look free.
_LEAST_ADDED = 1 / 16


class Pacing:
    """Learns from the calls of `measured`, and answers those of `prompt_tokens`."""

    def __init__(self) -> None:
        self._num_decodes = 0
        self._decode_seconds: deque[float] = deque(maxlen=_NUM_MEASURED)
        self._token_seconds: deque[float] = deque(maxlen=_NUM_MEASURED)
        self._age = 0

    def prompt_tokens(self, num_decodes: int, num_prompts: int) -> int:
        """Return how many prompt tokens a pass may take beside `num_decodes` (at least one) streams, when
        `num_prompts` prompts have tokens to compute.

        Returns 0 if the cost of the decodes alone isn't known: the coming pass then measures it.
        """
        if self._age >= _MAX_AGE or not self._is_near(num_decodes):
            return 0
        token_seconds = median_low(self._token_seconds) if self._token_seconds else 0.0
        if not token_seconds:
            return _MIN_TOKENS
        share = max(1.0, min(num_prompts, sqrt(_WAIT_WEIGHT * num_prompts / num_decodes)))
        return max(_MIN_TOKENS, int(share * median_low(self._decode_seconds) / token_seconds))

    def measured(self, num_decodes: int, num_prompt_tokens: int, seconds: float) -> None:
        """Learn from a pass over these decodes and prompt tokens that took `seconds`."""
        if not num_prompt_tokens:
            self._measured_decodes(num_decodes, seconds)
        elif num_decodes:
            self._age += 1
            self._measured_both(num_decodes, num_prompt_tokens, seconds)
        elif not self._token_seconds:
            # This is too high, because it includes the fixed cost of a pass, but nothing better is known yet.
            self._token_seconds.append(seconds / num_prompt_tokens)

    def _measured_decodes(self, num_decodes: int, seconds: float) -> None:
        if self._age >= _MAX_AGE or not self._is_near(num_decodes):
            self._decode_seconds.clear()
        self._decode_seconds.append(seconds)
        self._num_decodes, self._age = num_decodes, 0

    def _measured_both(self, num_decodes: int, num_prompt_tokens: int, seconds: float) -> None:
        """Ignore a pass with few prompt tokens: what they add is less than the variation between passes."""
        if num_prompt_tokens >= _MIN_TOKENS and self._is_near(num_decodes):
            added = max(seconds - median_low(self._decode_seconds), _LEAST_ADDED * seconds)
            self._token_seconds.append(added / num_prompt_tokens)

    def _is_near(self, num_decodes: int) -> bool:
        return num_decodes <= _NEAR * self._num_decodes and self._num_decodes <= _NEAR * num_decodes
