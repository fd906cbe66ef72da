"""The facts about a small model, as its library states them."""

from __future__ import annotations

from mlc_serve.engine.limits import ModelInfo

INFO = ModelInfo(
    context_window_size=2048,
    prefill_chunk_size=2048,
    max_batch_size=32,
    vocab_size=1000,
    param_bytes=10_000_000,
    kv_bytes_per_token=1000,
    workspace_bytes_per_token=1000,
    page_size=16,
)
