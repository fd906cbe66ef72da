"""Sends a long body in pieces, so that others get their turns on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator


async def in_turns(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield pieces of a body, and let others run after each of them."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
