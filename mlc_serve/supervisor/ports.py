"""Finds free ports of this machine, and checks whether a process listens on a port."""

from __future__ import annotations

import socket

import psutil

from mlc_serve.errors import PortInUseError
from mlc_serve.host.server_socket import bind_socket

LAST_PORT = 65535


def bind_first_free(host: str, wanted: int, attempts: int) -> socket.socket:
    """Return a socket bound to the first free one of `attempts` ports from `wanted` on, or to any port for 0.

    Raises PortInUseError if all are taken, and ConfigError if the address can't be used at all.
    """
    if wanted == 0:
        return bind_socket(host, 0)
    last = min(wanted + attempts - 1, LAST_PORT)
    for port in range(wanted, last + 1):
        try:
            return bind_socket(host, port)
        except PortInUseError:
            continue
    ports = f"port {wanted} is" if last <= wanted else f"all ports from {wanted} to {last} are"
    raise PortInUseError(f"{ports} in use on {host}; choose another one with --port")


def is_listening(pid: int, port: int) -> bool:
    """Return whether a process or its descendants listen on a port, or True if that can't be known."""
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
