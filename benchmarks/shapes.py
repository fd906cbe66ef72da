"""Dimensions of published models, for checkpoints with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.shape_families import FAMILIES, Family

Tensor = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Experts:
    """How many experts each layer has, and to how many of them a token is sent."""

    number: int
    active: int


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model with tied embeddings.

    `padding` ids at the end of the vocabulary belong to no token, as in Qwen2.5. `stated_head_dim` is the
    width of a head where it does not follow from that of the model. `window` is that of every layer that has
    one, and `intermediate` is the width of each expert where there are experts.
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
    stated_head_dim: int | None = None
    window: int | None = None
    experts: Experts | None = None

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.stated_head_dim or self.hidden // self.heads

    @property
    def family(self) -> Family:
        """What checkpoints of its family have."""
        return FAMILIES[self.model_type]

    @property
    def matrices_of_a_token(self) -> dict[str, int]:
        """The sizes by name of all matrices that computing one token reads: of experts, the active ones."""
        num_experts = self.experts.active if self.experts else 0
        return {name: prod(size) for name, size in self._tensors(num_experts) if len(size) == 2}

    @property
    def share_of_a_token(self) -> float:
        """The share of all weights in matrices that computing one token reads."""
        return sum(self.matrices_of_a_token.values()) / sum(
            prod(size) for _, size in self.tensors() if len(size) == 2
        )

    def tensors(self) -> Iterator[Tensor]:
        """The name and the shape of each weight, as in Hugging Face's checkpoints."""
        return self._tensors(self.experts.number if self.experts else 0)

    def _tensors(self, num_experts: int) -> Iterator[Tensor]:
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for layer in range(self.layers):
            for name, shape in self._layer_tensors(num_experts):
                yield f"model.layers.{layer}.{name}", shape
        yield "model.norm.weight", (self.hidden,)

    def _layer_tensors(self, num_experts: int) -> Iterator[Tensor]:
        yield from self._attention_tensors()
        yield from self._expert_tensors(num_experts) if self.experts else self._mlp_tensors()
        for norm in self.family.norms:
            yield f"{norm}.weight", (self.hidden,)

    def _attention_tensors(self) -> Iterator[Tensor]:
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for name, width in (("q", query), ("k", key), ("v", key)):
            yield f"self_attn.{name}_proj.weight", (width, self.hidden)
            if self.family.has_qkv_bias:
                yield f"self_attn.{name}_proj.bias", (width,)
        yield "self_attn.o_proj.weight", (self.hidden, query)
        if self.family.has_head_norms:
            yield "self_attn.q_norm.weight", (self.head_dim,)
            yield "self_attn.k_norm.weight", (self.head_dim,)

    def _mlp_tensors(self) -> Iterator[Tensor]:
        yield "mlp.gate_proj.weight", (self.intermediate, self.hidden)
        yield "mlp.up_proj.weight", (self.intermediate, self.hidden)
        yield "mlp.down_proj.weight", (self.hidden, self.intermediate)

    def _expert_tensors(self, num_experts: int) -> Iterator[Tensor]:
        assert self.experts is not None
        yield "block_sparse_moe.gate.weight", (self.experts.number, self.hidden)
        for expert in range(num_experts):
            yield f"block_sparse_moe.experts.{expert}.w1.weight", (self.intermediate, self.hidden)
            yield f"block_sparse_moe.experts.{expert}.w2.weight", (self.hidden, self.intermediate)
            yield f"block_sparse_moe.experts.{expert}.w3.weight", (self.intermediate, self.hidden)

    def config(self, dtype: str) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architectures": [self.family.architecture],
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
            **self.family.activation,
            "tie_word_embeddings": True,
            "torch_dtype": dtype,
            "bos_token_id": 0,
            "eos_token_id": 0,
            **self._keys_of_layers(),
        }

    def _keys_of_layers(self) -> dict[str, Any]:
        keys = {**self.family.keys, "sliding_window": self.window} if self.window else dict(self.family.keys)
        if self.family.full_every:
            keys["layer_types"] = self.family.layer_types(self.layers)
        if self.experts:
            keys |= {"num_local_experts": self.experts.number, "num_experts_per_tok": self.experts.active}
        return keys


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
    "gemma3-270m": Shape(
        "gemma3_text",
        640,
        2048,
        18,
        4,
        1,
        262_144,
        32_768,
        1_000_000.0,
        norm_eps=1e-6,
        stated_head_dim=256,
        window=512,
    ),
    "qwen3-0.6b": Shape(
        "qwen3",
        1024,
        3072,
        28,
        16,
        8,
        151_936,
        40_960,
        1_000_000.0,
        norm_eps=1e-6,
        padding=267,
        stated_head_dim=128,
    ),
    # No published model: Mixtral's eight experts, of which two are active, in a small width.
    "mixtral-8x42m": Shape(
        "mixtral", 768, 1536, 12, 12, 4, 32_000, 32_768, 1_000_000.0, experts=Experts(8, 2)
    ),
    # No published model: a small Mistral with a short window and a long context, for benchmarks.window.
    "mistral-window": Shape("mistral", 576, 1536, 12, 9, 3, 32_000, 40_960, 10_000.0, window=1024),
}
