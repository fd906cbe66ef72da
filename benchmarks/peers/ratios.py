"""The arithmetic of a comparison: medians, ranges, ratios, and shares of the machine's limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.peers.cells import Cell
from benchmarks.peers.rounds import Comparison, Sample
from benchmarks.shapes import Shape


def rates(samples: Sequence[Sample]) -> list[float]:
    """The tokens per second of each sample."""
    return [sample.rate for sample in samples]


def faster_peer(comparison: Comparison) -> str:
    """The name of the peer with the highest median."""
    peers = {name: rates(samples) for name, samples in comparison.samples.items() if name != comparison.ours}
    middles = {name: statistics.median(of_peer) for name, of_peer in peers.items()}
    return max(middles, key=middles.__getitem__)


def ratio_of_medians(comparison: Comparison) -> float:
    """Our median divided by that of the faster peer."""
    ours = rates(comparison.samples[comparison.ours])
    theirs = rates(comparison.samples[faster_peer(comparison)])
    return statistics.median(ours) / statistics.median(theirs)


def median_of_ratios(comparison: Comparison) -> float:
    """The median of the rounds' ratios to the peer that was faster in that round."""
    peers = [rates(samples) for name, samples in comparison.samples.items() if name != comparison.ours]
    best: list[float] = [max(of_round) for of_round in zip(*peers, strict=True)]
    ours = rates(comparison.samples[comparison.ours])
    ratios = [our / their for our, their in zip(ours, best, strict=True)]
    return statistics.median(ratios)


def memory_share(samples: Sequence[Sample], weight_bytes: int) -> float:
    """The median share of the probed bandwidth that reading the weights for each token takes."""
    return statistics.median(sample.rate * weight_bytes / (1e9 * sample.bandwidth) for sample in samples)


def compute_share(samples: Sequence[Sample], cell: Cell, shape: Shape, peak: float) -> float:
    """The median share of `peak` (Gop/s) that the products with weights in a prefill reach."""
    operations = prefill_operations(shape, cell.prompt)
    return statistics.median(sample.rate / cell.prompt * operations / (1e9 * peak) for sample in samples)


def prefill_operations(shape: Shape, tokens: int) -> int:
    """Multiplications and additions in products with weights. The output layer has one token only."""
    output = shape.vocab * shape.hidden
    layers = sum(size for name, size in shape.matrices_of_a_token.items() if ".layers." in name)
    return 2 * (tokens * layers + output)


def median_and_range(values: Sequence[float]) -> str:
    """The median and the range, as tables show them: `241 (230 to 250)`."""
    return f"{_short(statistics.median(values))} ({_short(min(values))} to {_short(max(values))})"


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
