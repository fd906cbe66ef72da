"""The conversation templates that MLC knows by name: older model directories only name theirs.

named_conversations.json has their fields as in a `conv_template`, without those that have MLC's defaults. The
default system messages are the ones that MLC gives to these models.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from mlc_serve.errors import CheckpointError
from mlc_serve.text.json_object import read_json_object

_TABLE = Path(__file__).with_suffix(".json")


def named_conversations() -> dict[str, dict[str, Any]]:
    """The fields of every template, by its name."""
    return read_json_object(_TABLE)


def named_conversation(name: str) -> dict[str, Any]:
    """The fields of one template. Raises CheckpointError for a name that is not known."""
    known = named_conversations()
    if name not in known:
        raise CheckpointError(
            f"conv_template: there is no template {reprlib.repr(name)}; give its fields as an object, "
            f"or one of these names: {', '.join(known)}"
        )
    return known[name]
