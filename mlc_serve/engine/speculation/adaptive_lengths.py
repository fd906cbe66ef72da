"""Draft lengths that maximize the expected number of tokens per expected second.

A request whose drafts are kept with probability a gets 1 + a + a^2 + ... + a^k tokens from a pass with k of
them (Leviathan, Kalman and Matias, 2023). What a pass takes depends on the tokens of all requests together,
and on the longest draft, which drafting takes that many rounds for. So the next draft always goes to the
request for which it is likeliest to be kept, and of all numbers of drafts the best one is taken (Liu et al.,
SmartSpec, 2024). Nothing is assumed about the machine: passes are measured while it serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.acceptance import Acceptance, RequestDrafts
from mlc_serve.engine.speculation.pass_times import PassTimes
from mlc_serve.engine.speculation.round_time import RoundTime

# The most drafts of a request.
LONGEST = 16
# Drafts must be expected to gain at least this share, because estimates are not exact.
_LEAST_GAIN = 1.02
# A draft that is less likely to be kept is not worth its row, however little rows seem to cost.
_LEAST_LIKELY = 0.05
# What is left of older drafts' weight with each further draft of any request.
_DECAY_OF_ALL = 0.99


class AdaptiveLengths:
    """Implements DraftLengths. `longest` is the most drafts of a request."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._passes = PassTimes()
        self._round = RoundTime()
        self._all = Acceptance(_DECAY_OF_ALL)
        self._requests: dict[Request, RequestDrafts] = {}

    def choose(self, requests: Sequence[Request], num_spare: int) -> list[int]:
        """See DraftLengths. A pass without drafts is measured first, and again from time to time."""
        self._round.end_pass()
        if not self._passes.is_known(len(requests)):
            return [0] * len(requests)
        known = [self._of(request) for request in requests]
        expected = self._all.rate()
        lengths = self._best([one.acceptance.rate(expected) for one in known], num_spare)
        return _with_trials(lengths, known, num_spare)

    def committed(self, request: Request, num_drafts: int, num_kept: int) -> None:
        """See DraftLengths."""
        self._of(request).learn(num_drafts, num_kept)
        self._all.learn(num_drafts, num_kept)
        self._round.drafted(request)

    def measured(self, num_rows: int, longest: int, draft_seconds: float, seconds: float) -> None:
        """See DraftLengths."""
        self._passes.measured(num_rows, seconds)
        if longest:
            self._round.measured(draft_seconds / longest)

    def forget(self, request: Request) -> None:
        """See DraftLengths."""
        self._requests.pop(request, None)

    def _of(self, request: Request) -> RequestDrafts:
        return self._requests.setdefault(request, RequestDrafts(Acceptance()))

    def _best(self, rates: Sequence[float], num_spare: int) -> list[int]:
        """Return the lengths with the most tokens per second."""
        lengths, tokens, longest = [0] * len(rates), float(len(rates)), 0
        best, best_speed = list(lengths), _LEAST_GAIN * tokens / self._passes.of(len(rates))
        most = min(num_spare, self._passes.reach - len(rates))
        for num_drafts, (place, gain) in enumerate(self._gains(rates, most), 1):
            lengths[place] += 1
            tokens += gain
            longest = max(longest, lengths[place])
            seconds = self._passes.of(len(rates) + num_drafts) + longest * self._round.seconds
            if tokens / seconds > best_speed:
                best, best_speed = list(lengths), tokens / seconds
        return best

    def _gains(self, rates: Sequence[float], most: int) -> Iterator[tuple[int, float]]:
        """Yield whom each of up to `most` drafts goes to, and how likely it is kept, the likeliest first."""
        heap = [(-rate, place, 1) for place, rate in enumerate(rates) if rate >= _LEAST_LIKELY]
        heapify(heap)
        for _ in range(most):
            if not heap:
                return
            gain, place, length = heap[0]
            yield place, -gain
            if length < self._longest and -gain * rates[place] >= _LEAST_LIKELY:
                heapreplace(heap, (gain * rates[place], place, length + 1))
            else:
                heappop(heap)


def _with_trials(lengths: list[int], known: Sequence[RequestDrafts], num_spare: int) -> list[int]:
    """Return the lengths, with a draft for those that had none for long: the text may have become easier."""
    num_left = num_spare - sum(lengths)
    for place, one in enumerate(known):
        if lengths[place]:
            one.chosen()
        elif one.idle() and num_left:
            lengths[place] = 1
            num_left -= 1
    return lengths
