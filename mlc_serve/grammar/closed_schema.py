"""Closes the objects of a JSON schema.

An object may have keys that its schema doesn't name, unless the schema forbids them. They are hardly ever
wanted, and small models invent them. An output without them is valid as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlc_serve.grammar.subschemas import subschemas

# A schema with one of these passes its value on to another schema.
_PASSING_ON = frozenset({"allOf", "anyOf", "$ref"})
# Beside those, these say as well which objects and lists are allowed.
_DESCRIBING = frozenset(
    {
        "properties",
        "required",
        "additionalProperties",
        "unevaluatedProperties",
        "minProperties",
        "maxProperties",
        "propertyNames",
        "dependentRequired",
        "items",
        "prefixItems",
        "additionalItems",
        "unevaluatedItems",
        "const",
        "enum",
    }
)
# With one of these, a value may have to follow several schemas, or must not follow one.
_COMBINING = frozenset(
    {
        "oneOf",
        "not",
        "if",
        "dependentSchemas",
        "dependencies",
        "patternProperties",
        "contains",
        "$dynamicRef",
        "$recursiveRef",
    }
)
# References that lead to schemas which `subschemas` finds.
_REFERENCE = re.compile(
    r"#(/((\$defs|definitions|properties)/[^/]+|(anyOf|allOf|prefixItems)/\d+|items|additionalProperties))*"
)
# The client has decided itself which other keys there may be, or needs some.
_DECIDING = frozenset(
    {
        "additionalProperties",
        "unevaluatedProperties",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "const",
        "enum",
    }
)


def closed_schema(schema: Any) -> Any:
    """Return a schema whose objects have no keys but those of their `properties`, where they have any.

    Where schemas are combined, the keys of one are additional ones of another. A schema that does that
    anywhere is returned as it is. Takes time in proportion to the schema's size, however deep it is.
    """
    if any(_is_combining(part) for part in _all_within(schema)):
        return schema
    closed = _copy(schema)
    for part in _all_within(closed):
        if _can_be_closed(part):
            part["additionalProperties"] = False
    return closed


def _is_combining(part: Mapping[str, Any]) -> bool:
    if not _COMBINING.isdisjoint(part):
        return True
    match [*_PASSING_ON.intersection(part)]:
        case []:
            return False
        case [keyword]:
            return not _DESCRIBING.isdisjoint(part) or not _leads_to_one(keyword, part[keyword])
    return True


def _leads_to_one(keyword: str, value: Any) -> bool:
    """Return whether a value has to follow a single schema, which `subschemas` finds."""
    if keyword == "$ref":
        return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None
    return keyword == "anyOf" or (isinstance(value, list) and len(value) <= 1)


def _can_be_closed(part: Mapping[str, Any]) -> bool:
    if not _DECIDING.isdisjoint(part):
        return False
    properties, required = part.get("properties"), part.get("required", [])
    if not isinstance(properties, Mapping) or not properties or not isinstance(required, list):
        return False
    return all(isinstance(name, str) and name in properties for name in required)


def _all_within(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas within it, but those that are true or false."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(inner for _, inner in subschemas(part))


def _copy(value: Any) -> Any:
    """Return a copy of a JSON value, however deep it is."""
    whole = [value]
    waiting: list[Any] = [whole]
    while waiting:
        container = waiting.pop()
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, dict | list):
                container[key] = item.copy()
                waiting.append(container[key])
    return whole[0]
