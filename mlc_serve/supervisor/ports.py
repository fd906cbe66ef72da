"""Finding a port that a server can bind. Knows no server.

Another process may take the port before the server does: who starts it tries the next one then.
"""

from __future__ import annotations

import errno
import os
import socket

import psutil

from mlc_serve.errors import ConfigError, PortInUseError

LAST_PORT = 65535


def find_port(host: str, wanted: int, attempts: int) -> int:
    """The first of `attempts` ports, from `wanted` on, that can be bound; for 0, any free one.

    Raises PortInUseError if all are taken, and ConfigError if the address can't be used at all.
    """
    if wanted == 0:
        return _bound_port(host, 0)
    last = min(wanted + attempts - 1, LAST_PORT)
    for port in range(wanted, last + 1):
        try:
            return _bound_port(host, port)
        except PortInUseError:
            continue
    ports = f"port {wanted} is" if last <= wanted else f"all ports from {wanted} to {last} are"
    raise PortInUseError(f"{ports} in use on {host}; choose another one with --port")


def _bound_port(host: str, port: int) -> int:
    """Bind an address, let go of it, and return its port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, _EXCLUSIVE, 1)
            probe.bind(address)
            bound: int = probe.getsockname()[1]
            return bound
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(f"port {port} is in use on {host}") from error
        raise ConfigError(f"can't listen on {host}:{port}: {error.strerror}") from error


# As the server sets it: connections that an earlier server has closed do not count as a taken port. On
# Windows the option of that name would let two servers share a port, and another one keeps them apart.
_EXCLUSIVE: int = socket.SO_REUSEADDR if os.name == "posix" else getattr(socket, "SO_EXCLUSIVEADDRUSE", 0)


def is_listening(pid: int, port: int) -> bool:
    """Whether a process or one of its descendants listens on a port; True where that can't be known."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(_listens(member, port) for member in family)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def _listens(process: psutil.Process, port: int) -> bool:
    connections = process.net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
