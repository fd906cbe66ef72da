"""X-Request-Id: the client's id or a new one, which is in the reply's headers and in log lines.

Two clients may send the same id. Therefore the ids of replies and those in engines and event traces consist
of it and a unique suffix, so that any of them leads to the others.
"""

from __future__ import annotations

import re
import secrets
import uuid
from contextvars import ContextVar
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlc_serve.server.middleware.reply_heads import on_reply_head

HEADER = "X-Request-Id"
# Anthropic's clients read the id from this header.
ANTHROPIC_HEADER = "request-id"
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Ids of this form are safe in log lines and headers.
_HARMLESS = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def accepted_id(offered: str | None) -> str:
    """Return the client's own id if it is safe, or else a new one."""
    if offered is not None and _HARMLESS.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


def reply_id(prefix: str) -> str:
    """Return a new id for the reply to the current request."""
    return f"{prefix}{request_id.get()}-{secrets.token_hex(8)}"


class RequestId:
    """ASGI middleware that sets `request_id` for the layers below it, and the reply's header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = accepted_id(Headers(scope=scope).get(HEADER))
        on_reply_head(scope, partial(_add_id, identity))
        token = request_id.set(identity)
        try:
            await self._app(scope, receive, send)
        finally:
            request_id.reset(token)


def _add_id(identity: str, head: Message) -> None:
    headers = MutableHeaders(scope=head)
    headers[HEADER] = headers[ANTHROPIC_HEADER] = identity
