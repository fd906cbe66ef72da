"""Pages for tests of what stores them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.sequence_pages import PageLayout, SequencePages
from mlc_serve.spill.store_metrics import StoreMetrics

# Two tokens and a hundred bytes.
LAYOUT = PageLayout("test", page_size=2, page_bytes=100)


def pages_of(prefix: Prefix, start: int, stop: int) -> SequencePages:
    """Return pages whose bytes depend on all tokens up to their end."""
    ends = range(start + LAYOUT.page_size, stop + 1, LAYOUT.page_size)
    parts = [hash(tuple(prefix.token_ids[:end])).to_bytes(8, "little", signed=True) for end in ends]
    return SequencePages(LAYOUT, start, b"".join(part.ljust(LAYOUT.page_bytes, b".") for part in parts))


class Metrics:
    """The metrics of a store, whose values can be read."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.store = StoreMetrics(self._registry, "m")

    def __getitem__(self, name: str) -> float:
        value = self._registry.get_sample_value(f"mlc_serve_prefix_store_{name}", {"model": "m"})
        assert value is not None, name
        return value
