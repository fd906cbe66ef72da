"""Records what a page should never do."""

from __future__ import annotations

import re

from playwright.sync_api import ConsoleMessage, Page


class Watch:
    """What a page has loaded, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.faults: list[str] = []
        self._urls: list[str] = []
        page.on("request", lambda request: self._urls.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._on_console)

    @property
    def origins(self) -> set[str]:
        """The servers that requests went to, as scheme://host:port; data: and blob: URLs do not count."""
        found = (re.match(r"https?://[^/]+", url) for url in self._urls)
        return {match[0] for match in found if match}

    def _on_console(self, message: ConsoleMessage) -> None:
        # The browser itself logs each refused request, and the page can't prevent that.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)
