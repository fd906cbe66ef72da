"""Reads API keys from an environment variable and a file, so that lists of processes don't show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mlc_serve.config.server import ServerConfig
from mlc_serve.errors import ConfigError

VARIABLE = "MLC_SERVE_API_KEY"
ADMIN_VARIABLE = "MLC_SERVE_ADMIN_API_KEY"
# By default, str.strip would also remove some characters beyond ASCII.
_SPACES = " \t\r\n"


def with_all_keys(config: ServerConfig, environment: Mapping[str, str]) -> ServerConfig:
    """The configuration with the keys from the flags, the environment and the files.

    The admin key is that of the flag, or else of the environment, or else of the file. Raises ConfigError if
    a file can't be read or has no key, or if the admin key is also one of the others.
    """
    keys = [*config.api_keys, *keys_in(environment.get(VARIABLE, ""))]
    if config.api_key_file is not None:
        keys += _keys_of_file("api_key_file", config.api_key_file)
    admin = _admin_key(config, environment)
    if admin in keys:
        raise ConfigError("admin_api_key is also one of the ordinary keys, so it would protect nothing")
    return replace(
        config,
        api_keys=tuple(dict.fromkeys(keys)),
        api_key_file=None,
        admin_api_key=admin,
        admin_api_key_file=None,
    )


def _admin_key(config: ServerConfig, environment: Mapping[str, str]) -> str | None:
    if config.admin_api_key is not None:
        return config.admin_api_key
    key = environment.get(ADMIN_VARIABLE, "").strip(_SPACES)
    if not key and config.admin_api_key_file is not None:
        key = _keys_of_file("admin_api_key_file", config.admin_api_key_file)[0]
    return key or None


def keys_in(text: str) -> Iterator[str]:
    """The keys in a text: one per line, or separated by commas if the text has no line break."""
    parts = text.split("\n" if "\n" in text else ",")
    return filter(None, (part.strip(_SPACES) for part in parts))


def as_text(keys: Iterable[str]) -> str:
    """The text that `keys_in` reads back."""
    return "".join(f"{key}\n" for key in keys)


def _keys_of_file(name: str, path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{name}: can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: {path} is not text in UTF-8") from error
    keys = list(keys_in(f"{text}\n"))
    if not keys:
        raise ConfigError(f"{name}: {path} contains no key")
    return keys
