"""The module of a Decoder of which some layers are recurrent. It is that of other decoders with a second
state, for batches of sequences of the same length.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_serve.models.decoder import Decoder
from mlc_serve.models.layers import Layers
from mlc_serve.models.modules.decoder import DecoderModule
from mlc_serve.models.parts.recurrent import RecurrentShape
from mlc_serve.models.recurrent_pass import RecurrentPass
from mlc_serve.models.rnn_state import RNNState


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

    def batch_prefill(
        self, input_embeds: nn.Tensor, logit_positions: nn.Tensor, state: Any, rnn_state: RNNState
    ) -> tuple[nn.Tensor, RNNState]:
        """`(1, s, h)`, tokens of one sequence, and the rows `(b,)` whose logits are wanted -> `(1, b, v)`."""
        hidden, recurrent = self._hidden(input_embeds, state, RecurrentPass(rnn_state, self.recurrence, 1))
        return self.logits(nn.op.take(hidden, logit_positions, axis=1)), recurrent

    def batch_decode(
        self, input_embeds: nn.Tensor, state: Any, rnn_state: RNNState
    ) -> tuple[nn.Tensor, RNNState]:
        """`(b, 1, h)`, one token of each sequence -> `(b, 1, v)`."""
        batch = input_embeds.shape[0]
        rows = input_embeds.reshape(1, batch, self.config.hidden_size)
        recurrent_pass = RecurrentPass(rnn_state, self.recurrence, batch)
        hidden, recurrent = self._hidden(rows, state, recurrent_pass, one_token_each=True)
        return self.logits(hidden).reshape(batch, 1, self.config.vocab_size), recurrent

    def _hidden(
        self, x: nn.Tensor, state: Any, recurrent: RecurrentPass, *, one_token_each: bool = False
    ) -> tuple[nn.Tensor, RNNState]:
        """The rows before the last norm, and the new recurrent state."""
        passed = self.make.state(state, one_token_each=one_token_each)
        passed.recurrent = recurrent
        return self.model(x, passed), recurrent.state

    def create_rnn_state(self, max_batch_size: tirx.Var, max_history: tirx.Var) -> RNNState:
        """An empty recurrent state, with room for the last `max_history` states of each sequence."""
        return self.make.recurrent().new_state(self.recurrence, max_batch_size, max_history)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signatures to export."""
        hidden, dtype, tensor = self.config.hidden_size, self.make.dtype, nn.spec.Tensor
        packed = {"$": {"param_mode": "packed", "effect_mode": "none"}}
        states: dict[str, Any] = {
            "state": self.make.state_spec(self.config.attention),
            "rnn_state": nn.spec.Object(object_type=RNNState),
            **packed,
        }
        return nn.spec.ModuleSpec.from_raw(
            {
                "embed": {"input_ids": tensor(["seq_len"], "int32"), **packed},
                "batch_prefill": {
                    "input_embeds": tensor([1, "seq_len", hidden], dtype),
                    "logit_positions": tensor(["batch_size"], "int32"),
                    **states,
                },
                "batch_decode": {"input_embeds": tensor(["batch_size", 1, hidden], dtype), **states},
                "create_rnn_state": {
                    "max_batch_size": int,
                    "max_history": int,
                    "$": {"param_mode": "none", "effect_mode": "none"},
                },
            },
            self,
        )
