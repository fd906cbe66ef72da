"""The command line: `mlc_serve COMMAND`. Each sub-command has its own file; this one has what they share.

A start-up error is one line on stderr, and has its own exit code. SIGINT and SIGTERM end any command; a
server handles them itself once it serves. Nothing here takes long to import, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlc_serve import __version__
from mlc_serve.cli import (
    bench,
    chat,
    compile,
    convert,
    deploy,
    models,
    router,
    serve,
    shell_completion,
    supervise,
)
from mlc_serve.cli.parser import CommandParser, refuse_unknown
from mlc_serve.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, ConfigError, StartupError
from mlc_serve.host.interruption import Terminated, ended_by_sigterm

_COMMANDS = (
    serve,
    supervise,
    router,
    deploy,
    chat,
    models,
    convert,
    compile,
    bench,
    shell_completion,
)
_EXAMPLES = """\
examples:
  mlc_serve serve                     serve the demo model on http://127.0.0.1:8000
  mlc_serve chat org/name             chat with a model from the Hugging Face hub
  mlc_serve COMMAND --help            show a command's options and examples"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. `argv` excludes the program's name; None means sys.argv."""
    try:
        with ended_by_sigterm():
            return _run(sys.argv[1:] if argv is None else argv)
    except StartupError as error:
        print(f"mlc_serve: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED


def _run(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="mlc_serve",
        description="Serve language models over an OpenAI-compatible API.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"mlc_serve {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        subparser = command.add_parser(commands)
        subparser.set_defaults(run=command.run, parser=subparser)
    parser.set_defaults(run=None, parser=parser, program=parser)
    if argv and argv[0].startswith("-") and argv[0] not in parser.flags:
        refuse_unknown(parser, argv[:1], commands.choices)
    arguments, unknown = parser.parse_known_args(argv)
    refuse_unknown(arguments.parser, unknown, commands.choices)
    if arguments.run is None:
        raise ConfigError(
            f"a command is missing: {', '.join(commands.choices)}; to begin with, type: mlc_serve serve"
        )
    code: int = arguments.run(arguments)
    return code
