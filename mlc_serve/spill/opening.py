"""Opens the store that a model's settings ask for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from mlc_serve.loaded_model import LoadedModel
from mlc_serve.spill.file_store import FileStore
from mlc_serve.spill.page_files import PageFiles
from mlc_serve.spill.page_names import PageNames
from mlc_serve.spill.store_metrics import StoreMetrics


def open_store(model: LoadedModel, registry: CollectorRegistry) -> FileStore | None:
    """Return the store for a model's prefixes, whose metrics are registered, or None if none is wanted."""
    place, layout = model.prefix_files, model.backend.state.layout
    if place is None or layout is None:
        return None
    metrics = StoreMetrics(registry, model.name)
    files = PageFiles(place.directory, place.max_bytes, metrics)
    return FileStore(files, PageNames(f"{place.key} {layout.digest}", layout.page_size), layout, metrics)
