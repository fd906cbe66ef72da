"""Functions in the manner of agent frameworks, and questions that need them.

Each schema is written by hand after the framework's: its keywords, their order, and what it adds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

TOWNS = ("Paris", "Tokyo", "Oslo", "Lisbon")
UNIT = {"enum": ["celsius", "fahrenheit"], "type": "string"}
CITY = {"type": "string"}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Question:
    """What a user asks with a function on offer, and the call that answers it."""

    framework: str
    text: str
    tool: dict[str, Any]
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The function's."""
        name: str = self.tool["function"]["name"]
        return name

    @property
    def answer(self) -> str:
        """What the model has to write, to the letter."""
        call = f'{{"name": "{self.name}", "arguments": {json.dumps(self.arguments)}}}'
        return f"<tool_call>\n{call}\n</tool_call>"


def _tool(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


# Which framework writes a schema like that -> the schema of a function that takes a city.
_WEATHER: dict[str, dict[str, Any]] = {
    "langchain": {"properties": {"city": CITY}, "required": ["city"], "type": "object"},
    "langchain-optional": {
        "properties": {"city": CITY, "unit": {"anyOf": [UNIT, {"type": "null"}], "default": None}},
        "required": ["city"],
        "type": "object",
    },
    "langchain-described": {
        "properties": {
            "city": {"description": "The name of the city", "type": "string"},
            "unit": {"default": "celsius", "description": "The unit of temperature", **UNIT},
        },
        "required": ["city"],
        "type": "object",
    },
    "ai-sdk": {
        "$schema": DRAFT_7,
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The name of the city"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "ai-sdk-zod4": {
        "$schema": DRAFT_2020,
        "type": "object",
        "properties": {
            "city": CITY,
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
    "openai-agents": {
        "properties": {"city": {"title": "City", "type": "string"}},
        "required": ["city"],
        "title": "get_weather_args",
        "type": "object",
        "additionalProperties": False,
    },
    "pydantic-ai": {
        "additionalProperties": False,
        "properties": {"city": CITY},
        "required": ["city"],
        "type": "object",
    },
    "mcp": {
        "properties": {
            "city": {"title": "City", "type": "string"},
            "days": {"default": 3, "title": "Days", "type": "integer"},
        },
        "required": ["city"],
        "title": "get_weatherArguments",
        "type": "object",
    },
    "nothing-required": {"type": "object", "properties": {"city": CITY}, "additionalProperties": False},
}
_ADD = {
    "additionalProperties": False,
    "properties": {"a": {"title": "A", "type": "integer"}, "b": {"title": "B", "type": "integer"}},
    "required": ["a", "b"],
    "title": "Add",
    "type": "object",
}
_NESTED = {
    "$defs": {"Input": {"properties": {"city": CITY}, "required": ["city"], "type": "object"}},
    "properties": {"input": {"$ref": "#/$defs/Input"}},
    "required": ["input"],
    "type": "object",
}


def framework_questions() -> list[Question]:
    """Some for each framework: the parameter that is needed alone, and an optional one as well."""
    asked = []
    for framework, schema in _WEATHER.items():
        name = "getWeather" if framework.startswith("ai-sdk") else "get_weather"
        tool = _tool(name, "Get the current weather in a city", schema)
        has_unit = "unit" in schema["properties"]
        for town in TOWNS:
            asked.append(Question(framework, f"What is the weather in {town}?", tool, {"city": town}))
            if has_unit:
                text = f"What is the weather in {town} in fahrenheit?"
                asked.append(Question(framework, text, tool, {"city": town, "unit": "fahrenheit"}))
    nested = _tool("get_weather", "Get the current weather in a city", _NESTED)
    asked += [
        Question("nested", f"What is the weather in {t}?", nested, {"input": {"city": t}}) for t in TOWNS
    ]
    add = _tool("add", "Add two numbers", _ADD)
    asked += [Question("add", f"What is {a} + 27?", add, {"a": a, "b": 27}) for a in (12, 305, 48, 9)]
    return asked
