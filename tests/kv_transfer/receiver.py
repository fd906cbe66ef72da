"""A prefix that a KVPort expects, without an engine."""

from __future__ import annotations

import asyncio

from mlc_serve.errors import ParkedRequestConflictError, RequestError
from mlc_serve.kv_transfer.terms import Terms

PAGE = 32


class Wanted:
    """Implements kv_transfer.kv_port.Expected. Stores what it takes, or raises `refusal`."""

    page_bytes = PAGE

    def __init__(self, num_pages: int) -> None:
        self.terms = Terms("model", "layout", "prompt", num_pages * PAGE)
        self.data = b""
        self.takes: list[int] = []
        self.has_begun = False
        self.failures: list[RequestError] = []
        self.failed = asyncio.Event()
        self.refusal: RequestError | None = None

    @property
    def is_whole(self) -> bool:
        """Whether everything is here."""
        return len(self.data) == self.terms.num_bytes

    def begin(self) -> None:
        """Note that a sender begins; refuse a second one."""
        if self.has_begun:
            raise ParkedRequestConflictError("has begun already")
        self.has_begun = True

    async def take(self, data: memoryview) -> None:
        """Store data."""
        if self.refusal is not None:
            raise self.refusal
        self.data += bytes(data)
        self.takes.append(len(data))

    def fail(self, error: RequestError) -> None:
        """Note a failure."""
        self.failures.append(error)
        self.failed.set()
