"""Imports run one way: which room may import which, checked in the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlc_serve

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mlc_serve"

# What every room may import.
COMMON = frozenset({"config", "errors"})
# Room -> the rooms that it may import, besides itself and COMMON. A room is a package or a top-level module.
ALLOWED: dict[str, frozenset[str]] = {
    "": frozenset({"api", "interface", "supervisor"}),
    "__main__": frozenset({"cli", "host"}),
    "cli": frozenset({"", "interface", "host"}),
    "interface": frozenset(
        {
            "server",
            "supervisor",
            "ray",
            "api",
            "chat",
            "bench",
            "demo",
            "router",
            "loading",
            "loaded_model",
            "compiler",
            "checkpoint",
            "quantization",
            "host",
        }
    ),
    "chat": frozenset({"api"}),
    "bench": frozenset({"api", "frontend", "engine"}),
    "server": frozenset({"", "api", "protocol", "router", "supervisor", "host", "kv_transfer"}),
    "supervisor": frozenset({"host"}),
    "router": frozenset({"protocol", "supervisor"}),
    "ray": frozenset({"api", "server", "router", "protocol", "loading", "host"}),
    "api": frozenset(
        {
            "frontend",
            "protocol",
            "text",
            "engine",
            "grammar",
            "loaded_model",
            "loading",
            "spill",
            "demo",
            "host",
            "kv_transfer",
        }
    ),
    "spill": frozenset({"engine", "loaded_model", "host"}),
    "frontend": frozenset({"protocol", "text", "engine", "grammar", "loaded_model"}),
    "grammar": frozenset({"engine", "text"}),
    "loading": frozenset(
        {
            "checkpoint",
            "runtime",
            "models",
            "quantization",
            "loaded_model",
            "engine",
            "text",
            "host",
        }
    ),
    "checkpoint": frozenset({"models", "quantization", "loaded_model", "engine", "text", "host"}),
    "runtime": frozenset({"checkpoint", "engine", "host"}),
    "compiler": frozenset({"models", "quantization"}),
    "loaded_model": frozenset({"engine", "text"}),
    "testing": frozenset({"engine", "loaded_model", "models", "text"}),
    "models": frozenset(),
    "quantization": frozenset(),
    "engine": frozenset(),
    "protocol": frozenset(),
    "text": frozenset(),
    "demo": frozenset(),
    "host": frozenset(),
    "kv_transfer": frozenset(),
    "config": frozenset({"demo"}),
    "errors": frozenset(),
}

# Third-party package -> the rooms that may import it.
OUTSIDE = {
    "tvm": frozenset({"runtime", "compiler", "models"}),
    "tvm_ffi": frozenset({"runtime"}),
    "fastapi": frozenset({"server"}),
    "starlette": frozenset({"server", "ray"}),
    "sse_starlette": frozenset({"server"}),
    "uvicorn": frozenset({"server"}),
    "opentelemetry": frozenset({"server"}),
    "pydantic": frozenset({"protocol", "api", "text", "checkpoint", "supervisor"}),
    "asyncio": frozenset(
        {
            "api",
            "server",
            "bench",
            "supervisor",
            "router",
            "ray",
            "interface",
            "host",
            "kv_transfer",
            "testing",
        }
    ),
    "ray": frozenset({"ray"}),
    "yaml": frozenset({"interface"}),
    "torch": frozenset(),
    "transformers": frozenset(),
}


def sources() -> Iterator[Path]:
    """The Python files of the package."""
    return PACKAGE.rglob("*.py")


def room_of(module: str) -> str:
    """The room of a dotted module name inside the package; the package itself is the empty name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever; `from package import module` counts as the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (_target(node.module, alias.name) for alias in node.names)


def _target(module: str, name: str) -> str:
    inside = ROOT / module.replace(".", "/")
    return f"{module}.{name}" if (inside / f"{name}.py").exists() or (inside / name).is_dir() else module


def forbidden(path: Path) -> list[str]:
    """The imports of one file that its room is not allowed."""
    room = room_of(module_of(path))
    allowed = ALLOWED[room] | COMMON | {room}
    return [name for name in imported_modules(path) if not _is_allowed(name, room, allowed)]


def _is_allowed(name: str, room: str, allowed: frozenset[str]) -> bool:
    top = name.split(".", maxsplit=1)[0]
    if top == "mlc_serve":
        return room_of(name) in allowed
    return top not in OUTSIDE or room in OUTSIDE[top]


@pytest.mark.parametrize("path", sorted(sources()), ids=module_of)
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    """No module imports against the direction of the table, nor a library that belongs to another room."""
    assert room_of(module_of(path)) in ALLOWED, "a new room needs its place in the table"
    assert forbidden(path) == []


def test_every_allowed_edge_is_used() -> None:
    """The tables allow no import that the source does not have, so that they show the real imports."""
    used = {
        (room_of(module_of(path)), room_of(name) if name.startswith("mlc_serve") else name.split(".")[0])
        for path in sources()
        for name in imported_modules(path)
    }
    inside = {(room, other) for room, allowed in ALLOWED.items() for other in allowed}
    outside = {(room, library) for library, rooms in OUTSIDE.items() for room in rooms}
    assert (inside | outside) - used == set()


def test_the_top_level_is_made_of_packages() -> None:
    """Besides packages, the top level has at most four modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= 4


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    """The walk sees imports inside functions, and the module behind `from package import module`."""
    source = tmp_path / "module.py"
    source.write_text("def f():\n    import tvm.runtime\n    from mlc_serve.engine import core\n")
    assert list(imported_modules(source)) == ["tvm.runtime", "mlc_serve.engine.core"]
    assert not _is_allowed("tvm.runtime", "engine", frozenset())
    assert not _is_allowed("mlc_serve.cli.serve", "server", frozenset({"engine"}))


def test_nobody_imports_the_tests_double_or_the_command_line() -> None:
    """The product doesn't depend on its test doubles, and only `python -m` enters through cli."""
    for room, allowed in ALLOWED.items():
        assert "testing" not in allowed
        assert "cli" not in allowed or room == "__main__"


@pytest.mark.parametrize(
    "module", ["mlc_serve", "mlc_serve.cli", "mlc_serve.engine.limits", "mlc_serve.errors"]
)
def test_an_import_that_should_be_fast_loads_no_tvm(module: str) -> None:
    """`import mlc_serve` and `--help` load neither TVM nor the web framework."""
    heavy = "{'tvm', 'tvm_ffi', 'fastapi', 'uvicorn', 'pydantic', 'transformers', 'numpy'}"
    program = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    """Each name in `mlc_serve.__all__` has a home, and an unknown one is an AttributeError."""
    assert set(mlc_serve.__all__) == set(mlc_serve._HOMES)
    assert mlc_serve.EngineConfig.__module__ == "mlc_serve.config.engine"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mlc_serve.no_such_name
