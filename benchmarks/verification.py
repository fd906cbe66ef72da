"""What it costs to check drafts: v(k) is the time of a pass with k drafts for each sequence, by that without.

python -m benchmarks.verification [--shape llama3.2-1b] [--bits 4 8] [--drafts 1 3 7 15] [--batches 1 2 4 8]

A pass is a forward pass and its greedy draws. All numbers of drafts take turns; drafts are taken back after
each pass, so that the sequences stay as long as they are. `ms` is the median time of a pass without drafts,
and v(k) the median of the rounds' ratios. A first round, which warms up, doesn't count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.report import Row, print_report
from benchmarks.setup import PAGE, random_model
from benchmarks.shapes import SHAPES
from mlc_serve import EngineConfig
from mlc_serve.bench.closed_loop import random_prompts
from mlc_serve.engine.backend import Backend, SequenceStep
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.loading import load_model

SCHEMES = {4: "q4f16_1", 8: "q8f32_1"}
PREFILLED = 256  # tokens of a prompt in one pass
GREEDY = SamplingParams(temperature=0.0)


class Settings(NamedTuple):
    """What is measured. `context` is in tokens; a round times `passes` passes of each kind."""

    drafts: Sequence[int]
    batches: Sequence[int]
    context: int
    passes: int
    runs: int


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="model directory; without it, one with random weights is made")
    parser.add_argument("--shape", choices=SHAPES, default="llama3.2-1b", help="shape of the random model")
    parser.add_argument("--bits", type=int, nargs="+", choices=SCHEMES, default=[4, 8])
    parser.add_argument("--drafts", type=int, nargs="+", default=[1, 3, 7, 15], help="for each sequence")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--context", type=int, default=512, help="tokens of each sequence")
    parser.add_argument("--passes", type=int, default=5, help="passes of each kind in a round")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    settings = Settings(options.drafts, options.batches, options.context, options.passes, options.runs)
    model = options.model or str(random_model(options.shape))
    rows = [row for bits in options.bits for row in measure(model, bits, settings)]
    listing = {"model": model.rpartition("/")[2], "context": options.context, "runs": options.runs}
    print_report("verification", listing, rows)


def measure(model: str, bits: int, settings: Settings) -> list[Row]:
    """A row for each batch."""
    longest, most = settings.context + max(settings.drafts) + PAGE, max(settings.batches)
    config = EngineConfig(
        model=model,
        quantization=SCHEMES[bits],
        max_num_sequence=most,
        max_total_sequence_length=most * (longest + PAGE),
        prefix_cache_mode="disable",
        verbose=False,
    )
    backend = load_model(config, "cpu", lambda _line: None).backend
    return [{"bits": bits, **measure_batch(backend, batch, settings)} for batch in settings.batches]


def measure_batch(backend: Backend, batch: int, settings: Settings) -> Row:
    """v(k) for a batch of sequences."""
    fill(backend, batch, settings.context)
    kinds = [0, *settings.drafts]
    rounds = [
        [seconds(backend, batch, count, settings.passes) for count in kinds] for _ in range(settings.runs + 1)
    ][1:]
    backend.state.clear()
    plain, *drafted = zip(*rounds, strict=True)
    ratios = [
        statistics.median(time / one for time, one in zip(times, plain, strict=True)) for times in drafted
    ]
    names = [f"v({count})" for count in settings.drafts]
    return {"batch": batch, "ms": 1000 * statistics.median(plain), **dict(zip(names, ratios, strict=True))}


def fill(backend: Backend, batch: int, context: int) -> None:
    """Start sequences of `context` tokens."""
    for seq_id, prompt in enumerate(random_prompts(batch, context, seed=batch)):
        backend.state.add_sequence(seq_id)
        for start in range(0, context, PREFILLED):
            backend.run([SequenceStep(seq_id, prompt[start : start + PREFILLED])])


def seconds(backend: Backend, batch: int, num_drafts: int, passes: int) -> float:
    """The median time of a pass with so many drafts for each sequence."""
    (token, *drafts) = random_prompts(1, 1 + num_drafts, seed=num_drafts)[0]
    draws = [Draw(GREEDY, (token,), (), 0)] * (1 + num_drafts)
    steps = [SequenceStep(seq_id, [token], draws, drafts) for seq_id in range(batch)]
    taken = []
    for _ in range(passes):
        start = time.perf_counter()
        backend.run(steps)
        taken.append(time.perf_counter() - start)
        for seq_id in range(batch):
            backend.state.pop(seq_id, 1 + num_drafts)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
