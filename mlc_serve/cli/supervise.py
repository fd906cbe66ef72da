"""`mlc_serve supervise [MODEL]`: parses the flags and calls interface.supervise.run_supervisor."""

from __future__ import annotations

import argparse
from typing import Any

from mlc_serve.cli.parser import CommandParser, add_options, read_options
from mlc_serve.cli.serve import add_serve_arguments, override_help, read_serve_arguments
from mlc_serve.config import StatusServiceConfig, SupervisionConfig


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "supervise",
        help="serve a model in a process that is restarted when it fails",
        description="Run `serve` in its own process, monitor it, and restart it when it fails.",
        epilog=f"{override_help()}\n\nexample: mlc_serve supervise ./my-model --port 8080 --status-port 9000",
    )
    add_serve_arguments(parser)
    add_options(parser, "supervisor", SupervisionConfig)
    add_options(parser, "status service", StatusServiceConfig)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Supervise until a signal arrives or restarting is given up, and return the exit code."""
    engine, server, launch = read_serve_arguments(arguments)
    supervision = read_options(SupervisionConfig, arguments)
    service = read_options(StatusServiceConfig, arguments)
    # Imported here because it loads the web framework, and only after the flags are known to be valid.
    from mlc_serve.interface.supervise import run_supervisor

    return run_supervisor(engine, server, launch, supervision, service)
