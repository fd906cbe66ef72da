"""Loads the model of a given name into memory."""

from __future__ import annotations

from mlc_serve.loading.load import load_model

__all__ = ["load_model"]
