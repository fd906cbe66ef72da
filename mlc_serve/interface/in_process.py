"""Loads a model for a command that is not a server, and reports on stderr."""

from __future__ import annotations

import sys
from dataclasses import replace

from mlc_serve.config import EngineConfig, LaunchConfig
from mlc_serve.demo import DEMO_MODEL_NAME, demo_model_path
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model


def load_in_process(engine: EngineConfig, launch: LaunchConfig) -> LoadedModel:
    """Load the model that a configuration names, or the demo model. Raises StartupError."""
    config = replace(engine, model=engine.model or str(demo_model_path()))
    loaded = load_model(config, launch.device, _report)
    return replace(loaded, name=engine.model or DEMO_MODEL_NAME)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
