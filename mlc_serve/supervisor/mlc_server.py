"""MLCServer: a server in a process of its own that is kept running, for a program that has an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from mlc_serve.errors import StartupError, SupervisionError
from mlc_serve.host.processes import this_platform
from mlc_serve.host.processes.tree import Spawn
from mlc_serve.supervisor.config import MLCServerConfig
from mlc_serve.supervisor.events import BUFFERED, Callback, StatusEvents, StatusStream
from mlc_serve.supervisor.status import MLCServerStatus
from mlc_serve.supervisor.supervised_run import Run

logger = logging.getLogger(__name__)


class MLCServer:
    """Starts a server, watches it, restarts it when it fails, and tells its status.

    Its coroutines belong to one event loop and are carried out one after the other, whoever calls them;
    `get_status` and `kill_sync` may be called anywhere. `env` is added to this process's environment. As an
    async context manager it stops the server and ends all iterators when it is left. The server never
    outlives this process.
    """

    def __init__(
        self,
        config: MLCServerConfig | None = None,
        *,
        env: Mapping[str, str] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self._config = config or MLCServerConfig()
        self._env = dict(env or {})
        self._spawn = spawn or this_platform()
        self._status = MLCServerStatus()
        self._events = StatusEvents()
        self._operations = asyncio.Lock()
        self._run: Run | None = None

    @property
    def config(self) -> MLCServerConfig:
        """The settings of the last start, or of the next one if there was none."""
        return self._config

    async def auto_start(self) -> MLCServerStatus:
        """Start the server with the settings at hand. What keeps it from starting is in the status."""
        try:
            return await self.start_server()
        except StartupError as error:
            logger.error("the server can't be started: %s", error)
            return self.get_status()

    async def start_server(self, config: MLCServerConfig | None = None) -> MLCServerStatus:
        """Start the server's process, without waiting for its model: see wait_for_server_ready.

        Does nothing if it runs already; one that waits to be restarted starts now. Raises StartupError if no
        process can be started, and SupervisionError if one runs with other settings than `config`.
        """
        async with self._operations:
            return await self._start(config)

    async def stop_server(self) -> MLCServerStatus:
        """Stop the server: SIGINT, `stop_timeout` seconds, then SIGKILL to it and all its descendants."""
        async with self._operations:
            return await self._stop()

    async def restart(self, config: MLCServerConfig | None = None) -> MLCServerStatus:
        """Stop, wait for `restart_delay` seconds, start, perhaps with other settings. Raises StartupError."""
        async with self._operations:
            await self._stop()
            await asyncio.sleep((config or self._config).restart_delay)
            return await self._start(config)

    def kill_sync(self) -> None:
        """Kill the server and all its descendants, and return when it has ended.

        For atexit, signal handlers and other threads: waits for no lock and no event loop.
        """
        run = self._run
        if run is not None:
            run.kill_now()

    async def health_check(self) -> bool:
        """Whether the server says now that it serves."""
        run = self._run
        return run is not None and await run.fault() is None

    async def wait_for_server_ready(
        self, attempts: int | None = None, interval: float | None = None
    ) -> MLCServerStatus:
        """Ask the server whether it serves until it does: `ready_attempts` times, `ready_interval` seconds
        apart.

        Raises SupervisionError if it is not, or as soon as the supervisor has given up.
        """
        supervision = self._config.supervision
        attempts = attempts or supervision.ready_attempts
        interval = supervision.ready_interval if interval is None else interval
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(interval)
            if await self.health_check():
                return self._status
            if self._run is None or self._run.is_over:
                raise SupervisionError(self._status.error or "the server does not run, and is not to")
        raise SupervisionError(f"the server is not ready, asked {attempts} times, {interval:g} s apart")

    async def wait_ended(self) -> MLCServerStatus:
        """Wait until the server is not going to run any more: it was stopped, killed or given up."""
        while self._run is not None and not self._run.is_over:
            await self._run.wait_over()
        return self.get_status()

    def get_status(self) -> MLCServerStatus:
        """What is known of the server."""
        status, run = self._status, self._run
        if status.process_running and (run is None or not run.has_process):
            return _changed(status, process_running=False, http_available=False, port=None, pid=None)
        return status

    def on_status_changed(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with each new status, on the event loop. Returns what ends that."""
        return self._events.add_callback(callback)

    def status_events(self, buffered: int = BUFFERED) -> StatusStream:
        """An async iterator over each new status from now on; a slow reader loses the oldest."""
        return self._events.stream(buffered)

    async def close(self) -> None:
        """Stop the server, and end all iterators."""
        await self.stop_server()
        self._events.close()

    async def __aenter__(self) -> MLCServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self, config: MLCServerConfig | None) -> MLCServerStatus:
        if self._run is not None and not self._run.is_over:
            if self._run.has_process:
                self._check_same(config)
                return self._status
            await self._run.stop()
        self._config = config or self._config
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self._env}
        self._run = Run(self._config, env, self._spawn, self._tell)
        self._tell(error=None, restarts=0)
        try:
            self._run.start()
        except StartupError as error:
            self._tell(error=str(error))
            raise
        return self._status

    def _check_same(self, config: MLCServerConfig | None) -> None:
        if config is not None and config != self._config:
            raise SupervisionError("a server runs with other settings: stop it, or restart it with these")

    async def _stop(self) -> MLCServerStatus:
        # The run stays known while it stops, so that kill_sync can cut that short.
        if self._run is not None:
            try:
                await self._run.stop()
            finally:
                self._run = None
        return self._status

    def _tell(self, **changes: Any) -> None:
        """The one writer of the status."""
        new = _changed(self._status, **changes)
        if new != self._status:
            self._status = new
            self._events.emit(new)


def _changed(status: MLCServerStatus, **changes: Any) -> MLCServerStatus:
    """A status with other values, and another time if they are another state."""
    new = status.model_copy(update=changes)
    return new if new.same_state(status) else new.model_copy(update={"since": MLCServerStatus().since})
