"""GET /metrics."""

from __future__ import annotations

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_model


async def scrape(client: httpx.AsyncClient) -> str:
    """The text that Prometheus would read."""
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return reply.text


async def test_every_sample_has_help_and_type(client: httpx.AsyncClient) -> None:
    """Prometheus' own parser reads the whole text, and every family has a description and a type."""
    await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 3})
    families = list(text_string_to_metric_families(await scrape(client)))
    assert families
    assert all(family.documentation and family.type != "unknown" for family in families)


async def test_names_of_mlc_are_there(client: httpx.AsyncClient) -> None:
    """Dashboards made for MLC-LLM find its metrics by name, with the right counts."""
    await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True})
    lines = (await scrape(client)).splitlines()
    assert 'completion_tokens_sum{model="fake"} 3.0' in lines


async def test_process_is_measured(client: httpx.AsyncClient) -> None:
    """The memory and the processor time of the process are among the metrics."""
    assert "\nprocess_resident_memory_bytes " in await scrape(client)


async def test_engines_share_families(client: httpx.AsyncClient, context: ServerContext) -> None:
    """With two models, a family still has one HELP line, and there are samples of both models."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("other")))
    for model in ("fake", "other"):
        await client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1})
    text = await scrape(client)
    helps = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# HELP"))
    assert set(helps.values()) == {1}
    assert 'model="fake"' in text
    assert 'model="other"' in text


async def test_answers_when_the_engine_is_dead(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    """The metrics of an engine that has died can still be read."""
    backend.crash_on = {ord("!")}
    await client.post("/v1/completions", json={"prompt": "a!"})
    assert "prompt_tokens" in await scrape(client)
