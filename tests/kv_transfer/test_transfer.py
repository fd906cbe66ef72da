"""A prefix on its way from a sender to a KVPort, over both transports, and what may go wrong."""

from __future__ import annotations

import asyncio
import random
import socket
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.errors import (
    InvalidRequestError,
    KVCacheFullError,
    KVTransferError,
    ParkedRequestConflictError,
    ParkedRequestGoneError,
    RequestError,
)
from mlc_serve.kv_transfer.address import Address, Transport
from mlc_serve.kv_transfer.channel import Channel
from mlc_serve.kv_transfer.hello import accepted, hello
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS, KVPort
from mlc_serve.kv_transfer.limits import TransferLimits
from mlc_serve.kv_transfer.sending import send_prefix
from mlc_serve.kv_transfer.terms import Terms
from tests.kv_transfer.receiver import PAGE, Wanted
from tests.patience import PATIENCE

NUM_PAGES = 20
DATA = random.Random(1).randbytes(NUM_PAGES * PAGE)
# Portions of three pages. A peer that is silent is given up soon only where a test waits for that.
LIMITS = TransferLimits(portion_bytes=3 * PAGE + 5, portion=PATIENCE, hello=PATIENCE, connect=PATIENCE)
HASTY = replace(LIMITS, portion=0.5)

each_transport = pytest.mark.parametrize("transport", ALL_TRANSPORTS)


@asynccontextmanager
async def opened(transports: Sequence[Transport], limits: TransferLimits = LIMITS) -> AsyncIterator[KVPort]:
    """A port, which is closed at the end."""
    port = KVPort(limits=limits, transports=transports)
    try:
        yield port
    finally:
        await port.close()


async def send(address: Address, terms: Terms | None = None, limits: TransferLimits = LIMITS) -> None:
    """Send DATA."""

    async def export(offset: int, num_bytes: int) -> bytes:
        return DATA[offset : offset + num_bytes]

    await send_prefix(address, terms or address.terms, PAGE, export, limits, leaves_machine=False)


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Channel]:
    """A connection to a port over TCP, on which a test says what it likes."""
    sock = socket.create_connection((address.host, address.port))
    sock.setblocking(False)
    channel = Channel(sock, PATIENCE)
    try:
        yield channel
    finally:
        channel.close()


def address_at(listener: socket.socket) -> Address:
    """The address of a receiver that is not a KVPort."""
    host, port = listener.getsockname()[:2]
    return Address(["tcp"], host, port, "ab", "cd", Wanted(NUM_PAGES).terms, 0, 80)


async def until_failed(wanted: Wanted) -> RequestError:
    """Wait until a port has given up a transfer."""
    async with asyncio.timeout(PATIENCE):
        await wanted.failed.wait()
    return wanted.failures[0]


@each_transport
async def test_all_pages_arrive_in_portions(transport: Transport) -> None:
    """They arrive in order, in portions of whole pages, and the sender returns when all have been taken."""
    async with opened([transport]) as port:
        wanted = Wanted(NUM_PAGES)
        await send(await port.expect(wanted, 0, 80))
    assert wanted.data == DATA
    assert wanted.takes == [3 * PAGE] * 6 + [2 * PAGE]
    assert wanted.failures == []


async def test_a_large_page_is_a_portion_of_its_own() -> None:
    """Portions have at least one page, and at most what is sent."""
    limits = TransferLimits(portion_bytes=100)
    assert limits.portion_of(page_bytes=32, num_bytes=640) == 96
    assert limits.portion_of(page_bytes=512, num_bytes=1024) == 512
    assert limits.portion_of(page_bytes=32, num_bytes=64) == 64


async def test_the_sender_falls_back_to_tcp() -> None:
    """A sender that finds no Unix socket, as on another machine, sends over TCP."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        await send(replace(address, transports=["shm", "tcp"]))
    assert wanted.data == DATA


@each_transport
async def test_several_at_a_time(transport: Transport) -> None:
    """Transfers don't mix."""
    async with opened([transport]) as port:
        wanted = [Wanted(NUM_PAGES) for _ in range(5)]
        addresses = [await port.expect(each, 0, 80) for each in wanted]
        await asyncio.gather(*map(send, addresses))
    assert [each.data for each in wanted] == [DATA] * 5


