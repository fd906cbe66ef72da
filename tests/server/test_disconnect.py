"""Work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from mlc_serve.server.disconnect import unless_disconnected


def connection() -> tuple[Receive, Callable[[], None]]:
    """A `receive` that reports a disconnect, and the function that closes the connection."""
    closed = asyncio.Event()

    async def receive() -> Message:
        await closed.wait()
        return {"type": "http.disconnect"}

    return receive, closed.set


async def test_result_comes_through() -> None:
    """While the client stays, the call returns the work's result."""
    receive, _ = connection()

    async def work() -> int:
        return 7

    assert await unless_disconnected(receive, work()) == 7


async def test_error_comes_through() -> None:
    """While the client stays, the call raises the work's exception."""
    receive, _ = connection()

    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await unless_disconnected(receive, work())


async def test_work_is_cancelled_when_the_client_goes() -> None:
    """When the call returns, work whose client has gone was cancelled and has cleaned up."""
    receive, close = connection()
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            close()
            await asyncio.Event().wait()
        finally:
            cancelled = True

    with pytest.raises(ClientDisconnect):
        await unless_disconnected(receive, work())
    assert cancelled


async def test_cancellation_reaches_the_work() -> None:
    """Cancelling the caller cancels the work."""
    receive, _ = connection()
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(unless_disconnected(receive, work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
