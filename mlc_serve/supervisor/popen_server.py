"""PopenServer: a server in a child process, for programs and tests that want one for a while.

Owns the child from start() to terminate(). The child's stdout is the caller's; its stderr passes through a
thread of the caller, which keeps the last lines, so that a child that fails can be quoted.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO

import psutil

from mlc_serve.config import EngineConfig, LaunchConfig, Mode, ServerConfig
from mlc_serve.errors import ConfigError
from mlc_serve.options import command_line

POLL_SECONDS = 0.1
REPLY_SECONDS = 5.0
KILL_SECONDS = 10.0
QUOTED_LINES = 20


class PopenServer:
    """Starts `python -m mlc_serve serve` and ends it.

    `base_url` and `openai_v1_base_url` are where it is reached. Every field of `engine_config` is passed on;
    its model, model_lib and mode must be unset or agree with the arguments, or ConfigError is raised.
    `startup_timeout` is in seconds and includes compiling a model that is served for the first time.
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
        config = engine_config or EngineConfig()
        if port == 0:
            raise ConfigError("PopenServer needs a port that is known beforehand, not 0")
        self.model = model
        self.device = str(device)
        self.engine_config = config.agreed(model=model, model_lib=model_lib, mode=mode)
        self.server_config = ServerConfig(host=host, port=port, enable_debug=enable_debug, api_keys=api_keys)
        self.launch_config = LaunchConfig(device=self.device, enable_tracing=enable_tracing)
        self.startup_timeout = startup_timeout
        self.base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.openai_v1_base_url = f"{self.base_url}/v1"
        self._child: _Child | None = None

    def start(self, extra_env: Mapping[str, str] | None = None) -> None:
        """Start the server and wait until it takes requests.

        `extra_env` is added to this process's environment. Raises RuntimeError, with what the server said
        last, if it ends or isn't ready within `startup_timeout`.
        """
        if self._child is not None:
            raise RuntimeError("the server has been started already")
        self._check_port()
        self._child = _Child(self._command(), os.environ | dict(extra_env or {}))
        try:
            self._wait_ready(self._child, time.monotonic() + self.startup_timeout)
        except BaseException:
            self.terminate()
            raise

    def terminate(self) -> None:
        """Kill the server and every process below it, and wait for their end. Does nothing if none runs."""
        child, self._child = self._child, None
        if child is not None:
            child.kill_tree()

    def __enter__(self) -> PopenServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def _command(self) -> list[str]:
        configs = (self.launch_config, self.server_config, self.engine_config)
        settings = [argument for config in configs for argument in command_line(config)]
        return [sys.executable, "-m", "mlc_serve", "serve", self.model, *settings]

    def _check_port(self) -> None:
        """Make sure that no stranger answers in the child's place."""
        address = (self.server_config.host, self.server_config.port)
        try:
            socket.create_connection(address, timeout=1.0).close()
        except OSError:
            return
        raise RuntimeError(f"another server listens on {self.base_url}")

    def _wait_ready(self, child: _Child, deadline: float) -> None:
        while not _answers(f"{self.base_url}/ready"):
            if child.ended_within(POLL_SECONDS):
                raise RuntimeError(f"the server ended with code {child.exit_code}:\n{child.last_words()}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the server was not ready within {self.startup_timeout:g} s:\n{child.last_words()}"
                )


class _Child:
    """A process whose stderr is passed on and remembered."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=env, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self._lines: deque[str] = deque(maxlen=QUOTED_LINES)
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def ended_within(self, seconds: float) -> bool:
        """Wait up to `seconds` for the process to end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """The last lines that it wrote to stderr."""
        if self._process.poll() is not None:
            self._reader.join(KILL_SECONDS)
        return "".join(self._lines).rstrip() or "(it wrote nothing to stderr)"

    def kill_tree(self) -> None:
        """Kill the process and all its descendants, and reap it."""
        tree = _tree(self._process.pid)
        for process in tree:
            _kill(process)
        psutil.wait_procs(tree, timeout=KILL_SECONDS)
        self._process.wait(KILL_SECONDS)
        self._reader.join(KILL_SECONDS)

    def _pass_on(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.append(line)
                sys.stderr.write(line)


def _tree(pid: int) -> list[psutil.Process]:
    """A process, stopped so that it starts no more children, and its descendants."""
    try:
        root = psutil.Process(pid)
        root.suspend()
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _answers(url: str) -> bool:
    """Whether a GET has status 200, asked directly, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=REPLY_SECONDS) as reply:
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False
