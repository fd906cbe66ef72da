"""Prefixes that were evicted come back for the requests that need them, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_serve.api import prefix_return
from mlc_serve.api.ahead import Ahead, Budget
from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.loaded_model import PrefixFiles
from mlc_serve.testing import FakeBackend, fake_model
from tests.patience import PATIENCE

PROMPT = b"a conversation of several pages, to which more is added"
NUM_CACHED = 52  # of its tokens are in whole pages without the last one


class Servers:
    """Engines, one after another, that keep what they evict in the same directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._engines: list[AsyncMLCEngine] = []

    def start(
        self, *, num_pages: int = 32, max_bytes: int = 10**6, key: str = "model", **limits: Any
    ) -> AsyncMLCEngine:
        """Start an engine."""
        model = fake_model(backend=FakeBackend(num_pages=num_pages), **limits)
        model = replace(model, prefix_files=PrefixFiles(self._directory, max_bytes, key))
        self._engines.append(AsyncMLCEngine.from_loaded(model))
        return self._engines[-1]

    def end(self) -> None:
        """End all engines."""
        for engine in self._engines:
            engine.terminate()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Engines that end with the test."""
    started = Servers(tmp_path)
    yield started
    started.end()


async def ask(
    engine: AsyncMLCEngine, prompt: bytes = PROMPT, namespace: str = "", **sampling: Any
) -> tuple[list[int], int]:
    """Return the output for a prompt, and how many of its tokens were cached."""
    params = GenerationParams(
        sampling=SamplingParams(temperature=0.0, max_tokens=5, **sampling), cache_namespace=namespace
    )
    output: list[int] = []
    num_cached = 0
    async for delta in engine.generate(prompt, params):
        output += delta.token_ids
        num_cached = delta.num_cached_tokens
    return output, num_cached


async def fill(engine: AsyncMLCEngine) -> None:
    """Let an engine evict all that it has cached."""
    await ask(engine, b"x" * 120)


def stored_by(engine: AsyncMLCEngine) -> prefix_return.StoredPrefixes:
    """Return what brings an engine's prefixes back."""
    prefixes = engine._prefixes
    assert isinstance(prefixes, prefix_return.StoredPrefixes)
    return prefixes


def sample(engine: AsyncMLCEngine, name: str) -> float:
    """Return the value of one of the store's metrics."""
    value = engine.registry.get_sample_value(f"mlc_serve_prefix_store_{name}", {"model": "fake"})
    assert value is not None
    return value


async def test_an_evicted_prefix_comes_back(servers: Servers) -> None:
    """A prompt whose pages were given to others is not computed again, and is answered the same."""
    engine = servers.start()
    expected, num_cached = await ask(engine)
    assert num_cached == 0
    await fill(engine)
    assert await ask(engine) == (expected, NUM_CACHED)
    assert sample(engine, "hits_total") == 1
    assert sample(engine, "returned_tokens_total") == NUM_CACHED
    assert await ask(engine) == (expected, NUM_CACHED)
    assert sample(engine, "hits_total") == 1  # the second time it was in memory


async def test_a_restart_finds_what_was_cached(servers: Servers) -> None:
    """When an engine drains, it stores what was not evicted, for the next engine of the same model."""
    first = servers.start()
    expected, _ = await ask(first)
    await first.drain(PATIENCE)
    first.terminate()
    second = servers.start()
    assert await ask(second) == (expected, NUM_CACHED)
    assert await ask(servers.start(key="another model")) == (expected, 0)


async def test_namespaces_stay_apart(servers: Servers) -> None:
    """A prefix comes back only to those whose it was."""
    first = servers.start()
    await ask(first, namespace="mine")
    await first.drain(PATIENCE)
    second = servers.start()
    for namespace, num_cached in (("yours", 0), ("", 0), ("mine", NUM_CACHED)):
        assert (await ask(second, namespace=namespace))[1] == num_cached


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
async def test_damage_costs_only_the_pages(servers: Servers, tmp_path: Path, damage: bytes | None) -> None:
    """A file with other content, or none, ends what comes back, and the rest is computed."""
    first = servers.start()
    expected, _ = await ask(first)
    await first.drain(PATIENCE)
    for path in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:5]:
        path.unlink() if damage is None else path.write_bytes(damage)
    output, num_cached = await ask(servers.start())
    assert output == expected
    assert num_cached == NUM_CACHED + 4 - 4 * 5  # one page with output was the first to go


