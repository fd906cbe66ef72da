"""Write the table of clients in docs/api.md from the marks of their tests and the releases in pyproject.toml.

python scripts/render_clients.py            writes the file
python scripts/render_clients.py --check    exits with 1 if the file is not current
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from made_section import DOCS, MadeSection, main, table_row

ROOT = DOCS.parent
TESTS = ROOT / "tests/clients"
# A requirement of exactly one release, such as "lm_eval[api]==0.4.13".
_PINNED = re.compile(r'"([A-Za-z0-9._-]+)(?:\[[a-z,-]+\])?==([^"]+)"')


def table() -> str:
    """Each client with its releases, and the calls that its tests try."""
    releases = pinned_releases((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    calls: dict[str, list[str]] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        for client, call in marks_of(path):
            calls.setdefault(client, []).append(call)
    rows = [
        table_row(f"`{client}`", ", ".join(releases[client]), "; ".join(tried))
        for client, tried in sorted(calls.items())
    ]
    return "\n".join(["| client | release | calls |", "|---|---|---|", *rows, ""])


def pinned_releases(project: str) -> dict[str, list[str]]:
    """The releases of each package that pyproject.toml pins, by the name that registries show."""
    releases: dict[str, list[str]] = {}
    for name, release in _PINNED.findall(project):
        releases.setdefault(name.lower().replace("_", "-"), []).append(release)
    return releases


def marks_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the client and the call that each test of a module declares.

    Raises ValueError if a test declares none. The module is read and not imported, since no environment has
    all clients.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = dict(filter(None, map(_constant, tree.body)))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if function.name.startswith("test_"):
            marks = [mark for mark in function.decorator_list if _is_mark(mark)]
            if not marks:
                raise ValueError(f"{path.name}: {function.name} has no mark that names its client and call")
            for mark in marks:
                client, call = (_text(argument, constants) for argument in mark.args)
                yield client, call


def _constant(statement: ast.stmt) -> tuple[str, str] | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
            return name, text
    return None


def _is_mark(decorator: ast.expr) -> TypeGuard[ast.Call]:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.client"


def _text(expression: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(expression, ast.Name):
        return constants[expression.id]
    return str(ast.literal_eval(expression))


SECTION = MadeSection(
    DOCS / "api.md",
    "<!-- clients: made by scripts/render_clients.py -->",
    "<!-- end of clients -->",
    table,
)

if __name__ == "__main__":
    sys.exit(main(__doc__, [SECTION]))
