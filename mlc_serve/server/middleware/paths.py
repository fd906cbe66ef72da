"""Other ways to ask for the same: a path that ends in a slash, and HEAD for whatever GET gives."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Paths:
    """ASGI middleware that cuts the slash, and answers HEAD as GET without the body.

    A path that can't be asked with GET is not there for HEAD either.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on in its plain form."""
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
