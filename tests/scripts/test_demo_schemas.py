"""The schemas that the demo model is trained on: of the forms that frameworks write, and answered by them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from demo_corpus.mixture import FAMILIES
from demo_corpus.schemas import Dialect, Field, any_dialect

CITY = Field("city", "string", "The city")
DAYS = Field("num_days", "integer", "How many days", optional=True, default=3)
UNIT = Field("unit", "string", choices=("c", "f"), optional=True)
FIELDS = (CITY, DAYS, UNIT)


def test_a_plain_schema() -> None:
    """Names, types and what is required."""
    assert Dialect().schema("f", (CITY,)) == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }


def test_a_schema_as_pydantic_writes_it() -> None:
    """Sorted keywords, titles, null beside the type, and defaults; a call leaves out what was not said."""
    dialect = Dialect(alphabetical=True, titled=True, title_end="Arguments", nullable=True)
    schema = dialect.schema("get_weather", FIELDS)
    assert list(schema) == ["properties", "required", "title", "type"]
    assert schema["title"] == "get_weatherArguments"
    assert schema["required"] == ["city"]
    assert schema["properties"]["num_days"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "default": 3,
        "title": "Num Days",
    }
    assert schema["properties"]["unit"]["anyOf"][0] == {"enum": ["c", "f"], "type": "string"}
    assert dialect.arguments({"city": "Oslo"}, FIELDS) == {"city": "Oslo"}


def test_a_schema_in_which_all_is_required() -> None:
    """As strict function calling asks for it: what was not said is null."""
    dialect = Dialect(required="all", nullable=True, closed=True)
    schema = dialect.schema("f", FIELDS)
    assert schema["required"] == ["city", "num_days", "unit"]
    assert schema["additionalProperties"] is False
    assert "default" not in schema["properties"]["num_days"]
    assert dialect.arguments({"city": "Oslo"}, FIELDS) == {"city": "Oslo", "num_days": None, "unit": None}


@pytest.mark.parametrize("named", [True, False])
def test_a_schema_of_one_object(named: bool) -> None:
    """All parameters are properties of one, whose type stands in place or among the definitions."""
    dialect = Dialect(root="body", named_root=named, draft="https://json-schema.org/draft/2020-12/schema")
    schema = dialect.schema("f", (CITY,))
    body = schema["properties"]["body"]
    assert (schema["$defs"]["Body"] if named else body)["properties"] == {"city": {"type": "string"}}
    assert schema["$schema"] == dialect.draft
    assert dialect.arguments({"city": "Oslo"}, (CITY,)) == {"body": {"city": "Oslo"}}


def test_names_are_spelled_as_in_javascript() -> None:
    """If the dialect is a JavaScript framework's."""
    assert Dialect(camel=True).spelled("get_current_weather") == "getCurrentWeather"
    assert Dialect().spelled("get_current_weather") == "get_current_weather"


def test_every_call_fits_its_schema() -> None:
    """Names and types of all arguments are those of the schema, and nothing that is required is missing."""
    rng, calls = Random(4), 0
    while calls < 300:
        sample = FAMILIES["tool_schemas"][0](rng)
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in sample.tools}
        for call in sample.messages[-1].get("tool_calls", ()):
            calls += 1
            _check(call["function"]["arguments"], schemas[call["function"]["name"]], {})


def test_every_schema_is_json() -> None:
    """Whatever dialect is drawn."""
    for seed in range(200):
        schema = any_dialect(Random(seed)).schema("f", FIELDS)
        assert json.loads(json.dumps(schema)) == schema


def _check(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """That `value` is an instance of `schema`, as far as the corpus uses the language."""
    definitions = schema.get("$defs", definitions)
    if "$ref" in schema:
        return _check(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return None if value is None else _check(value, schema["anyOf"][0], definitions)
    assert value in schema.get("enum", [value])
    if schema["type"] == "object":
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
        for name, inner in value.items():
            _check(inner, schema["properties"][name], definitions)
        return None
    kinds = {"string": str, "integer": int, "number": int}
    assert isinstance(value, kinds[schema["type"]])
    return None
