"""Write a checkpoint of Hugging Face's format as a GGUF file in bfloat16.

    python -m benchmarks.peers.gguf_file CHECKPOINT FILE

It runs in the peers' virtual environment, which has gguf and torch. A checkpoint without `lm_head.weight` has
tied embeddings: llama.cpp then uses the embedding as the output. Families outside its table are refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from benchmarks.peers.gguf_names import (
    ROUTER,
    Array,
    Config,
    GgufFamily,
    expert_number,
    family_of,
    interleaved,
    rope_factors,
    widened,
    with_old_rotation,
)

# A vocabulary of single bytes has no merges, and llama.cpp requires one. This one yields no existing token.
IDLE_MERGE = "\u0120 \u0120"


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(options.checkpoint, options.file)


def write_gguf(checkpoint: Path, file: Path) -> None:
    """Write header, vocabulary and tensors. Raises ValueError for a family that isn't converted."""
    config = with_old_rotation(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")))
    family = family_of(config["model_type"])
    writer = gguf.GGUFWriter(file, family.architecture)
    add_header(writer, config)
    add_layer_header(writer, config)
    add_vocabulary(writer, config, json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8")))
    if (factors := rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for name, weight in gguf_tensors(checkpoint, family, config):
        add_tensor(writer, name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_header(writer: Any, config: Config) -> None:
    """Add the dimensions of the model."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_layer_header(writer: Any, config: Config) -> None:
    """Add what only some families have: a window and experts."""
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if "num_local_experts" in config:
        writer.add_expert_count(config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])


def add_vocabulary(writer: Any, config: Config, tokenizer: Mapping[str, Any]) -> None:
    """Add a byte-level BPE vocabulary. Ids without a token get a text that no input contains."""
    specials = {entry["id"]: entry["content"] for entry in tokenizer["added_tokens"]}
    texts = {index: text for text, index in tokenizer["model"]["vocab"].items()} | specials
    ids = range(config["vocab_size"])
    kinds = [gguf.TokenType.CONTROL if index in specials else gguf.TokenType.NORMAL for index in ids]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([texts.get(index, f"[unused{index}]") for index in ids])
    writer.add_token_types(kinds)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_token_merges(merges or [IDLE_MERGE])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def gguf_tensors(checkpoint: Path, family: GgufFamily, config: Config) -> Iterator[tuple[str, Array]]:
    """The GGUF name of each weight, and what GGUF stores of it.

    The matrices of the experts of a layer are one tensor, in the order of the experts.
    """
    names = {name: part for part in sorted(checkpoint.glob("*.safetensors")) for name in names_in(part)}
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=expert_number):
        groups.setdefault(family.name(name), []).append(name)
    for name, members in groups.items():
        weights = [stored(member, read_bits(names[member], member), family, config) for member in members]
        yield name, weights[0] if len(weights) == 1 else np.stack(weights)


def stored(name: str, bits: Array, family: GgufFamily, config: Config) -> Array:
    """A weight as GGUF stores it: bit patterns of bfloat16 (uint16), or float32 for vectors and routers, in
    which llama.cpp uses them.
    """
    if bits.ndim == 1:
        return widened(bits) + np.float32(1 if family.norms_less_one else 0)
    if f".{ROUTER}." in name:
        return widened(bits)
    projection = name.split(".")[-2]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    turned = family.turns_neighbours and projection in heads
    return np.ascontiguousarray(interleaved(bits, heads[projection]) if turned else bits)


def names_in(part: Path) -> list[str]:
    """The names of the weights in a file."""
    with safe_open(part, framework="pt") as tensors:
        return list(tensors.keys())


def read_bits(part: Path, name: str) -> Array:
    """The bit patterns of a weight in bfloat16."""
    with safe_open(part, framework="pt") as tensors:
        bits: Array = tensors.get_tensor(name).to(torch.bfloat16).view(torch.uint16).numpy()
        return bits


def add_tensor(writer: Any, name: str, weight: Array) -> None:
    """Add a weight that is float32, or bit patterns of bfloat16."""
    if weight.dtype == np.float32:
        writer.add_tensor(name, weight)
    else:
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor(name, weight.view(np.uint8), raw_dtype=kind)


if __name__ == "__main__":
    main()
