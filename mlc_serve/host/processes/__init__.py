"""Programs that end, with all that they have started, when this process ends, however it ends.

What differs between operating systems: starting such a tree of processes, interrupting it, killing it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from subprocess import Popen

import psutil

from mlc_serve.host.processes.tree import Spawn


def this_platform() -> Spawn:
    """How processes are started here."""
    # Imported here because neither module works on the other's system.
    if os.name == "nt":
        from mlc_serve.host.processes.windows import spawn_in_job

        return spawn_in_job
    from mlc_serve.host.processes.posix import spawn_in_group

    return spawn_in_group


@contextmanager
def running(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Popen[bytes]]:
    """A program that runs with no input and no environment but `env`, and whose stdout and stderr are pipes.

    At the end of the block it is killed with all that it has started. Raises OSError if it can't be started.
    """
    tree = this_platform()(command, env)
    try:
        yield tree.process
    finally:
        tree.kill()
        with tree.process:  # closes the pipes, and waits
            pass
        tree.release()


@contextmanager
def children_end() -> Iterator[None]:
    """At the end of the block, kill what this process has started in it and what still runs."""
    this = psutil.Process()
    before = set(this.children(recursive=True))
    try:
        yield
    finally:
        for child in set(this.children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                child.kill()
