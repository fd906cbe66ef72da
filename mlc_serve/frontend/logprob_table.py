"""The logprobs of one choice of a whole reply, kept small until the reply is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from mlc_serve.engine.backend import TokenLogprobs

# Logprobs that are written in one go, which takes about a millisecond.
_RUN = 1024
# What OpenAI sends for a token that is as good as impossible. JSON has neither infinity nor NaN.
LOWEST = -9999.0


class LogprobTable:
    """Tokens and their logprobs in twelve bytes each. As TokenLogprobs they take ten times as much."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._logprobs = array("d")
        self._ends = array("q")  # of each token's own logprob and those of its alternatives

    def add(self, entries: Iterable[TokenLogprobs]) -> None:
        """Take in further tokens, in the text's order."""
        for entry in entries:
            for token_id, logprob in ((entry.token_id, entry.logprob), *entry.top):
                self._ids.append(token_id)
                self._logprobs.append(logprob)
            self._ends.append(len(self._ids))

    def runs(self) -> Iterator[list[TokenLogprobs]]:
        """All tokens in their order, a few at a time."""
        start, run, num_left = 0, list[TokenLogprobs](), _RUN
        for end in self._ends:
            own, *top = zip(self._ids[start:end], self._logprobs[start:end], strict=True)
            run.append(TokenLogprobs(*own, tuple(top)))
            num_left -= end - start
            start = end
            if num_left <= 0:
                yield run
                run, num_left = [], _RUN
        if run:
            yield run


def listed(runs: Iterable[str]) -> Iterator[str]:
    """A JSON list in pieces, from the items of each run, which have commas in between."""
    separator = "["
    for items in filter(None, runs):
        yield separator + items
        separator = ","
    yield "]" if separator == "," else "[]"


def finite(logprob: float) -> float:
    """The logprob as it is sent."""
    return max(LOWEST, logprob)
