"""What the tests of clients share: a server of the demo model in a process of its own, and no way out of this
machine. Each test says with the mark `client` which package's call it tries, which docs/api.md lists.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mlc_serve.demo import demo_model_path
from tests.e2e.attacks.server import attacked_server
from tests.encoder_checkpoints import write_encoder

# Read while the clients are imported, or at each call: nothing is reported, and no prices are downloaded.
os.environ.update(
    ANONYMIZED_TELEMETRY="False",
    DO_NOT_TRACK="1",
    LANGSMITH_TRACING="false",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LITELLM_TELEMETRY="False",
    OPENAI_AGENTS_DISABLE_TRACING="1",
)
HERE = {None, "", "127.0.0.1", "::1", "localhost"}


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of the demo model, and of a tiny model that makes embeddings."""
    directory = tmp_path_factory.mktemp("encoders")
    write_encoder(directory / "embedder", pooling="mean_tokens")
    settings = ("--served-model-name", "demo", "--embedding-model", "embedder")
    with attacked_server(demo_model_path(), *settings, directory=directory) as server:
        yield server.url


@pytest.fixture(scope="session")
def demo_url(demo_server: str) -> str:
    """That server's base URL for clients of OpenAI's API."""
    return f"{demo_server}/v1"


@pytest.fixture(autouse=True)
def nobody_else_is_called(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose client asks for the address of any other host, even if the client hides that."""
    look_up = socket.getaddrinfo
    others: list[str] = []

    def look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in HERE:
            others.append(name)
            raise socket.gaierror(socket.EAI_NONAME, "tests may only call this machine")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    yield
    assert others == []
