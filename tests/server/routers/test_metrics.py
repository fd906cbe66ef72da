"""GET /metrics."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.api.embedding_engine import AsyncEmbeddingEngine
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import FakeBackend, fake_embedding_model, fake_model
from tests.drafting import drafting_model
from tests.server.conftest import MakeClient

VLLM = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "gpu_cache_usage_perc": "gauge",
    "cache_config_info": "gauge",
    "lora_requests_info": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "gpu_prefix_cache_queries": "counter",
    "gpu_prefix_cache_hits": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "num_preemptions": "counter",
    "request_success": "counter",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
    "spec_decode_num_drafts": "counter",
    "spec_decode_num_draft_tokens": "counter",
    "spec_decode_num_accepted_tokens": "counter",
    "spec_decode_num_accepted_tokens_per_pos": "counter",
}


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


async def test_dashboards_made_for_vllm_find_its_metrics(make_client: MakeClient) -> None:
    """With --vllm-metrics, ours are also there under vLLM's names and labels, with the same values."""
    async with make_client(vllm_metrics=True) as client:
        await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True})
        families = list(text_string_to_metric_families(await scrape(client)))
    theirs = {family.name: family for family in families if family.name.startswith("vllm:")}
    values = {
        (sample.name, sample.labels.get("finished_reason", "")): sample.value
        for family in theirs.values()
        for sample in family.samples
        if sample.labels["model_name"] == "fake" and "le" not in sample.labels
    }
    kinds = {name.removeprefix("vllm:"): family.type for name, family in theirs.items()}
    assert kinds == VLLM
    assert values["vllm:prompt_tokens_total", ""] == 2
    assert values["vllm:generation_tokens_total", ""] == 3
    assert values["vllm:request_success_total", "length"] == 1
    assert values["vllm:request_success_total", "stop"] == 0
    assert values["vllm:inter_token_latency_seconds_count", ""] == 2
    assert values["vllm:request_decode_time_seconds_count", ""] == 1
    assert not any(name.endswith("_created") for name, _ in values)


async def test_drafts_are_told_under_all_names(make_client: MakeClient, context: ServerContext) -> None:
    """The counters of vLLM are ours, and MLC's shares have the step as a label and are what the counters say.
    The tokens of a reply are the first one, one for each decode, and the drafts that were kept.
    """
    context.add(AsyncMLCEngine.from_loaded(drafting_model("drafting")))
    body = {"model": "drafting", "prompt": "x", "max_tokens": 60}
    async with make_client(vllm_metrics=True) as client:
        await client.post("/v1/completions", json=body)
        families = list(text_string_to_metric_families(await scrape(client)))
    values = {
        (sample.name, sample.labels.get("step") or sample.labels.get("position")): sample.value
        for family in families
        for sample in family.samples
        if "drafting" in sample.labels.values()
    }
    names = {"passes": "drafts", "tokens": "draft_tokens", "tokens_kept": "accepted_tokens"}
    passes, _, kept = ours = [values[f"mlc_serve_draft_{name}_total", None] for name in names]
    assert ours == [values[f"vllm:spec_decode_num_{name}_total", None] for name in names.values()]
    places = [values["vllm:spec_decode_num_accepted_tokens_per_pos_total", place] for place in "012"]
    assert kept == sum(places) > 0
    assert values["spec_decode_accept_prob_accept_prob", "0"] == 1
    assert values["spec_decode_accept_prob_accept_prob", "1"] == places[0] / passes
    assert values["spec_decode_accept_rate_accept_rate", "2"] == places[1] / places[0]
    assert values["spec_decode_accept_len_accept_len", "1"] == 1 + places[0] / passes
    assert values["decode_tokens_sum", None] == 59


async def test_the_use_of_the_kv_cache_is_a_share(
    make_client: MakeClient, backend: FakeBackend, engine: AsyncMLCEngine
) -> None:
    """While a request holds 64 of 256 pages, a quarter is in use. Other models have their own values."""
    async with (
        make_client(vllm_metrics=True) as client,
        aclosing(engine.generate([1] * 253, GenerationParams())) as running,
    ):
        backend.hold_after(4)
        await anext(running)
        lines = (await scrape(client)).splitlines()
        backend.gate.set()
    assert 'vllm:kv_cache_usage_perc{model_name="fake"} 0.25' in lines


async def test_routers_made_for_vllm_find_what_they_read(
    make_client: MakeClient, context: ServerContext
) -> None:
    """llm-d's picker finds the load, the size of the cache in labels, and that there are no adapters; the
    scraper of vLLM's production stack finds the names that vLLM had before.
    """
    async with make_client(vllm_metrics=True) as client:
        for _ in range(2):
            await client.post("/v1/completions", json={"prompt": "Hello, world", "max_tokens": 1})
        families = list(text_string_to_metric_families(await scrape(client)))
    read = {sample.name: sample for family in families for sample in family.samples}
    assert read["vllm:num_requests_running"].value == read["vllm:num_requests_waiting"].value == 0
    assert read["vllm:cache_config_info"].labels == {
        "model_name": "fake",
        "block_size": "4",
        "num_gpu_blocks": "256",
    }
    assert read["vllm:cache_config_info"].value == 1
    assert read["vllm:lora_requests_info"].labels == {
        "model_name": "fake",
        "max_lora": "0",
        "running_lora_adapters": "",
        "waiting_lora_adapters": "",
    }
    assert read["vllm:lora_requests_info"].value == context.created
    for former, name in (
        ("gpu_cache_usage_perc", "kv_cache_usage_perc"),
        ("gpu_prefix_cache_queries_total", "prefix_cache_queries_total"),
        ("gpu_prefix_cache_hits_total", "prefix_cache_hits_total"),
    ):
        assert read[f"vllm:{former}"].value == read[f"vllm:{name}"].value
    assert read["vllm:gpu_prefix_cache_hits_total"].value > 0


async def test_every_model_has_its_own_samples(make_client: MakeClient, context: ServerContext) -> None:
    """With two models no sample occurs twice, and an embedding model has none of a generating model's."""
    context.add(AsyncMLCEngine.from_loaded(fake_model("other")))
    context.add(AsyncEmbeddingEngine.from_loaded(fake_embedding_model("vectors")))
    async with make_client(vllm_metrics=True) as client:
        families = list(text_string_to_metric_families(await scrape(client)))
    samples = Counter(
        (sample.name, *sample.labels.items()) for family in families for sample in family.samples
    )
    assert set(samples.values()) == {1}
    (usage,) = (family for family in families if family.name == "vllm:kv_cache_usage_perc")
    assert {sample.labels["model_name"] for sample in usage.samples} == {"fake", "other"}


async def test_names_of_vllm_are_opt_in(client: httpx.AsyncClient) -> None:
    """Without --vllm-metrics, each number is reported once."""
    assert "vllm:" not in await scrape(client)


async def test_answers_when_the_engine_is_dead(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    """The metrics of an engine that has died can still be read."""
    backend.crash_on = {ord("!")}
    await client.post("/v1/completions", json={"prompt": "a!"})
    assert "prompt_tokens" in await scrape(client)
