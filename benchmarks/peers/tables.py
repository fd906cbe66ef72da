"""Comparisons as rows of a table, for people and for benchmarks/results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.peers.machine import best_peak
from benchmarks.peers.ratios import (
    compute_share,
    faster_peer,
    median_and_range,
    median_of_ratios,
    memory_share,
    rates,
    ratio_of_medians,
)
from benchmarks.peers.rounds import Comparison, Sample, Side
from benchmarks.report import Row
from benchmarks.shapes import Shape

TITLES = {
    "b1": "decode, batch 1",
    "b8": "decode, batch 8",
    "b32": "decode, batch 32",
    "prefill": "prefill of 512",
}


def row(comparison: Comparison, sides: Sequence[Side], shape: Shape, peaks: Mapping[str, float]) -> Row:
    """The row of a cell: rates of the sides, our ratio to the faster peer, shares of the machine's limits."""
    cells = {side.name: median_and_range(rates(comparison.samples[side.name])) for side in sides}
    samples = [sample for of_side in comparison.samples.values() for sample in of_side]
    return {
        "tokens/s": TITLES[comparison.cell.name],
        **cells,
        "faster peer": faster_peer(comparison),
        "ratio": f"{ratio_of_medians(comparison):.2f}",
        "median of rounds' ratios": f"{median_of_ratios(comparison):.2f}",
        "memory GB/s": median_and_range([sample.bandwidth for sample in samples]),
        "others' use of cores": f"at most {max(sample.others for sample in samples):.0%}",
        "share of the limit": ", ".join(
            _share(comparison, comparison.samples[side.name], side, shape, peaks) for side in sides
        ),
    }


def _share(
    comparison: Comparison, samples: Sequence[Sample], side: Side, shape: Shape, peaks: Mapping[str, float]
) -> str:
    cell = comparison.cell
    if cell.is_prefill and (peak := best_peak(peaks)) is not None:
        return f"{compute_share(samples, cell, shape, peak):.0%}"
    return f"{memory_share(samples, side.weight_bytes()):.0%}" if cell.name == "b1" else "-"


def record(comparison: Comparison) -> dict[str, object]:
    """All samples of a cell, in a form for programs."""
    samples = {
        name: [
            {"tokens_per_s": sample.rate, "memory_gb_s": sample.bandwidth, "others": sample.others}
            for sample in of_side
        ]
        for name, of_side in comparison.samples.items()
    }
    return {"cell": comparison.cell.name, "samples": samples}
