"""HEAD requests, and paths with a slash at the end."""

from __future__ import annotations

import httpx
import pytest

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import fake_model
from tests.server.conftest import MakeClient

READ = [
    "/health",
    "/ready",
    "/metrics",
    "/v1/models",
    "/v1/models/fake",
    "/ui/engine.json",
    "/openapi.json",
    "/",
]


@pytest.mark.parametrize("path", READ)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    """HEAD, which monitors use, gets the status and type that GET gets, without a body."""
    head, get = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/models/fake"])
async def test_a_slash_at_the_end_changes_nothing(client: httpx.AsyncClient, path: str) -> None:
    """Clients that build URLs from pieces may send one; they get the reply at once, without a redirect."""
    assert (await client.get(f"{path}/")).json() == (await client.get(path)).json()


async def test_a_slash_behind_a_path_for_posts_changes_nothing(client: httpx.AsyncClient) -> None:
    """A POST to a path with a slash at the end keeps its body."""
    reply = await client.post("/v1/completions/", json={"prompt": "x", "max_tokens": 1})
    assert reply.status_code == 200


async def test_keys_are_asked_for_by_the_plain_path(make_client: MakeClient) -> None:
    """A slash at the end or HEAD changes nothing about which paths need a key."""
    async with make_client(api_keys=["key"]) as client:
        for path, status in (("/health", 200), ("/health/", 200), ("/v1/models", 401), ("/v1/models/", 401)):
            assert (await client.get(path)).status_code == status
            assert (await client.head(path)).status_code == status


async def test_a_models_name_may_end_in_a_slash(client: httpx.AsyncClient, context: ServerContext) -> None:
    """A model named by a directory with a slash at the end is found with and without the slash."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("dist/model/")))
    for path in ("dist/model/", "dist/model"):
        assert (await client.get(f"/v1/models/{path}")).json()["id"] == "dist/model/"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/v1/completions", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("OPTIONS", "/health", "GET, HEAD"),
        ("PUT", "/v1/responses/resp_1", "DELETE, GET, HEAD"),
    ],
)
async def test_a_refused_method_says_which_are_allowed(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """A 405 comes with an Allow header, as the standard requires."""
    reply = await client.request(method, path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == allowed
