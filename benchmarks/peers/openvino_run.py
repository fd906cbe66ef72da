"""Measure one cell with OpenVINO GenAI and print it as a line of JSON.

    python -m benchmarks.peers.openvino_run --model DIR --threads 2 (--cell NAME | --load CONCURRENCY)

It runs in the peers' virtual environment. Each figure is measured after a warm-up run.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.cells import CELLS, LOAD, Cell
from mlc_serve.bench.closed_loop import TOKEN_IDS

# Gibibytes of memory for keys and values, which is enough for all sequences of a cell.
CACHE_GIB = 2
# Tokens that a step computes at most.
STEP = 1024


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cell", choices=[cell.name for cell in CELLS])
    what.add_argument("--load", type=int, metavar="CONCURRENCY")
    options = parser.parse_args()
    properties = {"INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY"}
    rate = _measured(options, properties)
    print(json.dumps({"tokens_per_s": rate}))


def _measured(options: argparse.Namespace, properties: dict[str, Any]) -> float:
    if options.load is not None:
        return load_rate(batching(options.model, properties, options.load), options.load)
    (cell,) = (cell for cell in CELLS if cell.name == options.cell)
    pipeline = batching(options.model, properties, cell.batch)
    if cell.is_prefill:
        return prefill_rate(pipeline, cell)
    rate = decode_rate(pipeline, cell)
    if cell.batch > 1:
        return rate
    del pipeline
    return max(rate, single_rate(options.model, properties, cell))


def batching(model: str, properties: dict[str, Any], sequences: int) -> Any:
    """The pipeline for several sequences, which batches them continuously."""
    scheduling = openvino_genai.SchedulerConfig()
    scheduling.cache_size = CACHE_GIB
    scheduling.max_num_seqs = sequences
    scheduling.max_num_batched_tokens = STEP
    scheduling.enable_prefix_caching = False
    return openvino_genai.ContinuousBatchingPipeline(model, scheduling, "CPU", properties)


def prefill_rate(pipeline: Any, cell: Cell) -> float:
    """Tokens of the prompt per second, up to the first token."""
    seconds(pipeline, cell, 1)
    return cell.prompt / seconds(pipeline, cell, 1)


def decode_rate(pipeline: Any, cell: Cell) -> float:
    """Generated tokens per second, without the time of a prefill, which gives the first tokens."""
    seconds(pipeline, cell, cell.answer)
    prefill = seconds(pipeline, cell, 1)
    whole = seconds(pipeline, cell, cell.answer)
    return cell.batch * (cell.answer - 1) / (whole - prefill)


def single_rate(model: str, properties: dict[str, Any], cell: Cell) -> float:
    """Generated tokens per second of the pipeline for one sequence, as it measures itself."""
    pipeline = openvino_genai.LLMPipeline(model, "CPU", {**properties, "ATTENTION_BACKEND": "SDPA"})
    for _ in range(2):
        result = pipeline.generate(prompt(cell.prompt), greedy(cell.answer))
    return 1000 / float(result.perf_metrics.get_tpot().mean)


def load_rate(pipeline: Any, concurrency: int) -> float:
    """Tokens per second when `concurrency` sequences run at once and the others wait for a place."""
    load = Cell("load", LOAD.requests, LOAD.prompt, LOAD.answer)
    seconds(pipeline, Cell("warm-up", concurrency, LOAD.prompt, LOAD.answer), LOAD.answer)
    return load.batch * load.answer / seconds(pipeline, load, load.answer)


def seconds(pipeline: Any, cell: Cell, answer: int) -> float:
    """Seconds that it takes to answer a batch of new prompts with `answer` tokens each."""
    prompts = [prompt(cell.prompt) for _ in range(cell.batch)]
    start = time.perf_counter()
    results = pipeline.generate(prompts, [greedy(answer)] * cell.batch)
    took = time.perf_counter() - start
    generated = sum(len(result.m_generation_ids[0]) for result in results)
    if generated != cell.batch * answer:
        raise RuntimeError(f"{generated} tokens were generated, not {cell.batch * answer}")
    return took


def prompt(length: int) -> Any:
    """A prompt that shares no prefix with another."""
    ids = [[random.choice(TOKEN_IDS) for _ in range(length)]]
    return openvino.Tensor(np.array(ids, np.int64))


def greedy(answer: int) -> Any:
    """A configuration for exactly `answer` tokens, each of them the likeliest."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = answer
    config.ignore_eos = True
    config.do_sample = False
    return config


if __name__ == "__main__":
    main()
