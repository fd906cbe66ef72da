"""AsyncMLCEngine: its streams, its limits, and how requests and engines end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.api.stream import MAX_WAITING
from mlc_serve.config import EngineConfig
from mlc_serve.engine.backend import TokenLogprobs
from mlc_serve.engine.core import EngineCore
from mlc_serve.engine.request import FinishReason, RequestDelta
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import (
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    ReaderTooSlowError,
    RequestFailedError,
    ShuttingDownError,
)
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.testing import FakeBackend, FakeKVCache, fake_model

Serve = Callable[..., AsyncMLCEngine]
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def backend() -> FakeBackend:
    """The backend of the engine under test."""
    return FakeBackend()


@pytest.fixture
def serve(backend: FakeBackend) -> Iterator[Serve]:
    """Return a function that starts an engine on `backend` with these limits. The engine ends with
    the test.
    """
    engines: list[AsyncMLCEngine] = []

    def start(**limits: Any) -> AsyncMLCEngine:
        engines.append(AsyncMLCEngine.from_loaded(fake_model(backend=backend, **limits)))
        return engines[-1]

    yield start
    backend.gate.set()
    for engine in engines:
        engine.terminate()


def params(max_tokens: int | None = None, **fields: Any) -> GenerationParams:
    """Return parameters of a generation that goes on until max_tokens, or until the context is full."""
    return GenerationParams(sampling=SamplingParams(max_tokens=max_tokens), **fields)


async def read(deltas: AsyncIterator[TextDelta]) -> dict[int, list[TextDelta]]:
    """Return all deltas by choice."""
    by_choice: dict[int, list[TextDelta]] = {}
    async for delta in deltas:
        by_choice.setdefault(delta.index, []).append(delta)
    return by_choice


def token_ids(choices: dict[int, list[TextDelta]]) -> list[int]:
    """Return all tokens of the first choice."""
    return [token_id for delta in choices[0] for token_id in delta.token_ids]


async def num_used_pages(engine: AsyncMLCEngine, backend: FakeBackend) -> int:
    """Return the pages in use, read between two steps, after all earlier commands."""

    def count(_core: EngineCore) -> int:
        return backend.state.num_pages - backend.state.num_free_pages

    return await asyncio.wrap_future(engine.streams.loop.call(count))


async def on_engine_thread(engine: AsyncMLCEngine) -> None:
    """Wait until the engine has applied all earlier commands."""
    await asyncio.wrap_future(engine.streams.loop.call(lambda _core: None))


async def test_every_choice_ends_once(serve: Serve) -> None:
    """Each of three choices has one finish reason, in its last delta."""
    engine = serve()
    choices = await read(engine.generate([1, 2, 3], params(5, n=3)))
    assert choices.keys() == {0, 1, 2}
    for deltas in choices.values():
        reasons = [delta.finish_reason for delta in deltas]
        assert reasons == [None] * (len(deltas) - 1) + [FinishReason.LENGTH]
        assert sum(len(delta.token_ids) for delta in deltas) == 5
    assert engine.num_open == 0


async def test_closing_the_generator_frees_the_pages(serve: Serve, backend: FakeBackend) -> None:
    """If the reader closes the generator, its request ends and its pages are free."""
    engine = serve(prefix_cache_mode="disable")
    async with aclosing(engine.generate([1, 2, 3], params())) as deltas:
        await anext(deltas)
        assert engine.num_open == 1
    assert engine.num_open == 0
    assert await num_used_pages(engine, backend) == 0


async def test_cancelling_the_reader_frees_the_pages(serve: Serve, backend: FakeBackend) -> None:
    """A reader that is cancelled while it waits for a whole reply leaves no open request and no page."""
    engine = serve(prefix_cache_mode="disable")
    backend.gate.clear()
    reading = asyncio.ensure_future(engine.chat.completions.create(**HELLO, n=2))
    await asyncio.to_thread(backend.entered.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    backend.gate.set()
    assert engine.num_open == 0
    assert await num_used_pages(engine, backend) == 0


async def test_generator_that_never_started_submits_nothing(serve: Serve, backend: FakeBackend) -> None:
    """A stream that is closed before its first delta never submits its request."""
    engine = serve()
    stream = await engine.chat.completions.create(**HELLO, stream=True)
    await stream.aclose()
    await on_engine_thread(engine)
    assert (engine.num_open, backend.batches) == (0, [])


async def test_stop_string_ends_the_engines_work(serve: Serve, backend: FakeBackend) -> None:
    """A stop string ends one choice in the engine, and the other choices go on."""
    engine = serve(prefix_cache_mode="disable")
    letter = (await read(engine.generate([1, 2], params(1))))[0][0].text
    choices = await read(engine.generate([1, 2], params(9, stop=(letter,), n=2)))
    assert choices[0][-1].finish_reason is FinishReason.STOP
    assert choices[0][-1].text == ""
    assert await num_used_pages(engine, backend) == 0


async def test_text_does_not_depend_on_company(serve: Serve) -> None:
    """Requests that run together give the same text as each gives alone."""
    engine = serve(max_num_sequence=3)
    prompts = [[i, i + 1, i + 2] for i in range(12)]
    alone = [await read(engine.generate(prompt, params(7, seed=3))) for prompt in prompts]
    await engine.reset()
    together = await asyncio.gather(*(read(engine.generate(prompt, params(7, seed=3))) for prompt in prompts))
    assert [_text(choices) for choices in together] == [_text(choices) for choices in alone]


def _text(choices: dict[int, list[TextDelta]]) -> dict[int, str]:
    return {index: "".join(delta.text for delta in deltas) for index, deltas in choices.items()}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["hello", "hello " * 1000], ids=["short", "long"])
async def test_a_request_that_is_cancelled_anywhere_holds_nothing(
    serve: Serve, backend: FakeBackend, stream: bool, content: str
) -> None:
    """A request that is cancelled after any number of turns of the event loop holds no place and no page.

    A long prompt is prepared on another thread.
    """
    backend.state = FakeKVCache(16, 1024)
    engine = serve(prefix_cache_mode="disable", max_single_sequence_length=8192, prefill_chunk_size=8192)
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "n": 2, "max_tokens": 3}

    async def ask() -> None:
        if not stream:
            await engine.chat.completions.create(**fields)
            return
        async for _ in await engine.chat.completions.create(**fields, stream=True):
            pass

    num_turns = 0
    is_done = False
    while not is_done:
        asking = asyncio.ensure_future(ask())
        for _ in range(num_turns):
            await asyncio.sleep(0)
        is_done = asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert engine.num_open == 0
        num_turns += 1 + num_turns // 20
    await on_engine_thread(engine)
    assert await num_used_pages(engine, backend) == 0


async def test_places_are_kept_while_a_prompt_is_prepared(serve: Serve) -> None:
    """If all places are taken, a request is refused before any work is done for it."""
    engine = serve(max_num_sequence=1, max_queued_requests=0)
    long = [{"role": "user", "content": "hello " * 2000}]
    preparing = asyncio.ensure_future(engine.chat.completions.create(messages=long))
    await asyncio.sleep(0)
    assert engine.is_full
    with pytest.raises(QueueFullError):
        await engine.chat.completions.create(messages=long)
    with pytest.raises(ContextLengthError):
        await preparing
    assert not engine.is_full


async def test_a_reader_that_falls_far_behind_is_told_and_ended(serve: Serve, backend: FakeBackend) -> None:
    """A reader that is too slow gets the deltas that were kept for it, then an error. The engine ends its
    request at once and frees everything.
    """
    engine = serve(prefix_cache_mode="disable")
    deltas = engine.generate([1, 2], params())
    await anext(deltas)
    (engine_id,) = engine.streams._streams
    flood = RequestDelta(engine_id, logprobs=(TokenLogprobs(1, -1.0, ((1, -1.0),) * MAX_WAITING),))
    engine.streams._dispatch([flood])
    with pytest.raises(ReaderTooSlowError):
        await read(deltas)
    assert engine.num_open == 0
    assert await num_used_pages(engine, backend) == 0


async def test_full_queue_refuses_before_anything_is_submitted(serve: Serve, backend: FakeBackend) -> None:
    """At most max_num_sequence + max_queued_requests requests are open; ended ones make room."""
    engine = serve(max_num_sequence=2, max_queued_requests=1)
    backend.gate.clear()
    async with aclosing(engine.generate([1], params(2, n=2))) as running:
        first = asyncio.ensure_future(anext(running))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="2 of at most 3"):
            await anext(engine.generate([1], params(2, n=2)))
        assert engine.num_open == 2
        backend.gate.set()
        await first
    assert (await read(engine.generate([1], params(2, n=2)))).keys() == {0, 1}


async def test_more_choices_than_the_queue_can_ever_hold_is_a_mistake(serve: Serve) -> None:
    """Such a request is invalid, since trying again later would not help."""
    with pytest.raises(InvalidRequestError, match="at most 3 choices") as caught:
        await anext(serve(max_num_sequence=2, max_queued_requests=1).generate([1], params(n=4)))
    assert caught.value.param == "n"


async def test_prompts_wait_only_up_to_a_number_of_tokens(serve: Serve, backend: FakeBackend) -> None:
    """A prompt of any length is taken if nothing waits. While it waits, another one is refused before it is
    prepared; once it has its first token, there is room again.
    """
    engine = serve(max_queued_tokens=4)
    backend.gate.clear()
    async with aclosing(engine.generate([1] * 9, params())) as running:
        first = asyncio.ensure_future(anext(running))
        await asyncio.sleep(0)
        assert engine.is_full
        with pytest.raises(QueueFullError, match="9 tokens wait already, and at most 4"):
            await engine.chat.completions.create(**HELLO)
        backend.gate.set()
        await first
        assert not engine.is_full


async def test_a_prompt_waits_once_for_each_choice(serve: Serve, backend: FakeBackend) -> None:
    """Beneath a limit of eight, two choices of three tokens leave room for two of one token, but not for
    three. A request that is refused, or is closed before its first token, leaves no token behind.
    """
    engine = serve(max_queued_tokens=8)
    backend.gate.clear()
    async with aclosing(engine.generate([1] * 3, params(n=2))) as waiting:
        first = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="6 tokens"):
            await anext(engine.generate([1], params(n=3)))
        second = asyncio.ensure_future(anext(engine.generate([1], params(n=2))))
        await asyncio.sleep(0)
        assert engine.is_full
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    assert engine.num_open == 0
    assert not engine.is_full


async def test_failed_request_fails_alone(serve: Serve, backend: FakeBackend) -> None:
    """If a draw fails, only the client of that request gets an error."""
    engine = serve()
    backend.fail_on = {200}
    good = asyncio.ensure_future(read(engine.generate([1], params(20))))
    with pytest.raises(RequestFailedError, match="200"):
        await read(engine.generate([200], params(20)))
    assert (await good)[0][-1].finish_reason is FinishReason.LENGTH
    assert engine.num_open == 0


async def test_fault_in_one_streams_text_leaves_the_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while text is made ends one stream, because text is made in the stream's own generator."""
    engine = serve()
    token_bytes = type(engine.tokenizer).token_bytes
    prompts: list[int] = []

    def broken(tokenizer: object, token_id: int) -> bytes:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "bad":
            raise ZeroDivisionError
        prompts.append(token_id)
        return token_bytes(engine.tokenizer, token_id)

    monkeypatch.setattr(type(engine.tokenizer), "token_bytes", broken)
    good = asyncio.create_task(read(engine.generate([1], params(20))), name="good")
    bad = asyncio.create_task(read(engine.generate([1], params(20))), name="bad")
    with pytest.raises(ZeroDivisionError):
        await bad
    assert (await good)[0][-1].finish_reason is FinishReason.LENGTH
    assert len(prompts) == 20


