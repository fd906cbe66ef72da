"""`mlc_serve deploy [MODEL]`: parses the flags and calls interface.deploy.run_deploy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlc_serve.cli.parser import CommandParser, add_options, read_options
from mlc_serve.cli.serve import add_serve_arguments, override_help, read_serve_arguments
from mlc_serve.config import DeploymentConfig

_EXAMPLES = """\
examples:
  mlc_serve deploy ./my-model --replicas 2         deploy on the cluster of this machine, or start one
  mlc_serve deploy org/name --config serve.yaml    write what `serve deploy serve.yaml` applies"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "deploy",
        help="serve a model with several replicas on Ray Serve",
        description="Deploy a model on Ray Serve, which runs replicas of it on the machines of a cluster.",
        epilog=f"{override_help()}\n\n{_EXAMPLES}",
    )
    add_serve_arguments(parser)
    add_options(parser, "deployment", DeploymentConfig)
    _add_target(parser)
    return parser


def _add_target(parser: CommandParser) -> None:
    group = parser.add_argument_group("Ray Serve")
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the cluster to deploy on (default: $RAY_ADDRESS, or this machine's)",
    )
    group.add_argument(
        "--name", default="mlc_serve", help="name of the application on the cluster (default: %(default)s)"
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="write Serve's configuration to this file instead of deploying it",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print Serve's configuration instead of deploying it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Deploy, and return the exit code."""
    engine, server, launch = read_serve_arguments(arguments)
    deployment = read_options(DeploymentConfig, arguments)
    # Imported here so that the other commands don't load it.
    from mlc_serve.interface.deploy import Target, run_deploy

    target = Target(arguments.name, arguments.config, arguments.dry_run, arguments.address)
    run_deploy(engine, server, launch, deployment, target)
    return 0
