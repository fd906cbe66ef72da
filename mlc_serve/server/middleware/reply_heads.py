"""Lets layers see the head of a reply (its status and headers) or add headers to it before it is sent.

No layer needs the messages after the head, and a stream has one for each token, so it sends them past all
layers.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOKS = "on_reply_head"
_SEND = "send_past_all_layers"


def on_reply_head(scope: Scope, look: Callable[[Message], None]) -> None:
    """Call `look` with the `http.response.start` message of a request's reply, once there is one."""
    scope["state"][_LOOKS].append(look)


def past_all_layers(scope: Scope, send: Send) -> Send:
    """Return a function that sends the parts of a body past all layers, which is much cheaper than `send`.

    The head of the reply must have been sent through `send`.
    """
    past: Send = scope.get("state", {}).get(_SEND, send)
    return past


class ReplyHeads:
    """ASGI middleware that calls the functions given to `on_reply_head`, in that order."""

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
