"""The probe that asks a server whether it serves. It needs the server's address and key, not its process."""

from __future__ import annotations

import ssl

import httpx2

from mlc_serve.config import ServerConfig
from mlc_serve.host.server_socket import http_url

# Our own server says at this path whether its engines run. On other servers it may mean anything, so these
# are asked for their models instead.
OWN_PATH = "/health"
PATH = "/v1/models"
QUOTED_CHARACTERS = 200
_SERVING = frozenset({200, 401})
# Maps addresses that a server can listen on, but no client can connect to, to those where it is reached.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here


def base_url(host: str, port: int, scheme: str = "http") -> str:
    """Return the address at which clients reach a server that listens on `host`."""
    return http_url(_REACHED_AT.get(host, host), port, scheme)


async def fault_of(server: ServerConfig, port: int, path: str, timeout: float) -> str | None:
    """Return why a server does not serve, or None if GET `path` succeeds within `timeout` seconds.

    A server that asks for another key counts as serving. Proxies named by the environment are not used.
    """
    url = base_url(server.host, port, server.scheme) + path
    headers = {b"Connection": b"close"}
    if server.api_keys:
        headers[b"Authorization"] = f"Bearer {server.api_keys[0]}".encode(errors="surrogateescape")
    try:
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False, verify=_unverified()) as client:
            reply = await client.get(url, headers=headers)
    except httpx2.TimeoutException:
        return f"no answer from {url} within {timeout:g} s"
    except httpx2.HTTPError as error:
        return f"no answer from {url}: {error}"
    if reply.status_code in _SERVING:
        return None
    return f"{url} answered with status {reply.status_code}: {_one_line(reply.text)}"


def _unverified() -> ssl.SSLContext:
    """Return settings of TLS that accept any certificate.

    The server is this machine's own, at an address that its certificate need not name. Loading the system's
    certificates would take longer than a probe.
    """
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    return settings


def _one_line(text: str) -> str:
    """Return the beginning of a server's answer in one line."""
    return " ".join(text.split())[:QUOTED_CHARACTERS]
