"""Finds the place in a JSON schema of a fault that the compiler reports without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
# What references lead to, wherever they are.
_SHARED = ("$defs", "definitions")
# Compiling this much JSON takes about two seconds.
_MAX_CHARACTERS = 200_000


def place_of_fault(schema: Any, fault: str, fault_of: Callable[[Any], str]) -> str:
    """Return the path to the innermost part that has the fault by itself, such as `.properties.a`.

    `fault_of` compiles a schema and returns what is wrong with it. Only so much is compiled; the path of a
    fault that is not found by then leads to what contains it.
    """
    shared = {name: schema[name] for name in _SHARED if isinstance(schema, Mapping) and name in schema}
    place, num_left = "", _MAX_CHARACTERS
    while True:
        for step, part in _parts(schema):
            if not isinstance(part, Mapping):
                continue
            alone = {**shared, **part}
            num_left -= len(json.dumps(alone))
            if num_left < 0:
                return place
            if part != schema and fault_of(alone) == fault:
                place, schema = f"{place}.{step}", part
                break
        else:
            return place


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schemas directly within a schema, each with its path."""
    if not isinstance(schema, Mapping):
        return
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        elif name in _LISTS and isinstance(value, list):
            yield from ((f"{name}.{position}", part) for position, part in enumerate(value))
        elif name in _SCHEMAS:
            yield name, value