async def test_death_of_the_engine_reaches_everybody(serve: Serve, backend: FakeBackend) -> None:
    """Open requests, later requests, and `wait_dead` all notice the engine's death."""
    engine = serve()
    watching = asyncio.ensure_future(engine.wait_dead())
    backend.crash_on = {200}
    backend.gate.clear()
    waiting = [asyncio.ensure_future(read(engine.generate([i], params()))) for i in (1, 200, 2)]
    await asyncio.to_thread(backend.entered.wait)
    backend.gate.set()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, EngineDeadError)
    await watching
    await engine.wait_dead()
    with pytest.raises(EngineDeadError, match="crashes the backend"):
        await anext(engine.generate([1], params()))
    with pytest.raises(EngineDeadError):
        await engine.reset()
    assert (engine.is_alive, engine.is_healthy(), engine.num_open) == (False, False, 0)


async def test_drain_lets_open_requests_finish(serve: Serve, backend: FakeBackend) -> None:
    """A drain finishes open requests and refuses new ones."""
    engine = serve()
    backend.gate.clear()
    running = asyncio.ensure_future(read(engine.generate([1], params(4))))
    await asyncio.to_thread(backend.entered.wait)
    draining = asyncio.ensure_future(engine.drain(timeout=60))
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDownError):
        await anext(engine.generate([1], params()))
    assert not draining.done()
    backend.gate.set()
    assert (await running)[0][-1].finish_reason is FinishReason.LENGTH
    await draining


