"""The metrics of a server: its own, those of all that it serves, and those of its process.

Reads registries, never an engine's queue: it answers when an engine is dead as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mlc_serve.server.context import ServerContext


class ServerMetrics:
    """`registry` takes further metrics of the server."""

    def __init__(self, context: ServerContext) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(EngineCollector(context))
        self.registry.register(context.loop_holds)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        # Many series take 20 ms to write, for which the event loop must not wait.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    async def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, generate_latest, self.registry)


@dataclass(frozen=True)
class EngineCollector(Collector):
    """The metrics of all engines as one set: each family once, with the samples of every engine."""

    context: ServerContext

    def collect(self) -> Iterable[Metric]:
        """Families by name, then the values that MLC-LLM names as gauges."""
        families: dict[str, Metric] = {}
        for served in self.context.all_served:
            for family in (*served.registry.collect(), *_gauges(served.name, served.metrics())):
                _merge(families, family)
        return families.values()


def _merge(families: dict[str, Metric], family: Metric) -> None:
    empty = Metric(family.name, family.documentation, family.type, family.unit)
    merged = families.setdefault(family.name, empty)
    # Creation times double the number of series, and Prometheus' text format has no use for them.
    merged.samples.extend(sample for sample in family.samples if not sample.name.endswith("_created"))


def _gauges(model: str, metrics: Mapping[str, object]) -> Iterator[Metric]:
    for name, value in _flattened(metrics, ""):
        gauge = GaugeMetricFamily(name, f"MLC-LLM's {name}.", labels=["model"])
        gauge.add_metric([model], value)
        yield gauge


def _flattened(metrics: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    """Numbers of nested dicts, under their keys joined by underscores."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}_")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value
