"""Counts: the router's own metrics. Router writes them; the fleet's state is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlc_serve.router.fleet import Fleet


class Counts:
    """Counters of requests by server, and of prompts' pages by whether a server was known to have them."""

    def __init__(self, fleet: Fleet) -> None:
        self.requests = Counter(
            "mlc_serve_router_requests",
            "Requests that a server was sent, by how they ended: ok, refused (429 or 503), lost or aborted",
            ["server", "outcome"],
            registry=None,
        )
        self.retries = Counter(
            "mlc_serve_router_retries",
            "Requests that were sent to another server, by what the first one did: refused or lost",
            ["reason"],
            registry=None,
        )
        self.pages = Counter(
            "mlc_serve_router_prompt_pages",
            "Pages of prompts, by whether the chosen server had been sent them before (known) or not (new)",
            ["prefix"],
            registry=None,
        )
        self.transfers = Counter(
            "mlc_serve_router_transfers",
            "Prompts that might be moved to the server that generates: moved, cached there already, bypassed "
            "because too little is gained, or failed and computed there",
            ["outcome"],
            registry=None,
        )
        self.moved_tokens = Counter(
            "mlc_serve_router_moved_tokens",
            "Tokens whose keys and values were moved to the server that generates",
            registry=None,
        )
        self._registry = CollectorRegistry(auto_describe=False)
        counters = (self.requests, self.retries, self.pages, self.transfers, self.moved_tokens)
        self._registry.register(_CountCollector(counters))
        self._registry.register(_FleetCollector(fleet))
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self) -> bytes:
        """Return the router's metrics, which have labels for servers, in Prometheus' text format."""
        return generate_latest(self._registry)

    def process_text(self) -> str:
        """Return the metrics of the router's process. Servers have some of the same names."""
        return generate_latest(self._process).decode()


class _CountCollector(Collector):
    """Collects counters without the times at which they were made, which Prometheus does not use."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        """Return the counters."""
        for family in (family for counter in self._counters for family in counter.collect()):
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _FleetCollector(Collector):
    """Collects what the fleet knows about each server."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        running = GaugeMetricFamily(
            "mlc_serve_router_running_requests", "Requests that a server is answering", labels=["server"]
        )
        others = GaugeMetricFamily(
            "mlc_serve_router_other_requests",
            "Requests that a server reports besides those from this router",
            labels=["server"],
        )
        up = GaugeMetricFamily(
            "mlc_serve_router_server_up", "1 if a server answers probes, else 0", labels=["server"]
        )
        for backend in self._fleet:
            running.add_metric([backend.name], backend.num_running)
            others.add_metric([backend.name], backend.num_others)
            up.add_metric([backend.name], float(backend.is_up))
        return [running, others, up]
