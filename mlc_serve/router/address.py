"""Address: where a server is reached."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from mlc_serve.errors import ConfigError


class Address(NamedTuple):
    """The parts of a URL such as https://gpu-1:8443/llm. `prefix` is the beginning of all paths."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Return the address of a URL. Raises ConfigError if it is not one of a server."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        whole = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        if not whole or port == 0 or "@" in parts.netloc or not url.isascii() or any(map(str.isspace, url)):
            raise ConfigError(f"backends: {url!r}: expected the address of a server, http://HOST:PORT")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname or "", port or default, parts.path.rstrip("/"))

    @property
    def netloc(self) -> str:
        """The host and the port as they are written in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
