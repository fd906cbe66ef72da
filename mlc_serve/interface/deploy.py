"""`mlc_serve deploy` as a function: writes Ray Serve's configuration of a deployment, or applies it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from mlc_serve.config import DeploymentConfig, EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.errors import ConfigError, StartupError
from mlc_serve.ray.arguments import Settings
from mlc_serve.ray.serve_config import serve_config

Config = TypeVar("Config", EngineConfig, ServerConfig, LaunchConfig)

# These may name files and directories, which are relative to where the command runs.
_PATHS = frozenset(
    {
        "model",
        "model_lib",
        "additional_models",
        "embedding_model",
        "embedding_model_lib",
        "api_key_file",
        "admin_api_key_file",
    }
)


class Target(NamedTuple):
    """What is done with the configuration: it is written to `file`, printed if `is_dry_run`, or else applied
    to the cluster at `address`. `name` is the application's.
    """

    name: str
    file: Path | None
    is_dry_run: bool
    address: str | None


def run_deploy(
    engine: EngineConfig,
    server: ServerConfig,
    launch: LaunchConfig,
    deployment: DeploymentConfig,
    target: Target,
) -> None:
    """Deploy a model on Ray Serve. Raises StartupError; without ray installed it says how to get it."""
    _refuse_keys(server)
    names = tuple(server.served_model_name) or ((engine.model,) if engine.model is not None else ())
    settings = Settings(
        _with_absolute_paths(engine),
        _with_absolute_paths(replace(server, served_model_name=names)),
        _with_absolute_paths(launch),
        deployment,
    )
    config = serve_config(settings, server, target.name)
    if target.file is not None:
        _write(config, target.file)
    elif target.is_dry_run:
        print(_text(config), end="")
    else:
        _apply(config, target.address)


def _refuse_keys(server: ServerConfig) -> None:
    if server.api_keys or server.admin_api_key is not None:
        name = "api_keys" if server.api_keys else "admin_api_key"
        raise ConfigError(
            f"{name}: everybody who sees Serve's configuration could read this; set "
            f"{name.removesuffix('s')}_file, or the environment variable on the machines of the cluster"
        )


def _with_absolute_paths(config: Config) -> Config:
    """Return the configuration for processes that run in other directories."""
    paths: dict[str, Any] = {name: getattr(config, name) for name in _PATHS if hasattr(config, name)}
    return replace(config, **{name: _absolute(path) for name, path in paths.items()})


def _absolute(path: Any) -> Any:
    """Return a path as an absolute one, also within lists; what is no path here stays as it is."""
    if isinstance(path, (list, tuple)):
        return tuple(map(_absolute, path))
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _text(config: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text


def _write(config: dict[str, Any], file: Path) -> None:
    try:
        file.write_text(_text(config), encoding="utf-8")
    except OSError as error:
        raise StartupError(f"--config: can't write {file}: {error.strerror}") from error
    print(f"Wrote {file}. To apply it to a running cluster: serve deploy {file}")


def _apply(config: dict[str, Any], address: str | None) -> None:
    try:
        from mlc_serve.ray.cluster import deploy  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise ConfigError(f"deploy needs Ray Serve: pip install 'mlc_serve[ray]' ({error})") from error
    deploy(config, address, lambda line: print(line, flush=True))
