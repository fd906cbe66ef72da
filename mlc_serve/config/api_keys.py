"""Reads API keys from an environment variable and a file, so that lists of processes don't show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mlc_serve.config.server import ServerConfig
from mlc_serve.errors import ConfigError

VARIABLE = "MLC_SERVE_API_KEY"
# By default, str.strip would also remove some characters beyond ASCII.
_SPACES = " \t\r\n"


def with_all_keys(config: ServerConfig, environment: Mapping[str, str]) -> ServerConfig:
    """The configuration with `api_keys` from the flags, the environment variable VARIABLE and the key file.

    Raises ConfigError if the file can't be read or has no key.
    """
    keys = [*config.api_keys, *keys_in(environment.get(VARIABLE, ""))]
    if config.api_key_file is not None:
        keys += _keys_of_file(config.api_key_file)
    return replace(config, api_keys=tuple(dict.fromkeys(keys)), api_key_file=None)


def keys_in(text: str) -> Iterator[str]:
    """The keys in a text: one per line, or separated by commas if the text has no line break."""
    parts = text.split("\n" if "\n" in text else ",")
    return filter(None, (part.strip(_SPACES) for part in parts))


def as_text(keys: Iterable[str]) -> str:
    """The text that `keys_in` reads back."""
    return "".join(f"{key}\n" for key in keys)


def _keys_of_file(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"api_key_file: can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"api_key_file: {path} is not text in UTF-8") from error
    keys = list(keys_in(f"{text}\n"))
    if not keys:
        raise ConfigError(f"api_key_file: {path} contains no key")
    return keys
