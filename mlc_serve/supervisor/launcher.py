"""Launcher: starts a server's process on a free port, and starts it again when needed.

Our own server inherits the bound socket, so that no other process can take the port before it starts. Any
other command binds the port itself, and may find that another process has taken it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

from mlc_serve.errors import CommandError, PortInUseError
from mlc_serve.host.processes.tree import Spawn
from mlc_serve.host.server_socket import CAN_BE_INHERITED, environment_of
from mlc_serve.supervisor.child import Child
from mlc_serve.supervisor.command import MLC_SERVE, command_for, environment_for
from mlc_serve.supervisor.ports import bind_first_free, is_listening
from mlc_serve.supervisor.settings import Settings

logger = logging.getLogger(__name__)


class Launcher:
    """Starts one server, as often as needed. `env` is the whole environment of its process.

    Each start raises StartupError if no port is free, or if the process can't be started.
    """

    def __init__(self, settings: Settings, env: Mapping[str, str], spawn: Spawn) -> None:
        self._settings = settings
        self._host = settings.server.host
        self._wanted = settings.server.port
        self._attempts = settings.supervision.port_attempts
        self._hands_over = CAN_BE_INHERITED and settings.supervision.command == MLC_SERVE
        self._env = env
        self._spawn = spawn
        self._port = 0
        self._conflicts = 0

    @property
    def port(self) -> int:
        """The port of the last start."""
        return self._port

    def start(self) -> Child:
        """Start the server on the first free port, from the wanted one on."""
        return self._start_on(bind_first_free(self._host, self._wanted, self._attempts))

    def start_again(self) -> Child:
        """Start the server on its last port if that is free, so that clients can still reach it."""
        try:
            return self._start_on(bind_first_free(self._host, self._port, 1))
        except PortInUseError:
            return self.start()

    def start_elsewhere(self) -> Child:
        """Start the server on the next free port, because another process has taken the last one.

        Raises PortInUseError once that has happened with `port_attempts` ports in a row.
        """
        self._conflicts += 1
        any_port = self._wanted == 0
        tried = self._conflicts if any_port else self._port + 1 - self._wanted
        if tried >= self._attempts:
            raise PortInUseError(f"another process took port {self._port} before the server could bind it")
        logger.warning("port %d was taken before the server could bind it: trying the next one", self._port)
        wanted = 0 if any_port else self._port + 1
        return self._start_on(bind_first_free(self._host, wanted, self._attempts - tried))

    def note_ready(self) -> None:
        """Note that the server has its port, and count conflicts from zero again."""
        self._conflicts = 0

    def has_port(self, child: Child) -> bool:
        """Return whether this process listens on the port, rather than a process that isn't ours."""
        return self._hands_over or is_listening(child.pid, self._port)

    def _start_on(self, sock: socket.socket) -> Child:
        with sock:
            self._port = sock.getsockname()[1]
            command = command_for(self._settings, self._port)
            env = {**self._env, **environment_for(self._settings)}
            inherited = []
            if self._hands_over:
                env |= environment_of(sock)
                inherited = [sock.fileno()]
            else:
                sock.close()
            try:
                return Child(self._spawn, command, env, inherited, self._settings.supervision.output_lines)
            except OSError as error:
                raise CommandError(f"can't run {command[0]}: {error.strerror}") from error
