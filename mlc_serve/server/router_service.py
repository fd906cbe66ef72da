"""RouterService: the HTTP server of a router, on an event loop that also runs the servers behind it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace

from mlc_serve.config import ServerConfig
from mlc_serve.host.server_socket import listen, url_of
from mlc_serve.router.router import Router
from mlc_serve.server.connection import uvicorn_settings
from mlc_serve.server.connections import Connections, max_connections
from mlc_serve.server.embedded_uvicorn import EmbeddedUvicorn
from mlc_serve.server.router_app import RouterApp, create_router_app

# How many seconds complete replies may take to be sent to slow readers.
_FLUSH_SECONDS = 5


class RouterService:
    """Serves a router on a bound socket. With `tls`, it speaks HTTPS. Raises PortInUseError."""

    def __init__(
        self, router: Router, config: ServerConfig, sock: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        listen(sock)
        self._router = router
        self._config = config
        self._sock = sock
        self._app = RouterApp(router)
        settings = uvicorn_settings(config, Connections(_with_half(config), _nothing), tls)
        self._uvicorn = EmbeddedUvicorn(create_router_app(self._app, config), _FLUSH_SECONDS, settings)

    @property
    def url(self) -> str:
        """The address of the router."""
        return url_of(self._sock, self._config.scheme)

    @property
    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """What makes the fastest event loop that there is on this system."""
        return self._uvicorn.config.get_loop_factory()

    async def serve(self) -> None:
        """Watch the servers and answer requests until `stop` is called. Closes the socket."""
        await self._router.start()
        await self._uvicorn.serve(sockets=[self._sock])

    async def stop(self) -> None:
        """Refuse new requests, give the running ones `shutdown_timeout` seconds, and end `serve`."""
        self._app.is_draining = True
        await self._router.drain(self._config.shutdown_timeout)
        self._uvicorn.should_exit = True


def _with_half(config: ServerConfig) -> ServerConfig:
    """Return the configuration with half as many connections by default, since each request needs another one
    to a server.
    """
    return replace(config, max_connections=config.max_connections or max(1, max_connections(config) // 2))


def _nothing() -> None:
    """Do nothing when bytes arrive, since this event loop is not watched."""
