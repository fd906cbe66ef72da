"""A response that is not streamed. Its logprobs become JSON only when it is sent, since they may be long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlc_serve.protocol.responses.replies import ResponseProgress, joined

# Quotation marks within texts are escaped, so that this can only be a field.
_NONE = '"logprobs":null'


@dataclass(frozen=True)
class WholeResponse:
    """`settings` is the JSON of the ResponseSettings.

    If the client asked for logprobs, `logprobs` yields the JSON of a chat's logprobs in pieces, and the
    response has one text at most.
    """

    progress: ResponseProgress
    settings: str
    logprobs: Callable[[], Iterator[str]] | None = None

    @property
    def outline(self) -> str:
        """The JSON of the response without logprobs."""
        return joined(self._progress_json().replace(_NONE, '"logprobs":[]'), self.settings)

    def json(self) -> Iterator[str]:
        """Yield the response's JSON in pieces, each of which takes a few milliseconds to write."""
        before, none, behind = self._progress_json().partition(_NONE)
        if not none or self.logprobs is None:
            yield self.outline
            return
        yield f'{before}"logprobs":'
        yield from _entries(self.logprobs())
        yield joined(behind, self.settings)

    def _progress_json(self) -> str:
        return self.progress.to_json()


def _entries(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the list within the JSON of a chat's logprobs, whose first and last piece are around it."""
    next(pieces)
    held = next(pieces)
    for piece in pieces:
        yield held
        held = piece
