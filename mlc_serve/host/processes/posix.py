"""Linux and macOS: a process group with a guard in it.

The guard is a shell that waits for the end of a pipe that only this process holds open. When this process
ends, by whatever signal, the guard kills the group, including itself. It leads the group and is reaped last,
so that the system can't reuse the group's number while somebody may still kill the group.

    this process ──pipe── guard (leader)  ┐
                 ──────── program         ├ one process group
                          its children    ┘
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import psutil

# `read` ends with the pipe. Of the signals that are sent to its group, only SIGKILL ends the guard.
_GUARD = ("/bin/sh", "-c", "trap '' INT TERM HUP QUIT; read -r _; kill -KILL 0")
_REAP_SECONDS = 10.0


class ProcessGroup:
    """A ProcessTree on POSIX."""

    def __init__(self, process: Popen[bytes], guard: Popen[bytes]) -> None:
        self.process = process
        self._guard = guard

    def interrupt(self) -> None:
        """Send SIGINT to the program, which has to end its children itself."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to the group, and to descendants that have left it."""
        strays = self._strays()
        _kill_group(self._guard)
        for stray in strays:
            try:
                stray.kill()
            except psutil.Error:
                continue

    def release(self) -> None:
        _kill_group(self._guard)
        _close(self._guard)

    def _strays(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.Error:
            return []


def spawn_in_group(
    command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()
) -> ProcessGroup:
    """Start a program in a guarded process group of its own. Raises OSError."""
    guard = _popen(_GUARD, env={}, group=0, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
    try:
        process = _popen(
            command, env=env, group=guard.pid, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, pass_fds=inherited
        )
    except BaseException:
        _kill_group(guard)
        _close(guard)
        raise
    return ProcessGroup(process, guard)


def _popen(command: Sequence[str], *, group: int, **settings: Any) -> Popen[bytes]:
    """Start a process in a process group; 0 is a new one. `settings` are Popen's."""
    return Popen(command, process_group=group, **settings)


def _kill_group(leader: Popen[bytes]) -> None:
    """Kill a process group, unless its leader has been reaped: then another group may have the number."""
    if leader.returncode is None:
        try:
            os.killpg(leader.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            return


def _close(guard: Popen[bytes]) -> None:
    guard.wait(_REAP_SECONDS)
    if guard.stdin is not None:
        guard.stdin.close()
