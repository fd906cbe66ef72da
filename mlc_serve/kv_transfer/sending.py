"""The sender's end of a transfer: connects to a KVPort, and sends a prefix in portions. Runs on the event
loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from mlc_serve.errors import InvalidRequestError, KVTransferError
from mlc_serve.kv_transfer.address import Address
from mlc_serve.kv_transfer.channel import Channel
from mlc_serve.kv_transfer.hello import accepted, hello
from mlc_serve.kv_transfer.limits import NUM_SLOTS, TransferLimits
from mlc_serve.kv_transfer.shared_memory import IS_AVAILABLE, shared, slots_of, socket_name
from mlc_serve.kv_transfer.terms import Terms

# The most bytes that a receiver may want in a portion that has more than one page.
_LARGEST_PORTION = 64 * 2**20

# Returns `num_bytes` of the prefix from `offset` on, both of whole pages.
Export = Callable[[int, int], Awaitable[memoryview | bytes]]


async def send_prefix(
    address: Address,
    terms: Terms,
    page_bytes: int,
    export: Export,
    limits: TransferLimits,
    *,
    leaves_machine: bool,
) -> None:
    """Send a prefix to the receiver that has given its address, and return when it has all of it.

    Unless `leaves_machine`, the receiver must be on this machine. Raises InvalidRequestError if it is not, or
    if the two do not agree on the terms; KVTransferError if the receiver can't be reached, is too slow or
    goes away; and what the receiver refuses with.
    """
    address.terms.require_equal(terms)
    channel = await _connected(address, limits, leaves_machine=leaves_machine)
    try:
        await channel.send(hello(address, terms))
        portion = _portion(await accepted(channel), page_bytes)
        if portion:
            slots = await _slots(channel, portion)
            await _send_all(channel, terms.num_bytes, portion, export, slots)
    finally:
        channel.close()


def _portion(answer: dict[str, object], page_bytes: int) -> int:
    """Return the bytes of a portion; 0 if the receiver has everything already."""
    portion = answer.get("portion_bytes")
    if (
        type(portion) is int
        and portion % page_bytes == 0
        and 0 <= portion <= max(_LARGEST_PORTION, page_bytes)
    ):
        return portion
    raise KVTransferError("The receiver wants portions that are not whole pages, or too large.")


async def _send_all(
    channel: Channel, num_bytes: int, portion: int, export: Export, slots: list[memoryview]
) -> None:
    num_unanswered = 0
    for index, offset in enumerate(range(0, num_bytes, portion)):
        data = await export(offset, min(portion, num_bytes - offset))
        if num_unanswered == NUM_SLOTS:
            await accepted(channel)
            num_unanswered -= 1
        slot = slots[index % len(slots)][: len(data)] if slots else None
        checksum = await asyncio.to_thread(_written, data, slot)
        await channel.send({"num_bytes": len(data), "crc32": checksum})
        if slot is None:
            await channel.send_bytes(data)
        num_unanswered += 1
    for _ in range(num_unanswered):
        await accepted(channel)


def _written(data: memoryview | bytes, slot: memoryview | None) -> int:
    """Write a portion to shared memory, if there is some, and return its checksum."""
    if slot is not None:
        slot[:] = data
    return zlib.crc32(data)


async def _slots(channel: Channel, portion: int) -> list[memoryview]:
    """Return the memory that the receiver shares, or nothing if it is reached over TCP."""
    if not channel.is_unix:
        return []
    await channel.until_readable()
    return slots_of(shared(channel.sock, NUM_SLOTS * portion), portion)


async def _connected(address: Address, limits: TransferLimits, *, leaves_machine: bool) -> Channel:
    try:
        async with asyncio.timeout(limits.connect):
            sock = await _local_socket(address) or await _tcp_socket(address, leaves_machine=leaves_machine)
    except TimeoutError:
        raise KVTransferError(
            f"The receiver at {address.host} can't be reached within {limits.connect:g} s."
        ) from None
    except OSError as error:
        raise KVTransferError(f"The receiver at {address.host} can't be reached: {error}.") from None
    return Channel(sock, limits.portion)


async def _local_socket(address: Address) -> socket.socket | None:
    """Return a connection to a receiver on this machine, or None if it is elsewhere or shares no memory."""
    if "shm" not in address.transports or not IS_AVAILABLE:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await _connect(sock, socket_name(address.instance))
    except OSError:
        return None
    return sock


async def _tcp_socket(address: Address, *, leaves_machine: bool) -> socket.socket:
    """Return a connection over TCP. Raises InvalidRequestError if it would leave the machine and may not."""
    if "tcp" not in address.transports:
        raise KVTransferError("The receiver shares memory with senders on its own machine alone.")
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, place = found[0]
    if not (leaves_machine or ipaddress.ip_address(place[0]).is_loopback):
        raise InvalidRequestError(
            "kv_addr_info: the receiver is not on this machine; a server sends keys and values to others "
            "only if it is started with --kv-transfer-host.",
            "kv_addr_info",
        )
    sock = socket.socket(family, kind, protocol)
    await _connect(sock, place)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _connect(sock: socket.socket, place: Any) -> None:
    """Connect a socket, which is closed if that fails."""
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
