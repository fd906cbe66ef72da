"""Cached prefixes survive the restart of a real server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from mlc_serve.loaded_model import LoadedModel
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def server(model: Path, directory: Path) -> Iterator[httpx.Client]:
    """A client of a server that keeps its prefixes in a directory, and ends in order."""
    flags = ["--quantization=q0f32", f"--prefix-cache-dir={directory}", "--device=cpu", "--port=0"]
    command = [sys.executable, "-m", "mlc_serve", "serve", str(model), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announcement = next(line for line in process.stdout if " on http" in line)
        url = announcement.split(" on ")[1].split()[0]
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


def answer(client: httpx.Client) -> tuple[str, int]:
    """Return how a long prompt goes on, and how many of its tokens were cached."""
    body: dict[str, Any] = {
        "model": client.get("/v1/models").json()["data"][0]["id"],
        "prompt": "and so he said to her, once more, that this would not do " * 8,
        "max_tokens": 12,
        "temperature": 0,
    }
    reply = client.post("/v1/completions", json=body).json()
    return reply["choices"][0]["text"], reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_restart_finds_the_prefixes(tiny_checkpoint: Path, tiny_model: LoadedModel, tmp_path: Path) -> None:
    """A prompt that was computed before is read from the directory, and answered the same; a server whose
    weights have been written since finds nothing, and its files live beside the others.
    """
    page = tiny_model.backend.state.page_size
    with server(tiny_checkpoint, tmp_path) as client:
        expected, num_cached = answer(client)
        assert num_cached == 0
    files = set((tmp_path / "prefixes").iterdir())
    assert len(files) > 5
    for _ in range(2):
        with server(tiny_checkpoint, tmp_path) as client:
            text, num_cached = answer(client)
            metrics = client.get("/metrics").text
        assert text == expected
        assert num_cached >= 5 * page
        assert f'prefix_store_returned_tokens_total{{model="{tiny_checkpoint}"}} {num_cached}.0' in metrics
        assert set((tmp_path / "prefixes").iterdir()) == files
    changed = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    os.utime(changed / "model.safetensors")
    with server(changed, tmp_path) as client:
        assert answer(client) == (expected, 0)
    assert set((tmp_path / "prefixes").iterdir()) > files
