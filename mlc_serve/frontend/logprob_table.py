"""The logprobs of one choice of a whole reply, kept in a compact form until the reply is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from mlc_serve.engine.backend import TokenLogprobs

# How many logprobs are written at a time, which takes about a millisecond.
_RUN = 1024
# What OpenAI sends for a token that is practically impossible. JSON has neither infinity nor NaN.
LOWEST = -9999.0


class LogprobTable:
    """Tokens and their logprobs, in twelve bytes each. As TokenLogprobs they would take ten times as much."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._logprobs = array("d")
        self._ends = array("q")  # where each token's entries end: its own logprob and those of alternatives

    def add(self, entries: Iterable[TokenLogprobs]) -> None:
        """Add further tokens, in the text's order."""
        for entry in entries:
            for token_id, logprob in ((entry.token_id, entry.logprob), *entry.top):
                self._ids.append(token_id)
                self._logprobs.append(logprob)
            self._ends.append(len(self._ids))

    def runs(self) -> Iterator[list[TokenLogprobs]]:
        """Yield all tokens in order, in lists of about a thousand logprobs."""
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
    """Yield a JSON list in pieces. Each of `runs` is a piece of comma-separated items."""
    separator = "["
    for items in filter(None, runs):
        yield separator + items
        separator = ","
    yield "]" if separator == "," else "[]"


def finite(logprob: float) -> float:
    """Return the logprob as it is sent: at least LOWEST."""
    return max(LOWEST, logprob)
