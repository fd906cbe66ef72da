"""What sampling costs: microseconds for each row, in NumPy and with compiled kernels, without a model.

    python -m benchmarks.sampling [--rows 1 32] [--vocab 49152 151936] [--spread 3]

Logits are normal numbers. The larger their spread, the fewer tokens share the probability: at 1 there are
thousands in a nucleus of 0.9, at 4 a few.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tvm

from benchmarks.report import Row, print_report
from mlc_serve.compiler.kernels.cpu.sampling.kernels import KERNELS
from mlc_serve.compiler.target import target_for
from mlc_serve.engine.sampling import Draw, SamplingParams
from mlc_serve.host.threads import use_every_core
from mlc_serve.runtime.compiled_rows import CompiledRows
from mlc_serve.runtime.rows import NumPyRows
from mlc_serve.runtime.sampler import Sampler

ASKED = {
    "greedy": SamplingParams(temperature=0.0),
    "temperature": SamplingParams(temperature=0.8),
    "top_p 0.9": SamplingParams(top_p=0.9),
    "top_k 40": SamplingParams(top_k=40),
    "min_p 0.05": SamplingParams(min_p=0.05),
    "penalties": SamplingParams(
        temperature=0.0, repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.2
    ),
    "top 20 logprobs": SamplingParams(temperature=0.0, num_top_logprobs=20),
}
PROMPT_TOKENS, OUTPUT_TOKENS = 512, 128  # that penalties look at


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32], help="batch sizes")
    parser.add_argument("--vocab", type=int, nargs="+", default=[49_152, 151_936], help="sizes of vocabulary")
    parser.add_argument("--spread", type=float, default=3.0, help="standard deviation of the logits")
    parser.add_argument("--repeats", type=int, default=9, help="calls of which the median is taken")
    arguments = parser.parse_args()
    use_every_core()
    samplers = {"numpy": Sampler(NumPyRows()), "compiled": Sampler(compile_rows())}
    rows = [
        measure(samplers, name, num_rows, vocab, arguments.spread, arguments.repeats)
        for vocab in arguments.vocab
        for num_rows in arguments.rows
        for name in ASKED
    ]
    print_report("sampling", {"spread": arguments.spread, "repeats": arguments.repeats}, rows)


def compile_rows() -> CompiledRows:
    """Compile for this machine the sampling kernels that every library holds."""
    module = tvm.IRModule(
        {name: kernel().with_attr("global_symbol", name) for name, kernel in KERNELS.items()}
    )
    return CompiledRows(tvm.compile(module, target=target_for("cpu")).__getitem__)


def measure(
    samplers: dict[str, Sampler], name: str, num_rows: int, vocab: int, spread: float, repeats: int
) -> Row:
    """Measure one batch whose rows all use the same sampling parameters."""
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((num_rows, vocab)) * spread).astype(np.float32)
    prompt, output = (rng.integers(0, vocab, count).tolist() for count in (PROMPT_TOKENS, OUTPUT_TOKENS))
    draws = [Draw(ASKED[name], tuple(prompt), output, seed) for seed in range(num_rows)]
    times = {
        f"{kind}_us_per_row": microseconds(lambda: sampler.sample(logits, draws), repeats) / num_rows  # noqa: B023  called at once
        for kind, sampler in samplers.items()
    }
    step = times["compiled_us_per_row"] * num_rows / 1000
    return {"vocab": vocab, "rows": num_rows, "asked": name, **times, "compiled_ms_per_step": step}


def microseconds(call: Callable[[], Sequence[object]], repeats: int) -> float:
    """The median of several calls, after one that does not count."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


if __name__ == "__main__":
    main()
