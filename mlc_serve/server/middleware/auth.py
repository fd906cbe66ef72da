"""API keys: if the server has any, every path requires one, except the probes and the files of the page.

The name of a request's key is stored in its scope, so that requests with different keys can be kept apart.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_serve.errors import AuthenticationError
from mlc_serve.server.middleware.errors import error_response

# Orchestrators probe these paths without credentials. They only say whether the server is up.
OPEN_PATHS = frozenset({"/health", "/ready"})


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer …` header, or None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    # Headers are decoded as Latin-1, so the last byte of a UTF-8 letter may look like white space.
    token = token.strip(" \t")
    return token if scheme.lower() == "bearer" and token else None


class ApiKeys:
    """ASGI middleware that refuses requests without one of `keys`.

    OPEN_PATHS and `open_paths` need no key.
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
                await error_response(refusal, path=scope["path"])(scope, receive, send)
                return
            scope.setdefault("state", {})["api_key"] = f"key {key}"
        await self._app(scope, receive, send)

    def _key_of(self, token: str | None) -> int:
        """Return the index of the key that the token equals. Raises AuthenticationError if there is none."""
        if token is None:
            raise AuthenticationError("An API key is needed: send `Authorization: Bearer YOUR_KEY`.")
        # All keys are compared in constant time, so that the duration says nothing about any of them.
        # Headers are decoded as Latin-1; encoding them gives the bytes that the client sent.
        matches = [hmac.compare_digest(token.encode("latin-1"), key) for key in self._keys]
        if not any(matches):
            raise AuthenticationError("The API key is not valid.")
        return matches.index(True)


def key_name(request: Request) -> str:
    """Return the name of the request's key, or "" if the server has no keys. The name does not reveal it."""
    name: str = getattr(request.state, "api_key", "")
    return name
