"""How long some requests wait while others are large: the probes of benchmarks.peers, for our server alone.

    python -m benchmarks.fairness [--shape smollm2-135m] [--quantization q8f32_1] [--rounds 9]

The first probe sends a prompt of 900 tokens beside seven streams. It divides the longest gap of the streams
before the prompt's first token by the median of their gaps. The second probe sends a short prompt right
behind a burst of 32 and measures its time to the first token. The table has a row for each round, and the
medians.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.peers.ours import OurModel
from benchmarks.peers.probes import probe_both
from benchmarks.peers.ratios import medians
from benchmarks.peers.served import ask_on_new_connection
from benchmarks.peers.servers import our_server
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
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    model = OurModel(random_model(options.shape), SHAPES[options.shape], options.quantization)
    with tempfile.TemporaryDirectory() as logs, our_server(model, Path(logs, "server.log"))() as url:
        rounds = uvloop.run(measure(url, options.rounds))
    print_report("fairness", vars(options), rows_of(rounds))


async def measure(url: str, num_rounds: int) -> list[dict[str, float]]:
    """The figures of both probes for each round, after a warm-up round."""
    ask_for = partial(ask_on_new_connection, url)
    rounds = [await probe_both(ask_for, seed) for seed in range(num_rounds + 1)]
    return rounds[1:]


def rows_of(rounds: Sequence[dict[str, float]]) -> list[Row]:
    """A row for each round, and a last one with their medians."""
    numbered: list[Row] = [{"round": number, **found} for number, found in enumerate(rounds, 1)]
    return [*numbered, {"round": "median", **medians(rounds)}]


if __name__ == "__main__":
    main()
