"""`mlc_serve serve [MODEL]`: parses the flags and calls interface.serve.run_server."""

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
  mlc_serve serve                                    serve the demo model on http://127.0.0.1:8000
  mlc_serve serve ./my-model --port 8080             serve a directory
  mlc_serve serve org/name --mode server --overrides "max_num_sequence=64\""""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description="Serve one or more models over an OpenAI-compatible HTTP API.",
        epilog=f"{override_help()}\n\n{_EXAMPLES}",
    )
    add_serve_arguments(parser)
    return parser


def add_serve_arguments(parser: CommandParser) -> None:
    """Add the model and all settings of a server."""
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
        help="limits and settings that take precedence over --mode and the flags; the keys are listed below",
    )
    add_options(parser, "launch", LaunchConfig)
    add_options(parser, "engine", EngineConfig)
    add_options(parser, "server", ServerConfig)


def read_serve_arguments(arguments: argparse.Namespace) -> tuple[EngineConfig, ServerConfig, LaunchConfig]:
    """Read the configurations from the arguments. Raises ConfigError."""
    launch = read_options(LaunchConfig, arguments)
    server = read_options(ServerConfig, arguments)
    engine = read_options(EngineConfig, arguments, model=arguments.model).overridden(arguments.overrides)
    return engine, server, launch


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal arrives, and return the exit code."""
    engine, server, launch = read_serve_arguments(arguments)
    keep_torch_out()
    # Imported here because it loads TVM and the web framework, and only after the flags are known to be
    # valid.
    from mlc_serve.interface.serve import run_server

    return run_server(engine, server, launch)


def override_help() -> str:
    """The --overrides keys and their meanings, for the end of --help."""
    lines = ["keys of --overrides:"]
    for _, _, declared in options_of(EngineConfig):
        if declared.override:
            lines += [f"  {declared.override}", textwrap.indent(textwrap.fill(declared.help, 70), " " * 8)]
    return "\n".join(lines)
