"""Builds argparse parsers from declared options, whatever these are. Their errors are ConfigErrors."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

from mlc_serve.config.option import Kind, Option, Spelling, options_of
from mlc_serve.errors import ConfigError

Config = TypeVar("Config")

_METAVARS = {
    Kind.INTEGER: "N",
    Kind.NUMBER: "X",
    Kind.TEXT: "TEXT",
    Kind.TEXTS: "TEXT",
    Kind.MODELS: "PATH[,LIB]",
}


class CommandParser(argparse.ArgumentParser):
    """Accepts no abbreviated flags, and raises ConfigError instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    @property
    def flags(self) -> list[str]:
        """Every spelling of every flag."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise ConfigError(f"{message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check that a value is one of an argument's choices. Argparse treats commands as choices, too."""
        choices = action.choices
        if choices is None or value in choices:
            return
        names = [str(choice) for choice in choices]
        if isinstance(action, argparse._SubParsersAction):
            raise ConfigError(_unknown_command(self.prog, str(value), names))
        raise argparse.ArgumentError(
            action, f"{value!r}: expected one of {', '.join(names)}{nearest(str(value), names)}"
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` with the known word that is most similar to this one; "" if none is similar."""
    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _unknown_command(program: str, word: str, names: Sequence[str]) -> str:
    """The message for an unknown command. If the word looks like a model, it suggests the missing command."""
    hint = f" (did you mean {program} serve {word}?)" if "/" in word else nearest(word, names)
    return f"there is no command {word!r}{hint}; the commands are {', '.join(names)}"


def refuse_unknown(
    parser: CommandParser,
    unknown: Sequence[str],
    commands: Mapping[str, CommandParser],
) -> None:
    """Raise ConfigError for unknown arguments. It suggests a similar flag of this command, or names the other
    `commands` that have the flag.
    """
    if not unknown:
        return
    flag = unknown[0].partition("=")[0]
    owners = [name for name, other in commands.items() if flag in other.flags]
    if flag.startswith("-") and owners:
        raise ConfigError(f"{flag} is a flag of {_any_of(owners)}, not of {parser.prog}")
    hint = nearest(flag, parser.flags)
    raise ConfigError(f"unrecognized argument {unknown[0]}{hint}; see {parser.prog} --help")


def _any_of(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def add_options(
    parser: argparse.ArgumentParser, title: str, config: type[Any], without: Collection[str] = ()
) -> None:
    """Add a group with the flags that a dataclass declares, except those of the fields `without`. Flags that
    are not given are missing from the parsed arguments.
    """
    group = parser.add_argument_group(title)
    for name, default, declared in options_of(config):
        if declared.flags and name not in without:
            group.add_argument(
                *declared.flags, dest=name, default=argparse.SUPPRESS, **_form(declared, default)
            )


def read_options(config: type[Config], arguments: argparse.Namespace, **values: Any) -> Config:
    """Build a dataclass from the flags that were given, and from `values`. Raises ConfigError."""
    given = vars(arguments)
    for name, _, declared in options_of(config):
        if declared.flags and name in given:
            value = given[name]
            single = declared.spelling is Spelling.ONE
            values[name] = value if single else tuple(entry for entries in value for entry in entries)
    return config(**values)


def _form(declared: Option, default: object) -> dict[str, Any]:
    """The arguments of argparse's add_argument for an option."""
    text = declared.help.replace("%", "%%") + _default_text(declared, default)
    if declared.kind is Kind.BOOLEAN:
        return {"help": text, "action": "store_false" if default else "store_true"}
    form: dict[str, Any] = {"help": text, "metavar": _metavar(declared)}
    if declared.choices:
        form["choices"] = declared.choices  # shells complete these
    else:
        form["type"] = _converter(declared)
    if declared.spelling is Spelling.REPEATED:
        form["action"] = "append"
    if declared.spelling is Spelling.MANY:
        form |= {"action": "extend", "nargs": "*"}
    return form


def _converter(declared: Option) -> Callable[[str], object]:
    def convert(text: str) -> object:
        try:
            return declared.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return convert


def _metavar(declared: Option) -> str:
    if declared.choices:
        return "{" + ",".join(declared.choices) + "}"
    return _METAVARS[declared.kind]


def _default_text(declared: Option, default: object) -> str:
    if default is None or default == () or declared.kind is Kind.BOOLEAN:
        return ""
    return f" (default: {', '.join(default) if isinstance(default, tuple) else default})".replace("%", "%%")


def positive_integer(text: str) -> int:
    """Parse an integer of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of at least 1")
    return number
