"""A server that can't listen; the rest of a server's life is tested with real processes in tests/e2e."""

from __future__ import annotations

import socket

import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.errors import PortInUseError
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import run


def test_a_port_that_was_lost_is_told() -> None:
    """If another process listens by the time the models are loaded, the server stops with an error."""
    with socket.socket() as stranger, socket.socket() as ours:
        for sock in (stranger, ours):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", 0))
        ours.bind(stranger.getsockname())
        stranger.listen()
        with pytest.raises(PortInUseError):
            run(ServerContext(), ServerConfig(), ours)
        assert ours.fileno() == -1
