"""StatusService: a supervisor's HTTP service, which reports the server's status and can start and stop it.

It listens only on the loopback interface. Pages on loopback addresses, such as the one that the supervised
server serves, may read the status; commands need the token. This module is not in the supervisor's package,
because programs that only supervise a server should not load a web framework.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mlc_serve.config import ServerConfig
from mlc_serve.errors import AuthenticationError, MLCServeError, RequestFailedError
from mlc_serve.host.server_socket import bind_socket, listen, url_of
from mlc_serve.server.connection import uvicorn_settings
from mlc_serve.server.connections import Connections
from mlc_serve.server.embedded_uvicorn import EmbeddedUvicorn
from mlc_serve.server.middleware.auth import bearer_token
from mlc_serve.server.middleware.errors import EXCEPTION_HANDLERS
from mlc_serve.supervisor.mlc_server import MLCServer
from mlc_serve.supervisor.status import STATUS_CHANGED, MLCServerStatus

HOST = "127.0.0.1"
# The origins of pages and the Host headers that are accepted. Any other name that resolves to this machine is
# refused.
_LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost")
# This is enough, because replies are short and event streams have ended before the service is stopped.
_FLUSH_SECONDS = 1
# How long a page may leave events unread before its stream is ended.
_SEND_SECONDS = 30


def create_status_app(server: MLCServer, token: str) -> FastAPI:
    """Return the application that reports a server's status, and obeys commands that come with `token`."""
    app = FastAPI(
        title="mlc_serve supervisor",
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(_LOOPBACK_HOSTS)),
            Middleware(CORSMiddleware, allow_origin_regex=_LOOPBACK_ORIGIN, allow_methods=["GET"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(_status_router(server))
    app.include_router(_command_router(server, token))
    return app


def _status_router(server: MLCServer) -> APIRouter:
    router = APIRouter()

    @router.get("/status")
    async def status() -> MLCServerStatus:
        """Return what is known about the server."""
        return server.get_status()

    @router.get("/events", response_class=EventSourceResponse)
    async def events() -> EventSourceResponse:
        """Send the present status and each new one as `mlc-status-changed`. Slow readers miss the oldest."""
        return EventSourceResponse(_changes(server), sep="\n", send_timeout=_SEND_SECONDS)

    return router


async def _changes(server: MLCServer) -> AsyncIterator[ServerSentEvent]:
    changes = server.status_events()
    try:
        yield _event(server.get_status())
        async for changed in changes:
            yield _event(changed)
    finally:
        changes.close()


def _command_router(server: MLCServer, token: str) -> APIRouter:
    async def check_token(request: Request) -> None:
        shown = bearer_token(request.headers.get("authorization")) or ""
        if not hmac.compare_digest(shown.encode("latin-1"), token.encode()):
            raise AuthenticationError("Send `Authorization: Bearer TOKEN` with the supervisor's token.")

    router = APIRouter(dependencies=[Depends(check_token)])

    @router.post("/start")
    async def start() -> MLCServerStatus:
        """Start the server unless it is running. The reply doesn't wait until the model is loaded."""
        return await _started(server.start_server())

    @router.post("/stop")
    async def stop() -> MLCServerStatus:
        """Stop the server. The reply is sent when it has ended."""
        return await server.stop_server()

    @router.post("/restart")
    async def restart() -> MLCServerStatus:
        """Stop the server and start it again."""
        return await _started(server.restart())

    return router


async def _started(starting: Coroutine[Any, Any, MLCServerStatus]) -> MLCServerStatus:
    try:
        return await starting
    except MLCServeError as error:
        raise RequestFailedError(str(error)) from error


def _event(status: MLCServerStatus) -> ServerSentEvent:
    return ServerSentEvent(status.model_dump_json(), event=STATUS_CHANGED, sep="\n")


class StatusService:
    """The service on a port of 127.0.0.1; 0 means any free port. Raises PortInUseError or ConfigError."""

    def __init__(self, port: int) -> None:
        self._sock = bind_socket(HOST, port)
        listen(self._sock)
        self._uvicorn: EmbeddedUvicorn | None = None

    @property
    def url(self) -> str:
        """The address of the service."""
        return url_of(self._sock)

    async def serve(self, server: MLCServer, token: str) -> None:
        """Answer until `stop` is called."""
        limits = ServerConfig()
        settings = uvicorn_settings(limits, Connections(limits, _nothing))
        self._uvicorn = EmbeddedUvicorn(create_status_app(server, token), _FLUSH_SECONDS, settings)
        await self._uvicorn.serve(sockets=[self._sock])

    def stop(self) -> None:
        """Stop answering. Event streams end when MLCServer is closed."""
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True


def _nothing() -> None:
    """Do nothing when bytes arrive, since this event loop is not watched."""
