"""Accepts paths that end in a slash, and answers HEAD wherever there is a GET."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Paths:
    """ASGI middleware that removes slashes from the end of a path, and answers HEAD as GET without the body.

    HEAD is refused where GET is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, with its path and method in this form."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        plain = {**scope, "path": scope["path"].rstrip("/") or "/"}
        if scope["method"] == "HEAD":
            await self._app({**plain, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(plain, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
