"""The places of an engine, which bound how many choices of requests are open at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlc_serve.errors import InvalidRequestError, QueueFullError


class Places:
    """Every choice takes a place before any work is done for its request, and keeps it until the reply has
    been sent.

    Used on the event loop only.
    """

    def __init__(self, num_places: int, most_at_once: int) -> None:
        """`most_at_once` is the most that one request may take."""
        self._num_places = num_places
        self._most_at_once = most_at_once
        self._num_taken = 0

    @property
    def num_taken(self) -> int:
        """The number of choices that have a place."""
        return self._num_taken

    @property
    def is_full(self) -> bool:
        """Whether no place is left."""
        return self._num_taken >= self._num_places

    @contextmanager
    def reserve(self, num_choices: int) -> Iterator[None]:
        """Reserve places for the choices of a request until the context is left.

        Raises QueueFullError if too few are left, and InvalidRequestError if one request may not have so
        many.
        """
        self._require_room(num_choices)
        self._num_taken += num_choices
        try:
            yield
        finally:
            self._num_taken -= num_choices

    def _require_room(self, num_choices: int) -> None:
        taken, most = self._num_taken, self._num_places
        if num_choices > self._most_at_once:
            raise InvalidRequestError(
                f"n: a request to this server may have at most {self._most_at_once} choices in all, n for "
                "each of its prompts.",
                "n",
            )
        if taken + num_choices > most:
            raise QueueFullError(f"{taken} of at most {most} requests are open; try again later.")
