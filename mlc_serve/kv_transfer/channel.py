"""A connection between the two ends of a transfer: short messages in JSON, and long runs of bytes.

Each message and each run arrives whole within the time-out, or the transfer fails. Used on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mlc_serve.errors import KVTransferError

_LENGTH = struct.Struct("!I")
_LONGEST_MESSAGE = 4096
_LARGEST_DROP = 64 * 1024


class Channel:
    """Owns a connected socket that does not block. `timeout` is in seconds."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.sock = sock
        self._timeout = timeout

    @property
    def is_unix(self) -> bool:
        """Whether this is a Unix socket, whose ends are on one machine and share memory."""
        return self.sock.family not in (socket.AF_INET, socket.AF_INET6)

    def close(self) -> None:
        """Close the connection. Nothing may be waiting for it any more."""
        self.sock.close()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises KVTransferError."""
        text = json.dumps(message).encode()
        await self.send_bytes(_LENGTH.pack(len(text)) + text)

    async def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message, which must come within `timeout` seconds. Raises KVTransferError."""
        async with self._in_time(timeout):
            (length,) = _LENGTH.unpack(await self._exactly(_LENGTH.size))
            if length > _LONGEST_MESSAGE:
                raise KVTransferError("The other server has sent something that is not a message.")
            text = await self._exactly(length)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise KVTransferError("The other server has sent something that is not a message.")
        return message

    async def send_bytes(self, data: bytes | memoryview) -> None:
        """Send a run of bytes. Raises KVTransferError."""
        async with self._in_time():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive_into(self, view: memoryview) -> None:
        """Fill a buffer with the next bytes. Raises KVTransferError."""
        async with self._in_time():
            await self._fill(view)

    async def finish(self, most_bytes: int, timeout: float) -> None:
        """Send nothing more, and drop what comes until the other end closes, so that it can read what was
        sent last. At most `most_bytes` and `timeout` seconds are spent on that.
        """
        dropped = memoryview(bytearray(min(most_bytes, _LARGEST_DROP)))
        with contextlib.suppress(KVTransferError):
            async with self._in_time(timeout):
                self.sock.shutdown(socket.SHUT_WR)
                while most_bytes > 0:
                    count = await asyncio.get_running_loop().sock_recv_into(self.sock, dropped)
                    most_bytes = most_bytes - count if count else 0

    async def until_readable(self) -> None:
        """Wait until there is something to receive. Raises KVTransferError."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.sock, _resolve, readable)
        try:
            async with self._in_time():
                await readable
        finally:
            loop.remove_reader(self.sock)

    async def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        await self._fill(memoryview(data))
        return data

    async def _fill(self, view: memoryview) -> None:
        loop, done = asyncio.get_running_loop(), 0
        while done < len(view):
            count = await loop.sock_recv_into(self.sock, view[done:])
            if not count:
                raise KVTransferError("The other server has closed the connection of the transfer.")
            done += count

    @asynccontextmanager
    async def _in_time(self, timeout: float | None = None) -> AsyncIterator[None]:
        seconds = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise KVTransferError(f"The other server has not gone on within {seconds:g} s.") from None
        except OSError as error:
            raise KVTransferError(f"The connection of the transfer has failed: {error}.") from None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
