"""Sockets are bound, left to another process, and listened on."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mlc_serve.errors import ConfigError, PortInUseError
from mlc_serve.host.server_socket import (
    VARIABLE,
    bind_socket,
    environment_of,
    inherited_socket,
    listen,
    url_of,
)

ROOT = Path(__file__).parent.parent.parent
# Listens on a port as most servers do, and tells whether it may.
STRANGER = """
import socket, sys
try:
    socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("listens")
except OSError as error:
    print(error.errno)
"""
# Listens on the socket that it inherits, and tells which one that is.
HEIR = """
import os
from mlc_serve.host.server_socket import inherited_socket, listen
sock = inherited_socket(os.environ)
listen(sock)
print(sock.getsockname()[1], os.fstat(sock.fileno()).st_ino, sock.get_inheritable(), flush=True)
sock.accept()
"""
IN_USE = str(errno.EADDRINUSE)


def says_of_port(port: int) -> str:
    """What another process says that tries to listen on a port."""
    command = [sys.executable, "-I", "-S", "-c", STRANGER, str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def leave_closed_connection(sock: socket.socket) -> None:
    """Close a connection of a listening socket as a server does: its address is kept for a minute."""
    client = socket.create_connection(sock.getsockname())
    accepted, _ = sock.accept()
    accepted.close()  # the side that closes first is the one that keeps it
    client.close()


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
        listen(taken)
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} is in use.*--port"):
            bind_socket("127.0.0.1", port)


def test_the_first_to_bind_has_the_port() -> None:
    """Of two servers that start side by side on one port, the later one is told at once."""
    with closing(bind_socket("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortInUseError):
            bind_socket("127.0.0.1", port)
        assert says_of_port(port) == IN_USE
        listen(first)
        assert says_of_port(port) == IN_USE


def test_closed_connections_do_not_keep_a_port() -> None:
    """A server that is started again binds its port at once, and nobody else can then."""
    first = bind_socket("127.0.0.1", 0)
    port = first.getsockname()[1]
    with closing(first):
        listen(first)
        leave_closed_connection(first)
    with closing(bind_socket("127.0.0.1", port)) as second:
        assert says_of_port(port) == IN_USE
        listen(second)
        leave_closed_connection(second)


def test_a_stranger_who_listens_first_is_told() -> None:
    """A socket that lets others share its port may find that one of them listens already."""
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        first.listen()
        with pytest.raises(PortInUseError, match=str(second.getsockname()[1])):
            listen(second)


@pytest.mark.parametrize("host", ["no such host", "203.0.113.1"])
def test_an_impossible_host_is_told(host: str) -> None:
    """A name that does not resolve and an address that is not ours are errors of configuration."""
    with pytest.raises(ConfigError, match=host):
        bind_socket(host, 0)


def test_ipv6() -> None:
    """An IPv6 address is written in brackets."""
    with closing(bind_socket("::1", 0)) as sock:
        assert url_of(sock).startswith("http://[::1]:")


def test_a_program_inherits_the_very_socket() -> None:
    """It listens on the socket that this process has bound, and its own children don't inherit it."""
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        heir = subprocess.Popen(
            [sys.executable, "-c", HEIR],
            cwd=ROOT,
            env={**os.environ, **environment_of(sock)},
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[sock.fileno()],
        )
        address, inode = sock.getsockname(), os.fstat(sock.fileno()).st_ino
    with heir:
        assert heir.stdout is not None
        assert heir.stdout.readline().split() == [str(address[1]), str(inode), "False"]
        socket.create_connection(address).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_there_need_be_no_inherited_socket() -> None:
    """A server that nobody supervises binds its own."""
    assert inherited_socket({}) is None


def test_an_inheritance_is_taken_once() -> None:
    """The variable is gone afterwards, so that no other program looks for a descriptor that it lacks."""
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        environment = environment_of(sock)
        taken = inherited_socket(environment)
        assert taken is not None
        assert (taken.detach(), environment) == (sock.fileno(), {})


@pytest.mark.parametrize("text", ["", "five", "-1", "987654"])
def test_a_number_of_no_socket_is_told(text: str) -> None:
    """The variable is named, whatever is wrong with it."""
    with pytest.raises(ConfigError, match=f"MLC_SERVE_SOCKET is '{text}'"):
        inherited_socket({VARIABLE: text})
