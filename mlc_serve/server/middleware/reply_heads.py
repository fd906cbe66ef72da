"""The head of a reply, its status and headers: what is to see it, or add to it, before it goes out.

A stream sends each token through every wrapper of `send`. This one serves all layers that need the head.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEY = "on_reply_head"


def on_reply_head(scope: Scope, look: Callable[[Message], None]) -> None:
    """Have `look` called with a request's `http.response.start` message, if it comes to that."""
    scope["state"][_KEY].append(look)


class ReplyHeads:
    """ASGI middleware that calls what `on_reply_head` was given, in that order."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        looks: list[Callable[[Message], None]] = []
        scope.setdefault("state", {})[_KEY] = looks

        async def send_shown(message: Message) -> None:
            if message["type"] == "http.response.start":
                for look in looks:
                    look(message)
            await send(message)

        await self._app(scope, receive, send_shown)
