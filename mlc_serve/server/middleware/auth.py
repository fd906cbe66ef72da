"""API keys: if the server has any, every path requires one, except the probes and the files of the page.

If it has an admin key, /debug/* requires that one.

The name of a request's key is stored in its scope, so that requests with different keys can be kept apart.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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


def shown_keys(headers: Headers) -> list[str]:
    """Return the keys that a request shows: OpenAI's clients send bearer tokens, Anthropic's X-Api-Key."""
    shown = (bearer_token(headers.get("authorization")), headers.get("x-api-key", "").strip(" \t"))
    return [key for key in shown if key]


class Keys(NamedTuple):
    """The keys that open a server, by name. The names don't reveal them."""

    ordinary: Mapping[str, bytes]
    admin: Mapping[str, bytes]

    @classmethod
    def of(cls, ordinary: Iterable[str], admin: str | None) -> Keys:
        """Return the keys with their names."""
        named = {f"key {index}": _as_sent(key) for index, key in enumerate(ordinary)}
        return cls(named, {} if admin is None else {"admin key": _as_sent(admin)})

    def that_open(self, path: str, admin_paths: str) -> Mapping[str, bytes]:
        """Return the keys that open a path; if there are none, it is open to all."""
        if self.admin and (path == admin_paths or path.startswith(f"{admin_paths}/")):
            return self.admin
        return {**self.ordinary, **self.admin} if self.ordinary else {}


class ApiKeys:
    """ASGI middleware that refuses requests without one of the keys that open their path.

    OPEN_PATHS and `open_paths` need no key. The paths below `admin_paths` need the admin key if there is one.
    """

    def __init__(self, app: ASGIApp, keys: Keys, admin_paths: str, open_paths: Iterable[str] = ()) -> None:
        self._app = app
        self._open_paths = OPEN_PATHS.union(open_paths)
        self._admin_paths = admin_paths
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it with 401."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            keys = self._keys.that_open(scope["path"], self._admin_paths)
            try:
                name = _name_of_key(shown_keys(Headers(scope=scope)), keys) if keys else ""
            except AuthenticationError as refusal:
                await error_response(refusal, path=scope["path"])(scope, receive, send)
                return
            scope.setdefault("state", {})["api_key"] = name
        await self._app(scope, receive, send)


def _name_of_key(shown: Sequence[str], keys: Mapping[str, bytes]) -> str:
    """Return the name of a key that was shown. Raises AuthenticationError if none is one of `keys`."""
    if not shown:
        raise AuthenticationError("An API key is needed: send `Authorization: Bearer YOUR_KEY`.")
    # All keys are compared in constant time, so that the duration says nothing about any of them.
    # Headers are decoded as Latin-1; encoding them gives the bytes that the client sent.
    sent = [key.encode("latin-1") for key in shown]
    matches = [name for name, key in keys.items() for one in sent if hmac.compare_digest(one, key)]
    if not matches:
        raise AuthenticationError("The API key is not valid.")
    return matches[0]


def _as_sent(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


def key_name(request: Request) -> str:
    """Return the name of the request's key, or "" if the server has no keys. The name does not reveal it."""
    name: str = getattr(request.state, "api_key", "")
    return name
