"""A process group on POSIX, with the guard that ends it."""

from __future__ import annotations

import os
import sys

from mlc_serve.host.processes import posix
from tests.patience import PATIENCE
from tests.supervisor.supervised import wait_gone

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]


def test_program_and_guard_are_one_group() -> None:
    """The guard leads it; releasing ends both."""
    tree = posix.spawn_in_group(SLEEP, os.environ)
    program, guard = tree.process.pid, tree._guard.pid
    assert os.getpgid(program) == os.getpgid(guard) == guard
    assert os.getpgid(0) != guard
    tree.kill()
    assert tree.process.wait(PATIENCE) == -9
    tree.release()
    wait_gone(guard)
    for stream in (tree.process.stdout, tree.process.stderr):
        assert stream is not None
        stream.close()


def test_the_guard_ends_the_group_when_its_pipe_ends() -> None:
    """The end of the supervisor is the end of the pipe."""
    tree = posix.spawn_in_group(SLEEP, os.environ)
    assert tree._guard.stdin is not None
    tree._guard.stdin.close()
    assert tree.process.wait(PATIENCE) == -9
    tree.release()
    for stream in (tree.process.stdout, tree.process.stderr):
        assert stream is not None
        stream.close()
