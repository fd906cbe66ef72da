"""`mlc_serve bench [MODEL]`: parses the flags, calls a function of interface.bench, and prints a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlc_serve.cli.engine_options import (
    MODEL_HELP,
    add_engine_options,
    keep_torch_out,
    read_engine,
    refuse_engine_options,
)
from mlc_serve.cli.parser import CommandParser, add_options, positive_integer, read_options
from mlc_serve.cli.server_url import (
    add_server_flags,
    refuse_server_flags_without_url,
    server_key,
    server_trust,
)
from mlc_serve.cli.table import table
from mlc_serve.config import Workload, parse_overrides
from mlc_serve.errors import ConfigError

_HEADINGS = {
    "tokens_per_s": "tokens/s",
    "tokens_per_step": "tokens/step",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p95_ms": "TTFT p95 ms",
    "itl_p50_ms": "ITL p50 ms",
    "itl_p95_ms": "ITL p95 ms",
}
_DECIMALS = {"tokens_per_step": 2}
_DEFAULT_PREFILL = 512
_EXAMPLES = """\
TTFT is the time to the first token, ITL the time between tokens. Prompts are random. With a
--speculative-mode, tokens/step is what a forward pass gives each request; without drafts it is 1.

examples:
  mlc_serve bench                                                measure the demo model
  mlc_serve bench ./my-model --quantization q4f16_1 --concurrency 1 8 32
  mlc_serve bench --speculative-mode ngram
  mlc_serve bench --url http://127.0.0.1:8000/v1 --concurrency 8 --json"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "bench",
        help="measure a model's speed",
        description="Measure a model that is loaded into this process (prefill, and decode in batches), or a "
        "\nrunning server under the load of a number of clients.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=None,
        help=f"{MODEL_HELP}; without it, the demo model. With --url, the name of a served model; "
        "without it, the first",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_load(parser.add_argument_group("load"))
    add_options(parser, "requests", Workload)
    add_server_flags(parser)
    add_engine_options(parser, without={"prefix_cache_mode", "prefix_cache_dir", "prefix_cache_size"})
    return parser


def _add_load(group: Any) -> None:
    """Add the flags that say what is measured."""
    group.add_argument(
        "--concurrency",
        metavar="N",
        type=positive_integer,
        nargs="+",
        default=[1, 4],
        help="requests that run at once; each number is measured (default: 1 4)",
    )
    group.add_argument(
        "--prefill-tokens",
        metavar="N",
        type=positive_integer,
        help=f"length of the prompt whose prefill is timed (default: {_DEFAULT_PREFILL}); not with --url",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, and return the exit code."""
    rows = _of_server(arguments) if arguments.url else _in_process(arguments)
    print(json.dumps(rows, indent=2) if arguments.json else _table(rows))
    return 0


def _of_server(arguments: argparse.Namespace) -> Sequence[Mapping[str, object]]:
    refuse_engine_options(arguments)
    workload = read_options(Workload, arguments)
    if arguments.prefill_tokens is not None:
        raise ConfigError("--prefill-tokens can't be combined with --url: TTFT measures a server's prefill")
    from mlc_serve.interface.bench import bench_server

    key, trust = server_key(arguments), server_trust(arguments)
    return bench_server(arguments.url, arguments.model, key, workload, arguments.concurrency, trust)


def _in_process(arguments: argparse.Namespace) -> Sequence[Mapping[str, object]]:
    refuse_server_flags_without_url(arguments)
    if "prefix_cache_mode" in parse_overrides(arguments.overrides):
        raise ConfigError("--overrides: prefix_cache_mode: bench always measures without a prefix cache")
    engine, launch = read_engine(arguments)
    workload = read_options(Workload, arguments)
    keep_torch_out()
    from mlc_serve.interface.bench import bench_in_process

    prefill_tokens = arguments.prefill_tokens or _DEFAULT_PREFILL
    return bench_in_process(engine, launch, workload, prefill_tokens, arguments.concurrency)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    first = next(iter(rows[0]))
    figures = [name for name in _HEADINGS if any(name in row for row in rows)]
    names = [first, *(_HEADINGS[name] for name in figures)]
    cells = [[str(row[first]), *(_cell(row, name) for name in figures)] for row in rows]
    return table(names, cells, right=names[1:])


def _cell(row: Mapping[str, object], name: str) -> str:
    return f"{row[name]:.{_DECIMALS.get(name, 1)}f}" if name in row else ""
