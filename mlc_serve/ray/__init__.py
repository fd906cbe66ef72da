"""Serving on a cluster with Ray Serve. Needs `pip install 'mlc_serve[ray]'`; ray is imported nowhere else.

`serve run mlc_serve.ray:build_app model=org/name replicas=2` serves a model. `app` is the application without
arguments, for `serve build`, which takes no builders.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application

    from mlc_serve.ray.application import build_app

    app: Application

__all__ = ["app", "build_app"]


def __getattr__(name: str) -> Any:
    """Import ray when a public name is first used, so that a configuration can be written without it."""
    if name not in __all__:
        raise AttributeError(f"module 'mlc_serve.ray' has no attribute {name!r}")
    builder = import_module("mlc_serve.ray.application").build_app
    return builder if name == "build_app" else builder({})
