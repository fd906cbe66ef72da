"""Metric families of several engines, put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client.core import Metric


def merged(families: Iterable[Metric]) -> Collection[Metric]:
    """Return each family once, with the samples of all families of its name."""
    by_name: dict[str, Metric] = {}
    for family in families:
        empty = Metric(family.name, family.documentation, family.type, family.unit)
        together = by_name.setdefault(family.name, empty)
        # Creation times would double the number of series, and Prometheus' text format does not use them.
        together.samples.extend(sample for sample in family.samples if not sample.name.endswith("_created"))
    return by_name.values()
