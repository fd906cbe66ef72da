"""A streamed reply. Pieces of text, by far its most common parts, are not yet made into chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from mlc_serve.protocol.replies import ChatCompletionChunk, Completion, Reply, Usage

Chunk = ChatCompletionChunk | Completion
Chunk_co = TypeVar("Chunk_co", bound=Reply, covariant=True)


class TextPart(NamedTuple):
    """What a chunk adds to one choice, if it adds only text."""

    choice: int
    text: str


@dataclass(frozen=True)
class ReplyStream(Generic[Chunk_co]):
    """`parts` yields lists of parts that arrived together; `chunk_of` makes a chunk of a text part. `usage`
    returns the usage so far.

    Closing `parts` ends the request. `parts` raises whatever makes the reply fail.
    """

    parts: AsyncGenerator[list[Chunk_co | TextPart], None]
    chunk_of: Callable[[TextPart], Chunk_co]
    usage: Callable[[], Usage]

    async def chunks(self, places: AbstractContextManager[None]) -> AsyncGenerator[Chunk_co, None]:
        """Yield all parts as chunks. Closing this generator closes `parts`.

        `places` is entered when the first chunk is asked for, since a stream may be dropped before that.
        """
        with places:
            async with aclosing(self.parts) as batches:
                async for batch in batches:
                    for part in batch:
                        yield self.chunk_of(part) if isinstance(part, TextPart) else part
