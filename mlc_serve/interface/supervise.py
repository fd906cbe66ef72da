"""`mlc_serve supervise` as a function: keeps a server running, from a terminal or as a service.

Owns the signals of the process: the first one stops the server gently, and the second one kills it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import suppress
from functools import partial

from mlc_serve.config import (
    EngineConfig,
    LaunchConfig,
    ServerConfig,
    StatusServiceConfig,
    SupervisionConfig,
)
from mlc_serve.config.api_keys import with_all_keys
from mlc_serve.errors import EXIT_OK, EXIT_STARTUP_ERROR
from mlc_serve.host.end_signals import end_signals
from mlc_serve.interface.log_lines import formatter_for
from mlc_serve.interface.status_line import StatusLine
from mlc_serve.interface.supervisor_url import VARIABLE as URL_VARIABLE
from mlc_serve.server.status_service import StatusService
from mlc_serve.supervisor.mlc_server import MLCServer
from mlc_serve.supervisor.settings import Settings

TOKEN_VARIABLE = "MLC_SERVE_STATUS_TOKEN"  # noqa: S105  the name of a variable
REDRAW_SECONDS = 1.0


def run_supervisor(
    engine: EngineConfig,
    server: ServerConfig,
    launch: LaunchConfig,
    supervision: SupervisionConfig,
    service: StatusServiceConfig,
) -> int:
    """Keep a server running until a signal, and return the exit code.

    Without a status service it also ends when the supervisor gives up, with EXIT_STARTUP_ERROR; with one it
    waits until somebody starts the server again. Raises StartupError if the server can't be started at all.
    """
    server = with_all_keys(server, os.environ)
    settings = Settings.of(engine, server, launch, supervision)
    line = StatusLine(sys.stderr, server.host, server.scheme, is_logged=server.log_format == "json")
    log_to(line, server.log_level, server.log_format)
    try:
        return asyncio.run(_Supervision(settings, service, line).run())
    finally:
        line.end()


class _Supervision:
    """One server, its status line, its status service, and the signals that end them."""

    def __init__(self, settings: Settings, service: StatusServiceConfig, line: StatusLine) -> None:
        self._line = line
        self._token = service.status_token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)
        self._token_is_known = self._token in {service.status_token, os.environ.get(TOKEN_VARIABLE)}
        self._service = None if service.status_port is None else StatusService(service.status_port)
        env = {} if self._service is None else {URL_VARIABLE: self._service.url}
        self._server = MLCServer(settings, env=env)
        self._interrupted: signal.Signals | None = None
        self._exit_code = EXIT_OK
        self._wake = asyncio.Event()

    async def run(self) -> int:
        """Run until the end, and return the exit code."""
        with end_signals(partial(self._handle, asyncio.get_running_loop())):
            self._server.on_status_changed(self._line.show)
            helpers = [asyncio.create_task(self._redraw())]
            if self._service is not None:
                helpers.append(asyncio.create_task(self._service.serve(self._server, self._token)))
                self._announce(self._service.url)
            try:
                await (self._until_given_up() if self._service is None else self._until_interrupted())
            finally:
                await self._server.close()
                await self._end(helpers)
        return self._exit_code

    async def _until_given_up(self) -> None:
        """In a terminal: end when the supervisor gives up, because nothing could start the server again."""
        await self._server.start_server()
        ended = asyncio.create_task(self._server.wait_ended())
        interrupted = asyncio.create_task(self._wake.wait())
        await asyncio.wait({ended, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, interrupted):
            task.cancel()
        if self._interrupted is None:
            print(f"mlc_serve: error: {self._server.get_status().error}", file=sys.stderr)
            self._exit_code = EXIT_STARTUP_ERROR

    async def _until_interrupted(self) -> None:
        """As a service: if the server can't run, the status says so, and somebody may start it again."""
        await self._server.auto_start()
        await self._wake.wait()

    async def _redraw(self) -> None:
        while True:
            self._line.show(self._server.get_status())
            await asyncio.sleep(REDRAW_SECONDS)

    async def _end(self, helpers: list[asyncio.Task[None]]) -> None:
        redraw, *serving = helpers
        redraw.cancel()
        with suppress(asyncio.CancelledError):
            await redraw
        if self._service is not None:
            self._service.stop()
        await asyncio.gather(*serving)

    def _announce(self, url: str) -> None:
        token = "" if self._token_is_known else f", token {self._token}"
        print(f"Status on {url}{token}", flush=True)

    def _handle(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        """Wake `run`, which ends gently; a second signal ends it at once."""
        if self._interrupted is not None:
            self._exit_code = 128 + number
            self._server.kill_sync()
        self._interrupted = number
        loop.call_soon_threadsafe(self._wake.set)


class ServerLines(logging.Formatter):
    """Adds nothing to the server's lines if they have the log's form already, and formats all others."""

    def __init__(self, log_format: str) -> None:
        super().__init__()
        self._own = formatter_for(log_format)
        self._is_json = log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        text = record.getMessage()
        if record.name == "mlc_serve.supervisor.output" and (text.startswith("{") or not self._is_json):
            return text
        return self._own.format(record)


def log_to(handler: logging.Handler, level: str, log_format: str) -> None:
    """Log this program's records and its servers' lines to a handler."""
    handler.setFormatter(ServerLines(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # The server's own level decides what it prints, so all of that is shown.
    logging.getLogger("mlc_serve.supervisor.output").setLevel(logging.INFO)
    # These log every probe, and how the status service starts and ends.
    for name in ("httpx2", "httpcore2", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
