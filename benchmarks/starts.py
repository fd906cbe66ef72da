"""Whether the engine is as fast in each process that it starts in: many, measured in turn in several rounds.

python -m benchmarks.starts [--shape smollm2-135m] [--quantization q8f32_1] [--cell b8] [--starts 10]
    [--rounds 5]

All processes are there from the beginning and idle until it is their turn, so that what the machine does over
the minutes meets all of them alike. Each counts with the median of its rounds: `spread` is the range of these
divided by the largest, and `spread_of_rounds` is that of the rounds of one process, in the middle of all.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
from collections.abc import Sequence
from multiprocessing.connection import Connection

from benchmarks.peers.cells import CELLS, Cell
from benchmarks.peers.ours import cell_of, measure, settings_for
from benchmarks.report import Row, print_report
from benchmarks.setup import Settings, random_model, start_engine
from benchmarks.shapes import SHAPES


class Start:
    """An engine in a process of its own."""

    def __init__(self, settings: Settings, cell: Cell) -> None:
        context = multiprocessing.get_context("spawn")
        self._engine, asked = context.Pipe()
        self._process = context.Process(target=answer, args=(settings, cell, asked), daemon=True)
        self._process.start()
        asked.close()

    def measure(self) -> float:
        """Tokens a second of a run. Raises EOFError if the process has failed."""
        self._engine.send("measure")
        return float(self._engine.recv())

    def end(self) -> None:
        """Wait for the process to end."""
        self._engine.close()
        self._process.join()


def answer(settings: Settings, cell: Cell, asked: Connection) -> None:
    """Measure whenever it is asked for, until nobody can ask any more."""
    engine = start_engine(settings)
    try:
        while True:
            asked.recv()
            asked.send(asyncio.run(measure(engine, cell))["tokens_per_s"])
    except EOFError:
        engine.terminate()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--quantization", default="q8f32_1")
    parser.add_argument("--cell", choices=[cell.name for cell in CELLS], default="b8")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cell = cell_of(options.cell)
    settings = settings_for(str(random_model(options.shape)), options.quantization, cell)
    starts = [Start(settings, cell) for _ in range(options.starts)]
    rounds = [[start.measure() for start in starts] for _ in range(options.rounds)]
    for start in starts:
        start.end()
    listing = {"shape": options.shape, "quantization": options.quantization, "starts": options.starts}
    print_report("starts", {**listing, "rounds": options.rounds}, [summary(options.cell, rounds)])


def summary(cell: str, rounds: Sequence[Sequence[float]]) -> Row:
    """The middle, the ends and the distance between them, and how much rounds of one start differ."""
    of_starts = list(zip(*rounds, strict=True))
    rates = [statistics.median(start) for start in of_starts]
    return {
        "cell": cell,
        "tokens_per_s": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "spread": spread(rates),
        "spread_of_rounds": statistics.median(spread(start) for start in of_starts),
    }


def spread(rates: Sequence[float]) -> float:
    """The range, divided by the largest."""
    return (max(rates) - min(rates)) / max(rates)


if __name__ == "__main__":
    main()
