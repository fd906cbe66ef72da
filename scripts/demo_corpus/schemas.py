"""JSON schemas of parameters as frameworks write them: which keywords they add, and in which order.

This module knows nothing about functions and how people ask for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

Schema = dict[str, Any]
Required = Literal["needed", "all", "none"]

_DRAFTS = ("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema")
_ROOTS = ("input", "request", "params", "data", "options", "body", "args", "payload")
_LARGEST = 2**53 - 1  # the largest integer that JavaScript counts exactly


@dataclass(frozen=True)
class Field:
    """A parameter to describe; `default` is the value of an optional one that is omitted."""

    name: str
    type: str
    description: str | None = None
    choices: tuple[Any, ...] = ()
    optional: bool = False
    default: Any = None


@dataclass(frozen=True)
class Dialect:
    """How one framework writes a schema.

    draft: the value of `$schema`; alphabetical: keywords are sorted, as pydantic sorts them; title_end: what
    the title has after the function's name; root: the one parameter of which all others are properties;
    named_root: its type stands in `$defs`; required: which names `required` lists, none meaning that the
    keyword is missing; nullable: an optional parameter may be null; camel: names are written as in
    JavaScript; ranged: integers are bounded by what JavaScript counts.
    """

    draft: str | None = None
    alphabetical: bool = False
    titled: bool = False
    title_end: str = ""
    described: bool = False
    closed: bool = False
    root: str | None = None
    named_root: bool = False
    required: Required = "needed"
    nullable: bool = False
    camel: bool = False
    integer: str = "integer"
    ranged: bool = False

    def spelled(self, name: str) -> str:
        """`name`, which is in lower case with underscores, as this framework's users spell it."""
        first, *others = name.split("_")
        return first + "".join(map(str.capitalize, others)) if self.camel else name

    def schema(self, function: str, fields: Sequence[Field]) -> Schema:
        """The schema of the object of `fields` that `function` takes."""
        title = f"{function}{self.title_end}"
        inner = self._object(title, fields)
        if self.root is not None:
            inner = self._rooted(title, inner)
        return {"$schema": self.draft} | inner if self.draft else inner

    def arguments(self, values: dict[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
        """A call's arguments: `values` by name, and null for required ones that are missing."""
        names = [field.name for field in fields]
        given = {name: values.get(name) for name in names if name in values or self.required == "all"}
        return given if self.root is None else {self.root: given}

    def _rooted(self, title: str, inner: Schema) -> Schema:
        assert self.root is not None
        if not self.named_root:
            return self._whole(title, {self.root: inner}, [self.root])
        definition = _titled(self.root)
        reference = {"$ref": f"#/$defs/{definition}"}
        return {"$defs": {definition: inner}} | self._whole(title, {self.root: reference}, [self.root])

    def _object(self, title: str, fields: Sequence[Field]) -> Schema:
        needed = [field.name for field in fields if self.required == "all" or not field.optional]
        return self._whole(title, {field.name: self._property(field) for field in fields}, needed)

    def _whole(self, title: str, properties: dict[str, Schema], needed: list[str]) -> Schema:
        schema: Schema = {"type": "object", "properties": properties}
        if self.required != "none" and needed:
            schema["required"] = needed
        if self.titled:
            schema["title"] = title
        if self.closed:
            schema["additionalProperties"] = False
        return self._ordered(schema)

    def _property(self, field: Field) -> Schema:
        kind = self._kind(field)
        if self.nullable and field.optional:
            kind = {"anyOf": [self._ordered(kind), {"type": "null"}]}
        if self.titled:
            kind["title"] = _titled(field.name)
        if field.optional and self.required != "all" and (self.nullable or field.default is not None):
            kind["default"] = field.default
        if self.described and field.description:
            kind["description"] = field.description
        return self._ordered(kind)

    def _kind(self, field: Field) -> Schema:
        is_integer = field.type == "integer"
        kind: Schema = {"type": self.integer if is_integer else field.type}
        if field.choices:
            kind["enum"] = list(field.choices)
        if is_integer and self.ranged:
            kind |= {"minimum": -_LARGEST, "maximum": _LARGEST}
        return kind

    def _ordered(self, schema: Schema) -> Schema:
        return dict(sorted(schema.items())) if self.alphabetical else schema


# After LangChain, zod 3 and 4 in the AI SDK, openai-agents, pydantic-ai, FastMCP, and agents of one argument.
FRAMEWORKS = (
    Dialect(alphabetical=True, nullable=True),
    Dialect(draft=_DRAFTS[0], closed=True, camel=True),
    Dialect(draft=_DRAFTS[1], closed=True, camel=True, ranged=True),
    Dialect(titled=True, title_end="_args", closed=True, required="all", nullable=True),
    Dialect(alphabetical=True, closed=True, nullable=True),
    Dialect(alphabetical=True, titled=True, title_end="Arguments"),
    Dialect(alphabetical=True, root="input", named_root=True),
)


def any_dialect(rng: Random) -> Dialect:
    """The dialect of a framework, or an invented one; parameters are described at random."""
    dialect = rng.choice(FRAMEWORKS) if rng.random() < 0.6 else _invented(rng)
    return replace(dialect, described=rng.random() < 0.6)


def _invented(rng: Random) -> Dialect:
    """A dialect with a random selection of keywords."""
    required: Required = rng.choice(("needed", "needed", "needed", "all", "none"))
    return Dialect(
        draft=rng.choice((None, None, *_DRAFTS)),
        alphabetical=rng.random() < 0.5,
        titled=rng.random() < 0.4,
        title_end=rng.choice(("", "Arguments", "_args", "Schema", "Input")),
        closed=rng.random() < 0.5,
        root=rng.choice(_ROOTS) if rng.random() < 0.12 else None,
        named_root=rng.random() < 0.5,
        required=required,
        nullable=required == "all" or rng.random() < 0.5,
        camel=rng.random() < 0.3,
        integer=rng.choice(("integer", "integer", "number")),
        ranged=rng.random() < 0.1,
    )


def _titled(name: str) -> str:
    return name.replace("_", " ").title()
