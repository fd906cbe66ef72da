"""What the tests of mlc_serve.ray share."""

from __future__ import annotations

import sys

import pytest

from tests.ray import fake_ray

# The modules that import ray.
_OURS = ("application", "handle_replicas", "request_router")


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the modules that need Ray be imported with a fake of it."""
    for name, module in fake_ray.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in _OURS:
        monkeypatch.setitem(sys.modules, f"mlc_serve.ray.{name}", None)  # so that what is imported is undone
        monkeypatch.delitem(sys.modules, f"mlc_serve.ray.{name}")
