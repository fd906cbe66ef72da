"""The module of an Encoder, which TVM compiles. Its parts have the names that checkpoints give them."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_serve.models.encoder import Encoder
from mlc_serve.models.encoder_layers import EncoderLayers


class _Embeddings(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.make = layers
        self.word_embeddings = layers.embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = layers.table(config.num_positions, config.hidden_size)
        self.token_type_embeddings = layers.table(config.num_token_types, config.hidden_size)
        self.LayerNorm = layers.norm(config.norm)

    def forward(self, tokens: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
        placed = self.make.place(positions, self.position_embeddings, self.token_type_embeddings)
        return self.LayerNorm.of_sum(_batched(self.word_embeddings(tokens)), _batched(placed))


class _SelfAttention(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.make, self.num_heads = layers, config.num_heads
        self.query = layers.linear(config.hidden_size, config.hidden_size)
        self.key = layers.linear(config.hidden_size, config.hidden_size)
        self.value = layers.linear(config.hidden_size, config.hidden_size)

    def forward(self, x: nn.Tensor, first_rows: nn.Tensor) -> nn.Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.make.attention(q, k, v, first_rows, self.num_heads)


class _Output(nn.Module):
    """A product that is added to the residual, and the norm of the sum."""

    def __init__(self, in_features: int, config: Encoder, layers: EncoderLayers) -> None:
        self.dense = layers.linear(in_features, config.hidden_size)
        self.LayerNorm = layers.norm(config.norm)

    def forward(self, x: nn.Tensor, residual: nn.Tensor) -> nn.Tensor:
        return self.LayerNorm.of_sum(self.dense(x), residual)


class _Attention(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.self = _SelfAttention(config, layers)
        self.output = _Output(config.hidden_size, config, layers)

    def forward(self, x: nn.Tensor, first_rows: nn.Tensor) -> nn.Tensor:
        return self.output(self.self(x, first_rows), x)


class _Intermediate(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.make = layers
        self.dense = layers.linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.make.gelu(self.dense(x))


class _Layer(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.attention = _Attention(config, layers)
        self.intermediate = _Intermediate(config, layers)
        self.output = _Output(config.intermediate_size, config, layers)

    def forward(self, x: nn.Tensor, first_rows: nn.Tensor) -> nn.Tensor:
        attended = self.attention(x, first_rows)
        return self.output(self.intermediate(attended), attended)


class _Stack(nn.Module):
    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.layer = nn.ModuleList([_Layer(config, layers) for _ in range(config.num_layers)])

    def forward(self, x: nn.Tensor, first_rows: nn.Tensor) -> nn.Tensor:
        for layer in self.layer:
            x = layer(x, first_rows)
        return x


class EncoderModule(nn.Module):
    """The function of a compiled encoder. In shapes, s is the number of tokens, b that of sequences, and h
    the hidden size.
    """

    def __init__(self, config: Encoder, layers: EncoderLayers) -> None:
        self.config = config
        self.embeddings = _Embeddings(config, layers)
        self.encoder = _Stack(config, layers)

    def encode(self, tokens: nn.Tensor, positions: nn.Tensor, first_rows: nn.Tensor) -> nn.Tensor:
        """Ids and positions of tokens `(s,)`, and the first row of each sequence and the end of the last
        `(b + 1,)` -> hidden states `(s, h)`.
        """
        x = self.encoder(self.embeddings(tokens, positions), first_rows)
        return x.reshape(x.shape[1], self.config.hidden_size)

    def spec(self) -> nn.spec.ModuleSpec:
        """The signature to export."""
        rows = nn.spec.Tensor(["seq_len"], "int32")
        return nn.spec.ModuleSpec.from_raw(
            {
                "encode": {
                    "tokens": rows,
                    "positions": rows,
                    "first_rows": nn.spec.Tensor(["num_bounds"], "int32"),
                    "$": {"param_mode": "packed", "effect_mode": "none"},
                }
            },
            self,
        )


def _batched(rows: nn.Tensor) -> nn.Tensor:
    """`(s, h)` -> `(1, s, h)`."""
    return rows.reshape(1, rows.shape[0], rows.shape[1])
