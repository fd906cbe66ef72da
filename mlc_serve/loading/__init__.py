"""From a model's name to a model in memory."""

from __future__ import annotations

from mlc_serve.loading.load import load_model

__all__ = ["load_model"]
