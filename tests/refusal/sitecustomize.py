"""Refuses to import what the fast tests do without; Python imports this file at its start if it finds it.

tests/fast.py puts this directory on PYTHONPATH, so that processes which a test starts refuse the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

REFUSED = frozenset(
    {"mlc_serve.compiler", "mypy", "playwright", "ruff", "torch", "transformers", "tvm.relax", "tvm.s_tir"}
)


class Refusal:
    """The first of Python's finders: it finds nothing, and objects to what is refused."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raise ImportError if a fast test may not import `name`."""
        if name in REFUSED:
            raise ImportError(f"a fast test may not import {name}: see tests/fast.py")


sys.meta_path.insert(0, Refusal)