async def test_drain_ends_what_takes_too_long(serve: Serve, backend: FakeBackend) -> None:
    """Requests that outlast the drain get an error, and the engine stops computing them."""
    engine = serve(prefix_cache_mode="disable")
    backend.gate.clear()
    running = asyncio.ensure_future(read(engine.generate([1], params())))
    await asyncio.to_thread(backend.entered.wait)
    await engine.drain(timeout=0)
    with pytest.raises(ShuttingDownError):
        await running
    backend.gate.set()
    assert await num_used_pages(engine, backend) == 0


async def test_drain_of_an_idle_engine_is_done_at_once(serve: Serve) -> None:
    """Without open requests, a drain does not wait."""
    engine = serve()
    await engine.drain(timeout=60)
    assert engine.is_alive


async def test_terminate_ends_everything_and_may_be_repeated(serve: Serve, backend: FakeBackend) -> None:
    """`terminate` gives open requests an error, and does not count as the engine's death."""
    engine = serve()
    backend.hold_after(1)
    deltas = engine.generate([1], params())
    await anext(deltas)
    watching = asyncio.ensure_future(engine.wait_dead())
    terminating = asyncio.ensure_future(asyncio.to_thread(engine.terminate))
    with pytest.raises(ShuttingDownError):
        await read(deltas)
    backend.gate.set()
    await terminating
    engine.terminate()
    with pytest.raises(ShuttingDownError):
        await anext(engine.generate([1], params()))
    assert not engine.is_alive
    assert not watching.done()
    watching.cancel()


