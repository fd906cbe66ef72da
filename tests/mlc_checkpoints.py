"""Writes small model directories in MLC's form: chat config, cache of records, binary shards, a tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from mlc_serve.quantization.scheme import find_scheme
from tests.quantization.reference import mlc_words
from tests.small_tokenizers import byte_level_bpe

CHAT_CONFIG: dict[str, Any] = {
    "version": "0.1.0",
    "model_type": "llama",
    "quantization": "q4f16_1",
    "model_config": {"hidden_size": 16, "num_hidden_layers": 1, "context_window_size": 512},
    "vocab_size": 300,
    "temperature": 0.6,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.0,
    "top_p": 0.95,
    "eos_token_id": [3, 4],
    "bos_token_id": 1,
    "pad_token_id": 0,
    "conv_template": {
        "name": "plain",
        "system_template": "{system_message}\n",
        "system_message": "Be brief.",
        "roles": {"user": "U", "assistant": "A"},
        "role_templates": {"user": "{user_message}", "assistant": "{assistant_message}"},
        "seps": ["\n"],
        "role_content_sep": ": ",
        "role_empty_sep": ":",
        "stop_str": ["U:"],
        "stop_token_ids": [4, 5],
    },
}

TENSORS: dict[str, NDArray[Any]] = {
    "model.embed_tokens.q_weight": np.arange(24, dtype=np.uint32).reshape(4, 6),
    "model.embed_tokens.q_scale": np.linspace(-1, 1, 8, dtype=np.float16).reshape(4, 2),
    "model.norm.weight": np.linspace(0, 3, 16, dtype=np.float32),
    "model.layers.0.mlp.zeros": np.arange(-8, 8, dtype=np.int8),
    "model.layers.0.input_layernorm.weight": np.linspace(0, 1, 16).astype(ml_dtypes.bfloat16),
}


def write_mlc_checkpoint(path: Path, *, cache_name: str = "tensor-cache.json", halved: bool = False) -> Path:
    """Write TENSORS in two shards, with CHAT_CONFIG, and return the directory. `halved` stores float32
    tensors as bfloat16, as MLC does for releases.
    """
    path.mkdir(parents=True, exist_ok=True)
    byte_level_bpe().save(str(path / "tokenizer.json"))
    (path / "mlc-chat-config.json").write_text(json.dumps(CHAT_CONFIG))
    names = list(TENSORS)
    parts = [{name: TENSORS[name] for name in part} for part in (names[:2], names[2:])]
    _write_shards(path / cache_name, parts, halved)
    return path


def write_packed_model(path: Path, source: Path, quantization: str, *, halved: bool = False) -> Path:
    """Write a Hugging Face directory's model as MLC converts it, fused and quantized; return the path.
    `halved` is as in write_mlc_checkpoint.
    """
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tokenizer.json", path)
    config = json.loads((source / "config.json").read_text())
    own = {"model_type": config["model_type"], "quantization": quantization, "model_config": config}
    (path / "mlc-chat-config.json").write_text(json.dumps(own))
    qkv = "c_attn" if config["model_type"] in ("qwen2", "qwen3") else "qkv_proj"
    tensors = dict(_packed(load_file(source / "model.safetensors"), quantization, qkv))
    _write_shards(path / "tensor-cache.json", [tensors], halved)
    return path


def _packed(
    tensors: Mapping[str, NDArray[Any]], quantization: str, qkv: str
) -> Iterator[tuple[str, NDArray[Any]]]:
    scheme = find_scheme(quantization)
    for name, tensor in _fused(tensors, qkv):
        if tensor.ndim == 2 and scheme.groups is not None:
            words, scale = mlc_words(tensor, scheme.groups)
            yield name.replace("weight", "q_weight"), words
            yield name.replace("weight", "q_scale"), scale
        else:
            yield name, tensor.astype(scheme.weight_dtype)


def _fused(tensors: Mapping[str, NDArray[Any]], qkv: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """All tensors, with fused matrices under MLC's names, of which `qkv` is one."""
    fused = {
        "q_proj": (qkv, ("q_proj", "k_proj", "v_proj")),
        "gate_proj": ("gate_up_proj", ("gate_proj", "up_proj")),
    }
    for name, tensor in tensors.items():
        own = name.split(".")[-2]
        if own in fused:
            new, parts = fused[own]
            yield name.replace(own, new), np.concatenate([tensors[name.replace(own, part)] for part in parts])
        elif own not in ("k_proj", "v_proj", "up_proj"):
            yield name, tensor


def _write_shards(cache: Path, parts: list[dict[str, NDArray[Any]]], halved: bool) -> None:
    shards = [_write_shard(cache.parent, number, part, halved) for number, part in enumerate(parts)]
    count = sum(len(part) for part in parts)
    metadata = {"ParamSize": count, "ParamBytes": 0, "BitsPerParam": 4.5}
    cache.write_text(json.dumps({"metadata": metadata, "records": shards}))


def _write_shard(path: Path, number: int, tensors: dict[str, NDArray[Any]], halved: bool) -> dict[str, Any]:
    data, records = b"", []
    for name, tensor in tensors.items():
        is_halved = halved and tensor.dtype == np.float32
        stored = tensor.astype(ml_dtypes.bfloat16) if is_halved else tensor
        records.append(
            {
                "name": name,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype),
                "format": "f32-to-bf16" if is_halved else "raw",
                "nbytes": stored.nbytes,
                "byteOffset": len(data),
            }
        )
        data += stored.tobytes()
    file = f"params_shard_{number}.bin"
    (path / file).write_bytes(data)
    return {
        "dataPath": file,
        "format": "raw-shard",
        "nbytes": len(data),
        "md5sum": "0" * 32,
        "records": records,
    }
