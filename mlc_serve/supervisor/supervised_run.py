"""SupervisedRun: one server from a start on request until it is stopped or the supervisor gives up.

    start ── launch ──> starting ── answers ──> serving ── ends, or stops answering ──┐
               ^                └── ends, or takes too long ──────────────────────────┤
               ├────── at once, on the next port, if another process has this one ────┤
               └────── after a delay ─────────────────────────────────────────────────┤
                                        too often, or hopeless: gives up <────────────┘

Owns the child and the task that watches it. Runs on the event loop, except for `kill_now`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mlc_serve.errors import StartupError
from mlc_serve.host.processes.tree import Spawn
from mlc_serve.supervisor.child import Child
from mlc_serve.supervisor.command import MLC_SERVE
from mlc_serve.supervisor.endings import Ending, ending_of
from mlc_serve.supervisor.launcher import Launcher
from mlc_serve.supervisor.probe import OWN_PATH, PATH, fault_of
from mlc_serve.supervisor.restarts import Restarts
from mlc_serve.supervisor.settings import Settings

logger = logging.getLogger(__name__)

# The fields of a status that describe the process, while there is none.
_NO_PROCESS: dict[str, Any] = {
    "process_running": False,
    "http_available": False,
    "port": None,
    "pid": None,
}


class Tell(Protocol):
    """Takes the fields of MLCServerStatus that have changed."""

    def __call__(self, **changes: Any) -> None: ...


class _Failure(NamedTuple):
    text: str
    ending: Ending


class SupervisedRun:
    """Keeps one server running, and calls `tell` with every change. `env` is its whole environment."""

    def __init__(self, settings: Settings, env: Mapping[str, str], spawn: Spawn, tell: Tell) -> None:
        self._server = settings.server
        self._timing = settings.supervision
        self._path = OWN_PATH if self._timing.command == MLC_SERVE else PATH
        self._tell = tell
        self._launcher = Launcher(settings, env, spawn)
        self._restarts = Restarts(self._timing)
        self._num_restarts = 0
        self._was_ready = False
        self._child: Child | None = None
        self._killed = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the server was stopped, killed or given up."""
        return self._task is None or self._task.done()

    @property
    def has_process(self) -> bool:
        """Whether the server's process runs."""
        return self._child is not None and self._child.exit_code is None

    def start(self) -> None:
        """Start the process, and watch it from now on. Raises StartupError if it can't be started."""
        self._watch_over(self._launcher.start())
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching, and interrupt the process. Kill it if it takes too long to end."""
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            if self._child is not None:
                await self._child.stop(self._timing.stop_timeout, serves=self._was_ready)
        finally:
            self._tell(**_NO_PROCESS, error=None)

    def kill_now(self) -> None:
        """Kill the process with all its descendants, and start no other.

        Any thread or signal handler may call this.
        """
        self._killed = True
        child = self._child
        if child is not None:
            child.kill_now()
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop has been closed, and nothing waits on it
            return

    async def wait_over(self) -> None:
        """Wait until the server has been stopped, killed or given up."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def fault(self) -> str | None:
        """Ask the server, and return why it does not serve, or None if it does. Changes nothing."""
        child = self._child
        if child is None or not self.has_process:
            return "the server's process does not run"
        fault = await fault_of(self._server, self._launcher.port, self._path, self._timing.health_timeout)
        if fault is None and not self._was_ready and not self._launcher.has_port(child):
            return f"another process answers on port {self._launcher.port}"
        return fault

    def _watch_over(self, child: Child) -> None:
        """Take charge of a process that has just been started."""
        self._child, self._was_ready = child, False
        if self._killed:  # kill_now was called while the process was being started
            child.kill_now()
        self._tell(
            process_running=True,
            http_available=False,
            port=self._launcher.port,
            pid=child.pid,
            error=None,
            restarts=self._num_restarts,
        )

    async def _watch(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # whatever failed, no process may run unwatched
            logger.exception("the supervision of the server has failed")
            if self._child is not None:
                await self._child.kill()
            self._tell(**_NO_PROCESS, error=f"the supervision of the server has failed: {error!r}")

    async def _keep_running(self) -> None:
        failure: _Failure | None = None
        while failure is None or await self._try_again(failure):
            failure = await self._until_failure()

    async def _until_failure(self) -> _Failure:
        """Watch the process until it has ended, and kill it if it does not serve. Return what was wrong."""
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
        """Wait until the server is ready or has ended, and return None. If it takes too long, return why."""
        deadline = time.monotonic() + self._timing.startup_timeout
        while (fault := await self.fault()) is not None:
            if time.monotonic() > deadline:
                return f"the server was not ready within {self._timing.startup_timeout:g} s ({fault})"
            if await child.ended_within(self._timing.ready_interval):
                return None
        self._note_answer()
        return None

    async def _until_unhealthy(self, child: Child) -> str | None:
        """Wait until the server has ended, and return None. If too many probes fail, return why."""
        failed = 0
        while not await child.ended_within(self._timing.health_interval):
            fault = await self.fault()
            if fault is None or not self.has_process:
                failed = 0
                self._note_answer()
                continue
            failed += 1
            self._tell(http_available=False, error=fault)
            if failed > self._timing.health_tolerance:
                return f"the server runs, but does not serve: {fault}"
        return None

    def _note_answer(self) -> None:
        """Note that the server has answered that it serves. Does nothing if it has ended since."""
        if self.has_process:
            self._was_ready = True
            self._launcher.note_ready()
            self._tell(http_available=True, error=None)

    async def _try_again(self, failure: _Failure) -> bool:
        """Start another process, now or later. Return False if there will be none."""
        while True:
            if self._killed:
                return self._end(None)
            if failure.ending is Ending.HOPELESS:
                return self._end(failure.text)
            if failure.ending is Ending.FAILURE and not await self._wait_for_turn(failure.text):
                return False
            try:
                self._watch_over(self._launch_after(failure.ending))
                return True
            except StartupError as error:
                failure = _Failure(str(error), Ending.FAILURE)

    def _launch_after(self, ending: Ending) -> Child:
        if ending is Ending.PORT_TAKEN:
            return self._launcher.start_elsewhere()
        return self._launcher.start_again()

    async def _wait_for_turn(self, reason: str) -> bool:
        """Wait for as long as the back-off says. Return False after too many restarts, or after a kill."""
        delay = self._restarts.next_delay(time.monotonic())
        if delay is None:
            return self._end(self._why_no_more(reason))
        logger.warning("restarting the server in %g s: %s", delay, _first_line(reason))
        self._tell(**_NO_PROCESS, error=reason)
        try:
            await asyncio.wait_for(self._wake.wait(), delay)
        except TimeoutError:
            self._num_restarts += 1
            return True
        return self._end(None)

    def _why_no_more(self, reason: str) -> str:
        limit, window = self._timing.restart_limit, self._timing.restart_window
        if limit == 0:
            return reason
        return f"gave up after {limit} restarts within {window:g} s; the last time {reason}"

    def _end(self, error: str | None) -> bool:
        """Report that there is no server any more: because of `error`, or (None) because it was killed."""
        if error is not None:
            logger.error("%s", _first_line(error))
        self._tell(**_NO_PROCESS, error=error)
        return False


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix(":")