async def test_abort_by_id_ends_all_choices(serve: Serve, backend: FakeBackend) -> None:
    """`abort` takes the caller's id and ends all its choices. Other requests go on, and unknown ids do
    nothing.
    """
    engine = serve()
    backend.hold_after(1)
    deltas = engine.generate([1], params(n=2), request_id="mine")
    other = engine.generate([1], params(3), request_id="other")
    await anext(deltas)
    await engine.abort("mine")
    await engine.abort("nobody's")
    backend.gate.set()
    choices = await read(deltas)
    assert [choices[index][-1].finish_reason for index in (0, 1)] == [FinishReason.ABORT] * 2
    assert (await read(other))[0][-1].finish_reason is FinishReason.LENGTH


async def test_two_requests_may_have_one_id(serve: Serve, backend: FakeBackend) -> None:
    """The engine makes its own ids. So requests with one id each get their own tokens, and a client that goes
    away ends only its own.
    """
    engine = serve()
    alone = [token_ids(await read(engine.generate([i], params(4)))) for i in (1, 2)]
    backend.entered.clear()
    backend.gate.clear()
    mine, yours, hers = (
        asyncio.ensure_future(read(engine.generate([i], params(4), request_id="same"))) for i in (1, 2, 1)
    )
    await asyncio.to_thread(backend.entered.wait)
    assert engine.num_open == 3
    hers.cancel()
    await asyncio.wait([hers])
    backend.gate.set()
    assert [token_ids(await reading) for reading in (mine, yours)] == alone
    assert alone[0] != alone[1]


