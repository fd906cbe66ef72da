"""The module of a Decoder, which TVM compiles.

It does not depend on the device or on how weights are stored: only the layers that it is made of do.
"""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.layers import Layers, State
from mlc_serve.models.modules.block import BlockModule
from mlc_serve.models.modules.cast import cast
from mlc_serve.models.modules.kv_cache import CacheFunction


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

    def forward(self, x: nn.Tensor, state: State) -> nn.Tensor:
        return self.residuals(x, state)[-1]

    def residuals(self, x: nn.Tensor, state: State) -> list[nn.Tensor]:
        """The rows that enter each layer, and then those that the last one leaves."""
        if self.has_positions:
            x = self.embed_positions.add_to(x, state.positions(x.shape[1]))
        residuals = [x]
        for layer in self.layers:
            x = layer(x, state)
            residuals.append(x)
        return residuals


class DecoderModule(nn.Module):
    """The functions of a compiled model, with the names and shapes of MLC's libraries.

    In shapes, s is the number of tokens, b that of sequences, h the hidden size, and v the vocabulary's size.
    Logits are float32.

    If the configuration has t taps, `batch_prefill` and `batch_decode` return a pair: the logits, and the
    states of every row, `(1, s, t * h)` float32, those of one tap after those of another.
    """

    def __init__(self, config: Decoder, layers: Layers) -> None:
        self.config = config
        self.make = layers
        self.cache_function = CacheFunction(config.attention, layers)
        self.create_tir_paged_kv_cache = self.cache_function.create
        self.model = _Trunk(config, layers)
        if not config.head.is_tied:
            self.lm_head = layers.linear(config.hidden_size, config.vocab_size, bias=config.head.bias)

    def embed(self, input_ids: nn.Tensor) -> nn.Tensor:
        """Ids `(s,)` -> `(s, h)`."""
        return self.model.embed_tokens(input_ids)

    def batch_prefill(self, input_embeds: nn.Tensor, logit_positions: nn.Tensor, state: Any) -> Any:
        """`(1, s, h)`, and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        passed = self.make.state(state, one_token_each=False)
        residuals = self.model.residuals(input_embeds, passed)
        logits = self.logits(nn.op.take(residuals[-1], logit_positions, axis=1))
        return passed.returned(self._with_states(logits, residuals))

    def batch_decode(self, input_embeds: nn.Tensor, state: Any) -> Any:
        """`(b, 1, h)`, one token of each sequence -> `(b, 1, v)`."""
        batch, passed = input_embeds.shape[0], self.make.state(state, one_token_each=True)
        rows = input_embeds.reshape(1, batch, self.config.hidden_size)
        residuals = self.model.residuals(rows, passed)
        logits = self.logits(residuals[-1]).reshape(batch, 1, self.config.vocab_size)
        return passed.returned(self._with_states(logits, residuals))

    def _with_states(self, logits: nn.Tensor, residuals: list[nn.Tensor]) -> Any:
        """The logits, and the states of the taps if there are any."""
        taps = self.config.taps
        if not taps:
            return logits
        tapped = [residuals[tap] for tap in taps]
        states = tapped[0] if len(taps) == 1 else nn.op.concat(tapped, dim=2)
        return logits, cast(states, "float32")

    def batch_verify(self, input_embeds: nn.Tensor, state: Any) -> Any:
        """`(1, s, h)` -> the logits of every row, `(1, s, v)`."""
        passed = self.make.state(state, one_token_each=False)
        return passed.returned(self.logits(self.model(input_embeds, passed)))

    def batch_prefill_to_last_hidden_states(self, input_embeds: nn.Tensor, state: Any) -> Any:
        """`(1, s, h)` -> the final hidden state of every row, `(1, s, h)`, of which embeddings are made."""
        passed = self.make.state(state, one_token_each=False)
        return passed.returned(self.model.norm(self.model(input_embeds, passed)))

    def logits(self, hidden: nn.Tensor) -> nn.Tensor:
        """Rows before the last norm, `(1, n, h)` -> `(1, n, v)`."""
        final, head = self.model.norm(hidden), self.config.head
        logits = self.model.embed_tokens.logits(final) if head.is_tied else self.lm_head(final)
        return self.make.soften(cast(logits, "float32"), head.scale, head.soft_cap)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype = self.config.hidden_size, self.make.dtype
        tensor, state = nn.spec.Tensor, self.make.state_spec(self.config.attention)
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        rows: dict[str, Any] = {
            "input_embeds": tensor([1, "seq_len", hidden], dtype),
            "state": state,
            **packed,
        }
        # Only logits can be made of what a lazy norm returns.
        states: dict[str, Any] = (
            {} if self.make.norms_are_lazy else {"batch_prefill_to_last_hidden_states": dict(rows)}
        )
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    "state": state,
                    **packed,
                },
                "batch_decode": {
                    "input_embeds": tensor(["batch_size", 1, hidden], dtype),
                    "state": state,
                    **packed,
                },
                "batch_verify": dict(rows),
                **states,
                **self.cache_function.signature(),
            },
            self,
        )
