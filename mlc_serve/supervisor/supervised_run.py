"""One run: from a start that somebody asked for until a stop, or until the supervisor gives up.

    start ── launch ──> starting ── answers ──> serving ── ends, or answers no more ──┐
               ^                └── ends, or takes too long ──────────────────────────┤
               ├────── at once, on the next port, if another process has this one ────┤
               └────── after a delay ─────────────────────────────────────────────────┤
                                        too often, or hopeless: gives up <────────────┘

Owns the child and the task that watches it. Runs on the event loop, but for `kill_now`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlc_serve.errors import CommandError, PortInUseError, StartupError
from mlc_serve.host.processes.tree import Spawn
from mlc_serve.supervisor.child import Child
from mlc_serve.supervisor.command import MLC_SERVE, command_for, environment_for
from mlc_serve.supervisor.config import MLCServerConfig
from mlc_serve.supervisor.endings import Ending, ending_of
from mlc_serve.supervisor.health import OWN_PATH, PATH, fault_of
from mlc_serve.supervisor.ports import find_port, is_listening
from mlc_serve.supervisor.restarts import Restarts

logger = logging.getLogger(__name__)

# What of a status belongs to a process.
_NO_PROCESS: dict[str, Any] = {
    "process_running": False,
    "http_available": False,
    "port": None,
    "pid": None,
}


class Tell(Protocol):
    """Takes the fields of MLCServerStatus that have changed."""

    def __call__(self, **changes: Any) -> None: ...


@dataclass(frozen=True)
class _Failure:
    text: str
    ending: Ending


class Run:
    """Keeps one server running. `tell` hears every change."""

    def __init__(self, config: MLCServerConfig, env: Mapping[str, str], spawn: Spawn, tell: Tell) -> None:
        self._config = config
        self._timing = config.supervision
        self._server = config.server
        self._path = OWN_PATH if self._timing.command == MLC_SERVE else PATH
        self._env = env
        self._spawn = spawn
        self._tell = tell
        self._restarts = Restarts(self._timing)
        self._num_restarts = 0
        self._was_ready = False
        self._child: Child | None = None
        self._port = 0
        self._conflicts = 0
        self._killed = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was given up, stopped or killed."""
        return self._task is None or self._task.done()

    @property
    def has_process(self) -> bool:
        """Whether the server's process runs."""
        return self._child is not None and self._child.exit_code is None

    def start(self) -> None:
        """Start the process, and watch it from now on. Raises StartupError if there is nothing to watch."""
        self._launch(find_port(self._server.host, self._server.port, self._timing.port_attempts))
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the process, gently at first, and watch no more."""
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            if self._child is not None:
                await self._child.stop(self._timing.stop_timeout)
        finally:
            self._tell(**_NO_PROCESS, error=None)

    def kill_now(self) -> None:
        """Kill the process with all its descendants, and start no other; for any thread or signal handler."""
        self._killed = True
        child = self._child
        if child is not None:
            child.kill_now()
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop has been closed, and nothing waits on it
            return

    async def wait_over(self) -> None:
        """Wait until nothing more is going to be started."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def fault(self) -> str | None:
        """Why the server does not serve; None, which is told, if it does."""
        child = self._child
        if child is None or not self.has_process:
            return "the server's process does not run"
        fault = await fault_of(self._server, self._port, self._path, self._timing.health_timeout)
        if fault is None and not self._was_ready and not is_listening(child.pid, self._port):
            return f"another process answers on port {self._port}"
        if fault is None and child is self._child and self.has_process:
            self._was_ready, self._conflicts = True, 0
            self._tell(http_available=True, error=None)
        return fault

    def _launch(self, port: int) -> None:
        command = command_for(self._config, port)
        env = {**self._env, **environment_for(self._config)}
        try:
            child = Child(self._spawn, command, env, self._timing.output_lines)
        except OSError as error:
            raise CommandError(f"can't run {command[0]}: {error.strerror}") from error
        self._child, self._port, self._was_ready = child, port, False
        if self._killed:  # while the process was being started
            child.kill_now()
        restarts = self._num_restarts
        self._tell(
            process_running=True,
            http_available=False,
            port=port,
            pid=child.pid,
            error=None,
            restarts=restarts,
        )

    async def _watch(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # an edge: whatever broke, no process may run unwatched
            logger.exception("the supervision of the server has failed")
            if self._child is not None:
                await self._child.kill()
            self._tell(**_NO_PROCESS, error=f"the supervision of the server has failed: {error!r}")

    async def _keep_running(self) -> None:
        failure: _Failure | None = None
        while failure is None or await self._try_again(failure):
            failure = await self._until_failure()

    async def _until_failure(self) -> _Failure:
        """Watch a process until its end, which comes at the latest when it does not serve."""
        child = self._child
        if child is None:
            raise RuntimeError("there is no process to watch")
        fault = await self._until_ready(child) or await self._until_unhealthy(child)
        if fault is None:
            await child.wait()
            ending = ending_of(child.exit_code, child.last_words(), self._was_ready)
            return _Failure(child.describe_end(), ending)
        await child.kill()
        return _Failure(child.quoting(fault), Ending.FAILURE)

    async def _until_ready(self, child: Child) -> str | None:
        """Why the server is not going to be ready; None if it is, or has ended."""
        deadline = time.monotonic() + self._timing.startup_timeout
        while (fault := await self.fault()) is not None:
            if time.monotonic() > deadline:
                return f"the server was not ready within {self._timing.startup_timeout:g} s ({fault})"
            if await child.ended_within(self._timing.ready_interval):
                return None
        return None

    async def _until_unhealthy(self, child: Child) -> str | None:
        """Why the server is to be given up; None if it has ended."""
        failed = 0
        while not await child.ended_within(self._timing.health_interval):
            fault = await self.fault()
            if fault is None or not self.has_process:
                failed = 0
                continue
            failed += 1
            self._tell(http_available=False, error=fault)
            if failed > self._timing.health_tolerance:
                return f"the server runs, but does not serve: {fault}"
        return None

    async def _try_again(self, failure: _Failure) -> bool:
        """Start another process, now or later. False: there is none any more."""
        while True:
            if self._killed:
                return self._end(None)
            if failure.ending is Ending.HOPELESS:
                return self._end(failure.text)
            if failure.ending is Ending.FAILURE and not await self._wait_for_turn(failure.text):
                return False
            try:
                self._launch(self._next_port(failure.ending))
                return True
            except StartupError as error:
                failure = _Failure(str(error), Ending.FAILURE)

    async def _wait_for_turn(self, reason: str) -> bool:
        """Wait as long as the back-off says. False if it says that it is enough, or if there was a kill."""
        delay = self._restarts.next_delay(time.monotonic())
        if delay is None:
            return self._end(self._why_no_more(reason))
        logger.warning("restarting the server in %g s: %s", delay, _first_line(reason))
        self._tell(**_NO_PROCESS, error=reason)
        try:
            await asyncio.wait_for(self._wake.wait(), delay)
        except asyncio.TimeoutError:
            self._num_restarts += 1
            return True
        return self._end(None)

    def _why_no_more(self, reason: str) -> str:
        limit, window = self._timing.restart_limit, self._timing.restart_window
        if limit == 0:
            return reason
        return f"gave up after {limit} restarts within {window:g} s; the last time {reason}"

    def _end(self, error: str | None) -> bool:
        """There is no server any more: because it was killed, or for a reason."""
        if error is not None:
            logger.error("%s", _first_line(error))
        self._tell(**_NO_PROCESS, error=error)
        return False

    def _next_port(self, ending: Ending) -> int:
        """The port of the last process if it is free, so that clients find the server again."""
        if ending is Ending.PORT_TAKEN:
            return self._port_after_conflict()
        try:
            return find_port(self._server.host, self._port, 1)
        except PortInUseError:
            return find_port(self._server.host, self._server.port, self._timing.port_attempts)

    def _port_after_conflict(self) -> int:
        """The next port that is free. Raises PortInUseError after as many conflicts as ports may be tried."""
        wanted, attempts = self._server.port, self._timing.port_attempts
        self._conflicts += 1
        left = attempts - self._conflicts if wanted == 0 else wanted + attempts - (self._port + 1)
        if left < 1:
            raise PortInUseError(f"port {self._port} was taken by another process before the server had it")
        logger.warning("port %d was taken before the server had it: trying the next one", self._port)
        return find_port(self._server.host, 0 if wanted == 0 else self._port + 1, left)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix(":")
