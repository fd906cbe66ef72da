"""The engines of a server."""

from __future__ import annotations

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.errors import ConfigError, ModelNotFoundError, ShuttingDownError
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import fake_model


async def test_a_lone_engine_need_not_be_named(context: ServerContext) -> None:
    """A request without a model goes to the only one."""
    assert context.get(None) is context.get("fake")


async def test_an_unknown_model_is_refused(context: ServerContext) -> None:
    """Even with one engine, a wrong name is an error that tells the right one."""
    with pytest.raises(ModelNotFoundError, match="'fake'") as caught:
        context.get("gpt-4")
    assert caught.value.param == "model"


async def test_two_engines_must_be_named(context: ServerContext) -> None:
    """With two engines a name is needed, and both are listed in order."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("other")))
    assert context.names == ["fake", "other"]
    assert context.get("other").name == "other"
    with pytest.raises(ModelNotFoundError, match="'fake', 'other'"):
        context.get(None)


async def test_names_are_unique(context: ServerContext) -> None:
    """Two models under one name can't be told apart."""
    twin = AsyncMLCEngine.from_loaded(fake_model("fake"))
    with pytest.raises(ConfigError, match="'fake'"):
        context.add(twin)
    twin.terminate()


async def test_draining_takes_nothing_new(context: ServerContext) -> None:
    """From the first moment of a drain, engines are there for what runs only."""
    await context.drain(0)
    assert context.is_draining
    assert context.get("fake").name == "fake"
    with pytest.raises(ShuttingDownError):
        context.get_for_generation("fake")
