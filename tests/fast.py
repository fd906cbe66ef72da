"""A pytest plugin that runs the fast tests only: `python -m pytest -p tests.fast`, or `make test-fast`.

A test is fast unless it is in SLOW_PATHS, is marked `slow`, or uses the model that conftest.py compiles.
With this plugin neither tests nor the processes that they start can import PyTorch, transformers, Playwright
or the compiler, so that a slow test that is not declared as slow fails.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
REFUSAL = TESTS / "refusal"
# These import a large package, compile a model for all of their tests, or wait for real processes.
SLOW_PATHS = (
    "benchmarks/test_http_path.py",
    "benchmarks/test_programs.py",
    "benchmarks/test_quality.py",
    "benchmarks/test_random_model.py",
    "chat/test_session.py",
    "checkpoint/test_torch_weights.py",
    "cli/test_chat.py",
    "cli/test_compile.py",
    "clients",
    "compiler",
    "demo",
    "e2e",
    "interface/test_compile.py",
    "interface/test_convert.py",
    "interface/test_router.py",
    "interface/test_supervise.py",
    "models",
    "runtime",
    "scripts/test_train_demo_drafts.py",
    "scripts/test_train_demo_model.py",
    "server/test_connection.py",
    "supervisor/test_mlc_server.py",
    "supervisor/test_popen_server.py",
    "supervisor/test_served.py",
    "test_examples.py",
    "test_fast.py",
    "test_scripted_checkpoint.py",
    "test_wheel.py",
    "text/templates/test_chat_template.py",
    "text/templates/test_template_styles.py",
    "text/tokenization/test_files.py",
)
SLOW_FIXTURE = "tiny_model"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Refuse imports before conftest.py imports anything, and let it import only TVM's runtime."""
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REFUSAL), os.environ.get("PYTHONPATH")]))
    runpy.run_path(str(REFUSAL / "sitecustomize.py"))


def pytest_configure() -> None:
    """Let hypothesis try fewer examples than in a full run."""
    settings.register_profile("fast", settings(), max_examples=20)
    settings.load_profile("fast")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the modules and directories of SLOW_PATHS, without importing them."""
    return True if collection_path in {TESTS / path for path in SLOW_PATHS} else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the single tests that are slow."""
    slow = [item for item in items if _is_slow(item)]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def _is_slow(item: pytest.Item) -> bool:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return item.get_closest_marker("slow") is not None or SLOW_FIXTURE in fixtures
