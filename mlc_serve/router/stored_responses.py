"""StoredResponses: which server has made, and therefore stores, which response of /v1/responses."""

from __future__ import annotations

import re
from collections import OrderedDict

MOST_RESPONSES = 100_000
# The id of a response is in the first event of a stream, and near the beginning of a whole reply.
_MOST_BYTES = 64 * 1024
_ID = re.compile(rb'"id"\s*:\s*"(resp_[^"\\]{1,256})"')
_PATH = re.compile(r"/v1/responses/([^/]+)(/.*)?")


def response_in_path(path: str) -> str | None:
    """Return the id of the response that a path is about, or None."""
    found = _PATH.fullmatch(path)
    return found[1] if found else None


class StoredResponses:
    """The makers of the last responses. Those that were used least recently make room."""

    def __init__(self, most: int = MOST_RESPONSES) -> None:
        self._most = most
        self._makers: OrderedDict[str, str] = OrderedDict()

    def record(self, response_id: str, server: str) -> None:
        """Note that a server stores a response."""
        self._makers[response_id] = server
        self._makers.move_to_end(response_id)
        if len(self._makers) > self._most:
            self._makers.popitem(last=False)

    def maker(self, response_id: str) -> str | None:
        """Return the server that stores a response, if that is known."""
        server = self._makers.get(response_id)
        if server is not None:
            self._makers.move_to_end(response_id)
        return server


class ResponseIdReader:
    """Finds the id of a response in the beginning of the reply that contains it."""

    def __init__(self) -> None:
        self._beginning = b""
        self._is_done = False

    def read(self, part: bytes) -> str | None:
        """Return the id if this part of the body completes it."""
        if self._is_done:
            return None
        self._beginning += part[:_MOST_BYTES]
        found = _ID.search(self._beginning)
        if found is None and len(self._beginning) < _MOST_BYTES:
            return None
        self._is_done, self._beginning = True, b""
        return None if found is None else found[1].decode(errors="replace")
