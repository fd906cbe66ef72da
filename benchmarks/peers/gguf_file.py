"""Write a Llama checkpoint of Hugging Face's format as a GGUF file in bfloat16.

    python -m benchmarks.peers.gguf_file CHECKPOINT FILE

It runs in the peers' virtual environment, which has gguf and torch. A checkpoint without `lm_head.weight` has
tied embeddings: llama.cpp then uses the embedding as the output. Other architectures are refused.
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

from benchmarks.peers.gguf_names import Array, Config, gguf_name, interleaved, rope_factors, widened

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
    """Write header, vocabulary and tensors. Raises ValueError unless the checkpoint is a Llama model."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(f"{checkpoint} is a {config['model_type']} model; only llama is converted")
    writer = gguf.GGUFWriter(file, "llama")
    add_header(writer, config)
    add_vocabulary(writer, config, json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8")))
    if (factors := rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for name, bits in bfloat16_tensors(checkpoint):
        add_tensor(writer, name, bits, config)
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


def bfloat16_tensors(checkpoint: Path) -> Iterator[tuple[str, Array]]:
    """The name and the bit patterns (uint16) of each weight of a checkpoint."""
    for part in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(part, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # no mapping
                yield name, tensors.get_tensor(name).to(torch.bfloat16).view(torch.uint16).numpy()


def add_tensor(writer: Any, name: str, bits: Array, config: Config) -> None:
    """Add a weight. Vectors are stored in float32, in which llama.cpp uses them."""
    if bits.ndim == 1:
        writer.add_tensor(gguf_name(name), widened(bits))
        return
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    if (projection := name.split(".")[-2]) in heads:
        bits = interleaved(bits, heads[projection])
    kind = gguf.GGMLQuantizationType.BF16
    writer.add_tensor(gguf_name(name), np.ascontiguousarray(bits).view(np.uint8), raw_dtype=kind)


if __name__ == "__main__":
    main()