async def test_prefixes_come_in_pieces(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is read at a time, all of it comes back, and one sequence is kept."""
    first = servers.start()
    expected, _ = await ask(first)
    await first.drain(PATIENCE)
    monkeypatch.setattr(prefix_return, "_PIECE_BYTES", 3 * 32)
    second = servers.start(max_recycling_sequences=1)
    assert await ask(second) == (expected, NUM_CACHED)


async def test_what_a_full_cache_has_no_room_for_is_computed(servers: Servers) -> None:
    """While another request has the pages, a prefix comes back in part, and all tokens are the same."""
    first = servers.start()
    expected, _ = await ask(first)
    await first.drain(PATIENCE)
    second = servers.start(max_single_sequence_length=120)
    running = asyncio.create_task(ask(second, b"y" * 90))
    (output, num_cached), _ = await asyncio.gather(ask(second), running)
    assert output == expected
    assert num_cached <= NUM_CACHED


async def test_prompts_whose_logprobs_are_due_are_computed(servers: Servers) -> None:
    """Nothing is read for them, since it would not be used."""
    engine = servers.start()
    await ask(engine)
    await fill(engine)
    _, num_cached = await ask(engine, num_prompt_logprobs=1)
    assert num_cached == 0
    assert sample(engine, "hits_total") == 0


async def test_a_reset_forgets_what_is_stored(servers: Servers) -> None:
    """Here and for the next start."""
    engine = servers.start()
    await ask(engine)
    await fill(engine)
    await engine.reset()
    assert (await ask(engine))[1] == 0
    await engine.reset()
    await engine.drain(PATIENCE)
    assert (await ask(servers.start()))[1] == 0


async def test_the_bound_holds_over_many_prompts(servers: Servers, tmp_path: Path) -> None:
    """The files never take more than is allowed."""
    engine = servers.start(max_bytes=4000)
    for number in range(40):
        await ask(engine, b"%02d " % number + PROMPT)
        storing = stored_by(engine)._storing
        assert storing is not None
        await storing
        assert sum(path.stat().st_size for path in tmp_path.glob("*.mlc-kv")) <= 4000
    assert sample(engine, "removed_pages_total") > 0


async def test_many_at_once_get_their_own_answers(servers: Servers) -> None:
    """Many requests that come together, and whose prefixes do not fit, are answered as each one alone."""
    first = servers.start(num_pages=256)
    prompts = [b"%02d " % number + PROMPT for number in range(24)]
    expected = [(await ask(first, prompt))[0] for prompt in prompts]
    await first.drain(PATIENCE)
    second = servers.start(num_pages=128, max_num_sequence=2)
    answers = await asyncio.gather(*(ask(second, prompt) for prompt in prompts))
    assert [output for output, _ in answers] == expected


async def test_a_client_that_leaves_meanwhile_takes_no_room(servers: Servers) -> None:
    """Whenever a request is cancelled, the room for what is read ahead is free again."""
    first = servers.start()
    await ask(first)
    await first.drain(PATIENCE)
    second = servers.start()
    for turns in range(12):
        request = asyncio.create_task(ask(second))
        for _ in range(turns):
            await asyncio.sleep(0)
        request.cancel()
        with suppress(asyncio.CancelledError):
            await request
        await fill(second)
        assert stored_by(second)._budget._num_left == second.limits.max_total_sequence_length // 2


async def test_reading_is_bounded_in_time(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer delays one request, and the next ones compute their prompts at once."""
    first = servers.start()
    expected, _ = await ask(first)
    await first.drain(PATIENCE)
    second = servers.start()
    lookups: list[Future[int]] = []

    def length(_prefix: Prefix) -> Future[int]:
        lookups.append(Future())
        return lookups[-1]

    monkeypatch.setattr(stored_by(second)._store, "length", length)
    monkeypatch.setattr(prefix_return, "_READ_SECONDS", 0.05)
    assert await ask(second) == (expected, 0)
    await second.reset()
    assert await ask(second) == (expected, 0)
    assert len(lookups) == 1


async def test_saving_is_bounded_in_time(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer does not keep an engine from draining."""
    engine = servers.start()
    await ask(engine)
    store = stored_by(engine)._store
    monkeypatch.setattr(store, "flushed", Future)
    monkeypatch.setattr(store, "_most_at_once", store.layout.page_bytes)
    await ask(engine, b"something that is not stored")
    await asyncio.wait_for(engine.drain(0), PATIENCE)


def test_a_budget_lets_one_request_exceed_it() -> None:
    """What is taken is given back once."""
    budget = Budget(10)
    large, small = Ahead(budget), Ahead(budget)
    assert large.add(15)
    assert not small.add(1)
    large.release()
    large.release()
    assert small.add(4)
    assert small.add(6)
    assert not Ahead(budget).add(1)
    small.release()
    assert Ahead(budget).add(10)
