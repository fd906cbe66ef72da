"""ProcessTree and Spawn: a process with its descendants, and a function that starts one, on any system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from subprocess import Popen
from typing import Protocol


class ProcessTree(Protocol):
    """A running program and its descendants. They end when this process ends, for any reason."""

    @property
    def process(self) -> Popen[bytes]:
        """The program's own process; its stdout and stderr are pipes."""

    def interrupt(self) -> None:
        """Ask the program to end, as Ctrl-C does. Does nothing if it has ended."""

    def kill(self) -> None:
        """Kill the program and its descendants. Takes no lock, so that a signal handler may call it."""

    def release(self) -> None:
        """Kill descendants that still run, and free the resources. Must be called after the program's end."""


class Spawn(Protocol):
    """Starts a program."""

    def __call__(
        self, command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()
    ) -> ProcessTree:
        """Start `command` without input, and with `env` as its whole environment.

        It inherits the descriptors `inherited`, under the same numbers, and no others. Raises OSError.
        """
