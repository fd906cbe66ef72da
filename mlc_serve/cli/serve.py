"""`mlc_serve serve [MODEL]`: flags in, one call of interface.serve.run_server."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from mlc_serve.cli.engine_options import MODEL_HELP, keep_torch_out
from mlc_serve.cli.parser import CommandParser, add_options, read_options
from mlc_serve.config import EngineConfig, LaunchConfig, ServerConfig
from mlc_serve.config.option import options_of

_EXAMPLES = """\
examples:
  mlc_serve serve                                    the demo model on http://127.0.0.1:8000
  mlc_serve serve ./my-model --port 8080             a directory
  mlc_serve serve org/name --mode server --overrides "max_num_sequence=64\""""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, what argparse's add_subparsers returned."""
    parser: CommandParser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve a model, and further ones, over an OpenAI-compatible HTTP API.",
        epilog=f"{override_help()}\n\n{_EXAMPLES}",
    )
    add_serve_arguments(parser)
    return parser


def add_serve_arguments(parser: CommandParser) -> None:
    """Add the model and all that can be set about a server."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=None,
        help=f"{MODEL_HELP}; without it, the demo model that comes with the package",
    )
    parser.add_argument(
        "--overrides",
        metavar="KEY=VALUE;...",
        default="",
        help="limits and settings that win over what --mode and the flags say; the keys are below",
    )
    add_options(parser, "launch", LaunchConfig)
    add_options(parser, "engine", EngineConfig)
    add_options(parser, "server", ServerConfig)


def read_serve_arguments(arguments: argparse.Namespace) -> tuple[EngineConfig, ServerConfig, LaunchConfig]:
    """The configurations that these arguments stand for. Raises ConfigError."""
    launch = read_options(LaunchConfig, arguments)
    server = read_options(ServerConfig, arguments)
    engine = read_options(EngineConfig, arguments, model=arguments.model).overridden(arguments.overrides)
    return engine, server, launch


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal, and return the exit code."""
    engine, server, launch = read_serve_arguments(arguments)
    keep_torch_out()
    # Imported here because it loads TVM and the web framework, and only after the flags were found good.
    from mlc_serve.interface.serve import run_server

    return run_server(engine, server, launch)


def override_help() -> str:
    """The --overrides keys with their meaning, for the end of --help."""
    lines = ["keys of --overrides:"]
    for _, _, declared in options_of(EngineConfig):
        if declared.override:
            lines += [f"  {declared.override}", textwrap.indent(textwrap.fill(declared.help, 70), " " * 8)]
    return "\n".join(lines)
