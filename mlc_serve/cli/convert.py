"""`mlc_serve convert SOURCE --quantization SCHEME --output DIR`: parses flags, calls interface.convert."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlc_serve.cli.engine_options import MODEL_HELP, keep_torch_out
from mlc_serve.cli.parser import CommandParser

_EXAMPLES = """\
examples:
  mlc_serve convert ./my-model --quantization q4f16_1 --output ./my-model-q4
  mlc_serve serve ./my-model-q4"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "convert",
        help="convert a model to a directory in MLC's format",
        description="Write a model as a directory in MLC's format, with weights in a quantization scheme. "
        "\n`serve` can load the directory; so can MLC, if it supports the scheme (all but q8f32_1).",
        epilog=_EXAMPLES,
    )
    parser.add_argument("source", metavar="SOURCE", help=MODEL_HELP)
    parser.add_argument(
        "--quantization",
        metavar="SCHEME",
        required=True,
        help="q0f32, q0f16, q0bf16, q8f32_1, q4f16_1, q4f32_1 or q3f16_1",
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="DIR",
        type=Path,
        required=True,
        help="the directory to write; it must be new or empty",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Convert, and return the exit code."""
    keep_torch_out()
    from mlc_serve.interface.convert import convert_model  # loads TVM

    convert_model(arguments.source, arguments.quantization, arguments.output)
    print(f"Wrote {arguments.output}; serve it with: mlc_serve serve {arguments.output}")
    return 0
