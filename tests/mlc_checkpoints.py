"""Writes small model directories in MLC's form: chat config, cache of records, binary shards, a byte
tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

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
    """TENSORS in two shards, under CHAT_CONFIG; `halved` stores float32 tensors as bfloat16, as MLC does for
    releases.
    """
    path.mkdir(parents=True, exist_ok=True)
    byte_level_bpe().save(str(path / "tokenizer.json"))
    (path / "mlc-chat-config.json").write_text(json.dumps(CHAT_CONFIG))
    names = list(TENSORS)
    shards = [_write_shard(path, k, part, halved) for k, part in enumerate((names[:2], names[2:]))]
    cache = {"metadata": {"ParamSize": len(names), "ParamBytes": 0, "BitsPerParam": 4.5}, "records": shards}
    (path / cache_name).write_text(json.dumps(cache))
    return path


def _write_shard(path: Path, number: int, names: list[str], halved: bool) -> dict[str, Any]:
    data, records = b"", []
    for name in names:
        tensor = TENSORS[name]
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
