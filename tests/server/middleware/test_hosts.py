"""The names that a server answers to."""

from __future__ import annotations

import pytest

from mlc_serve.server.middleware.hosts import is_loopback
from tests.server.conftest import MakeClient


async def status_for(make_client: MakeClient, name: str, **config: object) -> int:
    """The status of a request whose Host header is `name`."""
    async with make_client(**config) as client:
        return (await client.get("/v1/models", headers={"Host": name})).status_code


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8000", "a.localhost", "127.0.0.1:80", "[::1]:80", "10.0.0.7", ""]
)
async def test_names_of_this_machine_are_answered(make_client: MakeClient, name: str) -> None:
    """Names that always mean this machine are answered, and so are all plain addresses."""
    assert await status_for(make_client, name) == 200


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example"])
async def test_other_names_are_refused(make_client: MakeClient, name: str) -> None:
    """A foreign name that resolves to a loopback address is refused, for probes and preflights as well."""
    asking = {"Host": name, "Origin": f"http://{name}", "Access-Control-Request-Method": "POST"}
    async with make_client() as client:
        reply = await client.get("/health", headers={"Host": name})
        preflight = await client.options("/v1/models", headers=asking)
    assert (reply.status_code, reply.json()["error"]["code"]) == (421, "unknown_host")
    assert preflight.status_code == 421
    assert "access-control-allow-origin" not in preflight.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "my-machine"])
async def test_other_addresses_have_any_name(make_client: MakeClient, host: str) -> None:
    """A server that does not listen on loopback can't know its names, so it answers to any."""
    assert await status_for(make_client, "anything.example", host=host) == 200


async def test_allowed_hosts(make_client: MakeClient) -> None:
    """A list allows more names, and limits servers on other addresses to them; `*` allows all."""
    names = {"allowed_hosts": ["Mine.example"]}
    assert await status_for(make_client, "mine.example:80", **names) == 200
    assert await status_for(make_client, "other.example", **names) == 421
    assert await status_for(make_client, "other.example", host="0.0.0.0", **names) == 421
    assert await status_for(make_client, "other.example", allowed_hosts=["*"]) == 200


def test_is_loopback() -> None:
    """The loopback names and addresses are those that only this machine reaches."""
    assert all(map(is_loopback, ["localhost", "x.localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org"]))
