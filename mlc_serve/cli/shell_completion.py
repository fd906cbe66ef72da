"""`mlc_serve completion SHELL`: prints a script, made by shtab, that completes commands and flags."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from mlc_serve.cli.parser import CommandParser

_SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("FILE", "PATH[,LIB]")
_DIRECTORIES = ("MODEL", "SOURCE", "DIR")


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "completion",
        help="print a script that completes commands and flags in a shell",
        description="Print a script that lets a shell complete the commands and flags of mlc_serve.",
        epilog="examples:\n"
        '  eval "$(mlc_serve completion bash)"                            in ~/.bashrc\n'
        "  mlc_serve completion zsh > ~/.zfunc/_mlc_serve                 with ~/.zfunc in $fpath",
    )
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=f"one of {', '.join(_SHELLS)}")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Print the script, and return the exit code."""
    import shtab

    for action in _actions(arguments.program):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
        elif action.metavar in _DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(arguments.program, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
