"""Request fields that are unknown."""

from __future__ import annotations

import logging

import httpx
import pytest

from tests.server.conftest import MakeClient

COMPLETION = {"prompt": "Hello", "max_tokens": 1}


async def test_the_reply_lists_what_was_ignored(client: httpx.AsyncClient) -> None:
    """A whole reply, a stream and a refusal all list the ignored fields; without any, there is no header."""
    odd = {**COMPLETION, "mood": "good", "stream_options": {"colour": 1}}
    for more, status in (({}, 200), ({"stream": True}, 200), ({"model": "nowhere"}, 404)):
        reply = await client.post("/v1/completions", json={**odd, **more})
        assert reply.status_code == status
        assert sorted(reply.headers["x-ignored-fields"].split(", ")) == ["mood", "stream_options.colour"]
    assert "x-ignored-fields" not in (await client.post("/v1/completions", json=COMPLETION)).headers


async def test_pages_may_read_the_list(client: httpx.AsyncClient) -> None:
    """The header is among those that the server allows browsers to show to a page."""
    reply = await client.get("/v1/models", headers={"Origin": "http://page"})
    assert "x-ignored-fields" in reply.headers["access-control-expose-headers"].lower()


async def test_the_list_is_short_and_plain(client: httpx.AsyncClient) -> None:
    """The field names that a client makes up can neither bloat the header nor break out of it."""
    names = ["x" * 10_000, "a, b\r\nSet-Cookie: c=d", "ümlaut", *(f"field{i}" for i in range(1000))]
    reply = await client.post("/v1/completions", json={**COMPLETION, **dict.fromkeys(names, 1)})
    listed = reply.headers["x-ignored-fields"].split(", ")
    assert reply.status_code == 200
    assert len(listed) == 16
    assert listed[:4] == ["x" * 64, "a??b??Set-Cookie??c?d", "?mlaut", "field0"]


async def test_they_are_counted_and_logged_once(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator sees ignored fields in the metrics, each time, and in the log, once."""
    for _ in range(2):
        await client.post("/v1/completions", json={**COMPLETION, "mood": "good"})
    metrics = (await client.get("/metrics")).text
    assert 'mlc_serve_ignored_fields_total{field="mood"} 2.0' in metrics
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([line for line in lines if "mood" in line]) == 1


async def test_made_up_names_are_one_series(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that keeps sending new names fills neither the metrics nor the log: beyond 100 they count as
    one, and they are not logged.
    """
    for start in range(0, 160, 16):
        odd = {f"field{number}": 1 for number in range(start, start + 16)}
        await client.post("/v1/completions", json={**COMPLETION, **odd})
    metrics = (await client.get("/metrics")).text
    assert metrics.count("\nmlc_serve_ignored_fields_total{") == 101
    assert 'mlc_serve_ignored_fields_total{field="other"} 60.0' in metrics
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 100


async def test_strict_servers_refuse_them_by_name(make_client: MakeClient) -> None:
    """With --strict-requests, an unknown field is an error, even inside another field."""
    async with make_client(strict_requests=True) as client:
        reply = await client.post("/v1/completions", json={**COMPLETION, "stream_options": {"colour": 1}})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "stream_options.colour"
        assert "x-ignored-fields" not in reply.headers
        known = {**COMPLETION, "user": "ann", "store": True, "stream_options": {"include_obfuscation": False}}
        assert (await client.post("/v1/completions", json=known)).status_code == 200