@each_transport
async def test_a_repeated_send_sends_nothing(transport: Transport) -> None:
    """If everything is there, a sender is told so, and returns."""
    async with opened([transport]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        await send(address)
        await send(address)
    assert wanted.data == DATA


@pytest.mark.parametrize("field", ["model", "layout", "prompt", "num_bytes"])
async def test_both_ends_check_the_terms(field: str) -> None:
    """A sender with other terms does not connect, and a port refuses one that does before any byte is sent.
    The request can still be served by another sender.
    """
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        changes: dict[str, Any] = {field: "x"}
        other = replace(address.terms, **changes)
        with pytest.raises(InvalidRequestError, match=field):
            await send(address, other)
        with pytest.raises(InvalidRequestError, match=field):
            await send(replace(address, terms=other), other)
        assert not wanted.has_begun
        await send(address)
    assert wanted.is_whole


async def test_only_who_knows_the_token_is_served() -> None:
    """Another token, the id of another start of the server, and what is forgotten are gone."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        for wrong in (replace(address, token="ab"), replace(address, instance="ab")):
            with pytest.raises(ParkedRequestGoneError):
                await send(wrong)
        port.forget(address.token)
        with pytest.raises(ParkedRequestGoneError):
            await send(address)
    assert not wanted.has_begun


async def test_a_second_sender_is_refused() -> None:
    """While one sends, another one gets the refusal of what is expected, and the first goes on."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as first:
            await first.send(hello(address, address.terms))
            await accepted(first)
            with pytest.raises(ParkedRequestConflictError, match="has begun already"):
                await send(address)
        assert isinstance(await until_failed(wanted), KVTransferError)


@each_transport
async def test_a_refusal_in_the_middle_reaches_the_sender(transport: Transport) -> None:
    """If what is expected takes no more, the sender gets the reason."""
    async with opened([transport]) as port:
        wanted = Wanted(NUM_PAGES)
        wanted.refusal = KVCacheFullError("there is no room")
        with pytest.raises(KVCacheFullError, match="there is no room"):
            await send(await port.expect(wanted, 0, 80))
    assert wanted.failures == [wanted.refusal]


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
async def test_a_sender_that_goes_away(share: float) -> None:
    """Wherever it stops, the transfer fails at once, with nothing but whole pages taken."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as channel:
            await sends_a_part(channel, address, share)
        assert "connection" in (await until_failed(wanted)).message
    assert wanted.data == DATA[: len(wanted.data)]
    assert len(wanted.data) % PAGE == 0


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
async def test_a_sender_that_stops(share: float) -> None:
    """One that keeps the connection but sends no more is given up after the time-out."""
    async with opened(["tcp"], HASTY) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as channel:
            await sends_a_part(channel, address, share)
            assert "has not gone on within 0.5 s" in (await until_failed(wanted)).message


async def sends_a_part(channel: Channel, address: Address, share: float) -> None:
    """Send this share of DATA as a sender does, the last portion in part."""
    await channel.send(hello(address, address.terms))
    portion = int((await accepted(channel))["portion_bytes"])
    for start in range(0, int(share * len(DATA)), portion):
        data = DATA[start : start + portion]
        await channel.send({"num_bytes": len(data), "crc32": zlib.crc32(data)})
        await channel.send_bytes(data[: int(share * len(DATA)) - start])


async def test_a_receiver_that_goes_away() -> None:
    """The sender is told at once if the port closes in the middle."""
    async with opened(["tcp"]) as port:
        address = await port.expect(Wanted(NUM_PAGES), 0, 80)

        async def export(offset: int, num_bytes: int) -> bytes:
            await port.close()
            return DATA[offset : offset + num_bytes]

        with pytest.raises(KVTransferError):
            await send_prefix(address, address.terms, PAGE, export, LIMITS, leaves_machine=False)


async def test_a_receiver_that_forgets() -> None:
    """If what was expected is aborted, the sender's connection ends."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as channel:
            await channel.send(hello(address, address.terms))
            await accepted(channel)
            port.forget(address.token)
            with pytest.raises(KVTransferError):
                await accepted(channel)
    assert wanted.failures == []


async def test_a_receiver_that_is_silent() -> None:
    """A sender gives up after the time-out if nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = address_at(listener)
        with pytest.raises(KVTransferError, match=r"within 0\.5 s"):
            await send(address, limits=HASTY)


async def test_a_receiver_that_is_not_there() -> None:
    """A port that nobody listens on is told by its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = replace(address_at(listener), transports=["shm", "tcp"])
    with pytest.raises(KVTransferError, match=r"127\.0\.0\.1 can't be reached"):
        await send(address)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
async def test_nothing_leaves_the_machine_unasked(host: str) -> None:
    """An address elsewhere is refused before anything connects to it, unless the server may."""
    address = Address(["tcp"], host, 80, "ab", "cd", Wanted(1).terms, 0, 4)
    with pytest.raises(InvalidRequestError, match="--kv-transfer-host"):
        await send(address)
    assert not KVPort("127.0.0.1").leaves_machine
    assert not KVPort("localhost").leaves_machine
    assert KVPort("192.0.2.1").leaves_machine
    assert KVPort("gpu-7.example").leaves_machine


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ({"num_bytes": 1, "crc32": 0}, "another length"),
        ({"num_bytes": 3 * PAGE, "crc32": 0}, "arrived damaged"),
        ({}, "another length"),
    ],
    ids=["length", "checksum", "nothing"],
)
async def test_a_sender_that_lies(header: dict[str, Any], fault: str) -> None:
    """Portions of another length, and damaged ones, end the transfer before they are taken."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as channel:
            await channel.send(hello(address, address.terms))
            await accepted(channel)
            await channel.send(header)
            await channel.send_bytes(DATA[: 3 * PAGE])
            with pytest.raises(KVTransferError, match=fault):
                await accepted(channel)
    assert wanted.data == b""


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0\0\1[", b"\0\0\0\2{}", b"\0\0\0\x20" + b"[" * 32]
)
async def test_strangers_are_sent_away(greeting: bytes) -> None:
    """Whatever else connects gets a refusal, and costs nothing."""
    async with opened(["tcp"]) as port:
        wanted = Wanted(NUM_PAGES)
        address = await port.expect(wanted, 0, 80)
        async with connected(address) as channel:
            await channel.send_bytes(greeting)
            with pytest.raises((KVTransferError, ParkedRequestGoneError)):
                await accepted(channel)
        await send(address)
    assert wanted.is_whole


async def test_silent_connections_are_bounded() -> None:
    """Connections that say nothing are closed after a while; of too many, the latest are closed at once."""
    async with opened(["tcp"], replace(LIMITS, max_connections=2)) as port:
        address = await port.expect(Wanted(1), 0, 4)
        async with connected(address), connected(address), connected(address) as third:
            with pytest.raises(KVTransferError, match=r"closed|failed"):
                await third.receive()
    async with opened(["tcp"], replace(LIMITS, hello=0.1)) as port:
        address = await port.expect(Wanted(1), 0, 4)
        async with connected(address) as silent:
            with pytest.raises(KVTransferError, match="within"):
                await accepted(silent)


async def test_transfers_are_bounded() -> None:
    """Beyond the limit a sender is told to try again; the request stays as it is."""
    async with opened(["tcp"], replace(LIMITS, max_transfers=1)) as port:
        first, second = Wanted(NUM_PAGES), Wanted(NUM_PAGES)
        addresses = [await port.expect(wanted, 0, 80) for wanted in (first, second)]
        async with connected(addresses[0]) as channel:
            await channel.send(hello(addresses[0], addresses[0].terms))
            await accepted(channel)
            with pytest.raises(KVTransferError, match="too many prefixes"):
                await send(addresses[1])
        await until_failed(first)
        await send(addresses[1])
    assert second.is_whole


@pytest.mark.parametrize("portion", [-PAGE, PAGE + 1, 2**40, "x", None])
async def test_a_receiver_that_lies(portion: object) -> None:
    """A receiver can't make a sender export more than it should at a time."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = address_at(listener)
        sending = asyncio.ensure_future(send(address))
        sock, _ = await loop.sock_accept(listener)
        channel = Channel(sock, PATIENCE)
        await channel.receive()
        await channel.send({"ok": True, "portion_bytes": portion})
        with pytest.raises(KVTransferError, match="not whole pages, or too large"):
            await sending
        channel.close()


async def test_an_address_in_use_is_told() -> None:
    """If the port is taken, what is to be expected is refused, and the next try may succeed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = KVPort(port=other.getsockname()[1], transports=["tcp"])
        with pytest.raises(KVTransferError, match="can be received"):
            await port.expect(Wanted(1), 0, 4)
    wanted = Wanted(NUM_PAGES)
    await send(await port.expect(wanted, 0, 80))
    await port.close()
    assert wanted.is_whole
