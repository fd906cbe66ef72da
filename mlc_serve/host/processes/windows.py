"""Windows: a job object that ends with the last handle to it, which this process holds.

The program starts suspended and runs once it is in the job, so that none of its children escape.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from subprocess import DEVNULL, PIPE, Popen
from typing import Protocol

import psutil

# The numbers of subprocess.CREATE_NEW_PROCESS_GROUP and signal.CTRL_BREAK_EVENT, which exist only on
# Windows, and of CREATE_SUSPENDED, for which Python has no name.
_CREATE_NEW_PROCESS_GROUP = 0x00000200
_CREATE_SUSPENDED = 0x00000004
_CTRL_BREAK_EVENT = 1


class Job(Protocol):
    """A job object: processes that end together, at the latest when the job is closed."""

    def assign(self, process: Popen[bytes]) -> None:
        """Put a process, and all that it will start, into the job. Raises OSError."""

    def terminate(self) -> None:
        """End every process of the job."""

    def close(self) -> None:
        """Close the job, which ends the processes that are left in it. May be called twice."""


class ProcessJob:
    """A ProcessTree on Windows."""

    def __init__(self, process: Popen[bytes], job: Job) -> None:
        self.process = process
        self._job = job

    def interrupt(self) -> None:
        """Send Ctrl-Break, since a process that has its own group doesn't get Ctrl-C."""
        try:
            self.process.send_signal(_CTRL_BREAK_EVENT)
        except OSError:  # without a console nothing can be sent; kill() follows after the grace period
            return

    def kill(self) -> None:
        self._job.terminate()

    def release(self) -> None:
        self._job.close()


def spawn_in_job(command: Sequence[str], env: Mapping[str, str], inherited: Sequence[int] = ()) -> ProcessJob:
    """Start a program in its own job object. Raises OSError, also if `inherited` is not empty."""
    if inherited:
        raise OSError("a program can't inherit descriptors on Windows")
    if sys.platform == "win32":
        from mlc_serve.host.processes.win32_job import Win32Job

        return spawn_in(Win32Job(), command, env)
    raise OSError("job objects exist only on Windows")


def spawn_in(
    job: Job,
    command: Sequence[str],
    env: Mapping[str, str],
    popen: Callable[..., Popen[bytes]] = subprocess.Popen,
    resume: Callable[[int], object] = lambda pid: psutil.Process(pid).resume(),
) -> ProcessJob:
    """Start a program in `job`, which is closed if that fails. `popen` starts it, `resume` lets it run."""
    flags = _CREATE_NEW_PROCESS_GROUP | _CREATE_SUSPENDED
    try:
        process = popen(command, env=env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, creationflags=flags)
    except BaseException:
        job.close()
        raise
    try:
        job.assign(process)
        resume(process.pid)
    except BaseException:
        process.kill()
        job.close()
        raise
    return ProcessJob(process, job)
