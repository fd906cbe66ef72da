"""Metrics of several servers in one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mlc_serve.router.exposition import joined

ONE = """\
# HELP a_total An a.
# TYPE a_total counter
a_total{model="x}y"} 1.0
# HELP b A b.
# TYPE b histogram
b_bucket{le="+Inf"} 2
b_sum 1e-05
"""
OTHER = """\
# HELP b A b.
# TYPE b histogram
b_bucket{} 3
# TYPE a_total counter
a_total 4 1700000000000
"""


def test_each_family_is_there_once() -> None:
    """A parser reads all samples, each with the label of its server."""
    text = joined({"s:1": ONE, 'odd"\\': OTHER})
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert sorted(families) == ["a", "b"]
    samples = {
        (sample.name, *sorted(sample.labels.items()), sample.value)
        for family in families.values()
        for sample in family.samples
    }
    assert samples == {
        ("a_total", ("model", "x}y"), ("server", "s:1"), 1.0),
        ("a_total", ("server", 'odd"\\'), 4.0),
        ("b_bucket", ("le", "+Inf"), ("server", "s:1"), 2.0),
        ("b_bucket", ("server", 'odd"\\'), 3.0),
        ("b_sum", ("server", "s:1"), 1e-05),
    }


def test_no_servers_have_no_metrics() -> None:
    """Text that is not of Prometheus' format is left out."""
    assert joined({}) == ""
    assert joined({"s": "<html>\n\n"}) == ""
