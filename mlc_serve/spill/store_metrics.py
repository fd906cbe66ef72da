"""What a store of prefixes reports to Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class StoreMetrics:
    """Every metric carries the label `model`. Any thread may write."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self.size = Gauge(
            "mlc_serve_prefix_store_bytes",
            "Bytes that the files in the directory of prefixes take",
            ["model"],
            registry=registry,
        ).labels(model_name)
        self.hits, self.returned, self.read, self.written, self.removed, self.damaged, self.failed = (
            Counter(f"mlc_serve_prefix_store_{name}", about, ["model"], registry=registry).labels(model_name)
            for name, about in (
                ("hits", "Prompts of which more was stored than the KV cache had"),
                ("returned_tokens", "Prompt tokens whose keys and values were read back"),
                ("read_bytes", "Bytes of keys and values that were read"),
                ("written_bytes", "Bytes of keys and values that were written"),
                ("removed_pages", "Stored pages that were removed to make room"),
                ("damaged_pages", "Stored pages that were not what was written, and were removed"),
                ("failed_writes", "Pages that could not be written"),
            )
        )
