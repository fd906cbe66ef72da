"""Imports run one way: which room may import which, checked on the source."""

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

# What everybody may import.
COMMON = frozenset({"config", "options", "not_yet", "errors", "exit_codes"})
# Room -> the rooms that it may import, besides itself and COMMON. A room is a package or a top-level module.
ALLOWED: dict[str, frozenset[str]] = {
    "": frozenset({"async_engine", "sync_engine", "interface", "supervisor"}),
    "__main__": frozenset({"cli", "interruption"}),
    "config": frozenset(),
    "options": frozenset(),
    "not_yet": frozenset(),
    "errors": frozenset(),
    "exit_codes": frozenset(),
    "event_loop_thread": frozenset(),
    "json_object": frozenset(),
    "host_memory": frozenset(),
    "disk": frozenset(),
    "unfinished": frozenset(),
    "interruption": frozenset(),
    "processes": frozenset(),
    "cli": frozenset({"", "interface", "disk", "interruption"}),
    "interface": frozenset(
        {
            "async_engine",
            "server",
            "supervisor",
            "compiler",
            "checkpoint",
            "dimensions",
            "quantization",
            "demo",
            "loading",
            "loaded_model",
            "artifacts",
            "disk",
            "interruption",
            "processes",
            "unfinished",
            "sync_engine",
            "chat",
            "bench",
        }
    ),
    "chat": frozenset({"sync_engine"}),
    "bench": frozenset({"async_engine", "engine", "frontend"}),
    "server": frozenset({"", "async_engine", "text", "protocol", "supervisor"}),
    "async_engine": frozenset({"engine", "text", "protocol", "frontend", "loaded_model", "loading"}),
    "sync_engine": frozenset({"async_engine", "event_loop_thread", "protocol", "frontend", "loaded_model"}),
    "frontend": frozenset({"protocol", "text", "engine", "loaded_model"}),
    "protocol": frozenset(),
    "text": frozenset({"json_object"}),
    "engine": frozenset(),
    "loaded_model": frozenset({"engine", "text"}),
    "loading": frozenset(
        {
            "artifacts",
            "dimensions",
            "quantization",
            "runtime",
            "compiler",
            "checkpoint",
            "text",
            "engine",
            "loaded_model",
            "host_memory",
            "disk",
            "processes",
        }
    ),
    "dimensions": frozenset({"checkpoint", "models"}),
    "runtime": frozenset({"engine", "quantization", "host_memory", "processes"}),
    "compiler": frozenset({"models", "quantization"}),
    "models": frozenset({"quantization"}),
    "quantization": frozenset(),
    "artifacts": frozenset({"disk", "unfinished"}),
    "checkpoint": frozenset({"text", "loaded_model", "quantization", "disk", "interruption", "json_object"}),
    "supervisor": frozenset({"event_loop_thread", "processes"}),
    "demo": frozenset(),
    "testing": frozenset({"engine", "text", "loaded_model"}),
}

# Other people's package -> the rooms that may import it.
OUTSIDE = {
    "tvm": frozenset({"runtime", "compiler", "models", "quantization"}),
    "tvm_ffi": frozenset({"runtime", "compiler", "models", "quantization"}),
    "fastapi": frozenset({"server"}),
    "starlette": frozenset({"server"}),
    "sse_starlette": frozenset({"server"}),
    "uvicorn": frozenset({"server"}),
    "pydantic": frozenset({"protocol", "frontend", "server", "text", "checkpoint", "supervisor"}),
    "asyncio": frozenset(
        {
            "async_engine",
            "sync_engine",
            "event_loop_thread",
            "server",
            "frontend",
            "bench",
            "supervisor",
            "interface",
        }
    ),
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
