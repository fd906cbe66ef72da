"""Runs programs that end, with all processes that they have started, when this process ends, for any reason.

How such a tree of processes is started, interrupted and killed depends on the operating system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from subprocess import Popen

import psutil

from mlc_serve.host.processes.tree import Spawn


def this_platform() -> Spawn:
    """The function that starts processes on this operating system."""
    # Imported here because each module works only on its own system.
    if os.name == "nt":
        from mlc_serve.host.processes.windows import spawn_in_job

        return spawn_in_job
    from mlc_serve.host.processes.posix import spawn_in_group

    return spawn_in_group


@contextmanager
def running(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Popen[bytes]]:
    """Run a program without input, with `env` as its whole environment, and with pipes as stdout and stderr.

    At the end of the block it is killed with all processes that it has started. Raises OSError if it can't be
    started.
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
    """At the end of the block, kill those processes that were started in it and still run."""
    this = psutil.Process()
    before = set(this.children(recursive=True))
    try:
        yield
    finally:
        for child in set(this.children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                child.kill()
