"""Run another program to its end, and read what it printed. This module knows nothing about engines."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
# Characters from the end of a failed program's output, which says why it failed.
SHOWN_OF_ERROR = 2000


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed. Raises RuntimeError, with the end of that, if it failed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-SHOWN_OF_ERROR:]
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


def run_module(python: str | Path, module: str, *arguments: str | Path) -> str:
    """Run a module of this repository with the interpreter `python` and return what it printed."""
    return run([python, "-m", module, *arguments], {"PYTHONPATH": str(REPOSITORY)})


def last_json(output: str) -> dict[str, Any]:
    """The last JSON object that fills a line. Raises ValueError if there is none."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError(f"no line of JSON in {output!r}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
