"""Settings: all settings of a supervised server, grouped by what they concern."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig, SupervisionConfig


class Settings(NamedTuple):
    """What a supervised server is started with. Create it with `of`, which makes the parts agree."""

    engine: EngineConfig
    server: ServerConfig
    launch: LaunchConfig
    supervision: SupervisionConfig

    @classmethod
    def of(
        cls, engine: EngineConfig, server: ServerConfig, launch: LaunchConfig, supervision: SupervisionConfig
    ) -> Settings:
        """Return the settings with these parts, in which `max_tokens` limits the engine's context window.

        A lower limit in `engine` takes precedence. If `engine` sets the window itself, there is no limit.
        """
        if engine.max_single_sequence_length is not None:
            limit = None
        else:
            limit = min(engine.context_window_limit or supervision.max_tokens, supervision.max_tokens)
        return cls(replace(engine, context_window_limit=limit), server, launch, supervision)
