"""The prefix under which a proxy publishes this server, such as /llm."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware that tells the layers below of the prefix, and removes it from paths that have it.

    Most proxies remove it themselves, so paths without it are as good.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; redirect to the page if the path is the prefix without a slash."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == self._prefix:
            # Browsers resolve the page's links against the last slash.
            await RedirectResponse(f"{self._prefix}/")(scope, receive, send)
            return
        beneath = scope["path"].startswith(f"{self._prefix}/")
        path = scope["path"].removeprefix(self._prefix) if beneath else scope["path"]
        await self._app({**scope, "path": path, "root_path": self._prefix}, receive, send)
