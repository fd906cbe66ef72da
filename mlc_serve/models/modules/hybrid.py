"""The module of a Decoder of which some layers are recurrent. It is that of other decoders with a second
state, for batches of sequences of the same length.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.hybrid_state import HybridState
from mlc_serve.models.layers import Layers
from mlc_serve.models.modules.decoder import DecoderModule
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.rnn_state import RNNState

_Result = tuple[nn.Tensor, PagedKVCache, RNNState]


class HybridModule(nn.Module):
    """The functions of a compiled model. In shapes, s is the number of tokens, b that of sequences, h the
    hidden size, and v the vocabulary's size. Logits are float32.
    """

    def __init__(self, config: Decoder, recurrence: RecurrentShape, layers: Layers) -> None:
        self.config, self.recurrence, self.make = config, recurrence, layers
        decoder = DecoderModule(config, layers)
        self.model = decoder.model
        if not config.head.is_tied:
            self.lm_head = decoder.lm_head
        self.embed, self.logits = decoder.embed, decoder.logits
        self.create_tir_paged_kv_cache = decoder.create_tir_paged_kv_cache

    def batch_prefill(
        self,
        input_embeds: nn.Tensor,
        logit_positions: nn.Tensor,
        paged_kv_cache: PagedKVCache,
        state: RNNState,
    ) -> _Result:
        """`(1, s, h)`, tokens of one sequence, and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        hybrid = HybridState(paged_kv_cache, state, self.recurrence, 1)
        hidden = self.model(input_embeds, hybrid)
        logits = self.logits(nn.op.take(hidden, logit_positions, axis=1))
        return logits, paged_kv_cache, hybrid.recurrent

    def batch_decode(self, input_embeds: nn.Tensor, paged_kv_cache: PagedKVCache, state: RNNState) -> _Result:
        """`(b, 1, h)`, one token of each sequence -> `(b, 1, v)`."""
        batch = input_embeds.shape[0]
        hybrid = HybridState(paged_kv_cache, state, self.recurrence, batch)
        hidden = self.model(input_embeds.reshape(1, batch, self.config.hidden_size), hybrid)
        logits = self.logits(hidden).reshape(batch, 1, self.config.vocab_size)
        return logits, paged_kv_cache, hybrid.recurrent

    def create_rnn_state(self, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        """An empty recurrent state, with room for the last `max_history` states of each sequence."""
        return self.make.recurrent().new_state(self.recurrence, max_batch_size, max_history)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype, tensor = self.config.hidden_size, self.make.dtype, nn.spec.Tensor
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        created: dict[str, Any] = {"$": {"param_mode": "none", "effect_mode": "none"}}
        states: dict[str, Any] = {
            "paged_kv_cache": nn.spec.Object(object_type=PagedKVCache),
            "state": nn.spec.Object(object_type=RNNState),
            **packed,
        }
        cache_sizes = (
            "max_batch_size",
            "max_total_seq_len",
            "prefill_chunk_size",
            "page_size",
            "support_sliding_window",
        )
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    **states,
                },
                "batch_decode": {"input_embeds": tensor(["batch_size", 1, hidden], dtype), **states},
                "create_tir_paged_kv_cache": {**dict.fromkeys(cache_sizes, int), **created},
                "create_rnn_state": {"max_batch_size": int, "max_history": int, **created},
            },
            self,
        )
