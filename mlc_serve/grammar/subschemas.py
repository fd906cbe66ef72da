"""The schemas within a JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def subschemas(schema: Any) -> Iterator[tuple[str, Any]]:
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
