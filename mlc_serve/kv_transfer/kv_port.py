"""KVPort: where a server receives keys and values from others. It listens once something is expected.

    sender                                       receiver
    ------                                       --------
    hello: token, instance, terms  ───────────>  is this expected, and are the terms the same?
                                   <───────────  ok, bytes of a portion; shared memory, over a Unix socket
    header: bytes, checksum; bytes ───────────>  check, append to the prefix, between two steps
                                   <───────────  ok, for each portion

Whatever a sender does costs at most its own request. Runs on the event loop; knows nothing about engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
import zlib
from collections.abc import Coroutine, Sequence
from typing import Protocol

from mlc_serve.errors import (
    KVTransferError,
    ParkedRequestGoneError,
    RequestError,
    RequestFailedError,
)
from mlc_serve.kv_transfer.address import Address, Transport
from mlc_serve.kv_transfer.channel import Channel
from mlc_serve.kv_transfer.hello import refusal, terms_in
from mlc_serve.kv_transfer.limits import NUM_SLOTS, TransferLimits
from mlc_serve.kv_transfer.shared_memory import IS_AVAILABLE, share, slots_of, socket_name
from mlc_serve.kv_transfer.terms import Terms

logger = logging.getLogger(__name__)

_BACKLOG = 64
# After a failed accept, because too many files are open, the next try comes this many seconds later.
_PAUSE = 0.1

ALL_TRANSPORTS: Sequence[Transport] = ("shm", "tcp") if IS_AVAILABLE else ("tcp",)


class Expected(Protocol):
    """A prefix that a sender may bring, in pages of `page_bytes`."""

    @property
    def terms(self) -> Terms:
        """What the sender has to agree to."""

    @property
    def page_bytes(self) -> int:
        """The bytes of one page."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here, so that nothing needs to be sent."""

    def begin(self) -> None:
        """Note that a sender begins. Raises a RequestError if it may not."""

    async def take(self, data: memoryview) -> None:
        """Append the next pages. The data is valid until this returns. Raises a RequestError."""

    def fail(self, error: RequestError) -> None:
        """Note that the rest will not come."""


class KVPort:
    """`host` is the address that it listens on and that senders are told; port 0 chooses any free one."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: TransferLimits | None = None,
        transports: Sequence[Transport] = ALL_TRANSPORTS,
    ) -> None:
        self.host = host
        self.limits = limits or TransferLimits()
        self._port = port
        self._transports = transports
        self._instance = secrets.token_hex(16)
        self._expected: dict[str, Expected] = {}
        self._receiving: dict[str, asyncio.Task[None]] = {}
        self._listening = asyncio.Lock()
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_connections = 0

    @property
    def leaves_machine(self) -> bool:
        """Whether keys and values may come from other machines, and go there."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True

    async def expect(self, expected: Expected, start: int, stop: int) -> Address:
        """Let a sender bring a prefix's tokens at positions [start, stop) until `forget`, and return the
        address that it needs. Raises KVTransferError if the port can't be listened on.
        """
        async with self._listening:
            if not self._listeners:
                await self._listen()
        token = secrets.token_hex(32)
        self._expected[token] = expected
        return Address(
            self._transports, self.host, self._port, token, self._instance, expected.terms, start, stop
        )

    def forget(self, token: str) -> None:
        """Expect nothing under this token any more, and close the connection of a sender that brings it."""
        self._expected.pop(token, None)
        receiving = self._receiving.get(token)
        if receiving is not None and receiving is not asyncio.current_task():
            receiving.cancel()

    async def close(self) -> None:
        """Close all connections, and listen no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    # Connections -----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        try:
            if "tcp" in self._transports:
                self._listeners.append(await _tcp_listener(self.host, self._port))
                self._port = self._listeners[-1].getsockname()[1]
            if "shm" in self._transports:
                self._listeners.append(_unix_listener(socket_name(self._instance)))
        except OSError as error:
            for listener in self._listeners:
                listener.close()
            self._listeners.clear()
            raise KVTransferError(f"No prefix can be received on {self.host}: {error}.") from None
        for listener in self._listeners:
            self._run(self._accept(listener))

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                logger.warning("a connection to send a prefix could not be accepted: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            if self._num_connections < self.limits.max_connections:
                self._num_connections += 1
                self._run(self._serve(sock))
            else:
                sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        """Answer one sender."""
        channel = Channel(sock, self.limits.portion)
        if not channel.is_unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._answer(channel)
        except RequestError as error:
            with contextlib.suppress(KVTransferError):
                await channel.send(refusal(error))
                await channel.finish(2 * NUM_SLOTS * self.limits.portion_bytes, self.limits.hello)
        finally:
            channel.close()
            self._num_connections -= 1

    async def _answer(self, channel: Channel) -> None:
        message = await channel.receive(self.limits.hello)
        token = message.get("token")
        expected = self._expected.get(token) if isinstance(token, str) else None
        if expected is None or message.get("instance") != self._instance:
            raise ParkedRequestGoneError("nothing is expected under this address, or no longer.")
        expected.terms.require_equal(terms_in(message))
        if expected.is_whole:
            await channel.send({"ok": True, "portion_bytes": 0})
            return
        if len(self._receiving) >= self.limits.max_transfers:
            raise KVTransferError("too many prefixes are received at the same time; try again later.")
        expected.begin()
        await self._receive(channel, str(token), expected)

    async def _receive(self, channel: Channel, token: str, expected: Expected) -> None:
        """Receive a prefix whose sender has begun. If it does not arrive, what expects it is told."""
        task = asyncio.current_task()
        if task is not None:
            self._receiving[token] = task
        try:
            await _take_all(channel, expected, self.limits)
        except RequestError as error:
            if not expected.is_whole:
                expected.fail(error)
            raise
        except Exception as error:
            logger.exception("a prefix could not be received")
            expected.fail(RequestFailedError("The server failed to receive the prefix."))
            raise KVTransferError("the receiver has failed.") from error
        finally:
            del self._receiving[token]


async def _take_all(channel: Channel, expected: Expected, limits: TransferLimits) -> None:
    num_bytes = expected.terms.num_bytes
    portion = limits.portion_of(expected.page_bytes, num_bytes)
    await channel.send({"ok": True, "portion_bytes": portion})
    slots = _slots(channel, portion)
    for index, offset in enumerate(range(0, num_bytes, portion)):
        data = slots[index % len(slots)][: min(portion, num_bytes - offset)]
        header = await channel.receive()
        if header.get("num_bytes") != len(data):
            raise KVTransferError("a portion has another length than was agreed.")
        if not channel.is_unix:
            await channel.receive_into(data)
        if await asyncio.to_thread(zlib.crc32, data) != header.get("crc32"):
            raise KVTransferError("a portion has arrived damaged: its checksum is wrong.")
        await expected.take(data)
        await channel.send({"ok": True})


def _slots(channel: Channel, portion: int) -> list[memoryview]:
    """Return the memory for portions, which the sender shares if it is on this machine."""
    if not channel.is_unix:
        return [memoryview(bytearray(portion))]
    try:
        memory = share(channel.sock, NUM_SLOTS * portion)
    except OSError as error:
        raise KVTransferError(f"there is no shared memory: {error}.") from None
    return slots_of(memory, portion)


async def _tcp_listener(host: str, port: int) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    return _listening(socket.create_server(address[:2], family=family, backlog=_BACKLOG))


def _unix_listener(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(name)
    listener.listen(_BACKLOG)
    return _listening(listener)


def _listening(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)
    return listener
