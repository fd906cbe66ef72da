"""Servers that speak TLS, and those that talk to them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_serve.chat.remote_source import RemoteSource
from mlc_serve.config import ServerConfig, Workload
from mlc_serve.errors import RemoteServerError
from mlc_serve.interface.bench import bench_server
from mlc_serve.supervisor.probe import OWN_PATH, fault_of
from tests.certificates import Certificates
from tests.e2e.live_server import live_server
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates in this test's directory."""
    return Certificates(tmp_path)


def test_requests_and_streams_over_tls(certificates: Certificates) -> None:
    """A client that trusts the authority gets whole replies and streams."""
    body = {"prompt": "Hello", "max_tokens": 5, "ignore_eos": True}
    with live_server(ssl_certfile=certificates.server) as server:
        assert server.url.startswith("https://")
        with httpx.Client(base_url=server.url, verify=certificates.trust(), timeout=PATIENCE) as client:
            assert client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 5
            assert client.post("/v1/completions", json={**body, "stream": True}).text.endswith("[DONE]\n\n")


def test_the_chat_and_the_benchmark_use_tls(certificates: Certificates) -> None:
    """With the authority they reach the server; without it, the error says what is missing."""
    with live_server(ssl_certfile=certificates.server) as server:
        url, trust = f"{server.url}/v1", certificates.trust()
        with closing(RemoteSource(url, trust=trust)) as source:
            assert source.name == "fake"
        with pytest.raises(RemoteServerError, match="--ca-file"):
            RemoteSource(url)
        workload = Workload(prompt_tokens=8, max_tokens=2, runs=1)
        assert len(bench_server(url, None, None, workload, [1], trust)) == 1


def test_the_command_line_takes_a_file_of_authorities(certificates: Certificates) -> None:
    """`mlc_serve chat --url https://… --ca-file FILE` chats; a file without certificates is refused."""
    with live_server(ssl_certfile=certificates.server) as server:
        command = [sys.executable, "-m", "mlc_serve", "chat", "--max-tokens", "4", "--url", server.url]
        ran = subprocess.run(
            [*command, "--ca-file", certificates.authority],
            input=b"Hello\n",
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip()
        refused = subprocess.run(
            [*command, "--ca-file", "/nowhere"], cwd=ROOT, capture_output=True, check=False
        )
        assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("needs_client_certificate", [False, True])
async def test_the_supervisor_probes_over_tls(
    certificates: Certificates, needs_client_certificate: bool
) -> None:
    """Its probe needs no authority, since it asks its own server, and no certificate of its own."""
    files: dict[str, Any] = {"ssl_certfile": certificates.server}
    if needs_client_certificate:
        files["ssl_ca_certs"] = certificates.authority
    with live_server(**files) as server:
        _, port = server.address
        assert await fault_of(ServerConfig(**files), port, OWN_PATH, PATIENCE) is None
        assert await fault_of(ServerConfig(), port, OWN_PATH, PATIENCE) is not None
