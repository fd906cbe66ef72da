"""Limits the length of request bodies. If Content-Length is too large, the body is not read at all."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlc_serve.errors import BodyTooLargeError
from mlc_serve.server.middleware.errors import error_response


class BodyLimit:
    """ASGI middleware that answers 413 to bodies of more than `max_bytes` bytes."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and count its body, or refuse it if its Content-Length is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif int(Headers(scope=scope).get("content-length", 0)) > self._max_bytes:
            refusal = BodyTooLargeError(self._message)
            await error_response(refusal, path=scope["path"])(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                # While FastAPI reads a body, it passes this exception on, and turns all others into a 400.
                raise HTTPException(BodyTooLargeError.status, self._message)
            return message

        return receive_counted

    @property
    def _message(self) -> str:
        return f"The request body is larger than the {self._max_bytes} bytes that this server reads."
