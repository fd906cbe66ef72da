"""A real Ray on this machine, with Serve on any free port. All tests share it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
import ray
from ray import serve

from mlc_serve.ray import build_app

NAME = "test"
Deploy = Callable[..., openai.OpenAI]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def url(cache_directory: Path) -> Iterator[str]:
    """The URL of Serve's proxy. Replicas find compiled models in the cache of this run."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture
def deploy(url: str) -> Iterator[Deploy]:
    """Deploys the demo model with these arguments of build_app, and returns a client of it."""
    with ExitStack() as stack:

        def run(**arguments: Any) -> openai.OpenAI:
            serve.run(build_app({"cpus_per_replica": 0.5, **arguments}), name=NAME, route_prefix="/")
            stack.callback(serve.delete, NAME)
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            return stack.enter_context(client)

        yield run
