"""The application as a whole: its layers, and the paths that no other file tests."""

from __future__ import annotations

import httpx
import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.errors import ConfigError
from tests.server.conftest import MakeClient

PREFLIGHT = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}


async def test_any_origin_by_default(client: httpx.AsyncClient) -> None:
    """Pages of any origin may call the server, and may read the request id."""
    reply = await client.get("/v1/models", headers={"Origin": "http://page"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in reply.headers["access-control-expose-headers"].lower()


async def test_credentials_with_a_list_of_origins(make_client: MakeClient) -> None:
    """A listed origin is allowed to send credentials, in preflights too; any other origin is not allowed."""
    async with make_client(allow_credentials=True, allow_origins=["http://page"]) as client:
        ours = [
            await client.get("/v1/models", headers={"Origin": "http://page"}),
            await client.options("/v1/chat/completions", headers=PREFLIGHT),
        ]
        theirs = await client.get("/v1/models", headers={"Origin": "http://other"})
    for reply in ours:
        assert reply.headers["access-control-allow-origin"] == "http://page"
        assert reply.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in theirs.headers


def test_credentials_with_any_origin_are_refused() -> None:
    """A server does not start if its settings would let any page act with its reader's credentials."""
    with pytest.raises(ConfigError, match=r"allow_credentials.*allow_origins"):
        ServerConfig(allow_credentials=True)


async def test_pages_of_public_sites_may_ask_for_a_private_network(make_client: MakeClient) -> None:
    """Browsers that ask for this permission get it if the origin is allowed, and only then."""
    asking = {**PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
    async with make_client(allow_origins=["http://page"]) as client:
        ours = await client.options("/v1/chat/completions", headers=asking)
        theirs = await client.options("/v1/chat/completions", headers={**asking, "Origin": "http://other"})
    assert ours.status_code == 200
    assert ours.headers["access-control-allow-private-network"] == "true"
    assert theirs.status_code == 400
    assert "access-control-allow-origin" not in theirs.headers


async def test_listed_origins_only(make_client: MakeClient) -> None:
    """With a list of origins, no other origin is allowed."""
    async with make_client(allow_origins=["http://page"]) as client:
        ours = await client.get("/v1/models", headers={"Origin": "http://page"})
        theirs = await client.get("/v1/models", headers={"Origin": "http://other"})
    assert ours.headers["access-control-allow-origin"] == "http://page"
    assert "access-control-allow-origin" not in theirs.headers


@pytest.mark.parametrize("path", ["/nowhere", "/v1/models/nowhere"])
async def test_refusals_can_be_read_by_pages(client: httpx.AsyncClient, path: str) -> None:
    """Error replies carry the CORS headers as well."""
    reply = await client.get(path, headers={"Origin": "http://page"})
    assert reply.status_code == 404
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_documentation_is_served(client: httpx.AsyncClient) -> None:
    """The server serves /docs and its schema."""
    assert (await client.get("/docs")).status_code == 200
    assert "/v1/chat/completions" in (await client.get("/openapi.json")).json()["paths"]


async def test_without_the_page_the_root_leads_to_the_documentation(make_client: MakeClient) -> None:
    """With --no-ui, none of the page's files is served, and / redirects to /docs."""
    async with make_client(enable_ui=False) as client:
        assert (await client.get("/")).headers["location"] == "/docs"
        assert (await client.head("/")).is_redirect
        assert (await client.get("/ui/app.js")).status_code == 404
        assert (await client.get("/ui/engine.json")).status_code == 404


async def test_debug_paths_are_off_by_default(client: httpx.AsyncClient) -> None:
    """Without --enable-debug, paths under /debug answer 404."""
    assert (await client.post("/debug/reset_engine", json={"model": "fake"})).status_code == 404
