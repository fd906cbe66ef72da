"""Splits deltas with many prompt logprobs, so that the event loop isn't held up by writing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mlc_serve.frontend.choice import TextDelta

# About this many logprobs are written at a time, which takes a few milliseconds.
_MOST = 1024


def portions(deltas: Iterable[TextDelta]) -> Iterator[list[TextDelta]]:
    """Yield deltas in lists that are quickly written, and which together say the same."""
    portion, num_left = list[TextDelta](), _MOST
    for delta in deltas:
        for piece in _pieces(delta):
            portion.append(piece)
            num_left -= len(piece.prompt_logprobs) * _num_each(piece)
            if num_left <= 0:
                yield portion
                portion, num_left = [], _MOST
    if portion:
        yield portion


def _pieces(delta: TextDelta) -> Iterator[TextDelta]:
    """Yield a delta in pieces. What is not of the prompt is in the last one."""
    rest, most = delta.prompt_logprobs, _MOST // _num_each(delta)
    while len(rest) > most:
        yield TextDelta(delta.index, prompt_logprobs=rest[:most], num_cached_tokens=delta.num_cached_tokens)
        rest = rest[most:]
    yield delta if rest is delta.prompt_logprobs else replace(delta, prompt_logprobs=rest)


def _num_each(delta: TextDelta) -> int:
    """Return the most logprobs that one of the prompt's tokens has."""
    return 1 + max((len(entry.top) for entry in delta.prompt_logprobs), default=0)
