"""Whether the engine is equally fast in every process: it starts in many, which are measured in turn.

python -m benchmarks.starts [--shape smollm2-135m] [--quantization q8f32_1] [--cell b8] [--starts 10]
    [--rounds 5]

All processes start at the beginning and idle until it is their turn, so that whatever the machine does over
the minutes affects all of them alike. Each process counts with the median of its rounds. `spread` is the
range of these medians divided by the largest. `spread_of_rounds` is the same for the rounds of one process;
it is the median over the processes.
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
    """An engine in its own process."""

    def __init__(self, settings: Settings, cell: Cell) -> None:
        context = multiprocessing.get_context("spawn")
        self._engine, asked = context.Pipe()
        self._process = context.Process(target=answer, args=(settings, cell, asked), daemon=True)
        self._process.start()
        asked.close()

    def measure(self) -> float:
        """Run once and return the tokens per second. Raises EOFError if the process has failed."""
        self._engine.send("measure")
        return float(self._engine.recv())

    def end(self) -> None:
        """Wait for the process to end."""
        self._engine.close()
        self._process.join()


def answer(settings: Settings, cell: Cell, asked: Connection) -> None:
    """Measure whenever the other end of the pipe asks, until it is closed."""
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
    """The row of the table. `rounds` has a list for each round, with the rates of all starts."""
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
    """The range of the rates divided by the largest one."""
    return (max(rates) - min(rates)) / max(rates)


if __name__ == "__main__":
    main()
