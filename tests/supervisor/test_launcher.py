"""Our own server gets the socket itself that the supervisor has bound."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.host.processes import this_platform
from mlc_serve.host.processes.tree import ProcessTree
from mlc_serve.supervisor import MLCServerConfig
from mlc_serve.supervisor.child import Child
from mlc_serve.supervisor.command import MLC_SERVE
from mlc_serve.supervisor.launcher import Launcher
from mlc_serve.supervisor.probe import PATH, fault_of
from tests.patience import PATIENCE
from tests.supervisor.supervised import QUICK, fake_command, free_port

# Listens on a port as most servers do, and prints the error's number if it can't.
STRANGER = """
import socket, sys
try:
    socket.create_server(("127.0.0.1", int(sys.argv[1])))
except OSError as error:
    print(error.errno)
"""


class Spawner:
    """Starts fake children. Before each start, another process tries to listen on the child's port."""

    def __init__(self) -> None:
        self.sockets: list[int] = []
        self.refusals: list[str] = []

    def __call__(
        self, command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()
    ) -> ProcessTree:
        self.sockets += [os.fstat(descriptor).st_ino for descriptor in inherited]
        port = next(word.partition("=")[2] for word in command if word.startswith("--port="))
        stranger = [sys.executable, "-I", "-S", "-c", STRANGER, port]
        tried = subprocess.run(stranger, capture_output=True, text=True, check=True)
        self.refusals.append(tried.stdout.strip())
        return this_platform()([*fake_command(), *command], env, inherited)


async def until_serving(child: Child, port: int) -> None:
    """Wait until a child answers."""
    while await fault_of(ServerConfig(), port, PATH, PATIENCE) is not None:
        assert child.exit_code is None, child.describe_end()


def launcher_of(spawn: Spawner, command: Sequence[str] = MLC_SERVE) -> Launcher:
    """A launcher of a command on a free port."""
    config = MLCServerConfig(**{**QUICK, "port": free_port(), "command": command})
    return Launcher(config.settings(), os.environ, spawn)


async def test_our_own_server_listens_on_the_socket_that_was_bound() -> None:
    """The port is bound once: between its choice and the start, another process can't bind it."""
    spawn = Spawner()
    launcher = launcher_of(spawn)
    child = launcher.start()
    try:
        await until_serving(child, launcher.port)
        assert launcher.has_port(child)
    finally:
        await child.stop(PATIENCE, serves=True)
    assert f"Serving on socket {spawn.sockets[0]}" in child.last_words()
    assert spawn.refusals == [str(errno.EADDRINUSE)]


async def test_a_server_that_has_died_comes_back_on_its_port() -> None:
    """The dead server's port refuses clients, as no copy of the socket is left, until the next has it."""
    spawn = Spawner()
    launcher = launcher_of(spawn)
    first = launcher.start()
    port = launcher.port
    await until_serving(first, port)
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    second = launcher.start_again()
    try:
        await until_serving(second, port)
    finally:
        await second.stop(PATIENCE, serves=True)
    assert launcher.port == port
    assert spawn.refusals == [str(errno.EADDRINUSE)] * 2


async def test_another_command_binds_the_port_itself() -> None:
    """Another command can't take over a socket, so the port is released, and another process may get it."""
    spawn = Spawner()
    launcher = launcher_of(spawn, ("another", "command"))
    child = launcher.start()
    try:
        await until_serving(child, launcher.port)
        assert launcher.has_port(child)
    finally:
        await child.stop(PATIENCE, serves=True)
    assert (spawn.sockets, spawn.refusals) == ([], [""])
