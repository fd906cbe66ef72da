"""GET /metrics: what Prometheus scrapes, of all engines and of the process.

Reads registries, never an engine's queue: it answers when an engine is dead as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from mlc_serve.server.context import ServerContext


def metrics_router(context: ServerContext, registry: CollectorRegistry) -> APIRouter:
    """GET /metrics. `registry` holds the server's own metrics, and gets those of the engines."""
    router = APIRouter(tags=["metrics"])
    registry.register(EngineCollector(context))
    registry.register(context.loop_holds)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    # Many series take 20 ms to write. One thread keeps the event loop waiting no longer than 5.
    writer = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """All metrics in Prometheus' text format."""
        text = await asyncio.get_running_loop().run_in_executor(writer, generate_latest, registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


@dataclass(frozen=True)
class EngineCollector(Collector):
    """The metrics of all engines as one set: each family once, with the samples of every engine."""

    context: ServerContext

    def collect(self) -> Iterable[Metric]:
        """Families by name, then the values that MLC-LLM names as gauges."""
        families: dict[str, Metric] = {}
        for engine in self.context.engines:
            for family in (*engine.registry.collect(), *_gauges(engine.name, engine.metrics())):
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
