"""Requests that take longer than they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import FirstTokenTimeoutError, GenerationTimeoutError
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.testing import FakeBackend, fake_model
from tests.patience import PATIENCE

Advance = Callable[[float], None]
PROMPT = [1, 2, 3]


@pytest.fixture
async def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """Set the clock of the event loop forward, by which timers become due."""
    ahead = 0.0

    def by(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + ahead)
    return by


@pytest.fixture
def backend() -> FakeBackend:
    """The device of the engine."""
    return FakeBackend()


@pytest.fixture
def engine(backend: FakeBackend) -> Iterator[AsyncMLCEngine]:
    """An engine whose requests get 10 s for the first token, and 100 s in all."""
    limits: dict[str, Any] = {
        "first_token_timeout": 10,
        "request_timeout": 100,
        "prefix_cache_mode": "disable",
    }
    running = AsyncMLCEngine.from_loaded(fake_model(backend=backend, **limits))
    yield running
    backend.gate.set()
    running.terminate()


def params(n: int = 1, max_tokens: int | None = None) -> GenerationParams:
    """Parameters of a request that goes on until the context is full, if nothing ends it earlier."""
    return GenerationParams(SamplingParams(max_tokens=max_tokens), n=n)


async def test_a_request_without_a_token_ends(
    engine: AsyncMLCEngine, backend: FakeBackend, advance: Advance
) -> None:
    """It gets an error once the time to the first token is over, even while the device hangs."""
    backend.gate.clear()
    async with aclosing(engine.generate(PROMPT, params(n=2))) as deltas:
        first = asyncio.ensure_future(anext(deltas))
        await asyncio.sleep(0)
        advance(11)
        with pytest.raises(FirstTokenTimeoutError, match="10 s"):
            await first
    assert engine.num_open == 0


async def test_a_request_that_has_begun_ends_after_what_it_has_got(
    engine: AsyncMLCEngine, backend: FakeBackend, advance: Advance
) -> None:
    """The time to the first token no longer matters. When the time of a request is over, its reader gets the
    tokens that are there, then the error, and the engine frees its pages although nobody has left.
    """
    backend.hold_after(1)
    deltas = engine.generate(PROMPT, params())
    await anext(deltas)
    following = asyncio.ensure_future(anext(deltas))
    advance(11)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not following.done()
    advance(100)
    with pytest.raises(GenerationTimeoutError, match="100 s"):
        await following
    backend.gate.set()
    state = backend.state
    used = engine.streams.loop.call(lambda _core: state.num_pages - state.num_free_pages)
    assert used.result(PATIENCE) == 0


async def test_the_time_begins_when_a_request_arrives(engine: AsyncMLCEngine, backend: FakeBackend) -> None:
    """If preparing its prompt has taken all of the time, nothing is computed for it."""
    late = replace(params(), arrival=time.monotonic() - 11)
    with pytest.raises(FirstTokenTimeoutError):
        await anext(engine.generate(PROMPT, late))
    assert engine.num_open == 0
    assert not backend.batches


async def test_a_request_that_ends_in_time_leaves_no_timer(engine: AsyncMLCEngine, advance: Advance) -> None:
    """Nothing happens when the time of a request passes that has ended; the next one has its own time."""
    for _ in range(2):
        texts = [delta async for delta in engine.generate(PROMPT, params(max_tokens=3))]
        assert sum(len(delta.token_ids) for delta in texts) == 3
        advance(101)
        await asyncio.sleep(0)
