"""Call: a client's request as it is passed on to a replica; and the replica's answer to it, through ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope

from mlc_serve.router.message import ReplyHead, ReplyPart, RoutedRequest
from mlc_serve.router.prompt import Prompt

# Parts of a reply that were ready at once.
Parts = Sequence[ReplyPart]


class Call(NamedTuple):
    """A request with what is known about its prompt. It can be pickled.

    `prefix` is that under which Serve publishes the application. If `holder` is not None, only the replica of
    this name can answer, since it stores the response that the request is about. `num_lost` is how many
    replicas were lost with this request.
    """

    request: RoutedRequest
    prefix: str
    client: tuple[str, int] | None
    prompt: Prompt = Prompt()
    holder: str | None = None
    num_lost: int = 0

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> Call:
        """Return the call for a request to an application."""
        prefix: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(prefix)
        query: bytes = scope["query_string"]
        target = path.encode(errors="surrogatepass") + (b"?" + query if query else b"")
        headers = tuple((bytes(name).lower(), bytes(value)) for name, value in scope["headers"])
        client: tuple[str, int] | None = scope.get("client")
        return cls(RoutedRequest(scope["method"], path, target, headers, body), prefix, client)

    @property
    def scope(self) -> dict[str, Any]:
        """The ASGI scope for the replica's application."""
        raw_path, _, query = self.request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.request.method,
            "path": self.request.path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": self.prefix,
            "headers": list(self.request.headers),
            "client": self.client,
            "server": None,
        }


async def answers(app: ASGIApp, call: Call) -> AsyncGenerator[Parts, None]:
    """Yield an application's reply to a call; what is sent at once comes together.

    If the generator is closed or cancelled early, the application is cancelled. Raises what it raises.
    """
    outbox = _Outbox()
    running = asyncio.ensure_future(app(call.scope, _inbox(call.request.body), outbox.send))
    running.add_done_callback(outbox.close)
    try:
        while messages := await outbox.take():
            yield list(_parts(messages))
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _parts(messages: Sequence[Message]) -> Iterator[ReplyPart]:
    for message in messages:
        if message["type"] == "http.response.start":
            yield ReplyHead(
                message["status"], tuple((name.lower(), value) for name, value in message["headers"])
            )
        elif body := message.get("body"):
            yield body


def _inbox(body: bytes) -> Receive:
    """Return what an application receives: the body, and then nothing, since it is cancelled if the client
    goes away.
    """
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not rest:
            await asyncio.get_running_loop().create_future()
        return rest.pop()

    return receive


class _Outbox:
    """The messages that an application has sent and nobody has taken."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._news = asyncio.Event()
        self._is_closed = False

    async def send(self, message: Message) -> None:
        """Add a message."""
        self._messages.append(message)
        self._news.set()

    def close(self, _done: asyncio.Future[None]) -> None:
        """Let `take` return, since nothing more is sent."""
        self._is_closed = True
        self._news.set()

    async def take(self) -> list[Message]:
        """Wait for messages and return them; none if nothing more is sent."""
        await self._news.wait()
        messages, self._messages = self._messages, []
        if not self._is_closed:
            self._news.clear()
        return messages
