"""The module of a Decoder, which TVM compiles.

It does not depend on the device or on how weights are stored: only the layers that it is made of do.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.layers import CacheSize, Layers
from mlc_serve.models.modules.block import BlockModule


class _Trunk(nn.Module):
    def __init__(self, config: Decoder, layers: Layers) -> None:
        embedding = config.embedding
        self.embed_tokens = layers.embedding(config.vocab_size, config.hidden_size, scale=embedding.scale)
        self.has_positions = embedding.num_positions is not None
        if embedding.num_positions is not None:
            self.embed_positions = layers.table(embedding.num_positions, config.hidden_size)
        self.layers = nn.ModuleList(
            [
                BlockModule(block, place, layers)
                for block, place in zip(config.blocks, config.places, strict=True)
            ]
        )
        self.norm = layers.norm(config.norm)

    def forward(self, x: nn.Tensor, cache: PagedKVCache) -> nn.Tensor:
        if self.has_positions:
            x = self.embed_positions.add_to(x, cache.get_query_positions(x.shape[1]))
        for layer in self.layers:
            x = layer(x, cache)
        return x


class DecoderModule(nn.Module):
    """The functions of a compiled model, with the names and shapes of MLC's libraries.

    In shapes, s is the number of tokens, b that of sequences, h the hidden size, and v the vocabulary's size.
    Logits are float32.
    """

    def __init__(self, config: Decoder, layers: Layers) -> None:
        self.config = config
        self.make = layers
        self.model = _Trunk(config, layers)
        if not config.head.is_tied:
            self.lm_head = layers.linear(config.hidden_size, config.vocab_size, bias=config.head.bias)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, h)`."""
        return self.model.embed_tokens(input_ids)

    def batch_prefill(
        self, input_embeds: nn.Tensor, logit_positions: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(1, s, h)`, and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        hidden = self.model(input_embeds, paged_kv_cache)
        return self.logits(nn.op.take(hidden, logit_positions, axis=1)), paged_kv_cache

    def batch_decode(
        self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(b, 1, h)`, one token of each sequence -> `(b, 1, v)`."""
        batch = input_embeds.shape[0]
        hidden = self.model(input_embeds.reshape(1, batch, self.config.hidden_size), paged_kv_cache)
        return self.logits(hidden).reshape(batch, 1, self.config.vocab_size), paged_kv_cache

    def batch_verify(
        self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(1, s, h)` -> the logits of every row, `(1, s, v)`."""
        return self.logits(self.model(input_embeds, paged_kv_cache)), paged_kv_cache

    def batch_prefill_to_last_hidden_states(
        self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache
    ) -> tuple[nn.Tensor, PagedKVCache]:
        """`(1, s, h)` -> the final hidden state of every row, `(1, s, h)`, of which embeddings are made."""
        return self.model.norm(self.model(input_embeds, paged_kv_cache)), paged_kv_cache

    def create_tir_paged_kv_cache(
        self,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
    ) -> PagedKVCache:
        """An empty KV cache of the given sizes."""
        size = CacheSize(
            max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window
        )
        return self.make.kv_cache(self.config.attention, size)

    def logits(self, hidden: nn.Tensor) -> nn.Tensor:
        """Rows before the last norm, `(1, n, h)` -> `(1, n, v)`."""
        final, head = self.model.norm(hidden), self.config.head
        logits = self.model.embed_tokens.logits(final) if head.is_tied else self.lm_head(final)
        if logits.dtype != "float32":
            logits = logits.astype("float32")
        if head.scale == 1 and head.soft_cap is None:
            return logits
        return self.make.soften(logits, head.scale, head.soft_cap)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype = self.config.hidden_size, self.make.dtype
        tensor, cache = nn.spec.Tensor, nn.spec.Object(object_type=PagedKVCache)
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        rows: dict[str, Any] = {
            "input_embeds": tensor([1, "seq_len", hidden], dtype),
            "paged_kv_cache": cache,
            **packed,
        }
        # Only logits can be made of what a lazy norm returns.
        states = {} if self.make.norms_are_lazy else {"batch_prefill_to_last_hidden_states": dict(rows)}
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    "paged_kv_cache": cache,
                    **packed,
                },
                "batch_decode": {
                    "input_embeds": tensor(["batch_size", 1, hidden], dtype),
                    "paged_kv_cache": cache,
                    **packed,
                },
                "batch_verify": dict(rows),
                **states,
                "create_tir_paged_kv_cache": {
                    "max_batch_size": int,
                    "max_total_seq_len": int,
                    "prefill_chunk_size": int,
                    "page_size": int,
                    "support_sliding_window": int,
                    "$": {"param_mode": "none", "effect_mode": "none"},
                },
            },
            self,
        )
