"""A streamed reply, whose commonest part by far, a piece of text, is not yet made into a chunk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from mlc_serve.protocol.replies import ChatCompletionChunk, Completion

Chunk = ChatCompletionChunk | Completion
Chunk_co = TypeVar("Chunk_co", bound=Chunk, covariant=True)


class TextPart(NamedTuple):
    """What a chunk adds to one choice where that is text and nothing else."""

    choice: int
    text: str


@dataclass(frozen=True)
class ReplyStream(Generic[Chunk_co]):
    """`parts` in their order, those together that came together; `chunk_of` makes the chunk that a piece of
    text stands for.

    To close `parts` ends the request. They raise what breaks the reply.
    """

    parts: AsyncGenerator[list[Chunk_co | TextPart], None]
    chunk_of: Callable[[TextPart], Chunk_co]

    async def chunks(self, places: AbstractContextManager[None]) -> AsyncGenerator[Chunk_co, None]:
        """All parts as chunks. To close it closes `parts`.

        `places` are entered when the first chunk is asked for: a stream may be thrown away before that.
        """
        with places:
            async with aclosing(self.parts) as batches:
                async for batch in batches:
                    for part in batch:
                        yield self.chunk_of(part) if isinstance(part, TextPart) else part
