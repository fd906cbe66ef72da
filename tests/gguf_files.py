"""Writes the model of a Hugging Face directory as llama.cpp's programs do, with the package gguf, and
compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from mlc_serve.checkpoint.directory import open_checkpoint
from mlc_serve.loading.architecture import checked_architecture

_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}
_SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "head_dim": "attention.key_length",
}
_GEMMA_NAMES = {
    "pre_feedforward_layernorm": "ffn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}

TEXTS = (
    "Hello, world! 12 345",
    "Привет, мир",
    "你好，世界",
    "مرحبا",
    "  two  spaces\n\n\tand tabs",
    "👩‍👩‍👧",
    "<|im_start|>user\nhi<|im_end|>",
)


def write_gguf(
    directory: Path,
    file: Path,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    factors: NDArray[np.float32] | None = None,
    **metadata: Any,
) -> Path:
    """Write a file with the model of a directory, and return it. Matrices get this type of numbers. `factors`
    divide rotary frequencies, and `metadata` are further values, with __ for the dots in their keys.
    """
    model = open_checkpoint(directory)
    name = _ARCHITECTURES[model.model_type]
    writer = gguf.GGUFWriter(file, name)
    _add_sizes(writer, name, model.config)
    _add_tokens(writer, directory)
    for key, value in metadata.items():
        _add(writer, key.replace("__", "."), value)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for own in model.tensors.names:
        values = _changed(own, np.asarray(model.tensors.tensor(own), np.float32), model.config, name)
        if values.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(_stored_name(own, name), quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_stored_name(own, name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_sizes(writer: gguf.GGUFWriter, name: str, config: Mapping[str, Any]) -> None:
    for own, stored in _SIZES.items():
        if config.get(own) is not None and (own != "sliding_window" or name == "gemma3"):
            writer.add_uint32(f"{name}.{stored}", config[own])
    writer.add_float32(f"{name}.attention.layer_norm_rms_epsilon", config.get("rms_norm_eps", 1e-6))
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 1e6)
    writer.add_float32(f"{name}.rope.freq_base", theta)


def _add_tokens(writer: gguf.GGUFWriter, directory: Path) -> None:
    saved = json.loads((directory / "tokenizer.json").read_text())
    added = {entry["id"]: entry for entry in saved["added_tokens"]}
    texts = {token_id: text for text, token_id in saved["model"]["vocab"].items()}
    texts |= {token_id: entry["content"] for token_id, entry in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts[token_id] for token_id in range(len(texts))])
    writer.add_token_types(
        [3 if added.get(token_id, {}).get("special") else 1 for token_id in range(len(texts))]
    )
    writer.add_token_merges([" ".join(merge) for merge in saved["model"]["merges"]])
    writer.add_eos_token_id(saved["model"]["vocab"].get("<|im_end|>", 2))
    writer.add_chat_template("{{ messages[0].content }}")


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _stored_name(own: str, name: str) -> str:
    if name == "gemma3":
        for part, stored in _GEMMA_NAMES.items():
            if part in own:
                return f"blk.{own.split('.')[2]}.{stored}.weight"
    architecture = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    names = gguf.get_tensor_name_map(architecture, 64)
    found = names.get_name(own, try_suffixes=(".weight", ".bias"))
    assert found is not None, own
    return str(found)


def _changed(
    own: str, values: NDArray[np.float32], config: Mapping[str, Any], name: str
) -> NDArray[np.float32]:
    """The values in llama.cpp's order, and with its additions."""
    if name == "gemma3" and own.endswith("norm.weight"):
        return values + 1
    for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if name == "llama" and part in own:
            halves = values.reshape(config[heads], 2, -1, *values.shape[1:])
            return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
    return values


def assert_same_model(file: Path, directory: Path) -> None:
    """The architecture, the tensors and the tokens are the same."""
    own, expected = open_checkpoint(file), open_checkpoint(directory)
    assert checked_architecture(own) == checked_architecture(expected)
    assert set(own.tensors.names) == set(expected.tensors.names)
    for name in own.tensors.names:
        np.testing.assert_allclose(
            np.asarray(own.tensors.tensor(name), np.float32), expected.tensors.tensor(name), rtol=0, atol=3e-7
        )
    for text in TEXTS:
        assert own.tokenizer.encode(text, add_special_tokens=True) == expected.tokenizer.encode(
            text, add_special_tokens=True
        )
