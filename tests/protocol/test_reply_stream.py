"""Streams of parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import nullcontext

from mlc_serve.frontend.usage import UsageCount
from mlc_serve.protocol.replies import Completion, CompletionChoice, Usage
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart


def chunk(choices: list[CompletionChoice]) -> Completion:
    """A chunk of choices."""
    return Completion(
        id="a", object="text_completion", created=1, model="m", system_fingerprint="f", choices=choices
    )


def chunk_of(part: TextPart) -> Completion:
    """A chunk for a text part."""
    return chunk([CompletionChoice(index=part.choice, text=part.text, logprobs=None, finish_reason=None)])


def no_usage() -> Usage:
    """The usage of a request without tokens."""
    return UsageCount([], 1).usage


async def test_pieces_of_text_become_chunks_in_their_place() -> None:
    """A reader of chunks sees no difference between parts that were chunks and parts that were text."""

    async def parts() -> AsyncGenerator[list[Completion | TextPart], None]:
        yield [TextPart(1, "a"), chunk([])]
        yield [TextPart(0, "b")]

    chunks = [part async for part in ReplyStream(parts(), chunk_of, no_usage).chunks(nullcontext())]
    assert [[(c.index, c.text) for c in part.choices] for part in chunks] == [[(1, "a")], [], [(0, "b")]]


async def test_closing_the_chunks_closes_the_parts() -> None:
    """A reader that stops early ends the request."""
    closed = False

    async def parts() -> AsyncGenerator[list[Completion | TextPart], None]:
        nonlocal closed
        try:
            yield [TextPart(0, "a"), TextPart(0, "b")]
        finally:
            closed = True

    chunks = ReplyStream(parts(), chunk_of, no_usage).chunks(nullcontext())
    await anext(chunks)
    await chunks.aclose()
    assert closed
