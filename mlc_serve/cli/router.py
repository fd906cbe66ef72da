"""`mlc_serve router [MODEL]`: parses the flags and calls interface.router.run_router."""

from __future__ import annotations

import argparse
from typing import Any

from mlc_serve.cli.parser import CommandParser, add_options, read_options
from mlc_serve.cli.serve import add_serve_arguments, override_help, read_serve_arguments
from mlc_serve.config import RouterConfig, SupervisionConfig

_EXAMPLES = """\
examples:
  mlc_serve router ./my-model --replicas 4           start four servers behind http://127.0.0.1:8000
  mlc_serve router --backend http://10.0.0.5:8000 --backend http://10.0.0.6:8000"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "router",
        help="put several servers behind one address",
        description="Pass requests on to several servers, which are started with the flags of `serve` or run "
        "already.",
        epilog=f"{override_help()}\n\n{_EXAMPLES}",
    )
    add_options(parser, "router", RouterConfig)
    add_serve_arguments(parser)
    add_options(parser, "supervisor", SupervisionConfig)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Route until a signal arrives or no server can run, and return the exit code."""
    engine, server, launch = read_serve_arguments(arguments)
    supervision = read_options(SupervisionConfig, arguments)
    config = read_options(RouterConfig, arguments)
    # Imported here because it loads the web framework, and only after the flags are known to be valid.
    from mlc_serve.interface.router import run_router

    return run_router(engine, server, launch, supervision, config)
