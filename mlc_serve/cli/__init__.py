"""The command line: `mlc_serve COMMAND`. One file a sub-command; here, what they share.

A start-up error is one line on stderr. Exit codes: 2 for a bad flag, key or value, 75 for an address in use,
1 for whatever else keeps a command from starting, 130 for Ctrl-C before there is a server to stop. Imports
nothing that takes long, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlc_serve import __version__
from mlc_serve.cli import compile, serve, supervise
from mlc_serve.cli.parser import CommandParser, refuse_unknown
from mlc_serve.errors import ConfigError, PortInUseError, StartupError
from mlc_serve.exit_codes import (
    EXIT_CONFIG_ERROR,
    EXIT_INTERRUPTED,
    EXIT_PORT_IN_USE,
    EXIT_STARTUP_ERROR,
)

_COMMANDS = (serve, supervise, compile)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. `argv` lacks the program's name; None: the process's own."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except StartupError as error:
        print(f"mlc_serve: error: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="mlc_serve", description="Serve language models over an OpenAI-compatible API."
    )
    parser.add_argument("--version", action="version", version=f"mlc_serve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        subparser = command.add_parser(commands)
        subparser.set_defaults(run=command.run, parser=subparser)
    arguments, unknown = parser.parse_known_args(argv)
    refuse_unknown(arguments.parser, unknown)
    code: int = arguments.run(arguments)
    return code


def _exit_code(error: StartupError) -> int:
    if isinstance(error, ConfigError):
        return EXIT_CONFIG_ERROR
    return EXIT_PORT_IN_USE if isinstance(error, PortInUseError) else EXIT_STARTUP_ERROR
