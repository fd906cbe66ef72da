"""The module of an RWKV6, which TVM compiles. Its parameters have the names that checkpoints give them."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.models.families.rwkv6 import MIXED, RWKV6
from mlc_serve.models.layers import Layers
from mlc_serve.models.parts.norm import Norm
from mlc_serve.models.recurrent_layers import WKV6Operands
from mlc_serve.models.rnn_state import RNNState

# The numbers of a layer's states.
_TIME_ROW, _MATRICES, _CHANNEL_ROW = range(3)


class _TimeMix(nn.Module):
    """What RWKV has in the place of attention."""

    def __init__(self, config: RWKV6, layers: Layers) -> None:
        hidden, make = config.hidden_size, layers.recurrent()
        self.config, self.make = config, make
        self.time_maa_x = _share(hidden)
        for part in MIXED:
            setattr(self, f"time_maa_{part}", _share(hidden))
        low_rank = make.low_rank_dtype
        self.time_maa_w1 = nn.Parameter([hidden, len(MIXED) * config.mix_rank], low_rank)
        self.time_maa_w2 = nn.Parameter([len(MIXED), config.mix_rank, hidden], low_rank)
        self.time_decay_w1 = nn.Parameter([hidden, config.decay_rank], low_rank)
        self.time_decay_w2 = nn.Parameter([config.decay_rank, hidden], low_rank)
        self.time_decay = _share(hidden)
        self.time_faaaa = nn.Parameter([config.num_heads, config.head_size], "float32")
        self.receptance = layers.linear(hidden, hidden)
        self.key = layers.linear(hidden, hidden)
        self.value = layers.linear(hidden, hidden)
        self.gate = layers.linear(hidden, hidden)
        self.output = layers.linear(hidden, hidden)
        group_norm = Norm("layer", config.head_size, config.group_norm_epsilon, bias=True)
        self.ln_x = make.gated_norm(group_norm, config.num_heads)

    def forward(
        self, residual: nn.Tensor, x: nn.Tensor, last: nn.Tensor, state: nn.Tensor
    ) -> tuple[nn.Tensor, nn.Tensor]:
        """The new residual, and the new matrices."""
        mixed = self._mixes(x, last)
        decay = self.make.low_rank_product(mixed["w"], self.time_decay_w1, tanh=True)
        operands = WKV6Operands(
            self.receptance(mixed["r"]),
            self.key(mixed["k"]),
            self.value(mixed["v"]),
            self.make.low_rank_product(decay, self.time_decay_w2),
            self.time_decay,
            self.time_faaaa,
        )
        out, state = self.make.wkv6(operands, state)
        return self.output.add_to(residual, self.ln_x(out, self.gate(mixed["g"]))), state

    def _mixes(self, x: nn.Tensor, last: nn.Tensor) -> dict[str, nn.Tensor]:
        """Each token mixed with the one before it, in five ways that depend on the token."""
        inner = self.make.low_rank_product(
            self.make.mix(x, last, self.time_maa_x), self.time_maa_w1, tanh=True
        )
        changes = self.make.low_rank_product(inner, self.time_maa_w2)
        return {
            part: self.make.dynamic_mix(x, last, getattr(self, f"time_maa_{part}"), changes, number)
            for number, part in enumerate(MIXED)
        }


class _ChannelMix(nn.Module):
    """What RWKV has in the place of an MLP."""

    def __init__(self, config: RWKV6, layers: Layers) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.make = layers.recurrent()
        self.time_maa_k = _share(hidden)
        self.time_maa_r = _share(hidden)
        self.key = layers.linear(hidden, inner, activation="relu_squared")
        self.receptance = layers.linear(hidden, hidden)
        self.value = layers.linear(inner, hidden)

    def forward(self, residual: nn.Tensor, x: nn.Tensor, last: nn.Tensor) -> nn.Tensor:
        key = self.key.activated(self.make.mix(x, last, self.time_maa_k))
        gate = self.receptance(self.make.mix(x, last, self.time_maa_r))
        return self.make.add_gated(residual, self.value(key), gate)


class _Block(nn.Module):
    def __init__(self, config: RWKV6, layers: Layers, layer: int) -> None:
        self.shapes, self.layer, self.make = config.recurrence.states, layer, layers.recurrent()
        if layer == 0:
            self.pre_ln = layers.norm(config.norm)
        self.ln1 = layers.norm(config.norm)
        self.attention = _TimeMix(config, layers)
        self.ln2 = layers.norm(config.norm)
        self.feed_forward = _ChannelMix(config, layers)
        self.halves = config.halve_every > 0 and (layer + 1) % config.halve_every == 0

    def forward(self, x: nn.Tensor, state: RNNState, batch: Any) -> tuple[nn.Tensor, RNNState]:
        time_row, matrices, channel_row = (
            state.get(self.layer, number, (batch, *shape)) for number, shape in enumerate(self.shapes)
        )
        x = self.pre_ln.rows(x) if self.layer == 0 else x
        normalized = self.ln1.rows(x)
        state = state.set(self.layer, _TIME_ROW, self.make.last_rows(normalized, time_row))
        x, matrices = self.attention(x, normalized, time_row, matrices)
        state = state.set(self.layer, _MATRICES, matrices)
        normalized = self.ln2.rows(x)
        state = state.set(self.layer, _CHANNEL_ROW, self.make.last_rows(normalized, channel_row))
        x = self.feed_forward(x, normalized, channel_row)
        return x * 0.5 if self.halves else x, state


class _Trunk(nn.Module):
    def __init__(self, config: RWKV6, layers: Layers) -> None:
        self.embeddings = layers.embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList([_Block(config, layers, layer) for layer in range(config.num_layers)])
        self.ln_out = layers.norm(config.norm)

    def forward(self, x: nn.Tensor, state: RNNState, batch: Any) -> tuple[nn.Tensor, RNNState]:
        for block in self.blocks:
            x, state = block(x, state, batch)
        return x, state


class RWKV6Module(nn.Module):
    """The functions of a compiled model, with the names and shapes of MLC's libraries.

    In shapes, s is the number of tokens, b that of sequences, h the hidden size, and v the vocabulary's size.
    Logits are float32.
    """

    def __init__(self, config: RWKV6, layers: Layers) -> None:
        self.config = config
        self.make = layers.recurrent()
        self.model = _Trunk(config, layers)
        self.head = layers.linear(config.hidden_size, config.vocab_size)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, h)`."""
        return self.model.embeddings(input_ids)

    def batch_prefill(
        self, input_embeds: nn.Tensor, logit_positions: nn.Tensor, state: RNNState
    ) -> tuple[nn.Tensor, RNNState]:
        """`(1, s, h)`, tokens of one sequence, and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        hidden, state = self.model(input_embeds, state, 1)
        return self._logits(nn.op.take(hidden, logit_positions, axis=1)), state

    def batch_decode(self, input_embeds: nn.Tensor, state: RNNState) -> tuple[nn.Tensor, RNNState]:
        """`(b, 1, h)`, one token of each sequence -> `(b, 1, v)`."""
        batch = input_embeds.shape[0]
        rows = input_embeds.reshape(1, batch, self.config.hidden_size)
        hidden, state = self.model(rows, state, batch)
        return self._logits(hidden).reshape(batch, 1, self.config.vocab_size), state

    def create_rnn_state(self, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        """An empty state, with room for the last `max_history` states of each sequence."""
        return self.make.new_state(self.config.recurrence, max_batch_size, max_history)

    def _logits(self, hidden: nn.Tensor) -> nn.Tensor:
        return self.head(self.model.ln_out(hidden))

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, tensor = self.config.hidden_size, nn.spec.Tensor
        state = nn.spec.Object(object_type=RNNState)
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], "float32"),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    "state": state,
                    **packed,
                },
                "batch_decode": {
                    "input_embeds": tensor(["batch_size", 1, hidden], "float32"),
                    "state": state,
                    **packed,
                },
                "create_rnn_state": {
                    "max_batch_size": int,
                    "max_history": int,
                    "$": {"param_mode": "none", "effect_mode": "none"},
                },
            },
            self,
        )


def _share(width: int) -> nn.Parameter:
    return nn.Parameter([1, 1, width], "float32")
