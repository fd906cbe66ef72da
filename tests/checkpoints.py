"""Writes small Hugging Face checkpoints with random weights, which this package and transformers both load.

Matrices are N(0, 1 / hidden_size), norms near one and biases small, so that every branch of a layer matters
and greedy output does not fall into one token. A tensor's values depend on the seed and its name alone, not
on order, dtype or shards.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import tokenizers
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

Architecture = Literal["llama", "qwen2", "qwen3"]
Dtype = Literal["float32", "float16", "bfloat16"]

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
Functions: {{ tools | tojson }}
Answer <tool_call>{"name": ..., "arguments": ...}</tool_call> to call one.<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
{{- '' }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_DTYPES: dict[Dtype, DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


@dataclass(frozen=True)
class Shape:
    """An architecture and its sizes. `num_unused_ids` at the end of the vocabulary have no tokenizer entry;
    all others have one, of which 259 are bytes and special tokens.

    `head_dim` None is hidden_size / num_heads. `rope_scaling` is written as config.json has it. `biased`: all
    products of a Llama have biases.
    """

    architecture: Architecture = "llama"
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int | None = None
    intermediate_size: int = 128
    vocab_size: int = 512
    num_unused_ids: int = 0
    tied: bool = False
    context_window_size: int = 2048
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    norm_eps: float = 1e-5
    biased: bool = False


def write_checkpoint(
    path: Path, shape: Shape = Shape(), *, seed: int = 0, dtype: Dtype = "float32", num_shards: int = 1
) -> Path:
    """Fill a directory, which is made if necessary, with config, tokenizer and weights, and return it.

    Several shards are written with an index, as large models on the hub have it.
    """
    path.mkdir(parents=True, exist_ok=True)
    end, start, stop = write_tokenizer(path, shape)
    _write_json(path / "config.json", _config(shape, dtype) | {"bos_token_id": start, "eos_token_id": stop})
    _write_json(path / "generation_config.json", {"eos_token_id": [stop, end], "do_sample": False})
    tensors = {
        name: _values(name, dimensions, shape, seed).astype(_DTYPES[dtype])
        for name, dimensions in tensor_shapes(shape)
    }
    _write_tensors(path, tensors, num_shards)
    return path


def write_tokenizer(path: Path, shape: Shape) -> list[int]:
    """Write a tokenizer for a shape's vocabulary, and return the ids of SPECIAL_TOKENS."""
    tokenizer = _tokenizer(shape)
    tokenizer.save(str(path / "tokenizer.json"))
    _write_json(path / "tokenizer_config.json", _tokenizer_config())
    return [tokenizer.get_vocab()[token] for token in SPECIAL_TOKENS]


def tensor_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and dimensions of each tensor, in the order of the layers."""
    yield "model.embed_tokens.weight", (shape.vocab_size, shape.hidden_size)
    for layer in range(shape.num_layers):
        for name, dimensions in _layer_shapes(shape):
            yield f"model.layers.{layer}.{name}", dimensions
    yield "model.norm.weight", (shape.hidden_size,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocab_size, shape.hidden_size)


def _layer_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    head_dim = shape.head_dim or hidden // shape.num_heads
    query, key = shape.num_heads * head_dim, shape.num_kv_heads * head_dim
    yield "input_layernorm.weight", (hidden,)
    for part, size in (("q", query), ("k", key), ("v", key)):
        bias = shape.biased or shape.architecture == "qwen2"
        yield from _product_shapes(f"self_attn.{part}_proj", size, hidden, bias)
    if shape.architecture == "qwen3":
        yield "self_attn.q_norm.weight", (head_dim,)
        yield "self_attn.k_norm.weight", (head_dim,)
    yield from _product_shapes("self_attn.o_proj", hidden, query, shape.biased)
    yield "post_attention_layernorm.weight", (hidden,)
    yield from _product_shapes("mlp.gate_proj", inner, hidden, shape.biased)
    yield from _product_shapes("mlp.up_proj", inner, hidden, shape.biased)
    yield from _product_shapes("mlp.down_proj", hidden, inner, shape.biased)


def _product_shapes(name: str, rows: int, depth: int, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, depth)
    if bias:
        yield f"{name}.bias", (rows,)


def _values(name: str, dimensions: tuple[int, ...], shape: Shape, seed: int) -> NDArray[np.float32]:
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(
        dimensions, dtype=np.float32
    )
    if name.endswith("norm.weight"):
        return (1 + 0.05 * normal).astype(np.float32)
    if name.endswith("bias"):
        return (0.1 * normal).astype(np.float32)
    normal *= shape.hidden_size**-0.5
    if dimensions[0] == shape.vocab_size:
        normal[shape.vocab_size - shape.num_unused_ids :] = 0  # never the likeliest token
    return normal


def _config(shape: Shape, dtype: Dtype) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": [_CLASSES[shape.architecture]],
        "model_type": shape.architecture,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context_window_size,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": shape.rope_scaling,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
        "torch_dtype": dtype,
    }
    if shape.biased:
        config |= {"attention_bias": True, "mlp_bias": True}
    if shape.head_dim is not None or shape.architecture == "qwen3":  # Qwen3's default is another
        config["head_dim"] = shape.head_dim or shape.hidden_size // shape.num_heads
    return config


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _tokenizer(shape: Shape) -> tokenizers.Tokenizer:
    """Byte-level BPE: the bytes, pairs of letters (and names that no text reaches, if there is room), the
    special tokens.
    """
    num_learned = shape.vocab_size - shape.num_unused_ids - len(SPECIAL_TOKENS)
    entries = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = list(product("Ġetaoinshrdlucmfwypvbgkjqxz", "etaoinshrdlucmfwypvbgkjqxz"))[
        : num_learned - len(entries)
    ]
    entries += [first + second for first, second in pairs]
    entries += [f"Ġ~{i}" for i in range(num_learned - len(entries))]
    vocabulary = {entry: token_id for token_id, entry in enumerate(entries[:num_learned])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _write_tensors(path: Path, tensors: dict[str, NDArray[Any]], num_shards: int) -> None:
    if num_shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {
        name: f"model-{i % num_shards + 1:05}-of-{num_shards:05}.safetensors"
        for i, name in enumerate(tensors)
    }
    for shard in sorted(set(weight_map.values())):
        part = {name: tensors[name] for name in tensors if weight_map[name] == shard}
        save_file(part, path / shard, metadata={"format": "pt"})
    size = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(
        path / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map}
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
