"""Replies of an engine with drafts: several tokens of a pass arrive together, and what ends a text ends it
inside of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.engine.request import Request
from mlc_serve.engine.speculation.draft_lengths import FixedLengths
from mlc_serve.engine.speculation.speculation import Speculation
from mlc_serve.protocol.replies import Completion
from mlc_serve.testing import EOS_ID, FakeProposer

Serve = Callable[..., AsyncMLCEngine]

SCRIPT = "one two three, grüße, four five".encode()
LENGTH = 5


def right(request: Request, most: int) -> Sequence[int]:
    """Draft what the model is going to write, and its end token."""
    start = len(request.output_ids)
    return [*SCRIPT, EOS_ID, EOS_ID][start : start + most]


def wrong(_request: Request, most: int) -> Sequence[int]:
    """Draft what the model never writes."""
    return b"#" * most


@pytest.fixture(params=[right, wrong])
def engines(request: pytest.FixtureRequest, serve: Serve) -> tuple[AsyncMLCEngine, AsyncMLCEngine]:
    """An engine with drafts, right or wrong ones, and the same one without."""
    speculation = Speculation(FakeProposer(request.param), FixedLengths(LENGTH))
    return serve(SCRIPT, speculation=speculation), serve(SCRIPT)


async def reply(engine: AsyncMLCEngine, **fields: Any) -> dict[str, Any]:
    """A whole reply, without what differs between any two."""
    made: Completion = await engine.completions.create(prompt="ab", **fields)
    return made.model_dump(exclude={"id": True, "created": True, "usage": {"extra"}})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": 2},
        {"stop": "two"},
        {"stop": "o t", "logprobs": 1},
        {"stop": "üß"},
        {"stop": ["five", "zz"], "max_tokens": 33},
        {"max_tokens": 7, "logprobs": 0},
        {"max_tokens": 7, "stop": "two"},
        {"n": 3, "seed": 5, "logprobs": 1},
        {"n": 2, "stop": "thr"},
        {"stop_token_ids": [ord(",")], "logprobs": 1},
        {"min_tokens": 9, "stop": "o"},
        {"echo": True, "logprobs": 1, "max_tokens": 12},
    ],
    ids=str,
)
async def test_a_reply_is_that_of_plain_decoding(
    engines: tuple[AsyncMLCEngine, AsyncMLCEngine], fields: dict[str, Any]
) -> None:
    """Text, logprobs, finish reasons and usage, for stop strings and limits that lie inside of drafts, and
    for several choices.
    """
    drafted, plain = engines
    assert await reply(drafted, **fields) == await reply(plain, **fields)


async def test_the_tokens_of_a_pass_are_one_part_of_a_stream(serve: Serve) -> None:
    """A stream has one part for each pass, and they add up to the text."""
    engine = serve(SCRIPT, speculation=Speculation(FakeProposer(right), FixedLengths(LENGTH)))
    stream = await engine.completions.create(prompt="ab", stream=True)
    texts = [choice.text async for part in stream for choice in part.choices]
    assert "".join(texts) == SCRIPT.decode()
    assert len(texts) <= 2 + len(SCRIPT) // (LENGTH + 1)
