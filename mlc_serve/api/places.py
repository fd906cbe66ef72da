"""The places of an engine: how many choices of requests may be open at a time, and how many are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlc_serve.engine.limits import EngineLimits
from mlc_serve.errors import InvalidRequestError, QueueFullError


class Places:
    """Every choice of a request has a place, from before any work is done for it until nothing is left of it.

    There are max_num_sequence + max_queued_requests of them. Used on the event loop only.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self._num_places = limits.max_num_sequence + limits.max_queued_requests
        self._num_taken = 0

    @property
    def num_taken(self) -> int:
        """Choices of requests that have a place."""
        return self._num_taken

    @property
    def is_full(self) -> bool:
        """Whether no place is left."""
        return self._num_taken >= self._num_places

    @contextmanager
    def reserve(self, num_choices: int) -> Iterator[None]:
        """Keep places for the choices of a request until the context is left.

        Raises QueueFullError if there are too few, and InvalidRequestError if there never are that many.
        """
        self._require_room(num_choices)
        self._num_taken += num_choices
        try:
            yield
        finally:
            self._num_taken -= num_choices

    def _require_room(self, num_choices: int) -> None:
        taken, most = self._num_taken, self._num_places
        if num_choices > most:
            raise InvalidRequestError(
                f"n: {num_choices} choices are asked for in all, and this server takes at most {most}.", "n"
            )
        if taken + num_choices > most:
            raise QueueFullError(f"{taken} of at most {most} requests are open; try again later.")
