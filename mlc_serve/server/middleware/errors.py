"""Answers every failure with an error object, the right status, and Retry-After where that makes sense.

The object is OpenAI's, but Anthropic's on the paths of Anthropic's API; mlc_serve.protocol defines both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlc_serve.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MethodNotAllowedError,
    RequestError,
    RequestFailedError,
    UnknownPathError,
)
from mlc_serve.protocol.anthropic.errors import anthropic_error
from mlc_serve.protocol.errors import error_object
from mlc_serve.server.middleware.reply_heads import on_reply_head
from mlc_serve.server.middleware.request_id import request_id

logger = logging.getLogger(__name__)

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# A full queue moves on within a second, and a server that shuts down is replaced within a few.
_RETRY_AFTER_SECONDS = {429: 1, 503: 5}
# The client that could read this reply is gone. The status, which nginx uses as well, is for the log.
_CLIENT_CLOSED_REQUEST = 499


def retry_headers(status: int) -> dict[str, str]:
    """Return a Retry-After header for a status that is temporary, or no headers."""
    seconds = _RETRY_AFTER_SECONDS.get(status)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def error_response(
    error: RequestError, headers: Mapping[str, str] | None = None, *, path: str | None = None
) -> JSONResponse:
    """Return the reply to a failed request, in the form of the API that its path belongs to."""
    challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    all_headers = {**retry_headers(error.status), **challenge, **(headers or {})}
    content = _anthropic_object(error) if is_anthropics(path) else error_object(error)
    return JSONResponse(content, status_code=error.status, headers=all_headers)


def is_anthropics(path: str | None) -> bool:
    """Return whether a path belongs to Anthropic's API alone."""
    return path is not None and f"{path}/".startswith("/v1/messages/")


def _anthropic_object(error: RequestError) -> dict[str, Any]:
    return anthropic_error(error, request_id.get()).model_dump()


def error_json(error: RequestError) -> str:
    """Return the error object on one line, for a reply that has already begun."""
    return json.dumps(error_object(error), ensure_ascii=False)


async def _refused(request: Request, error: RequestError) -> Response:
    return error_response(error, path=request.scope["path"])


async def _http_error(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return error_response(_as_request_error(request, error), headers, path=request.scope["path"])


def _methods(request: Request) -> set[str]:
    """Return the methods that the path supports. The error knows only those of one of its routes."""
    methods = {method for method in _METHODS if _is_supported(request, method)}
    return methods | ({"HEAD"} if "GET" in methods else set())  # every path that answers GET answers HEAD


def _is_supported(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _as_request_error(request: Request, error: HTTPException) -> RequestError:
    path = request.url.path
    if error.status_code == UnknownPathError.status:
        return UnknownPathError(f"There is nothing at {path}.")
    if error.status_code == MethodNotAllowedError.status:
        return MethodNotAllowedError(f"{path} does not support {request.method}.")
    if error.status_code == BodyTooLargeError.status:
        return BodyTooLargeError(error.detail)
    return InvalidRequestError(error.detail)


async def _client_gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestError: _refused,
    HTTPException: _http_error,
    ClientDisconnect: _client_gone,
}


class UnexpectedErrors:
    """ASGI middleware that logs unexpected exceptions once, and answers the client without details."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; answer 500 if it fails before its reply has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        heads: list[Message] = []
        on_reply_head(scope, heads.append)
        try:
            await self._app(scope, receive, send)
        except Exception:  # whatever failed, other requests must not fail with it
            if heads:
                raise
            logger.exception("%s %r failed, id=%s", scope["method"], scope["path"], request_id.get())
            failure = RequestFailedError("The server failed to answer this request.")
            await error_response(failure, path=scope["path"])(scope, receive, send)
