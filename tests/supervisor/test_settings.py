"""Settings combine their parts: the limit on a request's tokens goes to the engine."""

from __future__ import annotations

import pytest

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig, SupervisionConfig
from mlc_serve.supervisor.settings import Settings


@pytest.mark.parametrize(("own", "effective"), [(None, 500), (400, 400), (600, 500)])
def test_the_lower_limit_counts(own: int | None, effective: int) -> None:
    """`max_tokens` limits the engine's context window, unless the engine's own limit is lower."""
    engine = EngineConfig(context_window_limit=own)
    settings = Settings.of(engine, ServerConfig(), LaunchConfig(), SupervisionConfig(max_tokens=500))
    assert settings.engine.context_window_limit == effective


def test_a_window_that_is_set_needs_no_limit() -> None:
    """If the length of the context window is set, no limit applies to it."""
    engine = EngineConfig(max_single_sequence_length=64_000, context_window_limit=400)
    settings = Settings.of(engine, ServerConfig(), LaunchConfig(), SupervisionConfig())
    limits = (settings.engine.max_single_sequence_length, settings.engine.context_window_limit)
    assert limits == (64_000, None)
