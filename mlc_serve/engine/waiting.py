"""The requests that hold no sequence: in order of arrival, and from the shortest to the longest.

Written by the scheduler, on the engine's thread. A request that waits learns no tokens, so that its place in
either order stays.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from mlc_serve.engine.request import Request


class WaitingLine:
    """Iterates in order of arrival; those that arrived at once in the order they were added."""

    def __init__(self) -> None:
        self._by_arrival: list[Request] = []
        self._by_length: list[Request] = []

    def __len__(self) -> int:
        return len(self._by_arrival)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._by_arrival)

    @property
    def first(self) -> Request:
        """The one that arrived first; IndexError if none waits."""
        return self._by_arrival[0]

    def shortest_first(self) -> Iterator[Request]:
        """By the tokens that they have to compute; equal ones by arrival."""
        return iter(self._by_length)

    def add(self, request: Request) -> None:
        """Let a request wait."""
        insort(self._by_arrival, request, key=_arrival)
        insort(self._by_length, request, key=_length)

    def remove(self, request: Request) -> None:
        """Let a request wait no more; ValueError if it does not."""
        self._by_arrival.remove(request)
        self._by_length.remove(request)


def _arrival(request: Request) -> float:
    return request.spec.arrival


def _length(request: Request) -> tuple[int, float]:
    return request.num_tokens, request.spec.arrival
