"""GET /metrics."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest
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
    """Dashboards made for MLC-LLM find its metrics by name, with the right counts for a prompt of two tokens
    and a reply of three.
    """
    await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True})
    families = text_string_to_metric_families(await scrape(client))
    values = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith("mlc_serve_") and sample.labels == {"model": "fake"}
    }
    sums = {"prompt_tokens": 2, "completion_tokens": 3, "prefill_tokens": 2, "decode_tokens": 2}
    last = {f"last_finished_request_{name}": count for name, count in sums.items()}
    counts = {f"{name}_sum": count for name, count in sums.items()} | last | {"jump_forward_tokens_sum": 0}
    assert {name: value for name, value in values.items() if name in counts} == counts
    assert {name for name in values if name not in counts} == {
        "engine_prefill_time_sum",
        "engine_decode_time_sum",
        "last_finished_request_end_to_end_latency_s",
        "last_finished_request_ttft_s",
        "last_finished_request_inter_token_latency_s",
        "last_finished_request_prefill_tokens_per_s",
        "last_finished_request_decode_tokens_per_s",
    }


@pytest.mark.parametrize("name", ["process_resident_memory_bytes", "process_cpu_seconds_total"])
async def test_process_is_measured(client: httpx.AsyncClient, name: str) -> None:
    """The memory and the processor time of the process are among the metrics."""
    families = text_string_to_metric_families(await scrape(client))
    (value,) = (sample.value for family in families for sample in family.samples if sample.name == name)
    assert value > 0


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
