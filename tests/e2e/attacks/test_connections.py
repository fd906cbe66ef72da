"""Clients that send too much, too slowly or too often, that don't read, or that leave."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.attacks.attack import MEGABYTE, MODEL, attack
from tests.e2e.attacks.conftest import FEW_FILES, STORY
from tests.e2e.attacks.server import AttackedServer

START = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
OK = b"HTTP/1.1 200 "


def request(server: AttackedServer, **fields: Any) -> bytes:
    """The bytes of a request for a completion of STORY."""
    content = json.dumps({"model": MODEL, "prompt": STORY, "max_tokens": 4000, **fields}).encode()
    headers = b"".join(b"%s: %s\r\n" % header for header in server.headers.items())
    return START + headers + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)


@contextmanager
def connected(server: AttackedServer) -> Iterator[socket.socket]:
    """A connection with a small receive buffer, which fills if the test reads nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(server.address)
        yield connection


def received(connection: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def send_all(connection: socket.socket, piece: bytes, count: int) -> None:
    """Send a piece `count` times, or until the server closes the connection."""
    try:
        for _ in range(count):
            connection.sendall(piece)
    except ConnectionError:
        pass


def wait_until_idle(server: AttackedServer) -> None:
    """Wait until no request runs or waits; the test's time limit bounds this."""
    while server.metric("mlc_serve_requests_running") + server.metric("mlc_serve_requests_waiting"):
        pass


@pytest.mark.parametrize("start", [START, START + b"X: ", b"GET /"])
def test_endless_headers(impatient: AttackedServer, start: bytes) -> None:
    """A client without a key gets a 431 after 64 KiB of headers. If it goes on for 200 MB, it loses its
    connection and harms nobody.
    """
    with attack(impatient), connected(impatient) as connection:
        connection.sendall(start + b"a" * (64 * 1024 - len(start)))
        reply = connection.recv(4096)
        send_all(connection, b"a" * MEGABYTE, 200)
        received(connection)
    assert reply.startswith(b"HTTP/1.1 431 ")


def test_a_body_without_a_key(impatient: AttackedServer) -> None:
    """It is refused before the body is sent, even if the client waits for 100 Continue."""
    for expectation in (b"", b"Expect: 100-continue\r\n"):
        with attack(impatient), connected(impatient) as connection:
            connection.sendall(START + expectation + b"Content-Length: 200000000\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_half_sent_requests(impatient: AttackedServer) -> None:
    """More half-sent requests than the server may open files do not keep others waiting, and are ended."""
    with ExitStack() as stack, attack(impatient):
        connections = [stack.enter_context(connected(impatient)) for _ in range(FEW_FILES + 12)]
        for number, connection in enumerate(connections):
            send_all(connection, START if number % 2 else START + b"Content-Length: 9\r\n\r\n{", 1)
        for connection in connections:
            received(connection)


def test_clients_that_do_not_read(impatient: AttackedServer) -> None:
    """Their replies, streamed or whole, end after the time-out, and others are served then."""
    with ExitStack() as stack:
        for fields in ({"stream": True}, {"logprobs": 5, "max_tokens": 1000}):
            connection = stack.enter_context(connected(impatient))
            connection.sendall(request(impatient, n=2, **fields))
            assert connection.recv(len(OK)) == OK
        wait_until_idle(impatient)
        with attack(impatient):
            pass


def test_a_client_that_leaves_behind_a_second_request(attacked: AttackedServer) -> None:
    """The first request is aborted even if another one follows on its connection, which is not begun."""
    finished = "mlc_serve_requests_finished_total"
    aborted = attacked.metric(finished, reason="abort")
    with attack(attacked):
        with connected(attacked) as connection:
            connection.sendall(request(attacked, n=2, stream=True) * 2)
            assert connection.recv(len(OK)) == OK
        wait_until_idle(attacked)
    assert attacked.metric(finished, reason="abort") == aborted + 2


def test_many_requests_at_once(attacked: AttackedServer) -> None:
    """A thousand requests sent at once on one connection are all answered, one after the other."""
    count = 1000
    start = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %d\r\n\r\n"
    with attack(attacked), connected(attacked) as connection:
        connection.sendall(b"".join(start % number for number in range(count)))
        reply = b""
        while len(answered := re.findall(rb"x-request-id: (\d+)\r\n", reply, re.IGNORECASE)) < count:
            reply += connection.recv(65536)
    assert list(map(int, answered)) == list(range(count))
    assert reply.count(OK) == count


def test_too_many_requests_at_once(attacked: AttackedServer) -> None:
    """A client that keeps sending requests without reading replies loses its connection."""
    with attack(attacked), connected(attacked) as connection:
        send_all(connection, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, 1000)
        received(connection)


def test_connections_one_after_the_other(attacked: AttackedServer) -> None:
    """A thousand connections that are opened and closed without a request do no harm."""
    with attack(attacked):
        for _ in range(1000):
            with connected(attacked):
                pass
    assert httpx.get(f"{attacked.url}/health").status_code == 200
