"""The examples in the documents, and how one is run as a reader would run it.

A fenced block that names a language is an example. One that can't be run follows an HTML comment that says
why, such as `<!-- not run: it downloads a model -->`. Readers don't see it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_EXAMPLE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n)?```(?P<language>[^`\n]+)\n(?P<code>.*?)^```$", re.M | re.S
)
# Where the documents' server is, and the port of one that an example starts.
_DOCUMENTED_URL, _DOCUMENTED_PORT = "http://127.0.0.1:8000", "port=8000"
# What a reader's shell finds, as scripts: this checkout's program, a curl that fails if the server refuses,
# and a make that says what it would do, which shows that the target exists.
_PROGRAMS = {
    "mlc_serve": 'exec {python} -m mlc_serve "$@"',
    "make": 'exec {make} --dry-run --directory {root} "$@"',
    "curl": 'exec {curl} --fail-with-body --silent --show-error "$@"',
}


class Example(NamedTuple):
    """A fenced block: where it stands, its language, its text, and why it is not run, if it is not."""

    place: str
    language: str
    code: str
    reason: str | None


def examples_of(document: Path) -> Iterator[Example]:
    """The examples of a Markdown file, in order."""
    text = document.read_text(encoding="utf-8")
    for found in _EXAMPLE.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Example(f"{document.name}:{line}", found["language"], found["code"], found["reason"])


def run_example(example: Example, url: str, directory: Path) -> str:
    """What an example prints, run in `directory`, with a server at `url`.

    Raises ValueError if its language can't be run, and AssertionError if it fails.
    """
    code = example.code.replace(_DOCUMENTED_URL, url).replace(_DOCUMENTED_PORT, "port=0")
    if example.language == "json":
        return str(json.loads(code))
    if example.language == "python":
        return _run([sys.executable, "-c", code], directory)
    if example.language == "sh":
        return _run(["bash", "-euo", "pipefail", "-c", code], directory)
    raise ValueError(f"{example.place}: no way to run {example.language!r} is known")


def write_programs(directory: Path) -> None:
    """Put the programs that examples call into a directory."""
    paths = {name: shutil.which(name) for name in ("make", "curl")}
    for name, script in _PROGRAMS.items():
        file = directory / name
        text = script.format(python=sys.executable, root=ROOT, **paths)
        file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        file.chmod(0o755)


def _run(command: list[str], directory: Path) -> str:
    path = os.pathsep.join([str(directory / "bin"), os.environ["PATH"]])
    result = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
