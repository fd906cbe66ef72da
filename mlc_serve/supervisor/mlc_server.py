"""MLCServer: keeps a server running in its own process, for programs with an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any

from mlc_serve.errors import StartupError, SupervisionError
from mlc_serve.host.processes import this_platform
from mlc_serve.host.processes.tree import Spawn
from mlc_serve.supervisor.config import MLCServerConfig
from mlc_serve.supervisor.settings import Settings
from mlc_serve.supervisor.status import MLCServerStatus
from mlc_serve.supervisor.status_events import BUFFERED, Callback, StatusEvents, StatusStream
from mlc_serve.supervisor.supervised_run import SupervisedRun

logger = logging.getLogger(__name__)


class MLCServer:
    """Starts a server, watches it, restarts it when it fails, and reports its status.

    Its coroutines must run on one event loop. Those that start or stop the server run one after the other,
    even if several callers start them at once. `get_status` and `kill_sync` may be called from any thread.
    `config` may also be Settings, which need no conversion. `env` is added to this process's environment. As
    an async context manager, it stops the server and ends all iterators on exit. The server never outlives
    this process.
    """

    def __init__(
        self,
        config: MLCServerConfig | Settings | None = None,
        *,
        env: Mapping[str, str] | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self._settings = config if isinstance(config, Settings) else (config or MLCServerConfig()).settings()
        self._env = dict(env or {})
        self._spawn = spawn or this_platform()
        self._status = MLCServerStatus()
        self._events = StatusEvents()
        self._operations = asyncio.Lock()
        self._run: SupervisedRun | None = None

    @property
    def config(self) -> MLCServerConfig:
        """The settings of the last start, or of the next one if there was none."""
        return MLCServerConfig.of(*self._settings)

    async def auto_start(self) -> MLCServerStatus:
        """Start the server with its present settings. If that fails, the status says why."""
        try:
            return await self.start_server()
        except StartupError as error:
            logger.error("the server can't be started: %s", error)
            return self.get_status()

    async def start_server(self, config: MLCServerConfig | None = None) -> MLCServerStatus:
        """Start the server's process. To wait until its model is loaded, call wait_for_server_ready.

        Does nothing if the process is already running. A restart that is due later happens now. Raises
        StartupError if no process can be started, and SupervisionError if one runs with other settings.
        """
        async with self._operations:
            return await self._start(config)

    async def stop_server(self) -> MLCServerStatus:
        """Stop the server with SIGINT. After `stop_timeout` seconds, kill it and all its descendants."""
        async with self._operations:
            return await self._stop()

    async def restart(self, config: MLCServerConfig | None = None) -> MLCServerStatus:
        """Stop the server, wait for `restart_delay` seconds, and start it, with other settings if given.

        Raises StartupError.
        """
        async with self._operations:
            await self._stop()
            settings = self._settings if config is None else config.settings()
            await asyncio.sleep(settings.supervision.restart_delay)
            return await self._start(config)

    def kill_sync(self) -> None:
        """Kill the server and all its descendants, and return when it has ended.

        It waits for no lock and no event loop, so atexit, signal handlers and other threads may call it.
        """
        run = self._run
        if run is not None:
            run.kill_now()

    async def health_check(self) -> bool:
        """Ask the server whether it serves. The status is left to the supervisor's own probes."""
        run = self._run
        return run is not None and await run.fault() is None

    async def wait_for_server_ready(
        self, attempts: int | None = None, interval: float | None = None
    ) -> MLCServerStatus:
        """Wait until the server serves, but no longer than `attempts` times `interval` seconds.

        They default to `ready_attempts` and `ready_interval`. Raises SupervisionError if the server is not
        ready by then, or as soon as the supervisor has given up.
        """
        supervision = self._settings.supervision
        attempts = attempts or supervision.ready_attempts
        interval = supervision.ready_interval if interval is None else interval
        try:
            return await asyncio.wait_for(self.wait_ready(), attempts * interval)
        except TimeoutError:
            text = f"the server was not ready within {attempts} times {interval:g} s"
            raise SupervisionError(text) from None

    async def wait_ready(self) -> MLCServerStatus:
        """Wait until the server serves. Raises SupervisionError as soon as it is certain that it won't."""
        with closing(self.status_events()) as changes:
            while not (status := self.get_status()).http_available:
                if self._run is None or self._run.is_over:
                    raise SupervisionError(status.error or "the server is neither running nor starting")
                await changes.__anext__()
        return status

    async def wait_ended(self) -> MLCServerStatus:
        """Wait until the server has been stopped, killed or given up."""
        while self._run is not None and not self._run.is_over:
            await self._run.wait_over()
        return self.get_status()

    def get_status(self) -> MLCServerStatus:
        """Return what is known about the server."""
        status, run = self._status, self._run
        if status.process_running and (run is None or not run.has_process):
            return _changed(status, process_running=False, http_available=False, port=None, pid=None)
        return status

    def on_status_changed(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` on the event loop with each new status. Return a function that ends this."""
        return self._events.add_callback(callback)

    def status_events(self, buffered: int = BUFFERED) -> StatusStream:
        """Return an async iterator over each new status from now on. A slow reader misses the oldest."""
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
        if config is not None:
            self._settings = config.settings()
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self._env}
        self._run = SupervisedRun(self._settings, env, self._spawn, self._tell)
        self._tell(error=None, restarts=0)
        try:
            self._run.start()
        except StartupError as error:
            self._tell(error=str(error))
            raise
        return self._status

    def _check_same(self, config: MLCServerConfig | None) -> None:
        if config is not None and config != self.config:
            raise SupervisionError("the server runs with other settings: stop it, or restart it with these")

    async def _stop(self) -> MLCServerStatus:
        # `_run` is still set while it stops, so that kill_sync can cut that short.
        if self._run is not None:
            try:
                await self._run.stop()
            finally:
                self._run = None
        return self._status

    def _tell(self, **changes: Any) -> None:
        """Change the status and report it. Nothing else writes the status."""
        new = _changed(self._status, **changes)
        if new != self._status:
            self._status = new
            self._events.emit(new)


def _changed(status: MLCServerStatus, **changes: Any) -> MLCServerStatus:
    """Return a copy of the status with these changes. If the state differs, `since` is the present time."""
    new = status.model_copy(update=changes)
    return new if new.same_state(status) else new.model_copy(update={"since": MLCServerStatus().since})
