"""Counts: the router's own metrics. Router writes them; the fleet's state is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

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
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter(
            "mlc_serve_router_requests",
            "Requests that a server was sent, by how they ended: ok, refused (429 or 503), lost or aborted",
            ["server", "outcome"],
            registry=self.registry,
        )
        self.retries = Counter(
            "mlc_serve_router_retries",
            "Requests that were sent to another server, by what the first one did: refused or lost",
            ["reason"],
            registry=self.registry,
        )
        self.pages = Counter(
            "mlc_serve_router_prompt_pages",
            "Pages of prompts, by whether the chosen server had been sent them before (known) or not (new)",
            ["prefix"],
            registry=self.registry,
        )
        self.transfers = Counter(
            "mlc_serve_router_transfers",
            "Prompts in mode disagg: moved to the decode server, cached there already, bypassed because they "
            "are short or known there, or failed and computed there",
            ["outcome"],
            registry=self.registry,
        )
        self.registry.register(_FleetCollector(fleet))
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self) -> bytes:
        """Return the router's metrics, which have labels for servers, in Prometheus' text format."""
        return generate_latest(self.registry)

    def process_text(self) -> str:
        """Return the metrics of the router's process. Servers have some of the same names."""
        return generate_latest(self._process).decode()


class _FleetCollector(Collector):
    """Collects what the fleet knows about each server."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        running = GaugeMetricFamily(
            "mlc_serve_router_running_requests", "Requests that a server is answering", labels=["server"]
        )
        up = GaugeMetricFamily(
            "mlc_serve_router_server_up", "1 if a server answers probes, else 0", labels=["server"]
        )
        for backend in self._fleet:
            running.add_metric([backend.name], backend.num_running)
            up.add_metric([backend.name], float(backend.is_up))
        return [running, up]
