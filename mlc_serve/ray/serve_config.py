"""Serve's configuration of a deployment, as `serve deploy` reads it. Knows nothing about ray."""

from __future__ import annotations

from typing import Any

from mlc_serve.config import ServerConfig
from mlc_serve.ray.arguments import Settings, arguments_of

IMPORT_PATH = "mlc_serve.ray:build_app"


def serve_config(settings: Settings, proxy: ServerConfig, name: str) -> dict[str, Any]:
    """Return the configuration with one application of this name.

    `proxy` says where Serve's proxies listen, and under which prefix the application is published.
    """
    application = {
        "name": name,
        "route_prefix": proxy.root_path or "/",
        "import_path": IMPORT_PATH,
        "args": arguments_of(settings),
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": proxy.host, "port": proxy.port},
        "applications": [application],
    }
