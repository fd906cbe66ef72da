"""The head of a reply, its status and headers: what is to see it, or add to it, before it goes out.

No layer looks at what follows the head of a stream, which has a message for each token and sends it past them
all.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOKS = "on_reply_head"
_SEND = "send_past_all_layers"


def on_reply_head(scope: Scope, look: Callable[[Message], None]) -> None:
    """Have `look` called with a request's `http.response.start` message, if it comes to that."""
    scope["state"][_LOOKS].append(look)


def past_all_layers(scope: Scope, send: Send) -> Send:
    """What sends the parts of a body, once the head has gone through `send`, at a fraction of its cost."""
    past: Send = scope.get("state", {}).get(_SEND, send)
    return past


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
        scope.setdefault("state", {}).update({_LOOKS: looks, _SEND: send})

        async def send_shown(message: Message) -> None:
            if message["type"] == "http.response.start":
                for look in looks:
                    look(message)
            await send(message)

        await self._app(scope, receive, send_shown)
