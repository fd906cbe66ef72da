"""The models that a server's settings name, and the engines that serve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.api.embedding_engine import AsyncEmbeddingEngine
from mlc_serve.config import EngineConfig, LaunchConfig
from mlc_serve.config.speculation import MODEL_MODES
from mlc_serve.demo import DEMO_MODEL_NAME, demo_model_path
from mlc_serve.errors import ConfigError
from mlc_serve.loaded_model import LoadedEmbeddingModel, LoadedModel

Report = Callable[[str], object]
Load = Callable[[EngineConfig, str, Report], LoadedModel | LoadedEmbeddingModel]


class NamedModel(NamedTuple):
    """A model's configuration, and the names that requests may use."""

    name: str
    aliases: Sequence[str]
    config: EngineConfig


def chat_models(engine: EngineConfig, served_names: Sequence[str]) -> list[NamedModel]:
    """Return each model's names and configuration; without a model, those of the demo model.

    `served_names` are the first model's name and aliases. Raises ConfigError if a name occurs twice.
    """
    model = engine.model or str(demo_model_path())
    name, *aliases = served_names or (engine.model or DEMO_MODEL_NAME,)
    if engine.speculative_mode in MODEL_MODES:  # the additional model drafts, and is not served
        return [NamedModel(name, aliases, replace(engine, model=model))]
    first = replace(engine, model=model, additional_models=())
    models = [NamedModel(name, aliases, first)]
    for entry in engine.additional_models:
        path, library = (entry, None) if isinstance(entry, str) else entry
        models.append(NamedModel(path, (), replace(first, model=path, model_lib=library)))
    _refuse_clashes([name for model in models for name in (model.name, *model.aliases)])
    return models


def embedding_models(
    engine: EngineConfig, launch: LaunchConfig, others: Sequence[NamedModel]
) -> list[NamedModel]:
    """Return the embedding model's name and configuration, if there is one. What is set for the `others` is
    not meant for it. Raises ConfigError if one of them has its name.
    """
    path = launch.embedding_model
    if path is None:
        return []
    if any(path in (model.name, *model.aliases) for model in others):
        raise ConfigError(f"embedding_model: another model is already served under the name {path!r}")
    library, queued = launch.embedding_model_lib, engine.max_queued_requests
    config = EngineConfig(model=path, model_lib=library, max_queued_requests=queued, verbose=engine.verbose)
    return [NamedModel(path, (), config)]


def open_engine(
    model: NamedModel, launch: LaunchConfig, load: Load, report: Report
) -> AsyncMLCEngine | AsyncEmbeddingEngine:
    """Load a model, and start its engine under the model's name. `load` is called as loading.load_served is.
    Raises StartupError.
    """
    loaded = load(model.config, launch.device, report)
    if isinstance(loaded, LoadedEmbeddingModel):
        return AsyncEmbeddingEngine.from_loaded(replace(loaded, name=model.name))
    return AsyncMLCEngine.from_loaded(replace(loaded, name=model.name), enable_tracing=launch.enable_tracing)


def _refuse_clashes(names: Sequence[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ConfigError(f"two models would be served under the same name, {name!r}")
