"""Objects that have only the keys of their schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mlc_serve.grammar import Grammar, Grammars, closed_schema
from mlc_serve.testing.tokens import VOCAB_SIZE, byte_tokenizer
from tests.grammar.test_grammars import accepts

GRAMMARS = Grammars(byte_tokenizer(), VOCAB_SIZE)
A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
BOTH = '{"a": 1, "b": 2}'


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (A, '{"a": 1}', '{"a": 1, "b": 2}'),
        ({"properties": {"contains": A}}, '{"contains": {"a": 1}}', '{"contains": {"a": 1, "z": 2}}'),
        ({"anyOf": [A, {"type": "null"}], "default": None}, '{"a": 1}', BOTH),
        ({"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": A}}, '[{"a": 1}]', f"[{BOTH}]"),
        ({"allOf": [{"$ref": "#/definitions/a"}], "definitions": {"a": A}}, '{"a": 1}', BOTH),
        (
            {"properties": {"in": {"$ref": "#"}, "d": {"default": {"properties": {}}}}},
            '{"in": {}}',
            '{"in": {"x": 1}}',
        ),
    ],
)
def test_objects_have_only_the_keys_that_their_schema_names(schema: Any, good: str, bad: str) -> None:
    """Wherever the objects are within the schema, which is not changed itself."""
    before = copy.deepcopy(schema)
    grammar = Grammar.of_schema(closed_schema(schema), "p")
    assert schema == before
    for of_schema in (grammar, Grammar.of_schema(schema, "p")):
        assert accepts(GRAMMARS, of_schema, good)
        assert not accepts(GRAMMARS, of_schema, bad)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "integer"}},
        {**A, "patternProperties": {"^b": {"type": "integer"}}},
        {**A, "required": ["b"]},
        {"properties": {"a": True}, "enum": [{"a": 1, "b": 2}]},
        {"allOf": [A, B]},
        {**A, "allOf": [B]},
        {**A, "anyOf": [B, {"required": ["c"]}]},
        {**A, "$ref": "#/$defs/b", "$defs": {"b": B}},
        {"$ref": "#/$defs/a", "anyOf": [{"required": ["b"]}], "$defs": {"a": A}},
        {"$ref": "#/more/ab", "$defs": {"a": A}, "more": {"ab": {"allOf": [{"$ref": "#/$defs/a"}, B]}}},
    ],
)
def test_what_needs_further_keys_still_gets_them(schema: Any) -> None:
    """Schemas that are combined, and those that allow or require further keys, allow what they did."""
    assert accepts(GRAMMARS, Grammar.of_schema(schema, "p"), BOTH)


@pytest.mark.parametrize(
    "within",
    [
        {**A, "unevaluatedProperties": {"type": "integer"}},
        {**A, "minProperties": 2},
        {"oneOf": [A, {**A, **B}]},
        {"not": A},
        {"if": A, "then": B},
        {"items": A, "contains": B},
        {"items": A, "allOf": [{"items": B}]},
        {**A, "required": [["a"]]},
        {"properties": {}},
        {"properties": []},
        {"$ref": 1},
        {"allOf": None},
    ],
)
def test_nothing_else_is_changed(within: dict[str, Any]) -> None:
    """Neither where closing one schema could exclude what others ask for, nor what is no valid schema."""
    schema = {"additionalProperties": {"additionalProperties": within}}
    assert closed_schema(schema) == schema
    assert closed_schema(True) is True


def test_schemas_may_be_deep() -> None:
    """The nesting of a schema is no nesting of calls."""
    schema: dict[str, Any] = A
    for _ in range(5_000):
        schema = {"properties": {"a": schema}}
    closed = closed_schema(schema)
    for _ in range(5_000):
        assert closed["additionalProperties"] is False
        closed = closed["properties"]["a"]
    assert closed == {**A, "additionalProperties": False}
