"""`mlc_serve compile MODEL --output FILE`: parses the flags and calls interface.compile.compile_model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from mlc_serve.cli.engine_options import keep_torch_out
from mlc_serve.cli.parser import CommandParser, positive_integer
from mlc_serve.config import DEFAULT_OPT, OptimizationLevel
from mlc_serve.errors import ConfigError

_EXAMPLES = """\
examples:
  mlc_serve compile ./my-model --device cuda --arch sm_90a --output my-model.so
  mlc_serve serve ./my-model --device cuda --model-lib my-model.so"""

_WINDOW_FLAGS = {
    "--sliding-window-size": "tokens that each token sees, or -1 for all",
    "--attention-sink-size": "how many of these are the first ones of a sequence",
}


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "compile",
        help="compile a model's library",
        description="Compile a model's library, which `serve` loads with --model-lib.",
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="directory in Hugging Face or MLC format, or org/name on the hub"
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        type=Path,
        required=True,
        help="the library to write, such as model.so",
    )
    parser.add_argument(
        "--quantization", metavar="SCHEME", help="a scheme as for `serve` (default: the model's own)"
    )
    parser.add_argument(
        "--opt",
        default=DEFAULT_OPT,
        choices=get_args(OptimizationLevel),
        help="optimization level as for `serve` (default: %(default)s)",
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1, rocm, metal, vulkan or opencl (default: cpu)"
    )
    parser.add_argument("--arch", help="architecture, such as sm_90a or znver5 (default: this machine's)")
    parser.add_argument(
        "--context-window-size",
        metavar="N",
        type=positive_integer,
        help="most tokens of one request, for models that rotate long sequences differently (longrope)",
    )
    for flag, what in _WINDOW_FLAGS.items():
        parser.add_argument(flag, metavar="N", type=int, help=f"{what}, as for `serve`")
    parser.add_argument(
        "--taps",
        metavar="N,N",
        type=_numbers,
        default=(),
        help="layers whose hidden states the library gives as well, for a model that drafts with them",
    )
    parser.add_argument(
        "--drafts-for",
        metavar="MODEL",
        help="the model that an EAGLE draft model drafts for, which gives it what it lacks",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Compile, and return the exit code."""
    keep_torch_out()
    # Imported here because it loads TVM's compiler, and only after the flags are known to be valid.
    from mlc_serve.interface.compile import compile_draft_model, compile_model

    if arguments.drafts_for is not None:
        _refuse_flags_of_whole_models(arguments)
        compile_draft_model(
            arguments.model,
            arguments.drafts_for,
            arguments.quantization,
            arguments.opt,
            arguments.device,
            arguments.arch,
            arguments.output,
        )
        return 0
    compile_model(
        arguments.model,
        arguments.quantization,
        arguments.opt,
        arguments.device,
        arguments.arch,
        arguments.output,
        arguments.context_window_size,
        arguments.sliding_window_size,
        arguments.attention_sink_size,
        arguments.taps,
    )
    return 0


def _refuse_flags_of_whole_models(arguments: argparse.Namespace) -> None:
    for flag in ("--context-window-size", "--taps", *_WINDOW_FLAGS):
        if getattr(arguments, flag[2:].replace("-", "_")) not in (None, ()):
            raise ConfigError(
                f"{flag} has no effect on a draft model, whose sequences are those of --drafts-for"
            )


def _numbers(text: str) -> tuple[int, ...]:
    """Parse numbers of layers with commas between them, for argparse."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of layers, such as 2,8,13")
    return tuple(map(int, parts))
