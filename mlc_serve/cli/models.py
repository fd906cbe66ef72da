"""`mlc_serve models [remove NAME...]`: parses the flags, calls interface.models, and prints a table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlc_serve.cli.parser import CommandParser
from mlc_serve.cli.table import table
from mlc_serve.errors import ConfigError
from mlc_serve.host.disk import size_text

if TYPE_CHECKING:
    from mlc_serve.interface.models import CachedModel

_COLUMNS = ("MODEL", "KIND", "SCHEME", "DEVICE", "SIZE", "LAST USED", "ID")
_FIELDS = ("id", "model", "kind", "quantization", "device", "size", "last_used")
_EXAMPLES = """\
examples:
  mlc_serve models                        list what is cached, with sizes
  mlc_serve models remove org/name        remove everything that is cached for a model
  mlc_serve models remove 1a2b3c4d --yes  remove one entry by its id, without asking"""


def add_parser(commands: Any) -> CommandParser:
    """Add this command to `commands`, the result of argparse's add_subparsers."""
    parser: CommandParser = commands.add_parser(
        "models",
        help="list cached models, or remove them",
        description="List compiled libraries, converted weights and downloads from the Hugging Face hub, "
        "\nwhose cache other programs share. Removed entries are made or downloaded again when needed.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print JSON; sizes in bytes, times in seconds")
    actions = parser.add_subparsers(metavar="ACTION", title="actions")
    removal = actions.add_parser(
        "remove",
        help="remove cached models",
        description="Remove cached libraries, weights and downloads of models.",
        epilog=_EXAMPLES,
    )
    removal.add_argument("names", metavar="NAME", nargs="+", help="a model or an id from the listing")
    removal.add_argument("--yes", action="store_true", help="don't ask")
    removal.set_defaults(act=_remove)
    parser.set_defaults(act=_list)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """List or remove, and return the exit code."""
    code: int = arguments.act(arguments)
    return code


def _list(arguments: argparse.Namespace) -> int:
    from mlc_serve.interface.models import cached_models

    entries = cached_models()
    if arguments.json:
        print(json.dumps([{name: getattr(entry, name) for name in _FIELDS} for entry in entries], indent=2))
    else:
        _print_table(entries)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from mlc_serve.interface.models import cached_models, named, remove

    if arguments.json:
        raise ConfigError("--json is only for the listing, not for models remove")
    chosen = named(arguments.names, cached_models())
    if not arguments.yes and not _agrees(chosen):
        print("Nothing was removed.")
        return 1
    print(f"Removed {_count(chosen)}; this freed {size_text(remove(chosen))}.")
    return 0


def _agrees(chosen: Sequence[CachedModel]) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("models remove asks before it removes anything; without a terminal, give --yes")
    _print_table(chosen)
    return input("Remove them? [y/N] ").strip().lower() in ("y", "yes")


def _print_table(entries: Sequence[CachedModel]) -> None:
    if entries:
        print(table(_COLUMNS, [_row(entry) for entry in entries], right=("SIZE",)))
    print(f"{_count(entries)}, {size_text(sum(entry.size for entry in entries))}")


def _row(entry: CachedModel) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
    return (
        entry.model,
        entry.kind,
        entry.quantization or "-",
        entry.device or "-",
        size_text(entry.size),
        used,
        entry.id,
    )


def _count(entries: Sequence[CachedModel]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
