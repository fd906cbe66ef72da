"""A chat with a server, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from mlc_serve.chat.remote import RemoteSource
from mlc_serve.errors import RemoteServerError
from mlc_serve.testing import replay
from tests.e2e.live_server import LiveServer, live_server
from tests.patience import PATIENCE

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """A server whose device the test can pause."""
    with live_server() as running:
        yield running


def test_the_first_model_answers(server: LiveServer) -> None:
    """The reply arrives in parts, with the number of tokens at the end."""
    with closing(RemoteSource(f"{server.url}/v1")) as source:
        parts = list(source.reply(HELLO, {"max_tokens": 5, "temperature": 0}))
    assert source.name == "fake"
    assert len("".join(part.text for part in parts)) == 5
    assert parts[-1].num_tokens == 5


def test_a_reply_may_hold_any_character() -> None:
    """A line of an event stream ends at CR and LF, and not at the line separators of Unicode."""
    said = "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\r\ne"
    with live_server(replay(said.encode())) as running, closing(RemoteSource(f"{running.url}/v1")) as source:
        parts = list(source.reply(HELLO, {}))
    assert "".join(part.text for part in parts) == said


def test_closing_a_reply_ends_the_request(server: LiveServer) -> None:
    """The closed connection tells the server."""
    with closing(RemoteSource(f"{server.url}/v1")) as source:
        reply = source.reply(HELLO, {})
        next(reply)
        server.backend.gate.clear()
        reply.close()
        assert server.aborted.wait(timeout=PATIENCE)


def test_what_the_server_refuses_is_told_in_its_words(server: LiveServer) -> None:
    """The error has the status and the server's message, and no text is yielded."""
    refusal = "answered 404: No model 'other' is served"
    source = RemoteSource(f"{server.url}/v1", "other")
    with closing(source), pytest.raises(RemoteServerError, match=refusal):
        list(source.reply(HELLO, {}))


def test_a_server_that_is_not_there() -> None:
    """The error names it before any question is asked."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RemoteServerError, match=f"nothing answers at http://127.0.0.1:{port}/v1"):
        RemoteSource(f"http://127.0.0.1:{port}/v1")


def test_an_address_of_something_else(server: LiveServer) -> None:
    """A wrong path is reported with its status."""
    with pytest.raises(RemoteServerError, match="the server answered 404"):
        RemoteSource(f"{server.url}/v2")
