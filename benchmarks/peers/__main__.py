"""This engine beside llama.cpp and OpenVINO GenAI, on one machine, with one random checkpoint, in turns.

    python -m benchmarks.peers [--shape smollm2-135m llama3.2-1b] [--bits 8 4] [--runs 5] [--http]

The first run builds llama.cpp (about fifteen minutes on two cores; needs cmake and gcc), makes a virtual
environment for OpenVINO GenAI, and converts the models. All of this is kept in a home directory. The program
prints Markdown tables, after each one its rows and samples as a line of JSON, and its progress on stderr. Run
nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
from collections.abc import Mapping, Sequence

from benchmarks.peers import served
from benchmarks.peers.cells import CELLS, Cell
from benchmarks.peers.contest import Contest, Contests
from benchmarks.peers.gguf_names import FAMILIES
from benchmarks.peers.home import add_home
from benchmarks.peers.machine import Machine, cpu_name
from benchmarks.peers.ours import QUANTIZATION
from benchmarks.peers.rounds import compare, say
from benchmarks.peers.tables import record, row
from benchmarks.report import table
from benchmarks.shapes import SHAPES
from mlc_serve.host.threads import num_cores
from mlc_serve.quantization.scheme import SCHEMES

# The shapes that can be converted for the peers.
CONVERTED = [name for name, shape in SHAPES.items() if shape.model_type in FAMILIES]


def main() -> None:
    """Set up the engines and compare them as the command line says."""
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # ends what we started, too
    home = options.home.expanduser()
    machine = Machine.install(home, num_cores())
    contests = Contests.install(home, machine.threads)
    wanted = [
        contests.contest(shape, bits, options.quantization, with_openvino=options.openvino)
        for shape in options.shape
        for bits in options.bits
    ]
    if options.set_up_only:
        return
    cells = [cell for cell in CELLS if cell.name in options.cells]
    peaks = machine.peaks()
    print_machine(machine, peaks)
    for contest in wanted:
        print_comparison(contest, cells, options.runs, machine, peaks)
        if options.http:
            served.print_comparison(contest, options.runs, home / "logs")


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [cell.name for cell in CELLS]
    parser.add_argument("--shape", nargs="+", choices=CONVERTED, default=["smollm2-135m", "llama3.2-1b"])
    parser.add_argument("--bits", nargs="+", type=int, choices=sorted(QUANTIZATION), default=[8, 4])
    parser.add_argument("--runs", type=int, default=5, help="rounds, in each of which every side runs once")
    parser.add_argument("--cells", nargs="*", choices=names, default=names)
    parser.add_argument("--http", action="store_true", help="compare the servers, too")
    parser.add_argument(
        "--no-openvino", dest="openvino", action="store_false", help="leave OpenVINO GenAI out"
    )
    parser.add_argument("--quantization", choices=SCHEMES, help="our scheme, for every --bits")
    parser.add_argument("--set-up-only", action="store_true", help="build and convert, and measure nothing")
    add_home(parser)
    return parser


def print_machine(machine: Machine, peaks: Mapping[str, float]) -> None:
    """Print the limits of the machine."""
    print(f"{cpu_name()}, {machine.threads} threads, {platform.system()}\n")
    limits = [{"limit": "memory, GB/s", "measured": machine.bandwidth()}]
    limits += [{"limit": f"{name} in registers, Gop/s", "measured": peak} for name, peak in peaks.items()]
    print(table(limits), flush=True)


def print_comparison(
    contest: Contest, cells: Sequence[Cell], runs: int, machine: Machine, peaks: Mapping[str, float]
) -> None:
    """Measure the cells and print a table."""
    if not cells:
        return
    say(contest.title)
    found = [compare(cell, contest.sides, runs, machine) for cell in cells]
    print(f"\n{contest.title}, {runs} rounds\n")
    rows = [row(comparison, contest.sides, contest.shape, peaks) for comparison in found]
    print(table(rows))
    samples = [record(one) for one in found]
    print(json.dumps({"title": contest.title, "rows": rows, "cells": samples}), flush=True)


if __name__ == "__main__":
    main()
