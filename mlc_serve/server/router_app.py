"""The application of a router: answers probes and /metrics itself, and passes all other requests on.

Its layers are those of a server, so that limits, API keys, request ids and errors are the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_serve.config import ServerConfig
from mlc_serve.errors import BodyTooLargeError, RequestError, ShuttingDownError
from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.router import Router
from mlc_serve.server.app import layers
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.event_forms import event_form_of
from mlc_serve.server.middleware.errors import error_response
from mlc_serve.server.middleware.reply_heads import past_all_layers
from mlc_serve.server.middleware.request_id import request_id
from mlc_serve.server.routers.health import report
from mlc_serve.server.whole_events import WholeEvents

logger = logging.getLogger(__name__)


def create_router_app(passing: RouterApp, config: ServerConfig) -> ASGIApp:
    """Return the application within the layers that a server with this configuration has."""
    app: ASGIApp = passing
    for layer in reversed(layers(config)):
        app = layer.cls(app, *layer.args, **layer.kwargs)
    return app


class RouterApp:
    """The innermost ASGI application. While it `is_draining`, new requests are refused."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            own = await self._own(scope)
            if own is not None:
                await own(scope, receive, send)
                return
            if self.is_draining:
                raise ShuttingDownError("The router is shutting down.")
            request = await _read(scope, receive)
            await unless_disconnected(receive, self._pass_on(request, scope, send))
        except RequestError as error:
            await error_response(error, path=scope["path"])(scope, receive, send)
        except ClientDisconnect:
            logger.debug("the client has gone, id=%s", request_id.get())

    async def _own(self, scope: Scope) -> Response | None:
        """Return the router's own answer, or None if the request is for a server."""
        if scope["method"] != "GET":
            return None
        if scope["path"] == "/health":
            return report("unhealthy", [])
        if scope["path"] == "/ready":
            return report("not ready", self._reasons())
        if scope["path"] == "/metrics":
            return Response(await self._router.metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
        return None

    def _reasons(self) -> list[str]:
        draining = ["the router is shutting down"] if self.is_draining else []
        return draining + ([] if self._router.fleet.up else ["none of the servers is ready"])

    async def _pass_on(self, request: RoutedRequest, scope: Scope, send: Send) -> None:
        """Send the reply that the router gets. Raises RequestError if it fails before its head is there."""
        parts = self._router.translate_request(request, request_id.get() or "")
        async with aclosing(parts):
            head = await anext(parts)
            if not isinstance(head, ReplyHead):
                raise TypeError("translate_request must yield a ReplyHead first")
            scope["state"]["record"].server = (head.value(b"x-routed-to") or b"").decode() or None
            await send({"type": "http.response.start", "status": head.status, "headers": list(head.headers)})
            body = _events(parts, request.path) if head.is_event_stream else parts
            try:
                await _send_body(body, past_all_layers(scope, send))
            except RequestError as error:  # the reply can't be completed, and its connection is closed
                logger.warning("a reply broke off, id=%s: %s", request_id.get(), error)


async def _send_body(parts: AsyncGenerator[ReplyPart, None], send: Send) -> None:
    async with aclosing(parts):
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _events(parts: AsyncGenerator[ReplyPart, None], path: str) -> AsyncGenerator[ReplyPart, None]:
    """Yield the events of a stream. One that breaks off ends with an error event in the form of its API."""
    whole = WholeEvents()
    try:
        async for part in parts:
            if isinstance(part, bytes) and (events := whole.cut(part)):
                yield events
        if rest := whole.rest():
            yield rest
    except RequestError as error:
        logger.warning("a stream broke off, id=%s: %s", request_id.get(), error)
        form = event_form_of(path)
        yield form.error(error).encode() + form.end


async def _read(scope: Scope, receive: Receive) -> RoutedRequest:
    """Read a request. Raises BodyTooLargeError if its body is too long, and ClientDisconnect."""
    parts = []
    more_body = True
    while more_body:
        try:
            message = await receive()
        except HTTPException as error:  # by which BodyLimit says so
            raise BodyTooLargeError(error.detail) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more_body = message.get("more_body", False)
    headers = tuple((name, value) for name, value in scope["headers"])
    return RoutedRequest(scope["method"], scope["path"], _target(scope), headers, b"".join(parts))


def _target(scope: Scope) -> bytes:
    """Return the path and the query as the client sent them, without the prefix of --root-path."""
    path = scope["raw_path"].removeprefix(scope.get("root_path", "").encode()) or b"/"
    query = scope["query_string"]
    return path + b"?" + query if query else path
