"""The socket that a server listens on: it is bound first, and listens later, perhaps in another process.

A process that starts a server binds the socket, so that it knows the port and nobody else can take it, and
lets the server inherit it. An environment variable tells the server which of its descriptors that is.

    supervisor: bind_socket ── start the server, environment_of(sock) ── close its own copy
    server:     inherited_socket ── load models ── listen

A socket that is bound but does not listen refuses connections. Only the server keeps the socket: a copy in
another process would go on listening after the server's death, and clients would wait in vain.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping

from mlc_serve.errors import ConfigError, PortInUseError

BACKLOG = 2048
# Windows has no descriptors that a child could inherit by their number.
CAN_BE_INHERITED = os.name == "posix"
VARIABLE = "MLC_SERVE_SOCKET"


def bind_socket(host: str, port: int) -> socket.socket:
    """A TCP socket bound to an address (port 0: any free one). It refuses connections until `listen`.

    Nobody else can listen on the port from now on. Raises PortInUseError if another process uses the address,
    and ConfigError if it can't be bound at all.
    """
    sock = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is often both ::1 and 127.0.0.1, and clients try the latter.
        family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        sock = socket.socket(family, kind, protocol)
        _bind_alone(sock, address)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise _bind_error(error, host, port) from error
    return sock


def listen(sock: socket.socket) -> None:
    """Accept connections from now on, on a socket that `bind_socket` has returned.

    Raises PortInUseError if another process listens on the address.
    """
    if os.name == "posix":
        # Connections inherit this. Without it, closed ones would keep the next server from binding the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        raise _bind_error(error, *sock.getsockname()[:2]) from error


def http_url(host: str, port: int, scheme: str = "http") -> str:
    """The address, http:// or https://, of a host's name or address and a port."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """The address, http:// or https://, of a bound socket."""
    host, port = sock.getsockname()[:2]
    return http_url(host, port, scheme)


def environment_of(sock: socket.socket) -> dict[str, str]:
    """The environment variables that a program needs to find the descriptor that it inherits."""
    return {VARIABLE: str(sock.fileno())}


def inherited_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The bound socket that this process has inherited; None if the environment names none.

    Removes the variable, because the programs that this process starts inherit nothing. Raises ConfigError if
    the variable names no socket.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        sock = socket.socket(fileno=int(text))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{VARIABLE} is {text!r}, which is not the number of an inherited socket"
        ) from error
    sock.set_inheritable(False)
    return sock


def _bind_alone(sock: socket.socket, address: tuple[object, ...]) -> None:
    """Bind a socket so that no other process can bind the same address. Raises OSError."""
    if os.name != "posix":
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", 0), 1)
        sock.bind(address)
        return
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # Connections that an earlier server has closed keep the address in use for another minute. With this
        # option they don't count. It is switched off again, since two sockets that have it can share a port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _bind_error(error: OSError, host: str, port: int) -> ConfigError | PortInUseError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(f"{host}:{port} is in use by another process; choose another port with --port")
    return ConfigError(f"can't listen on {host}:{port}: {error.strerror}")
