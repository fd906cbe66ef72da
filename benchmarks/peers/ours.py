"""Our engine as one of the sides: a process measures one cell as benchmarks.offline does.

python -m benchmarks.peers.ours --model DIR --quantization NAME --cell b8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.cells import CELLS, Cell
from benchmarks.peers.process import last_json, run_module
from benchmarks.report import Row
from benchmarks.setup import Settings, start_engine
from benchmarks.shapes import Shape
from mlc_serve import AsyncMLCEngine
from mlc_serve.bench.asking import ask_engine
from mlc_serve.bench.measures import measure_decode, measure_prefill
from mlc_serve.config import Workload
from mlc_serve.quantization.scheme import find_scheme

QUANTIZATION = {8: "q8f32_1", 4: "q4f16_1"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class OurModel:
    """A checkpoint that our engine runs in a quantization scheme."""

    checkpoint: Path
    shape: Shape
    quantization: str
    name: str = "mlc_serve"

    def weight_bytes(self) -> int:
        """Bytes of weights that are read for each token at batch 1: every matrix once, but no idle expert."""
        return int(matrix_size(self.shape) * bytes_of_weight(self.quantization))

    def measure(self, cell: Cell) -> float:
        """Tokens per second in a cell, measured in a separate process."""
        options = ["--model", str(self.checkpoint), "--quantization", self.quantization, "--cell", cell.name]
        return float(last_json(run_module(sys.executable, "benchmarks.peers.ours", *options))["tokens_per_s"])


def matrix_size(shape: Shape) -> int:
    """The number of weights in the matrices that computing one token reads."""
    return sum(shape.matrices_of_a_token.values())


def bytes_of_weight(quantization: str) -> float:
    """Bytes of a weight, including its share of a scale."""
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
    options = parser.parse_args()
    cell = cell_of(options.cell)
    engine = start_engine(settings_for(options.model, options.quantization, cell))
    try:
        print(json.dumps(asyncio.run(measure(engine, cell))))
    finally:
        engine.terminate()


def cell_of(name: str) -> Cell:
    """The cell of that name."""
    (cell,) = (cell for cell in CELLS if cell.name == name)
    return cell


def settings_for(model: str, quantization: str, cell: Cell) -> Settings:
    """The settings of an engine that has room for a cell."""
    return Settings(model, "cpu", quantization, (cell.batch,), cell.prompt, cell.answer, runs=1)


async def measure(engine: AsyncMLCEngine, cell: Cell) -> Row:
    """The figures of one run, after a warm-up run."""
    if cell.is_prefill:
        return await measure_prefill(ask_engine(engine, cell.answer), cell.prompt, runs=1)
    return await measure_decode(
        partial(ask_engine, engine), Workload(cell.prompt, cell.answer, 1), cell.batch
    )


if __name__ == "__main__":
    main()
