"""Starts a server process with the demo model."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def demo_server(*flags: str) -> Iterator[str]:
    """Start a server on any free port, yield its URL, and end it."""
    command = [sys.executable, "-m", "mlc_serve", "serve", "--port", "0", "--device", "cpu", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"Serving demo on (http://\S+)", "".join(_until_serving(process.stdout)))
            assert found, f"the server ended with code {process.wait()}"
            yield found[1]
        finally:
            process.terminate()


def _until_serving(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("Serving"):
            return
