"""PopenServer: a server in a child process, for programs and tests without an event loop.

Wraps an MLCServer, which it runs on an event loop in a separate thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from mlc_serve.config import EngineConfig, LaunchConfig, Mode, ServerConfig, SupervisionConfig
from mlc_serve.errors import ConfigError, StartupError, SupervisionError
from mlc_serve.host.event_loop_thread import EventLoopThread
from mlc_serve.supervisor.mlc_server import MLCServer
from mlc_serve.supervisor.probe import base_url
from mlc_serve.supervisor.settings import Settings

POLL_SECONDS = 0.1


class PopenServer:
    """Starts `python -m mlc_serve serve` on a fixed port, and ends it. Never restarts it.

    `base_url` and `openai_v1_base_url` are its addresses. Every field of `engine_config` is passed on; its
    model, model_lib and mode must be unset or agree with the arguments, or ConfigError is raised.
    `startup_timeout` is in seconds and includes compiling a model that is served for the first time. The
    server's output goes to the logger `mlc_serve.supervisor.output`.
    """

    def __init__(
        self,
        model: str,
        device: object = "auto",
        *,
        model_lib: str | None = None,
        mode: Mode = "local",
        engine_config: EngineConfig | None = None,
        enable_debug: bool = True,
        enable_tracing: bool = False,
        host: str = "127.0.0.1",
        port: int = 8082,
        api_keys: Sequence[str] = (),
        startup_timeout: float = 600.0,
    ) -> None:
        engine = engine_config or EngineConfig()
        if port == 0:
            raise ConfigError("port: PopenServer needs a fixed port, not 0")
        self.model = model
        self.device = str(device)
        self.engine_config = engine.agreed(model=model, model_lib=model_lib, mode=mode)
        self.server_config = ServerConfig(host=host, port=port, enable_debug=enable_debug, api_keys=api_keys)
        self.launch_config = LaunchConfig(device=self.device, enable_tracing=enable_tracing)
        self.startup_timeout = startup_timeout
        self.base_url = base_url(host, port)
        self.openai_v1_base_url = f"{self.base_url}/v1"
        self._running: _Running | None = None

    def start(self, extra_env: Mapping[str, str] | None = None) -> None:
        """Start the server and wait until it takes requests.

        `extra_env` is added to this process's environment. Raises RuntimeError, with the last lines that the
        server printed, if its port is taken, if it ends, or if it isn't ready within `startup_timeout`.
        """
        if self._running is not None:
            raise RuntimeError("the server has been started already")
        self._running = _Running(self._settings(), extra_env or {})
        try:
            self._running.start()
        except BaseException as error:
            self.terminate()
            if isinstance(error, (StartupError, SupervisionError)):
                raise RuntimeError(str(error)) from error
            raise

    def terminate(self) -> None:
        """Kill the server and all its descendants, and wait for their end. Does nothing if none runs."""
        running, self._running = self._running, None
        if running is not None:
            running.terminate()

    def __enter__(self) -> PopenServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def _settings(self) -> Settings:
        supervision = SupervisionConfig(
            port_attempts=1,
            restart_limit=0,
            startup_timeout=self.startup_timeout,
            ready_interval=POLL_SECONDS,
        )
        return Settings.of(self.engine_config, self.server_config, self.launch_config, supervision)


class _Running:
    """An MLCServer on an event loop in a thread."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self._server = MLCServer(settings, env=env)
        self._thread = EventLoopThread("PopenServer")

    def start(self) -> None:
        """Start the server and wait until it is ready. Raises StartupError or SupervisionError."""
        self._thread.run(self._started)

    def terminate(self) -> None:
        """Kill the server, then end the loop."""
        self._server.kill_sync()
        self._thread.run(self._server.close)
        self._thread.stop()

    async def _started(self) -> None:
        await self._server.start_server()
        await self._server.wait_ready()
