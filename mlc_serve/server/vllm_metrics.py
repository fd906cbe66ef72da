"""The engines' metrics under vLLM's names, for dashboards, routers and autoscalers that were made for vLLM.

They are made from ours when they are read, so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from mlc_serve.server.context import ServerContext
from mlc_serve.server.metric_families import merged

# vLLM's name for each of our families that has the same meaning there.
_NAMES = {
    "mlc_serve_requests_running": "vllm:num_requests_running",
    "mlc_serve_requests_waiting": "vllm:num_requests_waiting",
    "mlc_serve_prefix_cache_queried_tokens": "vllm:prefix_cache_queries",
    "mlc_serve_prefix_cache_hit_tokens": "vllm:prefix_cache_hits",
    "mlc_serve_prompt_tokens": "vllm:prompt_tokens",
    "mlc_serve_generation_tokens": "vllm:generation_tokens",
    "mlc_serve_preemptions": "vllm:num_preemptions",
    "mlc_serve_requests_finished": "vllm:request_success",
    "mlc_serve_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "mlc_serve_inter_token_latency_seconds": "vllm:inter_token_latency_seconds",
    "mlc_serve_request_duration_seconds": "vllm:e2e_request_latency_seconds",
    "mlc_serve_queue_time_seconds": "vllm:request_queue_time_seconds",
    "mlc_serve_prefill_time_seconds": "vllm:request_prefill_time_seconds",
    "mlc_serve_decode_time_seconds": "vllm:request_decode_time_seconds",
    "mlc_serve_draft_passes": "vllm:spec_decode_num_drafts",
    "mlc_serve_draft_tokens": "vllm:spec_decode_num_draft_tokens",
    "mlc_serve_draft_tokens_kept": "vllm:spec_decode_num_accepted_tokens",
    "mlc_serve_draft_tokens_kept_by_position": "vllm:spec_decode_num_accepted_tokens_per_pos",
}
# Names that vLLM itself has given up, and that routers and dashboards for it still read.
_FORMER_NAMES = {
    "vllm:prefix_cache_queries": "vllm:gpu_prefix_cache_queries",
    "vllm:prefix_cache_hits": "vllm:gpu_prefix_cache_hits",
    "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
}
_LABELS = {"model": "model_name", "reason": "finished_reason"}
_PAGES, _PAGES_USED = "mlc_serve_kv_cache_pages", "mlc_serve_kv_cache_pages_used"
_PAGE_SIZE = "mlc_serve_kv_cache_page_size"


@dataclass(frozen=True)
class VLLMCollector(Collector):
    """Collects the metrics of all engines under vLLM's names and labels."""

    context: ServerContext

    def collect(self) -> Iterable[Metric]:
        """Return those of vLLM's families that the engines have."""
        return merged(
            family
            for served in self.context.all_served
            for family in _families(served.registry, self.context.created)
        )


def _families(engine: Collector, created: int) -> Iterator[Metric]:
    ours = {family.name: family for family in engine.collect()}
    theirs = [_renamed(family, _NAMES[name]) for name, family in ours.items() if name in _NAMES]
    if _PAGES in ours:
        model = ours[_PAGES].samples[0].labels["model"]
        theirs += [_kv_cache_usage(model, ours), _cache_config(model, ours), _no_adapters(model, created)]
    for family in theirs:
        yield family
        if family.name in _FORMER_NAMES:
            yield _renamed(family, _FORMER_NAMES[family.name])


def _renamed(family: Metric, name: str) -> Metric:
    renamed = Metric(name, family.documentation, family.type, family.unit)
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        renamed.samples.append(sample._replace(name=f"{name}{suffix}", labels=_labels(sample)))
    return renamed


def _labels(sample: Sample) -> dict[str, str]:
    return {_LABELS.get(label, label): value for label, value in sample.labels.items()}


def _kv_cache_usage(model: str, ours: Mapping[str, Metric]) -> Metric:
    pages, used = _value(ours[_PAGES]), _value(ours[_PAGES_USED])
    usage = GaugeMetricFamily(
        "vllm:kv_cache_usage_perc", "Pages held by running requests, as a share of 1", labels=["model_name"]
    )
    usage.add_metric([model], used / pages if pages else 0.0)
    return usage


def _cache_config(model: str, ours: Mapping[str, Metric]) -> Metric:
    """Return the size of the KV cache, which is in the labels. The number of its pages is named for GPUs."""
    labels = {
        "model_name": model,
        "block_size": f"{_value(ours[_PAGE_SIZE]):.0f}",
        "num_gpu_blocks": f"{_value(ours[_PAGES]):.0f}",
    }
    return _described_by_labels("vllm:cache_config_info", "Tokens in a page, and pages", labels, 1)


def _no_adapters(model: str, since: int) -> Metric:
    """Return which LoRA adapters run and wait: none, `since` this time in seconds since the Unix epoch.

    A router that prefers servers with an adapter reports an error if this is missing.
    """
    labels = {
        "model_name": model,
        "max_lora": "0",
        "running_lora_adapters": "",
        "waiting_lora_adapters": "",
    }
    return _described_by_labels("vllm:lora_requests_info", "LoRA adapters: there are none", labels, since)


def _described_by_labels(name: str, description: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, description, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _value(gauge: Metric) -> float:
    (sample,) = gauge.samples
    return float(sample.value)
