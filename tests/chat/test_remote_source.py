"""A chat with a server, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mlc_serve.chat.remote_source import RemoteSource
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


@contextmanager
def stranger(content_type: str, body: bytes) -> Iterator[str]:
    """The URL of a server that answers everything with the same 200."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815  the names that http.server looks up

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("listing", [b"<html>", b"{}", b'{"data": []}', b"[]"])
def test_a_server_that_lists_no_model(listing: bytes) -> None:
    """The error says so, whatever is there instead of a list."""
    with (
        stranger("application/json", listing) as url,
        pytest.raises(RemoteServerError, match="lists no model"),
    ):
        RemoteSource(url)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (b"data: {oops\n\n", "not JSON: '{oops'"),
        (b'data: {"choices": []}\n\n', "ended the reply early"),
        (b'data: {"error": {"message": "out of luck"}}\n\n', "an error: out of luck"),
    ],
)
def test_a_broken_reply_is_an_error_of_one_line(events: bytes, fault: str) -> None:
    """A stream that breaks off, carries an error or isn't one is not taken for a whole reply."""
    with (
        stranger("text/event-stream", events) as url,
        closing(RemoteSource(url, "m")) as source,
        pytest.raises(RemoteServerError, match=fault) as raised,
    ):
        list(source.reply(HELLO, {}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("extra", "share"),
    [
        (b'{"draft_acceptance_rate": 0.5}', 0.5),
        (b'{"draft_acceptance_rate": null}', None),
        (b'{"ttft_s": 0.1}', None),
        (b"null", None),
        (b"[1]", None),
    ],
)
def test_a_server_that_debugs_tells_about_drafts(extra: bytes, share: float | None) -> None:
    """What other servers put there instead is no reason to fail."""
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 3, "extra": %s}}\n\n' % extra
    with (
        stranger("text/event-stream", usage + b"data: [DONE]\n\n") as url,
        closing(RemoteSource(url, "m")) as source,
    ):
        (part,) = source.reply(HELLO, {})
    assert (part.num_tokens, part.share_kept) == (3, share)
