"""What a server serves."""

from __future__ import annotations

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import ConfigError, ModelNotFoundError, QueueFullError, ShuttingDownError
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeServed, fake_model


async def test_a_lone_engine_need_not_be_named(context: ServerContext) -> None:
    """A request without a model goes to the only one."""
    assert context.get(None) is context.get("fake")


async def test_an_unknown_model_is_refused(context: ServerContext) -> None:
    """Even with one engine, a wrong name is an error, whose message has the right one."""
    with pytest.raises(ModelNotFoundError, match="'fake'") as caught:
        context.get("gpt-4")
    assert caught.value.param == "model"


async def test_two_engines_must_be_named(context: ServerContext) -> None:
    """With two engines, a request must name one; both are listed in order."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("other")))
    assert context.names == ["fake", "other"]
    assert context.get("other").name == "other"
    with pytest.raises(ModelNotFoundError, match="'fake', 'other'"):
        context.get(None)


async def test_names_are_unique(context: ServerContext) -> None:
    """A second model under the same name is refused."""
    twin = AsyncMLCEngine.from_loaded(fake_model("fake"))
    with pytest.raises(ConfigError, match="'fake'"):
        context.add(twin)
    twin.terminate()


async def test_a_lone_engine_with_aliases_need_not_be_named() -> None:
    """Aliases don't make several engines of one, and an alias that is a name already is refused."""
    context = ServerContext()
    context.add(FakeServed("name"), ["alias"])
    assert context.all_served == [context.get(None)] == [context.get("alias")]
    with pytest.raises(ConfigError, match="'alias'"):
        context.add(FakeServed("other"), ["alias"])


async def test_draining_takes_nothing_new(context: ServerContext) -> None:
    """Once a drain has begun, an engine can still be looked up, but not for a new generation."""
    await context.drain(0)
    assert context.is_draining
    assert context.get("fake").name == "fake"
    with pytest.raises(ShuttingDownError):
        context.get_for(ChatCompletionRequest, "fake")
    assert context.find_for(ChatCompletionRequest, None).name == "fake"


async def test_what_is_served_need_not_generate_text(
    client: httpx.AsyncClient, context: ServerContext
) -> None:
    """Such a model is listed beside the others, and a request that it can't answer is refused."""
    context.add(FakeServed("encoder", context_length=77))
    cards = (await client.get("/v1/models")).json()["data"]
    assert [(card["id"], card["max_model_len"]) for card in cards] == [("fake", 1024), ("encoder", 77)]
    reply = await client.post("/v1/completions", json={"model": "encoder", "prompt": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported")
    assert "'encoder'" in reply.json()["error"]["message"]


async def test_there_is_room_while_anything_has_room() -> None:
    """A request is refused before its body is read only if no model has room for it."""
    context = ServerContext()
    first, second = FakeServed("first"), FakeServed("second")
    context.add(first)
    context.add(second)
    first.is_full = True
    context.require_room()
    second.is_full = True
    with pytest.raises(QueueFullError):
        context.require_room()


async def test_whatever_is_sick_is_named() -> None:
    """The dead model and the stuck one are named, each with what is wrong."""
    context = ServerContext()
    dead, stuck, well = FakeServed("dead"), FakeServed("stuck"), FakeServed("well")
    for served in (dead, stuck, well):
        context.add(served)
    dead.death.set()
    stuck.is_stuck = True
    reasons = context.sick(5.0)
    assert ["'dead' has died" in reasons[0], "'stuck'" in reasons[1], len(reasons)] == [True, True, 2]
    assert await context.death() == "dead"


async def test_the_dead_are_not_drained() -> None:
    """A dead model, whose clients have had their error, is not drained; the others get the drain's time."""
    context = ServerContext()
    dead, well = FakeServed("dead"), FakeServed("well")
    for served in (dead, well):
        context.add(served)
    dead.death.set()
    await context.drain(3.0)
    assert (dead.drained_for, well.drained_for) == ([], [3.0])
    context.close()
    assert dead.is_terminated
    assert well.is_terminated
