"""This engine as one of the sides: a process that measures one cell as benchmarks.offline does.

python -m benchmarks.peers.ours --model DIR --quantization NAME --cell b8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.cells import CELLS, Cell
from benchmarks.peers.process import last_json, run_module
from benchmarks.report import Row
from benchmarks.setup import Settings, start_engine
from benchmarks.shapes import Shape
from mlc_serve.bench.asking import ask_engine
from mlc_serve.bench.measures import measure_decode, measure_prefill
from mlc_serve.quantization.scheme import find_scheme

QUANTIZATION = {8: "q8f32_1", 4: "q4f16_1"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class OurModel:
    """A checkpoint that this engine runs in a quantization scheme."""

    checkpoint: Path
    shape: Shape
    quantization: str
    name: str = "mlc_serve"

    def weight_bytes(self) -> int:
        """What a token at batch 1 reads: every matrix once, the tied embedding as the output."""
        return int(matrix_size(self.shape) * bytes_of_weight(self.quantization))

    def measure(self, cell: Cell) -> float:
        """Tokens a second of a cell, in a process of its own."""
        return self.start(cell, 1)["tokens_per_s"]

    def start(self, cell: Cell, num_runs: int) -> dict[str, float]:
        """`tokens_per_s` of a cell that is run so many times in a process of its own, and their `spread`."""
        options = ["--model", str(self.checkpoint), "--quantization", self.quantization]
        options += ["--cell", cell.name, "--runs", str(num_runs)]
        figures = last_json(run_module(sys.executable, "benchmarks.peers.ours", *options))
        return {name: float(figures[name]) for name in ("tokens_per_s", "spread")}

    def settings(self, sequences: int, prompt: int, answer: int) -> Settings:
        """The engine's settings for so many sequences at once."""
        return Settings(str(self.checkpoint), "cpu", self.quantization, (sequences,), prompt, answer, runs=1)


def matrix_size(shape: Shape) -> int:
    """Weights in the matrices of a model."""
    return sum(math.prod(dimensions) for _, dimensions in shape.tensors() if len(dimensions) == 2)


def bytes_of_weight(quantization: str) -> float:
    """Bytes of a weight with its share of a scale."""
    scheme = find_scheme(quantization)
    if scheme.groups is None:
        return BYTES[scheme.weight_dtype]
    return scheme.groups.bits / 8 + BYTES[scheme.groups.scale_dtype] / scheme.groups.group_size


def main() -> None:
    """Measure the cell that the command line asks for and print it as a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--quantization", required=True)
    parser.add_argument("--cell", choices=[cell.name for cell in CELLS], required=True)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    (cell,) = (cell for cell in CELLS if cell.name == options.cell)
    settings = Settings(
        options.model, "cpu", options.quantization, (cell.batch,), cell.prompt, cell.answer, options.runs
    )
    print(json.dumps(asyncio.run(measure(settings, cell))))


async def measure(settings: Settings, cell: Cell) -> Row:
    """The figures of the runs, after one that doesn't count."""
    engine = start_engine(settings)
    try:
        if cell.is_prefill:
            return await measure_prefill(ask_engine(engine, cell.answer), cell.prompt, settings.runs)
        return await measure_decode(partial(ask_engine, engine), settings.workload, cell.batch)
    finally:
        engine.terminate()


if __name__ == "__main__":
    main()