async def test_reset_forgets_cached_prefixes(serve: Serve, backend: FakeBackend) -> None:
    """After a reset every page is free."""
    engine = serve()
    await read(engine.generate(list(range(20)), params(4)))
    assert await num_used_pages(engine, backend) > 0
    await engine.reset()
    assert await num_used_pages(engine, backend) == 0


async def test_prompt_is_checked_before_it_is_submitted(serve: Serve) -> None:
    """The call of `generate` itself raises for a bad prompt."""
    engine = serve(max_single_sequence_length=8)
    with pytest.raises(ContextLengthError):
        engine.generate([1] * 8, params())
    with pytest.raises(InvalidRequestError):
        engine.generate([], params())


async def test_engine_hung_in_a_step_is_not_healthy(serve: Serve, backend: FakeBackend) -> None:
    """An engine whose step does not end is alive but not healthy."""
    engine = serve()
    assert engine.is_healthy(stuck_after=0)
    backend.gate.clear()
    running = asyncio.ensure_future(read(engine.generate([1], params(2))))
    await asyncio.to_thread(backend.entered.wait)
    assert not engine.is_healthy(stuck_after=0)
    assert engine.is_healthy()
    backend.gate.set()
    await running


def test_engine_moves_to_another_event_loop_when_nothing_is_open(serve: Serve) -> None:
    """An engine without open requests works on another event loop, as after a second asyncio.run."""
    engine = serve()

    async def text() -> str:
        return _text(await read(engine.generate([1, 2], params(3))))[0]

    assert asyncio.run(text()) == asyncio.run(text())


async def test_engine_refuses_a_second_event_loop_while_streams_are_open(serve: Serve) -> None:
    """A second loop is refused then, as deltas of the open streams would go to the wrong loop."""
    engine = serve()
    async with aclosing(engine.generate([1], params())) as deltas:
        await anext(deltas)

        async def elsewhere() -> None:
            await anext(engine.generate([1], params()))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())


def test_event_loop_that_ended_does_not_harm_the_engine(serve: Serve) -> None:
    """An engine still works if a program has left asyncio.run in the middle of a reply."""
    engine = serve()

    async def leave() -> None:
        await anext(engine.generate([1], params()))

    asyncio.run(leave())

    async def again() -> None:
        assert (await read(engine.generate([1], params(2)))).keys() == {0}

    asyncio.run(again())
    assert engine.is_alive


async def test_metrics_and_names(serve: Serve) -> None:
    """An engine has the properties that a server reads."""
    engine = serve()
    await read(engine.generate([1, 2], params(3)))
    assert engine.metrics()["completion_tokens_sum"] == 3
    assert engine.registry.get_sample_value("mlc_serve_generation_tokens_total", {"model": "fake"}) == 3
    assert engine.trace.dump() is None


async def test_tracing_can_be_switched_on(backend: FakeBackend) -> None:
    """With tracing, the events of every request are kept, from its beginning to its end."""
    engine = AsyncMLCEngine.from_loaded(fake_model(backend=backend), enable_tracing=True)
    await asyncio.gather(*(read(engine.generate([i], params(2))) for i in range(3)))
    engine.terminate()
    by_request: dict[str, list[str]] = {}
    for event in engine.trace.dump() or []:
        by_request.setdefault(event["tid"], []).append(event["name"])
    assert list(by_request.values()) == [["request added to engine", "prefill (1)", "decode", "finish"]] * 3


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (EngineConfig(mode="server"), "mode is 'local'"),
        (EngineConfig(additional_models=["b"]), "additional_models"),
    ],
)
def test_a_configuration_that_is_not_this_engines_is_refused(config: EngineConfig, part: str) -> None:
    """A configuration that contradicts the arguments or names additional models is refused."""
    with pytest.raises(ConfigError, match=part):
        AsyncMLCEngine("a", engine_config=config)
