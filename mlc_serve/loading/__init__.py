"""Loads the model of a given name into memory."""

from __future__ import annotations

from mlc_serve.loading.load import load_embedding_model, load_model, load_served

__all__ = ["load_embedding_model", "load_model", "load_served"]
