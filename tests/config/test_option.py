"""The declaration of an option decides what is read, what is refused, and how it is written again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mlc_serve.config.option import (
    Kind,
    Option,
    Spelling,
    check_options,
    command_line,
    option,
    parse_assignments,
)
from mlc_serve.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """One option of each kind."""

    count: int | None = option(None, "A count.", kind=Kind.INTEGER, minimum=1, override="count")
    share: float = option(
        0.5, "A share.", kind=Kind.NUMBER, minimum=0, maximum=1, flags=("--share",), override="share"
    )
    loud: bool = option(False, "Noise.", kind=Kind.BOOLEAN, flags=("--loud",))
    quiet: bool = option(True, "Silence.", kind=Kind.BOOLEAN, override="quiet")
    light: bool = option(True, "Light.", kind=Kind.BOOLEAN, flags=("--no-light",))
    colour: str = option(
        "red", "A colour.", choices=("red", "blue"), flags=("--colour", "--color"), override="colour"
    )
    names: Sequence[str] = option(("*",), "Names.", kind=Kind.TEXTS, flags=("--names",))
    keys: Sequence[str] = option((), "Keys.", kind=Kind.TEXTS, flags=("--key",), spelling=Spelling.REPEATED)
    models: Sequence[str | tuple[str, str]] = option(
        (), "Models.", kind=Kind.MODELS, flags=("--models",), spelling=Spelling.MANY
    )
    undeclared: int = 0

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        (" ; ;", {}),
        ("count=3", {"count": 3}),
        ("count=3;share=0.25;", {"count": 3, "share": 0.25}),
        (" count = 3 ; colour=blue", {"count": 3, "colour": "blue"}),
        ("quiet=false", {"quiet": False}),
        ("quiet=1", {"quiet": True}),
    ],
)
def test_assignments_become_typed_fields(text: str, values: dict[str, object]) -> None:
    """Keys are split at semicolons, and values have the option's type."""
    assert parse_assignments(text, Settings) == values


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("counts=3", "did you mean count?"),
        ("zzz=3", "the keys are colour, count, quiet, share"),
        ("count", "'count' is not of the form key=value"),
        ("count=many", "count=many: expected an integer of at least 1"),
        ("count=0", "count=0: expected an integer of at least 1"),
        ("count=", "expected an integer"),
        ("share=nan", "share=nan: expected a number from 0 to 1"),
        ("share=inf", "expected a number from 0 to 1"),
        ("colour=green", "expected one of red, blue"),
        ("quiet=maybe", "expected true or false"),
        ("count=1;count=2", "count is given twice"),
        ("loud=true", "unknown key 'loud'"),
    ],
)
def test_a_bad_assignment_is_named(text: str, part: str) -> None:
    """An unknown key, a repeated one, and a bad value each get an error that names it and what is allowed."""
    with pytest.raises(ConfigError) as error:
        parse_assignments(text, Settings)
    assert part in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"count": "3"},
        {"count": True},
        {"count": 0},
        {"share": float("nan")},
        {"share": 1.01},
        {"share": None},
        {"loud": 1},
        {"colour": "green"},
        {"colour": ""},
        {"names": "*"},
        {"names": ["a", ""]},
        {"names": [1]},
        {"models": [("path",)]},
        {"models": [("path", "")]},
    ],
)
def test_a_bad_value_is_refused_at_construction(values: dict[str, Any]) -> None:
    """A wrong type or a value out of range is refused however a configuration is made."""
    with pytest.raises(ConfigError, match=next(iter(values))):
        Settings(**values)


def test_none_is_allowed_where_it_is_the_default() -> None:
    """None means that the setting is left open."""
    assert Settings(count=None).count is None


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.TEXTS, '["a", "b"]', ("a", "b")),
        (Kind.TEXTS, "*", ("*",)),
        (Kind.MODELS, "path", ("path",)),
        (Kind.MODELS, "path,lib.so", (("path", "lib.so"),)),
        (Kind.MODELS, "path,a,b", (("path", "a,b"),)),
    ],
)
def test_lists_are_read(kind: Kind, text: str, value: object) -> None:
    """A list is JSON or a single bare text; a model is split at its first comma."""
    assert Option("", kind).parse(text) == value


@pytest.mark.parametrize("text", ["[1]", '["a"', "[[]]", ""])
def test_a_bad_list_is_refused(text: str) -> None:
    """JSON that is not a list of texts is refused with an example of what is."""
    with pytest.raises(ValueError, match="JSON list of texts"):
        Option("", Kind.TEXTS).parse(text)


def test_defaults_need_no_arguments() -> None:
    """Only what differs from the defaults is written."""
    assert command_line(Settings()) == []


def test_every_setting_has_its_spelling() -> None:
    """Settings are written as flags in their documented spelling, or as overrides where they have no flag."""
    settings = Settings(
        count=2,
        share=0.25,
        loud=True,
        quiet=False,
        light=False,
        colour="blue",
        names=["a", "b"],
        keys=["k1", "k2"],
        models=["m1", ("m2", "lib.so")],
    )
    assert command_line(settings) == [
        "--share=0.25",
        "--loud",
        "--no-light",
        "--colour=blue",
        '--names=["a", "b"]',
        "--key=k1",
        "--key=k2",
        "--models",
        "m1",
        "m2,lib.so",
        "--overrides",
        "count=2;quiet=false",
    ]


def test_a_reader_is_told_what_it_knows() -> None:
    """A command that knows only another spelling gets that; a setting it can't express is an error."""
    settings = Settings(share=0.25, colour="blue")
    assert command_line(settings, {"--color", "share"}) == ["--color=blue", "--overrides", "share=0.25"]
    with pytest.raises(ConfigError, match=r"colour is 'blue', but the command .* has no such option"):
        command_line(settings, {"--share"})
