"""Reads the small JSON files of a model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlc_serve.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises CheckpointError, which names the file and what is wrong."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: there is no {path.name}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, not a {type(content).__name__}")
    return content


def read_json_object_if_present(path: Path) -> dict[str, Any]:
    """Do the same as read_json_object, but return an empty object if there is no such file."""
    return read_json_object(path) if path.is_file() else {}
