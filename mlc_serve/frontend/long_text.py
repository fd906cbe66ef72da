"""Where the work on a request's text is done: what takes long must not hold up the streams of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Characters that take about a millisecond to tokenize; to go to a thread and back takes a tenth of one.
LONG = 4096


async def beside_the_loop(num_characters: int, work: Callable[[], T]) -> T:
    """What `work` returns, which goes through so many characters: on a thread if they are many."""
    return await asyncio.to_thread(work) if num_characters > LONG else work()
