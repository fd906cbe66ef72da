"""The engines' metrics under vLLM's names, for dashboards that were made for vLLM.

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
_LABELS = {"model": "model_name", "reason": "finished_reason"}
_PAGES, _PAGES_USED = "mlc_serve_kv_cache_pages", "mlc_serve_kv_cache_pages_used"


@dataclass(frozen=True)
class VLLMCollector(Collector):
    """Collects the metrics of all engines under vLLM's names and labels."""

    context: ServerContext

    def collect(self) -> Iterable[Metric]:
        """Return those of vLLM's families that the engines have."""
        return merged(family for served in self.context.all_served for family in _families(served.registry))


def _families(engine: Collector) -> Iterator[Metric]:
    ours = {family.name: family for family in engine.collect()}
    for name, family in ours.items():
        if name in _NAMES:
            yield _renamed(family, _NAMES[name])
    if _PAGES in ours:
        yield _kv_cache_usage(ours)


def _renamed(family: Metric, name: str) -> Metric:
    renamed = Metric(name, f"{family.documentation} (vLLM's name)", family.type, family.unit)
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        renamed.samples.append(sample._replace(name=f"{name}{suffix}", labels=_labels(sample)))
    return renamed


def _labels(sample: Sample) -> dict[str, str]:
    return {_LABELS.get(label, label): value for label, value in sample.labels.items()}


def _kv_cache_usage(ours: Mapping[str, Metric]) -> Metric:
    (pages,), (used,) = ours[_PAGES].samples, ours[_PAGES_USED].samples
    usage = GaugeMetricFamily(
        "vllm:kv_cache_usage_perc", "Pages held by running requests, as a share of 1", labels=["model_name"]
    )
    usage.add_metric([pages.labels["model"]], used.value / pages.value if pages.value else 0.0)
    return usage
