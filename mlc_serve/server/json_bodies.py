"""Reads, parses and checks request bodies within the server's limits, off the event loop if they are long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from fastapi import Request

from mlc_serve.config import ServerConfig
from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.json_text import JsonLimits, parse_json
from mlc_serve.protocol.request_part import RequestPart
from mlc_serve.protocol.unknown_fields import UnknownFields
from mlc_serve.server.ignored_fields import IgnoredFields

Body = TypeVar("Body", bound=RequestPart)

# A body of this many bytes is parsed and checked in less than about 10 ms, whatever it contains.
_SHORT = 16 * 1024
# There are only a few threads, because each that runs Python may keep the event loop waiting for 5 ms.
_NUM_THREADS = 2


class JsonBodies:
    """Makes typed requests from bodies. BodyLimit limits their length.

    Unknown fields are reported to `ignored`, or refused if the config says so.
    """

    def __init__(self, config: ServerConfig, ignored: IgnoredFields) -> None:
        self._limits = JsonLimits(config.max_body_elements, config.max_body_depth)
        self._refuses_unknown = config.strict_requests
        self._ignored = ignored
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="bodies")

    async def read(self, request: Request, kind: type[Body]) -> Body:
        """Return the request in a body.

        Raises a RequestError if the body is not valid, and ClientDisconnect if it is incomplete.
        """
        return await self.read_one_of(request, lambda _fields: kind)

    async def read_one_of(self, request: Request, kind_of: Callable[[object], type[Body]]) -> Body:
        """Like `read`, for a body that may be of several kinds, which its fields tell apart."""
        _require_json(request.headers.get("content-type", ""))
        text = b"".join([chunk async for chunk in request.stream()])  # request.body() would keep a copy
        unknown = UnknownFields()
        check = partial(self._checked, kind_of, text, None if self._refuses_unknown else unknown)
        body = check() if len(text) <= _SHORT else await self._beside_the_loop(check)
        self._ignored.tell(request, unknown.names)
        return body

    async def _beside_the_loop(self, check: Callable[[], Body]) -> Body:
        return await asyncio.get_running_loop().run_in_executor(self._threads, check)

    def _checked(
        self, kind_of: Callable[[object], type[Body]], text: bytes, unknown: UnknownFields | None
    ) -> Body:
        if not text:
            raise InvalidRequestError("the request body is missing.")
        fields = parse_json(text, self._limits)
        return validated(kind_of(fields), fields, unknown)


def _require_json(content_type: str) -> None:
    """Raise InvalidRequestError for other content types. Browsers ask the server (CORS) before a page from
    elsewhere may send JSON.
    """
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise InvalidRequestError("Send the body as JSON, with `Content-Type: application/json`.")
