"""API keys."""

from __future__ import annotations

import pytest

from mlc_serve.server.middleware.auth import bearer_token
from mlc_serve.server.routers.ui import PAGE_PATHS
from tests.server.conftest import MakeClient

CLOSED = [
    "/v1/models",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/nowhere",
    "/debug/reset_engine",
    "/ui/engine.json",
    "/ui/nowhere",
    "/ui/../v1/models",
]


@pytest.mark.parametrize("path", CLOSED)
async def test_every_path_is_closed(make_client: MakeClient, path: str) -> None:
    """Without a key, every path but the probes and the page answers 401, even one that does not exist."""
    async with make_client(api_keys=["secret"], enable_debug=True) as client:
        reply = await client.get(path)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes_are_open(make_client: MakeClient, path: str) -> None:
    """The probes need no key, as orchestrators have none."""
    async with make_client(api_keys=["secret"]) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", sorted(PAGE_PATHS))
async def test_the_page_is_open(make_client: MakeClient, path: str) -> None:
    """A key can be typed into the page, so its files need none; without the page their paths are closed."""
    async with make_client(api_keys=["secret"]) as client:
        assert (await client.get(path)).status_code == 200
    async with make_client(api_keys=["secret"], enable_ui=False) as client:
        assert (await client.get(path)).status_code == 401


async def test_metrics_are_open_if_they_are_public(make_client: MakeClient) -> None:
    """With --public-metrics a scraper needs no key, and everything else still does."""
    async with make_client(api_keys=["secret"], public_metrics=True) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401


@pytest.mark.parametrize("key", ["first", "second", "clé", "voilà", "Ѕ"])
async def test_each_key_opens(make_client: MakeClient, key: str) -> None:
    """Any of several keys is accepted, in any alphabet; the last two end in bytes that look like spaces."""
    header = f"Bearer {key}".encode()
    async with make_client(api_keys=["first", "second", "clé", "voilà", "Ѕ"]) as client:
        reply = await client.get("/v1/models", headers={b"Authorization": header})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer ", "secret", "Basic secret", "Bearersecret", "Bearer secretly"]
)
async def test_all_else_is_refused(make_client: MakeClient, header: str) -> None:
    """A wrong key, a bare key and another scheme are refused."""
    async with make_client(api_keys=["secret"]) as client:
        assert (await client.get("/v1/models", headers={"Authorization": header})).status_code == 401


async def test_preflight_needs_no_key(make_client: MakeClient) -> None:
    """A preflight needs no key, because browsers send it without credentials."""
    asking = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    async with make_client(api_keys=["secret"]) as client:
        assert (await client.options("/v1/models", headers=asking)).status_code == 200


def test_bearer_token_ignores_case_of_the_scheme() -> None:
    """The scheme's name is case-insensitive; the token is returned unchanged."""
    assert bearer_token("bEARER Key") == "Key"
    assert bearer_token(None) is None


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
async def test_keys_may_come_in_the_header_of_anthropic(make_client: MakeClient, path: str) -> None:
    """X-Api-Key is as good as a bearer token on all paths, even beside another one."""
    async with make_client(api_keys=["secret"]) as client:
        for headers in ({"X-Api-Key": "secret"}, {"X-Api-Key": "secret", "Authorization": "Bearer other"}):
            assert (await client.get(path, headers=headers)).status_code == 200
        assert (await client.get(path, headers={"X-Api-Key": "wrong"})).status_code == 401


async def test_the_admin_key_alone_opens_debug(make_client: MakeClient) -> None:
    """Ordinary keys don't open /debug then; the admin key opens everything."""
    async with make_client(api_keys=["secret"], admin_api_key="admin", enable_debug=True) as client:
        statuses = {
            (key, path): (await client.post(path, headers={"X-Api-Key": key}, json={})).status_code
            for key in ("secret", "admin")
            for path in (
                "/debug/dump_engine_metrics",
                "/debug/dump_engine_metrics/",
                "/debug",
                "/v1/completions",
            )
        }
    assert [status for (key, _), status in statuses.items() if key == "secret"] == [401, 401, 401, 400]
    assert [status for (key, _), status in statuses.items() if key == "admin"] == [200, 200, 404, 400]


async def test_an_admin_key_closes_nothing_else(make_client: MakeClient) -> None:
    """Without ordinary keys, only /debug needs a key."""
    async with make_client(admin_api_key="admin", enable_debug=True) as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.post("/debug/dump_engine_metrics", json={})).status_code == 401
