"""The metrics of one embedding engine. Only the engine's thread writes; a scrape may read on any thread."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


class EmbeddingMetrics:
    """All metrics carry the label `model`. Durations are in seconds."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._inputs = self._counter(model_name, "inputs", "Inputs that were embedded")
        self._tokens = self._counter(model_name, "tokens", "Tokens of inputs that were embedded")
        self._batches = self._histogram(model_name, "batch_time", "Time of one batch")
        self._durations = self._histogram(model_name, "request_duration", "From arrival to the last vector")

    def embedded(self, num_inputs: int, num_tokens: int, duration: float) -> None:
        """Count a batch."""
        self._inputs.inc(num_inputs)
        self._tokens.inc(num_tokens)
        self._batches.observe(duration)

    def finished(self, duration: float) -> None:
        """Count a request that is complete."""
        self._durations.observe(duration)

    def _counter(self, model: str, name: str, description: str) -> Counter:
        metric = Counter(f"mlc_serve_embedding_{name}", description, ["model"], registry=self.registry)
        return metric.labels(model)

    def _histogram(self, model: str, name: str, description: str) -> Histogram:
        metric = Histogram(
            f"mlc_serve_embedding_{name}_seconds",
            description,
            ["model"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
        return metric.labels(model)
