"""The bound on the prompt tokens that wait, so that nobody is promised an answer behind hours of prefill."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlc_serve.api.stream import Stream
from mlc_serve.errors import QueueFullError


@dataclass(frozen=True)
class QueuedTokens:
    """Bounds the prompt tokens of the choices that have no token yet. `most` is None if there is no bound.

    It is given the open streams, which alone know what waits. Where nothing waits, a prompt of any length has
    room.
    """

    most: int | None

    def has_room(self, streams: Iterable[Stream], num_tokens: int = 1) -> bool:
        """Return whether this many prompt tokens may wait beside those of the open streams."""
        if self.most is None:
            return True
        num_queued = _num_queued(streams)
        return not num_queued or num_queued + num_tokens <= self.most

    def require_room(self, streams: Iterable[Stream], num_tokens: int = 1) -> None:
        """Raise QueueFullError if there is no room."""
        if not self.has_room(streams, num_tokens):
            raise QueueFullError(
                f"prompts with {_num_queued(streams)} tokens wait already, and at most {self.most} may; try "
                "again later."
            )


def _num_queued(streams: Iterable[Stream]) -> int:
    return sum(num_tokens for stream in streams for num_tokens in stream.waiting.values())
