"""Dimensions of published models, for checkpoints with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The dimensions of a Llama or Qwen2 model with tied embeddings.

    `padding` ids at the end of the vocabulary belong to no token, as in Qwen2.5.
    """

    model_type: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    rope_theta: float
    norm_eps: float = 1e-5
    padding: int = 0
    rope_scaling: dict[str, Any] | None = None

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.hidden // self.heads

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The name and the shape of each weight, as in Hugging Face's checkpoints."""
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for layer in range(self.layers):
            for name, shape in self._layer_tensors():
                yield f"model.layers.{layer}.{name}", shape
        yield "model.norm.weight", (self.hidden,)

    def _layer_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for name, width in (("q", query), ("k", key), ("v", key)):
            yield f"self_attn.{name}_proj.weight", (width, self.hidden)
            if self.model_type == "qwen2":
                yield f"self_attn.{name}_proj.bias", (width,)
        yield "self_attn.o_proj.weight", (self.hidden, query)
        yield "mlp.gate_proj.weight", (self.intermediate, self.hidden)
        yield "mlp.up_proj.weight", (self.intermediate, self.hidden)
        yield "mlp.down_proj.weight", (self.hidden, self.intermediate)
        yield "input_layernorm.weight", (self.hidden,)
        yield "post_attention_layernorm.weight", (self.hidden,)

    def config(self, dtype: str) -> dict[str, Any]:
        """The content of config.json."""
        architecture = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[self.model_type]
        return {
            "architectures": [architecture],
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "torch_dtype": dtype,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }


SHAPES = {
    "tiny": Shape("llama", 64, 128, 2, 4, 2, 512, 2048, 10_000.0),
    "smollm2-135m": Shape("llama", 576, 1536, 30, 9, 3, 49_152, 8192, 100_000.0),
    "llama3.2-1b": Shape(
        "llama",
        2048,
        8192,
        16,
        32,
        8,
        128_256,
        131_072,
        500_000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "qwen2.5-0.5b": Shape(
        "qwen2", 896, 4864, 24, 14, 2, 151_936, 32_768, 1_000_000.0, norm_eps=1e-6, padding=271
    ),
}
