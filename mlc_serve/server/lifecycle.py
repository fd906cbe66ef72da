"""Runs a server from a bound socket to the exit code: serves, drains on a signal, exits when an engine dies.

    bind_socket ── load models ── run: listen ── serve ──┬─ signal ── drain ── flush ── EXIT_OK
                                                         │             └─ second signal ── 128 + its number
                                                         └─ an engine dies ─── flush ── EXIT_ENGINE_DEAD

Owns the signals of the process while it serves, and Uvicorn. Runs on the main thread.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import anyio
import uvicorn
from fastapi import FastAPI

from mlc_serve.config import ServerConfig
from mlc_serve.errors import EXIT_ENGINE_DEAD, EXIT_OK, StartupError
from mlc_serve.host.server_socket import BACKLOG, bind_socket, listen, url_of
from mlc_serve.server.app import create_app
from mlc_serve.server.connection import uvicorn_settings
from mlc_serve.server.connections import Connections
from mlc_serve.server.context import ServerContext
from mlc_serve.server.loop_watch import LoopWatch
from mlc_serve.server.tracing import Tracer

logger = logging.getLogger(__name__)

# How many seconds complete replies may take to be sent to slow readers.
FLUSH_SECONDS = 5
# How many seconds an engine may take to stop after serving has ended.
CLOSE_SECONDS = 3
# How long a thread that computes in Python may keep another waiting for the interpreter. The event loop
# waits for it several times in one turn, so that Python's own 5 ms add up.
_SWITCH_SECONDS = 0.001


def run(
    context: ServerContext,
    config: ServerConfig,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    tracer: Tracer | None = None,
) -> int:
    """Serve until a signal arrives or an engine dies, and return the exit code of the process.

    `sock` is bound already; without it, one is bound to the config's address. With `tls`, which
    `server_context` makes, the server speaks HTTPS. `tracer` records the requests. Closes context and socket.
    Raises PortInUseError if another process listens on the address.
    """
    bound = sock or bind_socket(config.host, config.port)
    try:
        listen(bound)
    except StartupError:
        bound.close()
        raise
    return Lifecycle(context, config, bound, tls, tracer).run()


class Lifecycle:
    """Runs one server from listening to its exit code."""

    def __init__(
        self,
        context: ServerContext,
        config: ServerConfig,
        sock: socket.socket,
        tls: ssl.SSLContext | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._context = context
        self._config = config
        self._sock = sock
        self._tls = tls
        self._tracer = tracer
        self._exit_code = EXIT_OK
        self._stop = asyncio.Event()
        self._server_loop: asyncio.AbstractEventLoop
        self._loop_watch = LoopWatch(context.loop_holds, config.loop_warning, self._is_answering)
        self._connections = Connections(config, self._loop_watch.touch)
        self._server = uvicorn.Server(self._uvicorn_config())

    def run(self) -> int:
        """Serve, and return the exit code."""
        try:
            self._server.run(sockets=[self._sock])
        finally:
            self._close()
        return self._exit_code

    def _close(self) -> None:
        """Close the context and the socket.

        If a device hangs, its engine can't stop. The process then exits at once without tearing anything
        down, since the engine may still be using it.
        """
        closing = threading.Thread(target=self._context.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        self._sock.close()
        if closing.is_alive():
            logger.error("an engine has not stopped within %s s; the server ends without it", CLOSE_SECONDS)
            if _owns_process():
                _exit_at_once(self._exit_code)

    def stop(self) -> None:
        """Begin to drain. Any thread may call this once the server serves."""
        self._server_loop.call_soon_threadsafe(self._stop.set)

    def _is_answering(self) -> bool:
        return bool(self._server.server_state.tasks)

    def _uvicorn_config(self) -> uvicorn.Config:
        return uvicorn.Config(
            create_app(self._context, self._config, self._lifespan, self._tracer),
            **uvicorn_settings(self._config, self._connections, self._tls),
            log_config=None,
            log_level=self._config.log_level,
            access_log=False,
            lifespan="on",
            ws="none",
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=FLUSH_SECONDS,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self._server_loop = asyncio.get_running_loop()
        anyio.current_time()  # loads anyio's backend, for which the first request would hold the event loop
        if _owns_process():
            self._watch_signals()
            favor_event_loop()
        self._loop_watch.start(self._server_loop)
        supervision = asyncio.create_task(self._supervise())
        url = url_of(self._sock, self._config.scheme)
        print(f"Serving {', '.join(self._context.names)} on {url}", flush=True)
        yield
        supervision.cancel()
        self._loop_watch.stop()

    def _watch_signals(self) -> None:
        """Replace Uvicorn's signal handlers, which would cut off open streams."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._server_loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            logger.warning("second %s: exiting at once", number.name)
            _exit_at_once(128 + number)
        limit = self._config.shutdown_timeout
        logger.info(
            "%s: finishing open requests within %s s; a second signal exits at once", number.name, limit
        )
        self._stop.set()

    async def _supervise(self) -> None:
        """Wait for a reason to end, then end Uvicorn, which sends complete replies and closes connections."""
        try:
            await self._until_the_end()
        except Exception:  # whatever failed, the process must not go on half alive
            logger.exception("the server's supervision has failed")
            self._exit_code = EXIT_ENGINE_DEAD
        finally:
            self._server.should_exit = True

    async def _until_the_end(self) -> None:
        death = asyncio.create_task(self._context.death())
        await _first_of(death, asyncio.create_task(self._stop.wait()))
        if not death.done():
            self._connections.drain()
            drain = asyncio.create_task(self._context.drain(self._config.shutdown_timeout))
            await _first_of(death, drain)
        if death.done():
            logger.critical("the engine of %r has died: exit code %d", death.result(), EXIT_ENGINE_DEAD)
            self._exit_code = EXIT_ENGINE_DEAD
            await self._context.drain(0)  # so that clients of other models get an error, too
        death.cancel()


def _owns_process() -> bool:
    return threading.current_thread() is threading.main_thread()


def favor_event_loop() -> None:
    """Prepare a process whose only work is serving, before its first request.

    All objects that exist by now are exempted from garbage collection, because scanning them would hold the
    event loop for tens of milliseconds each time; and threads that compute in Python yield sooner.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)


def _exit_at_once(code: int) -> NoReturn:
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of the tasks is done, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
