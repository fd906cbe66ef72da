"""Declares options on dataclass fields; flags, --overrides keys, checks and docs are made from the
declarations.

The options themselves are declared in the other files of mlc_serve/config. Uses neither argparse nor files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from typing import Any

from mlc_serve.errors import ConfigError


class Kind(Enum):
    """The type of an option's values. Each member's value is its description in error messages."""

    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXT = "a text that isn't empty"
    TEXTS = 'a JSON list of texts, such as ["*"]'
    MODELS = "a list of model directories, each PATH or PATH,LIBRARY"


class Spelling(Enum):
    """How several values are written on the command line."""

    ONE = "--flag VALUE"
    REPEATED = "--flag VALUE --flag VALUE"
    MANY = "--flag VALUE VALUE"


@dataclass(frozen=True)
class Option:
    """How one setting is spelled, checked and explained.

    `flags` are its command-line spellings, the documented one first; `override` is its --overrides key.
    Either may be missing. The flag of a boolean sets the opposite of the default: if the default is true,
    the flag is named like --no-x. `minimum` and `maximum` are inclusive.
    """

    help: str
    kind: Kind = Kind.TEXT
    flags: tuple[str, ...] = ()
    override: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    spelling: Spelling = Spelling.ONE

    def parse(self, text: str) -> object:
        """Convert a text to a value. Raises a ValueError that says what was expected."""
        try:
            value = _PARSERS[self.kind](text)
        except (ValueError, KeyError):
            raise ValueError(f"expected {self.expected}") from None
        if not self.admits(value):
            raise ValueError(f"expected {self.expected}")
        return value

    def admits(self, value: object) -> bool:
        """Whether `value` has the right type and lies in the allowed range."""
        if not _CHECKS[self.kind](value):
            return False
        if self.choices:
            return value in self.choices
        return not isinstance(value, (int, float)) or self._in_range(value)

    def _in_range(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return math.isfinite(value) and low <= value <= high

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is None:
            return self.kind.value
        if self.maximum is None:
            return f"{self.kind.value} of at least {self.minimum:g}"
        return f"{self.kind.value} from {self.minimum:g} to {self.maximum:g}"


def option(default: Any, help: str, **declaration: Any) -> Any:
    """A dataclass field with an Option. Returns Any, like dataclasses.field: the annotation is the type."""
    return field(default=default, metadata={"option": Option(help, **declaration)})


def options_of(config: type[Any]) -> Iterator[tuple[str, Any, Option]]:
    """Yield the field name, default and Option of each option of a dataclass, in order."""
    for entry in fields(config):
        if "option" in entry.metadata:
            yield entry.name, entry.default, entry.metadata["option"]


def check_options(config: Any) -> None:
    """Raise ConfigError for the first option whose value is not allowed. A default of None is allowed."""
    for name, default, declared in options_of(type(config)):
        value = getattr(config, name)
        if value is None and default is None:
            continue
        if not declared.admits(value):
            raise ConfigError(f"{name} is {value!r}: expected {declared.expected}")


def parse_assignments(text: str, config: type[Any], source: str = "--overrides") -> dict[str, Any]:
    """Parse `key=value;key=value`, where keys are the override keys of a dataclass, to values by field name.

    Empty parts are skipped. Raises a ConfigError that begins with `source` and names the wrong key or value.
    """
    keys = {entry.override: (name, entry) for name, _, entry in options_of(config) if entry.override}
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"{source}: {part!r} is not of the form key=value")
        if key not in keys:
            raise ConfigError(f"{source}: {_unknown_key(key, keys)}")
        name, declared = keys[key]
        if name in values:
            raise ConfigError(f"{source}: {key} is given twice")
        try:
            values[name] = declared.parse(value)
        except ValueError as error:
            raise ConfigError(f"{source}: {key}={value}: {error}") from None
    return values


def command_line(config: Any, known: Container[str] | None = None) -> list[str]:
    """The command-line arguments for all settings that differ from their defaults.

    Settings without a flag go into one --overrides. With `known`, the command has only these flags and keys.
    Raises ConfigError for a setting that they can't express.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for name, default, declared in options_of(type(config)):
        value = getattr(config, name)
        if value == default or not (declared.flags or declared.override):
            continue
        flag = next((flag for flag in declared.flags if known is None or flag in known), None)
        if flag is not None:
            flags += _flag(flag, declared, value)
        elif declared.override and (known is None or declared.override in known):
            overrides.append(f"{declared.override}={_text(value)}")
        else:
            raise ConfigError(f"{name} is {value!r}, but the command to be run has no such option")
    return [*flags, "--overrides", ";".join(overrides)] if overrides else flags


def _flag(flag: str, declared: Option, value: Any) -> list[str]:
    if declared.kind is Kind.BOOLEAN:
        return [flag]
    if declared.spelling is Spelling.REPEATED:
        return [f"{flag}={_text(entry)}" for entry in value]
    if declared.spelling is Spelling.MANY:
        return [flag, *(_text(entry) for entry in value)]
    return [f"{flag}={json.dumps(list(value)) if declared.kind is Kind.TEXTS else _text(value)}"]


def _text(value: object) -> str:
    """The text that `Option.parse` converts to `value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)


def _unknown_key(key: str, keys: Mapping[str, object]) -> str:
    near = get_close_matches(key, keys, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown key {key!r}{hint}; the keys are {', '.join(sorted(keys))}"


def _texts(text: str) -> object:
    return tuple(json.loads(text)) if text.startswith("[") else (text,)


def _model(text: str) -> object:
    path, comma, library = text.partition(",")
    return (path, library) if comma else path


def _is_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(entry, str) and entry for entry in value)


def _is_models(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_text(entry) or _is_pair(entry) for entry in value)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _is_texts(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_PARSERS: Mapping[Kind, Callable[[str], object]] = {
    Kind.INTEGER: int,
    Kind.NUMBER: float,
    Kind.BOOLEAN: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    Kind.TEXT: str,
    Kind.TEXTS: _texts,
    Kind.MODELS: lambda text: (_model(text),),
}
_CHECKS: Mapping[Kind, Callable[[object], bool]] = {
    Kind.INTEGER: _is_integer,
    Kind.NUMBER: lambda value: _is_integer(value) or isinstance(value, float),
    Kind.BOOLEAN: lambda value: isinstance(value, bool),
    Kind.TEXT: _is_text,
    Kind.TEXTS: _is_texts,
    Kind.MODELS: _is_models,
}
