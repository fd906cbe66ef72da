"""The function of a library that creates TVM's KV cache."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.layers import CacheSize, Layers
from mlc_serve.models.parts.attention import AttentionShape

_SIZES = (
    "max_batch_size",
    "max_total_seq_len",
    "prefill_chunk_size",
    "page_size",
    "support_sliding_window",
)


class CacheFunction:
    """A module has it as `create_tir_paged_kv_cache` if its layers take such a cache."""

    def __init__(self, shape: AttentionShape, layers: Layers) -> None:
        self._shape, self._maker = shape, layers.cache_maker

    def create(
        self,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
    ) -> PagedKVCache:
        """An empty KV cache of the given sizes, which is the state."""
        if self._maker is None:
            raise RuntimeError("these layers take no cache that a library could create")
        size = CacheSize(
            max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window
        )
        return self._maker.kv_cache(self._shape, size)

    def signature(self) -> dict[str, Any]:
        """The signature to export, by the function's name; nothing if the layers take no such cache."""
        if self._maker is None:
            return {}
        sizes = {**dict.fromkeys(_SIZES, int), "$": {"param_mode": "none", "effect_mode": "none"}}
        return {"create_tir_paged_kv_cache": sizes}
