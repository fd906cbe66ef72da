"""The module of an Eagle, which TVM compiles."""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.eagle import Eagle
from mlc_serve.models.layers import Layers, State
from mlc_serve.models.modules.attention import AttentionModule
from mlc_serve.models.modules.cast import cast
from mlc_serve.models.modules.kv_cache import CacheFunction
from mlc_serve.models.modules.mlp import MLPModule


class _TargetEnds(nn.Module):
    """What the target has given, as far as the draft model needs it. Its embeddings are not scaled, whatever
    the target does with them.
    """

    def __init__(self, config: Eagle, layers: Layers) -> None:
        if config.uses_target_table:
            self.embed_tokens = layers.embedding(config.vocab_size, config.target.hidden_size)
        if config.generation == 1:
            self.norm = layers.norm(config.target.norm)


class _Layer(nn.Module):
    """See models.eagle, which has the equations."""

    def __init__(self, config: Eagle, layers: Layers) -> None:
        self.config = config
        width = config.hidden_size
        if config.generation == 3:
            self.input_layernorm = layers.norm(config.norm)
            self.hidden_norm = layers.norm(config.norm)
        self.self_attn = AttentionModule(config.self_attn, width, 0, layers, config.attention_width)
        self.post_attention_layernorm = layers.norm(config.norm)
        self.mlp = MLPModule(config.mlp, width, layers)

    def fused(self, x: nn.Tensor, state: State) -> nn.Tensor:
        """EAGLE-1: the fused rows x `(1, s, h)` -> z."""
        return self._add_mlp(self.self_attn.add_to(x, x, state, 1.0))

    def joined(self, embeds: nn.Tensor, before: nn.Tensor, state: State) -> nn.Tensor:
        """EAGLE-3: the rows e and g `(1, s, h)` -> z."""
        normed = self.hidden_norm.rows(before)
        rows = nn.op.concat([self.input_layernorm.rows(embeds), normed], dim=2)
        residual = normed if self.config.normed_residual else before
        return self._add_mlp(self.self_attn.add_to(residual, rows, state, 1.0))

    def _add_mlp(self, rows: nn.Tensor) -> nn.Tensor:
        return self.mlp.add_to(rows, self.post_attention_layernorm(rows), 1.0)


class EagleModule(nn.Module):
    """The functions of a compiled draft model.

    In shapes, s is the number of pairs, b that of sequences, t that of taps, w and h the hidden sizes of the
    target and of the draft model, and v the number of tokens that it knows. States and logits are float32.
    """

    def __init__(self, config: Eagle, layers: Layers) -> None:
        self.config, self.make = config, layers
        self.cache_function = CacheFunction(config.attention, layers)
        self.create_tir_paged_kv_cache = self.cache_function.create
        self.model = _TargetEnds(config, layers)
        if config.uses_target_head:
            self.lm_head = layers.linear(
                config.hidden_size, config.draft_vocab_size, bias=config.target.head.bias
            )
        if config.has_embedding:
            self.embed_tokens = layers.embedding(config.vocab_size, config.hidden_size)
        if config.state_norms == "joint":
            self.input_norm = layers.norm(config.joint_norm)
        if config.state_norms == "each":
            self.fc_norm = nn.ModuleList([layers.norm(config.tap_norm) for _ in config.taps])
        self.fc = layers.linear(config.fc_width, config.hidden_size, bias=config.fc_bias)
        self.layers = nn.ModuleList([_Layer(config, layers)])
        if config.generation == 3:
            self.norm = layers.norm(config.norm)
        if config.has_head:
            self.draft_head = layers.linear(config.hidden_size, config.draft_vocab_size)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, h)`."""
        table = self.embed_tokens if self.config.has_embedding else self.model.embed_tokens
        return table(input_ids)

    def project(self, states: nn.Tensor) -> nn.Tensor:
        """The target's states `(1, s, t * w)` -> what the other functions take as states, `(1, s, h)`."""
        rows = cast(states, self.make.dtype)
        if self.config.generation == 1:
            return cast(self.model.norm.rows(rows), "float32")
        if self.config.state_norms == "joint":
            rows = self.input_norm.rows(rows)
        if self.config.state_norms == "each":
            parts = nn.op.split(rows, len(self.config.taps), axis=2)
            rows = nn.op.concat(
                [norm.rows(part) for norm, part in zip(self.fc_norm, parts, strict=True)], dim=2
            )
        return cast(self.fc(rows), "float32")

    def batch_prefill(
        self, input_embeds: nn.Tensor, states: nn.Tensor, logit_positions: nn.Tensor, state: Any
    ) -> Any:
        """Embeddings of tokens and states of those before them, both `(1, s, h)`, and the rows `(b,)` that
        are wanted -> their logits `(1, b, v)`, and the states after them `(1, b, h)`.
        """
        passed = self.make.state(state, one_token_each=False)
        rows = self._rows(input_embeds, states, passed)
        return passed.returned(self._results(nn.op.take(rows, logit_positions, axis=1)))

    def batch_decode(self, input_embeds: nn.Tensor, states: nn.Tensor, state: Any) -> Any:
        """The same for one pair of each sequence, `(b, 1, h)` -> `(1, b, v)` and `(1, b, h)`."""
        shape = 1, input_embeds.shape[0], self.config.hidden_size
        passed = self.make.state(state, one_token_each=True)
        rows = self._rows(input_embeds.reshape(*shape), states.reshape(*shape), passed)
        return passed.returned(self._results(rows))

    def _rows(self, embeds: nn.Tensor, states: nn.Tensor, state: State) -> nn.Tensor:
        """The rows z of all pairs."""
        (layer,) = self.layers
        before = cast(states, self.make.dtype)
        if self.config.generation == 3:
            return layer.joined(embeds, before, state)
        return layer.fused(self.fc(nn.op.concat([embeds, before], dim=2)), state)

    def _results(self, rows: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        """The logits of rows z, and the next states."""
        if self.config.generation == 1:
            return self._logits(rows), cast(rows, "float32")
        if self.config.feeds_normed:
            normed = self.norm.rows(rows)
            return self._logits(normed), cast(normed, "float32")
        return self._logits(self.norm(rows)), cast(rows, "float32")

    def _logits(self, rows: Any) -> nn.Tensor:
        head = self.config.target.head
        if self.config.has_head:
            return cast(self.draft_head(rows), "float32")
        logits = self.model.embed_tokens.logits(rows) if head.is_tied else self.lm_head(rows)
        return self.make.soften(cast(logits, "float32"), head.scale, head.soft_cap)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype, tensor = self.config.hidden_size, self.make.dtype, nn.spec.Tensor
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        state = {"state": self.make.state_spec(self.config.attention), **packed}
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "project": {"states": tensor([1, "seq_len", self.config.states_width], "float32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "states": tensor([1, "seq_len", hidden], "float32"),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    **state,
                },
                "batch_decode": {
                    "input_embeds": tensor(["batch_size", 1, hidden], dtype),
                    "states": tensor(["batch_size", 1, hidden], "float32"),
                    **state,
                },
                **self.cache_function.signature(),
            },
            self,
        )
