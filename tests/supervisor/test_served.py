"""The real server under a supervisor."""

from __future__ import annotations

import os
import signal

import httpx

from mlc_serve.demo import demo_model_path
from mlc_serve.supervisor import MLCServer, MLCServerConfig
from tests.patience import PATIENCE
from tests.supervisor.supervised import QUICK, free_port, ready, status_where

# The demo model is compiled on its first use.
COMPILING = 240.0


async def test_the_real_server_is_kept_running() -> None:
    """The server answers with the demo model's own context window, and comes back when it is killed."""
    settings = {**QUICK, "startup_timeout": COMPILING, "model": str(demo_model_path()), "device": "cpu"}
    async with MLCServer(MLCServerConfig(**settings, port=free_port(), api_keys=("k",))) as server:
        await server.start_server()
        first = await ready(server, COMPILING)
        url, headers = f"http://127.0.0.1:{first.port}/v1", {"Authorization": "Bearer k"}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE) as client:
            (model,) = (await client.get(f"{url}/models")).json()["data"]
            assert model["max_model_len"] == 2048
            os.kill(first.pid or 0, signal.SIGKILL)
            await status_where(server, lambda status: not status.process_running)
            again = await ready(server, COMPILING)
            assert (again.restarts, again.port) == (1, first.port)
            reply = await client.post(f"{url}/completions", json={"prompt": "a", "max_tokens": 1})
            assert reply.status_code == 200
