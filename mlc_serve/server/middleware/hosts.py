"""Checks the Host header of requests to a server on a loopback address.

Any page on the web can make its own name resolve to 127.0.0.1 (DNS rebinding). The browser then takes this
server for the page's own, and only the name in the Host header shows the difference.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mlc_serve.errors import UnknownHostError
from mlc_serve.server.middleware.errors import error_response


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, is reached only from this machine."""
    return _is_localhost(host) or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class Hosts:
    """ASGI middleware that answers 421 to requests whose Host is not one of this server's names.

    Its names are `localhost`, its subdomains, and `names`. An address is always allowed, because after DNS
    rebinding the header still has the page's name. So is a request without the header, because browsers
    always send one.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower().strip("[]") for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        name = _host_name(Headers(scope=scope).get("host", "")) if scope["type"] == "http" else ""
        if self._is_ours(name):
            await self._app(scope, receive, send)
            return
        refusal = UnknownHostError(
            f"This server does not answer to the name {name!r}. If it should, start it with --allowed-hosts."
        )
        await error_response(refusal, path=scope["path"])(scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        return not name or name in self._names or _is_localhost(name) or _is_address(name)


def _host_name(header: str) -> str:
    """Return the name or the address in a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
