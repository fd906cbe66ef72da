"""X-Request-Id."""

from __future__ import annotations

import httpx
import pytest

from mlc_serve.server.middleware.request_id import accepted_id


async def test_a_plain_id_comes_back(client: httpx.AsyncClient) -> None:
    """A client can find its own id in the reply."""
    reply = await client.get("/v1/models", headers={"X-Request-Id": "trace-1/a:b.c"})
    assert reply.headers["x-request-id"] == "trace-1/a:b.c"


async def test_ids_are_made_up(client: httpx.AsyncClient) -> None:
    """Two requests without an id get different ones, refused requests too."""
    replies = [await client.get("/v1/models"), await client.get("/nowhere")]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert all(ids)


@pytest.mark.parametrize("hostile", ["", "a b", "x" * 129, "a\nINFO forged", "ümlaut", '"quoted"'])
def test_hostile_ids_are_replaced(hostile: str) -> None:
    """What could forge a log line or bloat it is not taken over."""
    assert accepted_id(hostile) != hostile
