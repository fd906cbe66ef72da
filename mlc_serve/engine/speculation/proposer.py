"""The interface of what guesses the next tokens of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mlc_serve.engine.request import Request


class Ask(NamedTuple):
    """A decoding request, whose output is known up to its last token, and the most drafts (at least one) that
    it can use.
    """

    request: Request
    most: int


class Proposer(Protocol):
    """Drafts tokens. Called on the engine's thread only.

    A draft is a guess and never changes what is generated: it is kept only if the model draws the same token.
    """

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """Return up to `most` drafts for each request, or none. Each draft follows the one before it."""

    def forget(self, request: Request) -> None:
        """Keep nothing of a request, which has ended. Does nothing if nothing is kept."""


class NoDrafts:
    """Implements Proposer for engines without speculation."""

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """See Proposer."""
        return [() for _ in asks]

    def forget(self, request: Request) -> None:
        """See Proposer."""
