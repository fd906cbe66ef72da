"""A reply that is not streamed. Its logprobs become JSON only when it is sent, as they may take megabytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlc_serve.protocol.replies import Reply

Whole_co = TypeVar("Whole_co", bound=Reply, covariant=True)

# Quotation marks within texts are escaped, so that this can only be a field.
_NONE = '"logprobs":null'


@dataclass(frozen=True)
class WholeReply(Generic[Whole_co]):
    """`outline` is the reply without logprobs. If the client asked for them, `logprobs` has a function for
    each choice that yields their JSON in pieces.
    """

    outline: Whole_co
    logprobs: Sequence[Callable[[], Iterator[str]]] = ()

    def json(self) -> Iterator[str]:
        """Yield the reply's JSON in pieces, each of which takes about a millisecond to write."""
        outline = self.outline.to_json()
        if not self.logprobs:
            yield outline
            return
        before, *behind = outline.split(_NONE)
        yield before
        for pieces, text in zip(self.logprobs, behind, strict=True):
            yield '"logprobs":'
            yield from pieces()
            yield text

    def typed(self) -> Whole_co:
        """Return the reply as an object."""
        if not self.logprobs:
            return self.outline
        kind: type[Whole_co] = type(self.outline)
        return kind.model_validate_json("".join(self.json()))
