"""Callbacks that see the head of a reply before it is sent."""

from __future__ import annotations

import httpx
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from mlc_serve.server.middleware.reply_heads import ReplyHeads, on_reply_head


async def test_all_that_look_see_the_head_once_in_their_order() -> None:
    """The next callback sees the header that one adds, and so does the client; none sees the body's parts."""
    seen: list[tuple[str, int, list[bytes]]] = []

    def look(name: str, head: Message) -> None:
        seen.append((name, head["status"], [key for key, _ in head["headers"]]))
        head["headers"].append((name.encode(), b"yes"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        on_reply_head(scope, lambda head: look("first", head))
        on_reply_head(scope, lambda head: look("second", head))
        await StreamingResponse(iter(["a", "b", "c"]))(scope, receive, send)

    transport = httpx.ASGITransport(ReplyHeads(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        reply = await client.get("/")
    assert seen == [("first", 200, []), ("second", 200, [b"first"])]
    assert (reply.headers["first"], reply.headers["second"], reply.text) == ("yes", "yes", "abc")
