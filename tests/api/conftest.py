"""Engines on a fake model, which end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.testing import FakeBackend, fake_model, replay

Serve = Callable[..., AsyncMLCEngine]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts an engine that answers every prompt with a text; its keywords replace
    fields of the LoadedModel.
    """
    engines: list[AsyncMLCEngine] = []

    def start(script: bytes | None = None, **fields: Any) -> AsyncMLCEngine:
        backend = FakeBackend() if script is None else FakeBackend(choose=replay(script))
        engine = AsyncMLCEngine.from_loaded(replace(fake_model(backend=backend), **fields))
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.terminate()
