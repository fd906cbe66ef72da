"""DraftMetrics: Prometheus' counters of drafts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from mlc_serve.engine.speculation.draft_metrics import DraftMetrics


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """The counters by name, and those by position by their position."""
    return {
        sample.labels.get("position", sample.name): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_kept_drafts_add_up_over_their_places() -> None:
    """Each pass counts once, and a draft that was kept counts at its place and in the sum."""
    registry = CollectorRegistry()
    metrics = DraftMetrics(registry, "m")
    for num_drafts, num_kept in ((3, 2), (4, 0), (1, 1)):
        metrics.committed(num_drafts, num_kept)
    assert samples(registry) == {
        "mlc_serve_draft_passes_total": 3,
        "mlc_serve_draft_tokens_total": 8,
        "mlc_serve_draft_tokens_kept_total": 3,
        "0": 2,
        "1": 1,
    }


def test_long_drafts_make_a_bounded_number_of_series() -> None:
    """Places from a certain one on share its counter, so that the sum over places stays that of all kept."""
    registry = CollectorRegistry()
    DraftMetrics(registry, "m").committed(1000, 1000)
    counts = samples(registry)
    by_position = [value for name, value in counts.items() if name.isdigit()]
    assert len(by_position) == 32
    assert sum(by_position) == counts["mlc_serve_draft_tokens_kept_total"] == 1000
