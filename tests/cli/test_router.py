"""The flags of `mlc_serve router` reach their settings."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.cli import main
from mlc_serve.config import RouterConfig


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What run_router is called with, instead of routing."""
    calls: list[Any] = []

    def note(*arguments: Any) -> int:
        calls.extend(arguments)
        return 0

    monkeypatch.setattr("mlc_serve.interface.router.run_router", note)
    return calls


def test_the_flags_of_a_server_and_of_its_supervisor_are_there(called: list[Any]) -> None:
    """What a server is started with is written as for serve and supervise."""
    words = "router dir --replicas 3 --port 9 --mode server --max-tokens 99 --device cpu --router-mode disagg"
    assert main([*words.split(), "--overrides", "max_num_sequence=7"]) == 0
    engine, server, launch, supervision, config = called
    assert (engine.model, engine.mode, engine.max_num_sequence) == ("dir", "server", 7)
    assert (server.port, launch.device, supervision.max_tokens) == (9, "cpu", 99)
    assert config == RouterConfig(router_mode="disagg", replicas=3)


def test_backends_may_be_several(called: list[Any]) -> None:
    """The flag is given once for each server."""
    assert main(["router", "--backend", "http://a", "--backend", "http://b"]) == 0
    assert called[-1].backends == ("http://a", "http://b")
