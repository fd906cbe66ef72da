"""The metrics of a server: its own, those of its engines, and those of its process.

It reads registries and never waits for an engine's thread, so that it answers even if an engine is dead.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mlc_serve.server.context import ServerContext
from mlc_serve.server.metric_families import merged
from mlc_serve.server.vllm_metrics import VLLMCollector

# MLC-LLM writes a label into some names, as in accept_prob{step=1}.
_LABELLED = re.compile(r"(?P<name>.+)\{(?P<label>\w+)=(?P<value>\w+)\}")


class ServerMetrics:
    """All metrics of one server; with `vllm_names`, those of the engines also under vLLM's names.

    More of them may be added to its `registry`.
    """

    def __init__(self, context: ServerContext, *, vllm_names: bool = False) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(EngineCollector(context))
        if vllm_names:
            self.registry.register(VLLMCollector(context))
        self.registry.register(context.loop_holds)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        # Writing many series takes 20 ms, and must not hold the event loop.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    async def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, generate_latest, self.registry)


@dataclass(frozen=True)
class EngineCollector(Collector):
    """Collects the metrics of all engines: each family once, with the samples of every engine."""

    context: ServerContext

    def collect(self) -> Iterable[Metric]:
        """Return the engines' metric families, and MLC-LLM's values as gauges."""
        return merged(
            family
            for served in self.context.all_served
            for family in (*served.registry.collect(), *_gauges(served.name, served.metrics()))
        )


def _gauges(model: str, metrics: Mapping[str, object]) -> Iterator[Metric]:
    for written, value in _flattened(metrics, ""):
        name, labels = _name_and_labels(written)
        gauge = GaugeMetricFamily(name, f"MLC-LLM's {name}.", labels=["model", *labels])
        gauge.add_metric([model, *labels.values()], value)
        yield gauge


def _name_and_labels(written: str) -> tuple[str, dict[str, str]]:
    """Return a metric's name, and the label that MLC-LLM writes into it, if there is one."""
    found = _LABELLED.fullmatch(written)
    return (found["name"], {found["label"]: found["value"]}) if found else (written, {})


def _flattened(metrics: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested dicts, with their keys joined by underscores."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}_")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value
