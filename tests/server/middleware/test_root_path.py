"""A server behind a proxy that publishes it below a prefix."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest

from mlc_serve.config import ServerConfig
from mlc_serve.config.server import OWN_PATHS
from mlc_serve.errors import ConfigError
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from tests.server.conftest import MakeClient

PREFIX = "/llm/a"


@pytest.mark.parametrize("before", ["", PREFIX])
async def test_requests_come_with_or_without_the_prefix(make_client: MakeClient, before: str) -> None:
    """A proxy may remove the prefix or leave it; keys are asked for either way, except by probes."""
    async with make_client(root_path=PREFIX, api_keys=["k"]) as client:
        assert (await client.get(f"{before}/health")).status_code == 200
        assert (await client.get(f"{before}/v1/models")).status_code == 401
        assert (await client.get(f"{before}/v1/models", headers={"X-Api-Key": "k"})).status_code == 200
        assert (await client.get(f"{PREFIX}b/v1/models", headers={"X-Api-Key": "k"})).status_code == 404


@pytest.mark.parametrize("before", ["", PREFIX])
async def test_the_documentation_names_the_prefix(make_client: MakeClient, before: str) -> None:
    """The page at /docs loads the document from below the prefix, and that names it as its server."""
    async with make_client(root_path=PREFIX) as client:
        assert f"{PREFIX}/openapi.json" in (await client.get(f"{before}/docs")).text
        document = (await client.get(f"{before}/openapi.json")).json()
    assert document["servers"] == [{"url": PREFIX}]


async def test_the_page_works_below_the_prefix(make_client: MakeClient) -> None:
    """Its files are relative to its address, which gets its slash by a redirect."""
    async with make_client(root_path=PREFIX) as client:
        redirect = await client.get(PREFIX)
        assert (redirect.status_code, redirect.headers["location"]) == (307, f"{PREFIX}/")
        page = (await client.get(f"{PREFIX}/")).text
        for link in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert (await client.get(urljoin(f"{PREFIX}/", link))).status_code == 200, link


async def test_redirects_carry_the_prefix(make_client: MakeClient) -> None:
    """Without the page, / leads to the documentation below the prefix."""
    async with make_client(root_path=PREFIX, enable_ui=False) as client:
        assert (await client.get("/")).headers["location"] == f"{PREFIX}/docs"


@pytest.mark.parametrize("prefix", ["llm", "/llm/", "//llm", "/a b", "/", "/v1", "/ui/x"])
def test_a_prefix_that_can_not_work_is_refused(prefix: str) -> None:
    """It is a path without a slash at its end, and does not begin like one of the server's own paths."""
    with pytest.raises(ConfigError, match="root_path is"):
        ServerConfig(root_path=prefix)


def test_the_own_paths_are_complete() -> None:
    """OWN_PATHS has the first part of each path of the application."""
    app = create_app(ServerContext(), ServerConfig(enable_debug=True))
    routes: list[Any] = [*app.openapi()["paths"], *(getattr(route, "path", "/") for route in app.routes)]
    assert {path.split("/")[1] for path in routes} - {""} <= OWN_PATHS
