"""Clients that leave, on real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.e2e.live_server import LiveServer, live_server
from tests.patience import PATIENCE

LONG = {"prompt": "Hello", "max_tokens": 1000, "ignore_eos": True}


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server whose device the test can hold."""
    with live_server() as running:
        yield running


def post(server: LiveServer, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request and leave the connection open."""
    content = json.dumps(body).encode()
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    connection = socket.create_connection(server.address, timeout=PATIENCE)
    connection.sendall(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content)
    return connection


def all_is_free(server: LiveServer) -> bool:
    """Whether every page is free once a sequence has been removed."""
    assert server.freed.wait(timeout=PATIENCE)
    return server.backend.state.num_free_pages == server.backend.state.num_pages


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_early_frees_its_pages(server: LiveServer, stream: bool) -> None:
    """If the client leaves before the first token, its request ends within a step, streamed or not."""
    server.backend.gate.clear()
    with closing(post(server, "/v1/completions", {**LONG, "stream": stream})):
        assert server.backend.entered.wait(timeout=PATIENCE)
    assert server.aborted.wait(timeout=PATIENCE)
    server.backend.gate.set()
    assert all_is_free(server)
    assert len(server.backend.batches) == 1


def test_a_client_that_leaves_in_mid_stream_frees_its_pages(server: LiveServer) -> None:
    """If the client leaves between two tokens, the rest is not computed."""
    with closing(post(server, "/v1/completions", {**LONG, "stream": True})) as connection:
        received = b""
        while b"data: " not in received:
            received += connection.recv(4096)
        server.backend.gate.clear()
    assert server.aborted.wait(timeout=PATIENCE)
    num_batches = len(server.backend.batches)
    server.backend.gate.set()
    assert all_is_free(server)
    assert len(server.backend.batches) <= num_batches + 1


def test_an_announced_giant_is_refused_before_it_is_sent(server: LiveServer) -> None:
    """A body of 100 MB is refused as soon as its headers are there, and the server goes on serving."""
    with socket.create_connection(server.address, timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200


def test_a_giant_is_refused(server: LiveServer) -> None:
    """A client that sends all of its 100 MB before it reads gets a 413 too."""
    reply = httpx.post(f"{server.url}/v1/completions", content=bytes(104857600), timeout=PATIENCE)
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "body_too_large"
