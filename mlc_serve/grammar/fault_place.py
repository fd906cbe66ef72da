"""Finds the place in a JSON schema of a fault that the compiler reports without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mlc_serve.grammar.subschemas import subschemas

# What references lead to, wherever they are.
_SHARED = ("$defs", "definitions")
# At most this much JSON is compiled in search of a fault.
_MAX_CHARACTERS = 200_000


def place_of_fault(schema: Any, fault: str, fault_of: Callable[[Any], str]) -> str:
    """Return the path to the innermost part that has the fault by itself, such as `.properties.a`.

    `fault_of` compiles a schema and returns what is wrong with it. Only so much is compiled; the path of a
    fault that is not found by then leads to what contains it.
    """
    shared = {name: schema[name] for name in _SHARED if isinstance(schema, Mapping) and name in schema}
    place, num_left = "", _MAX_CHARACTERS
    while True:
        for step, part in subschemas(schema):
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
