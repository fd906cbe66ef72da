"""microserver.py as a running process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.patience import PATIENCE

SCRIPT = Path(__file__).with_name("microserver.py")
ROOT = SCRIPT.parents[2]
PROMPT = "The quick brown fox jumps over the lazy dog, and it does so again and again. " * 6
BODY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}


class Microserver:
    """A running microserver.py, and a client of it. `seconds` is how long it waits for another server."""

    def __init__(self, stack: ExitStack, seconds: float = PATIENCE) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(SCRIPT), str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        stack.callback(self._end)
        assert self.process.stdout is not None
        found = re.fullmatch(rb"Serving fake on (\S+)\n", self.process.stdout.readline())
        assert found
        self.url = found[1].decode()
        self.client = stack.enter_context(httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False))

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def call(self, name: str, user: str, **fields: Any) -> httpx.Response:
        """Make a call of microserving."""
        return self.client.post(f"/microserving/{name}", json={**BODY, "user": user, **fields})

    def text(self) -> str:
        """The text of an ordinary completion, which finds no prefix."""
        reply = self.client.post("/v1/completions", json={**BODY, "cache_salt": "none"}).json()
        text: str = reply["choices"][0]["text"]
        return text

    def gauge(self, name: str) -> float:
        """A value of /metrics."""
        found = re.search(
            rf'^mlc_serve_{name}{{model="fake"}} (\S+)$', self.client.get("/metrics").text, re.M
        )
        assert found, name
        return float(found[1])

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits, or holds pages, as far as its metrics tell."""
        names = ("requests_running", "requests_waiting", "kv_cache_pages_used")
        return all(self.gauge(name) == 0 for name in names)
