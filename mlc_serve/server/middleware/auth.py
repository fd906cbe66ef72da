"""API keys: every path asks for one, if the server has any, but the probes and the files of the page.

What a request's key is called is noted in its scope, for those who keep apart what belongs to different keys.
Knows the header, not what lies behind the door.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_serve.errors import AuthenticationError
from mlc_serve.server.middleware.errors import error_response

# Orchestrators probe these without credentials, and they tell nothing but up or down.
OPEN_PATHS = frozenset({"/health", "/ready"})


def bearer_token(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header; None if there is none of that scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    # A header has been decoded as Latin-1, in which the last byte of a letter may look like a space.
    token = token.strip(" \t")
    return token if scheme.lower() == "bearer" and token else None


class ApiKeys:
    """ASGI middleware that refuses whoever does not show one of `keys`.

    OPEN_PATHS and `open_paths` are for everybody.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str], open_paths: Iterable[str] = ()) -> None:
        self._app = app
        self._open_paths = OPEN_PATHS.union(open_paths)
        self._keys = [key.encode(errors="surrogateescape") for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it with 401."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            try:
                key = self._key_of(bearer_token(Headers(scope=scope).get("authorization")))
            except AuthenticationError as refusal:
                await error_response(refusal)(scope, receive, send)
                return
            scope.setdefault("state", {})["api_key"] = f"key {key}"
        await self._app(scope, receive, send)

    def _key_of(self, token: str | None) -> int:
        """Which of the keys a token is. Raises AuthenticationError if it is none."""
        if token is None:
            raise AuthenticationError("An API key is needed: send `Authorization: Bearer YOUR_KEY`.")
        # Every key is compared, in constant time: how long it takes tells nothing about any of them.
        # Header bytes arrive as Latin-1 text; keys are compared as the bytes that were sent.
        matches = [hmac.compare_digest(token.encode("latin-1"), key) for key in self._keys]
        if not any(matches):
            raise AuthenticationError("The API key is not valid.")
        return matches.index(True)


def key_name(request: Request) -> str:
    """What the request's key is called; empty if the server asks for none. It says nothing about the key."""
    name: str = getattr(request.state, "api_key", "")
    return name
