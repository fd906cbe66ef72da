"""The arguments of build_app: every setting under its name, from Serve's configuration or command line.

    args: {model: org/name, mode: server, replicas: auto, deployment: {health_check_period_s: 5}}
    serve run mlc_serve.ray:build_app model=org/name mode=server replicas=auto

A command line gives texts, and a configuration typed values; both are accepted. Knows nothing about ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from mlc_serve.config import DeploymentConfig, EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.config.option import Kind, Option, options_of
from mlc_serve.errors import ConfigError

Config = TypeVar("Config", EngineConfig, ServerConfig, LaunchConfig, DeploymentConfig)

OVERRIDES = "overrides"
# Options of Serve's for the replicas with the model and for the fronts, which take precedence over ours.
DEPLOYMENT, FRONT = "deployment", "front"
_PARTS = (EngineConfig, ServerConfig, LaunchConfig, DeploymentConfig)
_ADDRESS = frozenset({"host", "port"})
# What Serve's proxies do instead of the replicas.
_SERVES_OWN = _ADDRESS.union(
    {
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_keyfile_password_file",
        "ssl_ca_certs",
        "log_format",
    }
)
# Serve's proxies are what clients reach, so the replicas don't know by which names.
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  nothing listens there


class Settings(NamedTuple):
    """All settings of a deployment, and Serve's own options for its replicas and for its fronts."""

    engine: EngineConfig
    server: ServerConfig
    launch: LaunchConfig
    deployment: DeploymentConfig
    options: Mapping[str, Any] = MappingProxyType({})
    front_options: Mapping[str, Any] = MappingProxyType({})


def read_arguments(arguments: Mapping[str, Any]) -> Settings:
    """Read the arguments of build_app. Raises ConfigError, which names the argument."""
    _refuse_unknown(arguments)
    engine = _part(EngineConfig, arguments)
    return Settings(
        engine.overridden(str(arguments.get(OVERRIDES, ""))),
        _part(ServerConfig, {**arguments, "host": _ANY_ADDRESS}),
        _part(LaunchConfig, arguments),
        _part(DeploymentConfig, arguments),
        _options(arguments, DEPLOYMENT),
        _options(arguments, FRONT),
    )


def arguments_of(settings: Settings) -> dict[str, Any]:
    """Return the arguments that `read_arguments` reads as these settings: what differs from the defaults.

    Host and port, which are those of Serve's proxies, are left out. Raises ConfigError for other settings
    that only concern the proxies.
    """
    parts = (settings.engine, settings.server, settings.launch, settings.deployment)
    arguments = {
        name: _plain(getattr(part, name))
        for part in parts
        for name, default, _ in options_of(type(part))
        if getattr(part, name) != default and name not in _ADDRESS
    }
    _refuse_unknown(arguments)
    options = {DEPLOYMENT: dict(settings.options), FRONT: dict(settings.front_options)}
    return {**arguments, **{name: chosen for name, chosen in options.items() if chosen}}


def _options(arguments: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    options = arguments.get(name, {})
    if not isinstance(options, Mapping):
        raise ConfigError(f"{name} is {options!r}: expected options of Serve's by name")
    return options


def _declared() -> Iterator[tuple[str, Option]]:
    return ((name, declared) for part in _PARTS for name, _, declared in options_of(part))


def _refuse_unknown(arguments: Mapping[str, Any]) -> None:
    known = {OVERRIDES, DEPLOYMENT, FRONT, *(name for name, _ in _declared())}
    for name in arguments:
        if name in _SERVES_OWN:
            raise ConfigError(f"{name}: this is up to Serve; see its http_options and its logging_config")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"there is no argument {name!r}{hint}")


def _part(kind: type[Config], arguments: Mapping[str, Any]) -> Config:
    declared = {name: declared for name, _, declared in options_of(kind)}
    given = {name: _value(name, declared[name], arguments[name]) for name in declared if name in arguments}
    return kind(**given)


def _value(name: str, declared: Option, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    if declared.kind is Kind.TEXT and isinstance(value, int):  # YAML reads `replicas: 2` as a number
        return str(value)
    if not isinstance(value, str):
        return value
    try:
        return declared.parse(value)
    except ValueError as error:
        raise ConfigError(f"{name} is {value!r}: {error}") from None


def _plain(value: Any) -> Any:
    """Return a value as JSON and YAML have it."""
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
