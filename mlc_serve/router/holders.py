"""Holders: the server that stores a response of /v1/responses gets all requests about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mlc_serve.errors import NoServerError, ServerLostError
from mlc_serve.router.backend import Backend
from mlc_serve.router.fleet import Fleet
from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.prompt import RESPONSES, Prompt
from mlc_serve.router.stored_responses import ResponseIdReader, StoredResponses, response_in_path

_SEARCH_SECONDS = 5.0
# Only such an id is looked for on the servers, since it becomes part of a path.
_SEARCHED = re.compile(r"[A-Za-z0-9._:=@+-]{1,256}")
_HEADER = b"x-routed-to"


class Holders:
    """Knows which server stores which response, and asks the servers for others."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stored = StoredResponses()

    async def find(self, request: RoutedRequest, prompt: Prompt) -> Backend | None:
        """Return the server that stores the response that a request is about or continues.

        None means that any server may answer. Raises NoServerError if the server is out.
        """
        response_id = response_in_path(request.path) or prompt.continues
        if response_id is None:
            return None
        name = self._stored.maker(response_id) or await self._searched(response_id, request)
        if name is None:
            return None
        backend = self._fleet[name]
        if not backend.is_up:
            raise NoServerError(f"The server that stores {response_id} is not available.")
        return backend

    async def _searched(self, response_id: str, request: RoutedRequest) -> str | None:
        """Ask every server for a response that this router has not seen made, as after its restart."""
        up = self._fleet.up
        if len(up) < 2 or not _SEARCHED.fullmatch(response_id):
            return None
        path = f"{RESPONSES}/{response_id}"
        asking = RoutedRequest("HEAD", path, path.encode(), request.headers, b"")
        answers = await asyncio.gather(*(_has(backend, asking) for backend in up))
        name = next((backend.name for backend, has in zip(up, answers, strict=True) if has), None)
        if name is not None:
            self._stored.record(response_id, name)
        return name

    async def noting(
        self, request: RoutedRequest, parts: AsyncGenerator[ReplyPart, None]
    ) -> AsyncGenerator[ReplyPart, None]:
        """Yield the parts of a reply. If they contain a new response, note which server has made it."""
        is_new = request.method == "POST" and request.path == RESPONSES
        reader, server = ResponseIdReader(), ""
        async with aclosing(parts):
            async for part in parts:
                if is_new and isinstance(part, ReplyHead):
                    server = (part.value(_HEADER) or b"").decode()
                    is_new = part.status == 200
                elif is_new and isinstance(part, bytes) and (response_id := reader.read(part)) is not None:
                    self._stored.record(response_id, server)
                    is_new = False
                yield part


async def _has(backend: Backend, asking: RoutedRequest) -> bool:
    """Return whether a server answers a question about a response with 200."""
    if backend.upstream is None:
        return False
    try:
        async with asyncio.timeout(_SEARCH_SECONDS):
            async with aclosing(backend.upstream.reply(asking, "router-search", backend.api_key)) as reply:
                head = await anext(reply)
    except (ServerLostError, TimeoutError):
        return False
    return isinstance(head, ReplyHead) and head.status == 200
