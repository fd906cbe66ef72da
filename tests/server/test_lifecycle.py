"""Sockets; the rest of a server's life is tested with real processes in tests/e2e."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.errors import ConfigError, PortInUseError
from mlc_serve.server.context import ServerContext
from mlc_serve.server.lifecycle import bind_socket, run, url_of


def test_port_zero_is_any_free_one() -> None:
    """The URL has the port that was found."""
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        assert sock.getsockname()[1] > 0
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_bound_socket_refuses() -> None:
    """While a model is loaded nobody is left waiting in a queue."""
    with closing(bind_socket("127.0.0.1", 0)) as sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname())


def test_a_port_in_use_is_told() -> None:
    """The one line names the address and the flag to change it."""
    with closing(bind_socket("127.0.0.1", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} is in use.*--port"):
            bind_socket("127.0.0.1", port)


def test_the_first_to_listen_has_the_port() -> None:
    """Two servers that load side by side on one port: the later one is told so when it is about to serve."""
    with closing(bind_socket("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        second = bind_socket("127.0.0.1", port)
        first.listen()
        with pytest.raises(PortInUseError):
            run(ServerContext(), ServerConfig(port=port), second)


@pytest.mark.parametrize("host", ["no such host", "203.0.113.1"])
def test_an_impossible_host_is_told(host: str) -> None:
    """A name that does not resolve and an address that is not ours are errors of configuration."""
    with pytest.raises(ConfigError, match=host):
        bind_socket(host, 0)


def test_ipv6() -> None:
    """An IPv6 address is written in brackets."""
    with closing(bind_socket("::1", 0)) as sock:
        assert url_of(sock).startswith("http://[::1]:")
