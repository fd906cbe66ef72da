"""A server with drafts, as it is started from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_serve.loaded_model import LoadedModel
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
NUM_TOKENS = 60


@pytest.fixture
def url(tiny_checkpoint: Path, tiny_model: LoadedModel) -> Iterator[str]:
    """The URL of a server of a small model, which drafts what occurred before."""
    flags = ["--quantization=q0f32", "--speculative-mode=ngram", "--overrides=spec_draft_length=5"]
    places = ["--device=cpu", "--port=0"]
    command = [sys.executable, "-m", "mlc_serve", "serve", str(tiny_checkpoint), *flags, *places]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announcement = next(line for line in process.stdout if " on http" in line)
        yield announcement.split(" on ")[1].split()[0]
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


def test_drafts_come_through_the_whole_server(url: str, tiny_model: LoadedModel) -> None:
    """A text that repeats itself is the same whole and streamed, where several tokens come in one event."""
    (letter,) = tiny_model.tokenizer.encode("e", add_special_tokens=False)
    body: dict[str, Any] = {
        "prompt": "so he said",
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "logit_bias": {str(letter): 100},
    }
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        body["model"] = client.get("/v1/models").json()["data"][0]["id"]
        whole = client.post("/v1/completions", json=body).json()
        stream = client.post("/v1/completions", json=body | {"stream": True}).text
    assert whole["choices"][0]["text"] == "e" * NUM_TOKENS
    assert whole["usage"]["completion_tokens"] == NUM_TOKENS
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if "{" in line]
    assert "".join(event["choices"][0]["text"] for event in events) == "e" * NUM_TOKENS
    assert len(events) < NUM_TOKENS / 2
