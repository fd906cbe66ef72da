"""Whether the engine is as fast in each process that starts: the same measurement in many of them in turn.

python -m benchmarks.starts [--shape smollm2-135m] [--quantization q8f32_1] [--cell b8] [--starts 10]
    [--runs 5]

`spread` is that of the starts, each of which counts with the median of its runs; `spread_of_runs` is that of
the runs within a start, in the middle of all starts, which is the machine's own.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.peers.cells import CELLS
from benchmarks.peers.ours import OurModel
from benchmarks.report import Row, print_report
from benchmarks.setup import random_model
from benchmarks.shapes import SHAPES


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--quantization", default="q8f32_1")
    parser.add_argument("--cell", choices=[cell.name for cell in CELLS], default="b8")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5, help="measurements in each start")
    options = parser.parse_args()
    (cell,) = (cell for cell in CELLS if cell.name == options.cell)
    model = OurModel(random_model(options.shape), SHAPES[options.shape], options.quantization)
    starts = [model.start(cell, options.runs) for _ in range(options.starts)]
    settings = {"shape": options.shape, "quantization": options.quantization, "starts": options.starts}
    print_report("starts", {**settings, "runs": options.runs}, [summary(options.cell, starts)])


def summary(cell: str, starts: list[dict[str, float]]) -> Row:
    """The middle, the ends and the distance between them, and how much runs of one start differ."""
    rates = [start["tokens_per_s"] for start in starts]
    return {
        "cell": cell,
        "tokens_per_s": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "spread": (max(rates) - min(rates)) / max(rates),
        "spread_of_runs": statistics.median(start["spread"] for start in starts),
    }


if __name__ == "__main__":
    main()
