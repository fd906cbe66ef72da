"""Functions as a conversation offers them: with one name, and parameters in one dialect of JSON schema."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from demo_corpus.functions import Function, Parameter, Value
from demo_corpus.options import with_options
from demo_corpus.sample import Tool
from demo_corpus.schemas import Dialect, Field, any_dialect

_PURPOSES = ("{0}", "{0}", "{0}.", "Use this to {1}.", "Call this function to {1}", "{0} for the user")
_DESCRIPTIONS = (
    "{0}", "{0}", "{0}.", "The {slot}", "The {slot} to use", "{0}, e.g. {example}",
    "{0}, for example {example}.",
)  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """A function as offered in one conversation: with one name, and one spelling for each parameter."""

    function: Function
    name: str
    fields: tuple[Field, ...]
    dialect: Dialect
    schema: Tool

    def arguments(self, values: dict[str, Value]) -> dict[str, Any]:
        """The call's arguments for values by slot."""
        pairs = zip(self.function.parameters, self.fields, strict=True)
        named = {field.name: values[p.slot] for p, field in pairs if p.slot in values}
        return self.dialect.arguments(named, self.fields)


def plain_offer(rng: Random, function: Function) -> Offer:
    """`function` with flat, required parameters that are described or bare."""
    name = rng.choice(function.names)
    spellings = [rng.choice(parameter.names) for parameter in function.parameters]
    dialect = Dialect(described=rng.random() < 0.5)
    return _offer(rng, function, name, tuple(map(_field, function.parameters, spellings)), dialect)


class Framework:
    """Offers all functions of a conversation in one dialect, some of them with optional parameters."""

    def __init__(self, rng: Random) -> None:
        self._dialect = any_dialect(rng)

    def offer(self, rng: Random, function: Function) -> Offer:
        """`function` as this framework offers it."""
        function, dialect = _reworded(rng, with_options(rng, function)), self._dialect
        fields = tuple(
            _field(parameter, dialect.spelled(rng.choice(parameter.names)), _default(rng, parameter))
            for parameter in function.parameters
        )
        return _offer(rng, function, dialect.spelled(rng.choice(function.names)), fields, dialect)


def _offer(rng: Random, function: Function, name: str, fields: tuple[Field, ...], dialect: Dialect) -> Offer:
    parameters = dialect.schema(name, fields)
    body: dict[str, Any] = {"name": name, "description": function.description, "parameters": parameters}
    if rng.random() < 0.15:
        del body["description"]
    return Offer(function, name, fields, dialect, {"type": "function", "function": body})


def _reworded(rng: Random, function: Function) -> Function:
    """`function` as another author would describe it."""
    purpose = rng.choice(_PURPOSES).format(function.description, function.description.lower())
    parameters = tuple(replace(p, description=_description(rng, p)) for p in function.parameters)
    return replace(function, description=purpose, parameters=parameters)


def _description(rng: Random, parameter: Parameter) -> str:
    wording = rng.choice(_DESCRIPTIONS)
    return wording.format(parameter.description, slot=parameter.slot, example=parameter.draw(rng))


def _field(parameter: Parameter, spelling: str, default: Value | None = None) -> Field:
    return Field(
        spelling, parameter.type, parameter.description, parameter.choices, parameter.optional, default
    )


def _default(rng: Random, parameter: Parameter) -> Value | None:
    return parameter.draw(rng) if parameter.optional and rng.random() < 0.3 else None
