"""Asks a server whether it serves. Knows its address and key, not its process."""

from __future__ import annotations

import ssl

import httpx2

from mlc_serve.config import ServerConfig

# Says whether the engines of our own server turn; other servers' paths of that name may say anything.
OWN_PATH = "/health"
PATH = "/v1/models"
QUOTED_CHARACTERS = 200
_SERVING = frozenset({200, 401})
# Addresses that a server listens on, but that nobody can connect to, and where to find it then.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here


def base_url(host: str, port: int) -> str:
    """The http:// address at which a server is reached that listens on `host`."""
    name = _REACHED_AT.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


async def fault_of(server: ServerConfig, port: int, path: str, timeout: float) -> str | None:
    """Why a server can't be said to serve; None if it answers GET `path` well within `timeout` seconds.

    That it asks for another key is an answer, too. No proxy that the environment names is used.
    """
    url = base_url(server.host, port) + path
    headers = {"Connection": b"close"}
    if server.api_keys:
        headers["Authorization"] = f"Bearer {server.api_keys[0]}".encode(errors="surrogateescape")
    # Nothing is asked over TLS, and loading the system's certificates takes longer than a probe.
    no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False, verify=no_certificates) as client:
            reply = await client.get(url, headers=headers)
    except httpx2.TimeoutException:
        return f"no answer from {url} within {timeout:g} s"
    except httpx2.HTTPError as error:
        return f"no answer from {url}: {error}"
    if reply.status_code in _SERVING:
        return None
    return f"{url} answered with status {reply.status_code}: {_one_line(reply.text)}"


def _one_line(text: str) -> str:
    """The beginning of what a server said of itself."""
    return " ".join(text.split())[:QUOTED_CHARACTERS]
