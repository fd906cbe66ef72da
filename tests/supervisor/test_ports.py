"""Finding a free port by binding it."""

from __future__ import annotations

import os
import socket

import pytest

from mlc_serve.errors import ConfigError, PortInUseError
from mlc_serve.supervisor.ports import bind_first_free, is_listening
from tests.supervisor.supervised import free_port


def found_port(wanted: int, attempts: int) -> int:
    """The port that is found, and released at once."""
    with bind_first_free("127.0.0.1", wanted, attempts) as sock:
        port: int = sock.getsockname()[1]
    return port


def test_a_free_port_is_taken() -> None:
    """The wanted port is chosen if it is free."""
    port = free_port()
    assert found_port(port, 1) == port


def test_a_taken_port_is_passed_over() -> None:
    """If the wanted port is taken, the next one that can be bound is chosen."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        assert taken < found_port(taken, 100) < taken + 100
        with pytest.raises(PortInUseError, match=f"port {taken} is in use on 127"):
            bind_first_free("127.0.0.1", taken, 1)


def test_the_last_port_is_the_last() -> None:
    """The search does not go beyond port 65535."""
    taken = socket.create_server(("127.0.0.1", 65535))
    with taken, pytest.raises(PortInUseError, match="port 65535 is in use"):
        bind_first_free("127.0.0.1", 65535, 100)


def test_any_free_port() -> None:
    """For port 0 the system chooses one."""
    assert found_port(0, 1) > 0


def test_a_found_port_is_held() -> None:
    """A found port is not found again, although nobody listens on it yet."""
    with bind_first_free("127.0.0.1", free_port(), 100) as sock:
        port = sock.getsockname()[1]
        assert port < found_port(port, 100) < port + 100


def test_closed_connections_do_not_take_a_port() -> None:
    """A port that an earlier server has just closed is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first keeps the address for a minute
        client.close()
    assert found_port(port, 1) == port


def test_an_address_that_is_not_here() -> None:
    """An address that this machine does not have is an error at once."""
    with pytest.raises(ConfigError, match="can't listen on 192"):
        bind_first_free("192.0.2.1", 8000, 100)


def test_who_listens() -> None:
    """A process listens on a port only as long as its socket is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_listening(os.getpid(), port)
    assert not is_listening(os.getpid(), port)
