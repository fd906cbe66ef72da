"""Settings: everything that can be set of a supervised server, by what it concerns."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig, SupervisionConfig


class Settings(NamedTuple):
    """What a supervised server is started with. Make it with `of`, which fits the parts together."""

    engine: EngineConfig
    server: ServerConfig
    launch: LaunchConfig
    supervision: SupervisionConfig

    @classmethod
    def of(
        cls, engine: EngineConfig, server: ServerConfig, launch: LaunchConfig, supervision: SupervisionConfig
    ) -> Settings:
        """The settings with these parts, where `max_tokens` limits the engine's context window.

        A lower limit of the engine's own counts instead, and a window that is set has no limit.
        """
        if engine.max_single_sequence_length is not None:
            limit = None
        else:
            limit = min(engine.context_window_limit or supervision.max_tokens, supervision.max_tokens)
        return cls(replace(engine, context_window_limit=limit), server, launch, supervision)
