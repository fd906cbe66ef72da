"""A streamed reply, whose commonest part by far, a piece of text, is not yet made into a chunk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
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
    """`parts` in their order; `chunk_of` makes the chunk that a piece of text stands for.

    To close `parts` ends the request. They raise what breaks the reply.
    """

    parts: AsyncGenerator[Chunk_co | TextPart, None]
    chunk_of: Callable[[TextPart], Chunk_co]

    async def chunks(self) -> AsyncGenerator[Chunk_co, None]:
        """All parts as chunks. To close it closes `parts`."""
        async with aclosing(self.parts) as parts:
            async for part in parts:
                yield self.chunk_of(part) if isinstance(part, TextPart) else part
