"""A replica serves our own application, and tells Serve and the request routers about itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.engine.sampling import Draw
from mlc_serve.errors import ConfigError, EngineDeadError
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.ray.call import Call
from mlc_serve.ray.replica import Replica
from mlc_serve.router.message import ReplyHead
from mlc_serve.testing import FakeBackend, fake_model, likely_letter
from tests.patience import PATIENCE
from tests.ray.calls import call_of, chat_body


def replica_of(backend: FakeBackend, **arguments: Any) -> Replica:
    """A replica named r1 whose model runs on a fake device."""

    def load(config: EngineConfig, device: str, report: object) -> LoadedModel:
        return fake_model(backend=backend)

    return Replica("r1", {"model": "fake", **arguments}, load, load)


@pytest.fixture
def backend() -> FakeBackend:
    """The fake device."""
    return FakeBackend(num_pages=256)


@pytest.fixture
def replica(backend: FakeBackend) -> Iterator[Replica]:
    """A replica that is closed after the test."""
    running = replica_of(backend)
    yield running
    backend.gate.set()
    running.close()


async def reply_to(replica: Replica, call: Call) -> tuple[ReplyHead, bytes]:
    """The whole reply to a call."""
    parts = [part async for batch in replica.answer(call) for part in batch]
    head, *body = parts
    assert isinstance(head, ReplyHead)
    return head, b"".join(part for part in body if isinstance(part, bytes))


async def test_a_request_is_answered_by_our_own_application(replica: Replica) -> None:
    """A chat request gets the usual reply, with the replica's name in a header, whatever the Host header."""
    head, body = await reply_to(replica, call_of(chat_body()))
    assert head.status == 200
    assert head.value(b"x-routed-to") == b"r1"
    assert len(json.loads(body)["choices"][0]["message"]["content"]) == 8


async def test_a_stream_is_answered_as_it_is_generated() -> None:
    """The first events are there while the model is still at work."""
    gate = threading.Event()

    def held(stored: Sequence[int], draw: Draw) -> int:
        if len(draw.output_ids) >= 2:
            gate.wait(PATIENCE)
        return likely_letter(stored, draw)

    replica = replica_of(FakeBackend(num_pages=256, choose=held))
    async with aclosing(replica.answer(call_of(chat_body(stream=True)))) as batches:
        first = await anext(batches)
        gate.set()
        parts = [*first, *(part for batch in [batch async for batch in batches] for part in batch)]
    assert isinstance(parts[0], ReplyHead)
    assert b"".join(part for part in parts if isinstance(part, bytes)).endswith(b"data: [DONE]\n\n")
    replica.close()


async def test_a_caller_that_goes_away_ends_the_request(replica: Replica, backend: FakeBackend) -> None:
    """When the caller is gone, the request leaves the engine, and the replica's load is zero again."""
    async with aclosing(replica.answer(call_of(chat_body(stream=True, max_tokens=500)))) as batches:
        await anext(batches)
        assert (await replica.record_routing_stats())["load"] == 1
    assert (await replica.record_routing_stats())["load"] == 0
    assert (await reply_to(replica, call_of(chat_body())))[0].status == 200
    assert max(len(batch) for batch in backend.batches[-8:]) == 1


async def test_answered_prompts_are_told(replica: Replica) -> None:
    """The routers hear of the pages of prompts that were answered, and not of those that were refused."""
    refused, answered = call_of(chat_body("x" * 200, n=-1)), call_of(chat_body("y" * 200))
    assert (await reply_to(replica, refused))[0].status == 400
    assert (await reply_to(replica, answered))[0].status == 200
    assert answered.prompt.pages
    assert (await replica.record_routing_stats())["pages"] == list(answered.prompt.pages)


async def test_a_dead_engine_is_reported(replica: Replica, backend: FakeBackend) -> None:
    """If the engine's thread has died, the health check fails, and further calls fail before they begin."""
    await replica.check_health()
    backend.crash_on = {ord("!")}
    assert (await reply_to(replica, call_of(chat_body("!"))))[0].status == 500
    with pytest.raises(EngineDeadError, match="has died"):
        await replica.check_health()
    with pytest.raises(EngineDeadError):
        await anext(replica.answer(call_of(chat_body())))


async def test_settings_reach_the_application(backend: FakeBackend) -> None:
    """A replica asks for the keys that its arguments name."""
    replica = replica_of(backend, api_keys=["secret"])
    assert (await reply_to(replica, call_of(chat_body())))[0].status == 401
    assert (await reply_to(replica, call_of(path="/health", method="GET")))[0].status == 200
    replica.close()


async def test_closing_ends_what_is_still_open(replica: Replica, backend: FakeBackend) -> None:
    """A request that outlives its replica's time ends with an error, and not in silence."""
    backend.hold_after(3)
    async with aclosing(replica.answer(call_of(chat_body(stream=True, max_tokens=500)))) as batches:
        await anext(batches)
        closing = asyncio.create_task(asyncio.to_thread(replica.close))
        rest = [part async for batch in batches for part in batch]
    backend.gate.set()
    await closing
    assert b"shutting_down" in b"".join(part for part in rest if isinstance(part, bytes))


def test_a_wrong_setting_stops_the_start(backend: FakeBackend) -> None:
    """Serve reports the constructor's error, which names the setting."""
    with pytest.raises(ConfigError, match="max_num_sequence"):
        replica_of(backend, max_num_sequence=0)
