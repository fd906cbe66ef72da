"""The requests that hold no sequence, in order of arrival and in order of length.

The scheduler writes it, on the engine's thread. A waiting request gets no new tokens, so its place in either
order stays the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from mlc_serve.engine.request import Request


class WaitingLine:
    """Iterates in order of arrival, and in the order of `add` where the arrivals are equal."""

    def __init__(self) -> None:
        self._by_arrival: list[Request] = []
        self._by_length: list[Request] = []

    def __len__(self) -> int:
        return len(self._by_arrival)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._by_arrival)

    @property
    def first(self) -> Request:
        """The request that arrived first. Raises IndexError if none waits."""
        return self._by_arrival[0]

    def shortest_first(self) -> Iterator[Request]:
        """Iterate by the number of tokens to compute, and by arrival where these are equal."""
        return iter(self._by_length)

    def add(self, request: Request) -> None:
        """Add a request."""
        insort(self._by_arrival, request, key=_arrival)
        insort(self._by_length, request, key=_length)

    def remove(self, request: Request) -> None:
        """Remove a request. Raises ValueError if it does not wait."""
        self._by_arrival.remove(request)
        self._by_length.remove(request)


def _arrival(request: Request) -> float:
    return request.spec.arrival


def _length(request: Request) -> tuple[int, float]:
    return request.num_tokens, request.spec.arrival
