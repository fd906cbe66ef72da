"""Connections on real sockets, with an application that does what a test needs."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from mlc_serve.config import ServerConfig
from mlc_serve.host.server_socket import bind_socket
from mlc_serve.server.connection import Connection, H11Connection, connection_class, uvicorn_settings
from mlc_serve.server.connections import Connections
from mlc_serve.server.tls import server_context
from tests.certificates import Certificates

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


class Kind(NamedTuple):
    """How the server speaks: its parser, and the certificates if it speaks TLS."""

    connection: type[Connection]
    certificates: Certificates | None = None


@pytest.fixture(params=["best", "h11", "tls"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """The best parser that this machine has, the one that every machine has, and the best over TLS."""
    if request.param == "tls":
        return Kind(connection_class, Certificates(tmp_path))
    return Kind(H11Connection if request.param == "h11" else connection_class)


class App:
    """It answers /hold when `gate` opens, and sets `left` if the client goes first; it reads the body of
    /read, and writes one without end for /endless. At /drain, the server begins to drain.
    """

    drain: Callable[[], None]

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the path."""
        if scope["path"] == "/hold":
            self.entered.set()
            await self._hold(receive)
        if scope["path"] == "/drain":
            self.drain()
        if scope["path"] == "/read":
            await self._read(receive)
        if scope["path"] == "/endless":
            await self._write(receive, send)
            return
        body = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _hold(self, receive: Receive) -> None:
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self.gate.wait()),
            asyncio.ensure_future(self._departure(receive)),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _read(self, receive: Receive) -> None:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()

    async def _write(self, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(self._departure(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not self.left.is_set():
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            await asyncio.sleep(0)
        await leaving

    async def _departure(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send without waiting."""
        self.writer.write(data)

    async def reply(self) -> tuple[int, bytes]:
        """The status and the body of the next reply."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, _, headers = head.partition(b"\r\n")
        length = headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return int(status.split()[1]), await self._reader.readexactly(int(length or 0))

    async def refusal(self) -> tuple[int, str]:
        """The status and the code of a refusal."""
        status, body = await self.reply()
        return status, json.loads(body)["error"]["code"]

    async def ends(self) -> bytes:
        """Wait until the server closes the connection, and return what it sent until then."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""


Connect = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def serving(kind: Kind, app: App, **settings: Any) -> AsyncIterator[Connect]:
    """A running server; the function that is yielded connects to it."""
    trust = None
    if kind.certificates is not None:
        settings["ssl_certfile"] = kind.certificates.server
        trust = kind.certificates.trust()
    server_config = ServerConfig(**settings)
    tls = server_context(server_config, {})
    connections = Connections(server_config, lambda: None)
    app.drain = connections.drain
    sock = bind_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        **uvicorn_settings(server_config, connections, tls, kind.connection),
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    clients: list[Client] = []

    async def connect(as_client: ssl.SSLContext | None = trust) -> Client:
        clients.append(Client(*await asyncio.open_connection(*sock.getsockname(), ssl=as_client)))
        return clients[-1]

    with closing(sock):
        sock.listen()
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield connect
        finally:
            for client in clients:
                client.writer.close()
            server.should_exit = True
            await running


def header(size: int) -> bytes:
    """A request whose headers have `size` bytes, including the empty line."""
    start, end = b"GET /big HTTP/1.1\r\nHost: localhost\r\nX: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


async def test_headers_up_to_the_limit_are_read(kind: Kind) -> None:
    """Two requests in a row may each have 64 KiB of headers."""
    async with serving(kind, App()) as connect:
        client = await connect()
        for _ in range(2):
            client.send(header(64 * 1024 - 1))
            assert await client.reply() == (200, b"/big")


@pytest.mark.parametrize("start", [b"GET /x HTTP/1.1\r\n", b"GET /x HTTP/1.1\r\nX: ", b"GET /"])
async def test_longer_headers_are_refused(kind: Kind, start: bytes) -> None:
    """One endless header, many headers or an endless path get a refusal while the client still sends."""
    async with serving(kind, App()) as connect:
        client = await connect()
        client.send(start)
        client.send((b"a: b\r\n" if start.endswith(b"\n") else b"aaaaaa") * 100_000)
        assert await client.refusal() == (431, "headers_too_large")
        assert await client.ends() == b""


async def test_longer_trailers_are_refused(kind: Kind) -> None:
    """The headers that may follow a body are limited like those before it."""
    app = App()
    async with serving(kind, app) as connect:
        client = await connect()
        client.send(
            b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        )
        client.send(b"a: " + b"b" * 100_000)
        assert (await client.refusal())[0] in {400, 431}
        await app.left.wait()


async def test_bytes_that_are_no_http_are_refused(kind: Kind) -> None:
    """Bytes that are not HTTP get a refusal in the form that all errors have."""
    async with serving(kind, App()) as connect:
        client = await connect()
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
        assert await client.refusal() == (400, "invalid_value")


async def test_half_sent_headers_end_after_a_time(kind: Kind) -> None:
    """A client that does not finish its headers gets a 408; one that sent nothing is just disconnected."""
    async with serving(kind, App(), header_timeout=0.1) as connect:
        slow, silent = await connect(), await connect()
        slow.send(b"GET / HTTP/1.1\r\nX: ")
        assert await slow.refusal() == (408, "request_timeout")
        assert await silent.ends() == b""


async def test_a_half_sent_body_ends_after_a_time(kind: Kind) -> None:
    """The application sees that the client is gone, and the client gets a 408."""
    app = App()
    async with serving(kind, app, body_timeout=0.1) as connect:
        client = await connect()
        client.send(POST % 10 + b"half")
        assert await client.refusal() == (408, "request_timeout")
        await app.left.wait()


async def test_an_answer_may_take_any_time(kind: Kind) -> None:
    """While the server works on a reply, no time limit applies."""
    app = App()
    async with serving(kind, app, header_timeout=0.1, body_timeout=0.1) as connect:
        held, silent = await connect(), await connect()
        held.send(GET % b"hold")
        await app.entered.wait()
        assert await silent.ends() == b""  # the limits have been applied
        app.gate.set()
        assert await held.reply() == (200, b"/hold")


async def test_an_answer_that_is_not_read_ends_after_a_time(kind: Kind) -> None:
    """If the client reads nothing for too long, the application sees a disconnect."""
    app = App()
    async with serving(kind, app, send_timeout=0.1) as connect:
        client = await connect()
        client.send(GET % b"endless")
        await app.left.wait()


async def test_an_idle_connection_is_closed(kind: Kind) -> None:
    """After a reply, the connection is closed when the time for the next request is up."""
    async with serving(kind, App(), idle_timeout=1) as connect:
        client = await connect()
        client.send(GET % b"a")
        assert await client.reply() == (200, b"/a")
        assert await client.ends() == b""


async def test_a_drain_ends_connections_once_they_are_idle(kind: Kind) -> None:
    """Those that are idle end at once, others after the last request that they have received, and new ones
    after their first.
    """
    app = App()
    async with serving(kind, app) as connect:
        idle, busy, half, last = [await connect() for _ in range(4)]
        idle.send(GET % b"a")
        assert await idle.reply() == (200, b"/a")
        busy.send(GET % b"hold")
        await app.entered.wait()
        busy.send(GET % b"b")
        half.send(POST % 3 + b"x")
        last.send(GET % b"drain")
        assert await last.reply() == (200, b"/drain")
        assert await last.ends() == await idle.ends() == b""
        app.gate.set()
        assert [await busy.reply() for _ in range(2)] == [(200, b"/hold"), (200, b"/b")]
        half.send(b"yz")
        assert await half.reply() == (200, b"/read")
        late = await connect()
        late.send(GET % b"c")
        assert await late.reply() == (200, b"/c")
        assert [await client.ends() for client in (busy, half, late)] == [b""] * 3


async def test_requests_at_once_are_answered_in_order(kind: Kind) -> None:
    """Replies keep the order of requests that came together, in two halves, or during the first reply."""
    app = App()
    async with serving(kind, app) as connect:
        client = await connect()
        client.send(GET % b"hold" + GET % b"b" + POST % 3 + b"abc" + (GET % b"c")[:20])
        await app.entered.wait()
        client.send((GET % b"c")[20:] + GET % b"d")
        app.gate.set()
        replies = [await client.reply() for _ in range(5)]
        assert replies == [(200, path) for path in (b"/hold", b"/b", b"/read", b"/c", b"/d")]


@pytest.mark.parametrize("behind", [b"", GET % b"b", GET % b"b" * 2000, POST % 100_000 + b"x" * 50_000])
async def test_a_client_that_leaves_is_noticed(kind: Kind, behind: bytes) -> None:
    """The server notices it, whatever the client sent after the request that is being answered."""
    app = App()
    async with serving(kind, app) as connect:
        client = await connect()
        client.send(GET % b"hold" + behind)
        await app.entered.wait()
        client.send(behind)
        client.writer.close()
        await app.left.wait()


async def test_a_client_that_closes_its_half_has_left(kind: Kind) -> None:
    """A client that closes its sending half counts as gone, as it does for other servers."""
    if kind.certificates is not None:
        pytest.skip("TLS has no halves")
    app = App()
    async with serving(kind, app) as connect:
        client = await connect()
        client.send(GET % b"hold")
        await app.entered.wait()
        client.writer.write_eof()
        await app.left.wait()


async def test_too_much_behind_a_request_ends_the_connection(kind: Kind) -> None:
    """The connection ends when more bytes wait behind a request than headers may have."""
    app = App()
    async with serving(kind, app) as connect:
        client = await connect()
        client.send(GET % b"hold")
        await app.entered.wait()
        client.send(POST % 1_000_000 + b"x" * 200_000)
        await app.left.wait()
        assert await client.ends() == b""


async def test_a_new_connection_takes_the_place_of_one_that_waits(kind: Kind) -> None:
    """The connection that has waited longest for its client is closed; one that is being served stays."""
    app = App()
    async with serving(kind, app, max_connections=3) as connect:
        served, first, second = await connect(), await connect(), await connect()
        served.send(GET % b"hold")
        await app.entered.wait()
        first.send(b"GET / HT")
        third = await connect()
        third.send(GET % b"a")
        assert await third.reply() == (200, b"/a")
        assert await first.ends() == b""
        second.send(GET % b"b")
        assert await second.reply() == (200, b"/b")
        app.gate.set()
        assert await served.reply() == (200, b"/hold")


async def test_probes_are_answered_when_all_connections_are_served(kind: Kind) -> None:
    """Probes are answered then, and all other requests are refused until a connection is free again."""
    app = App()
    async with serving(kind, app, max_connections=1) as connect:
        served = await connect()
        served.send(GET % b"hold")
        await app.entered.wait()
        probe = await connect()
        probe.send(GET % b"health")
        assert await probe.reply() == (200, b"/health")
        for _ in range(2):
            other = await connect()
            other.send(GET % b"b")
            assert await other.refusal() == (503, "too_many_connections")
            assert await other.ends() == b""
        app.gate.set()
        assert await served.reply() == (200, b"/hold")
        last = await connect()
        last.send(GET % b"b")
        assert await last.reply() == (200, b"/b")


async def test_a_body_is_asked_for_when_it_is_read() -> None:
    """A client that waits for 100 Continue gets it only when the application reads the body."""
    app = App()
    expecting = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with serving(Kind(connection_class), app) as connect:
        reading, refusing = await connect(), await connect()
        reading.send(expecting % b"read")
        assert await reading.reply() == (100, b"")
        reading.send(b"ab")
        assert await reading.reply() == (200, b"/read")
        refusing.send(expecting % b"refuse")
        assert await refusing.reply() == (200, b"/refuse")
        assert await refusing.ends() == b""


@pytest.mark.parametrize("kind", ["tls"], indirect=True)
async def test_handshakes_that_never_end_take_no_place(kind: Kind) -> None:
    """Connections without a handshake are counted: they give way to others, and end after a time."""
    async with serving(kind, App(), max_connections=2, header_timeout=0.3) as connect:
        silent = [await connect(None) for _ in range(5)]
        client = await connect()
        client.send(GET % b"a")
        assert await client.reply() == (200, b"/a")
        assert [await one.ends() for one in silent] == [b""] * 5


@pytest.mark.parametrize("kind", ["tls"], indirect=True)
async def test_plain_http_to_a_server_with_tls_is_cut(kind: Kind) -> None:
    """Bytes that are not TLS end the connection, and the server goes on."""
    async with serving(kind, App()) as connect:
        plain, client = await connect(None), await connect()
        plain.send(GET % b"a")
        assert b"HTTP" not in await plain.ends()
        client.send(GET % b"a")
        assert await client.reply() == (200, b"/a")


@pytest.mark.parametrize("kind", ["tls"], indirect=True)
async def test_a_client_certificate_is_asked_for(kind: Kind, tmp_path: Path) -> None:
    """With --ssl-ca-certs, a client needs a certificate of these authorities; probes need none."""
    own = kind.certificates
    assert own is not None
    (tmp_path / "strange").mkdir()
    strange = Certificates(tmp_path / "strange")
    async with serving(kind, App(), ssl_ca_certs=own.authority) as connect:
        known = await connect(own.trust(own.client))
        known.send(GET % b"a")
        assert await known.reply() == (200, b"/a")
        unknown = await connect()
        unknown.send(GET % b"health")
        assert await unknown.reply() == (200, b"/health")
        unknown.send(GET % b"a")
        assert await unknown.refusal() == (401, "client_certificate_needed")
        stranger = await connect(own.trust(strange.client))
        stranger.send(GET % b"health")
        assert await stranger.ends() == b""
