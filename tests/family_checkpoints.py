"""Writes small checkpoints of any family that transformers knows, with random weights, by transformers.

Biases are small and norms near their neutral value, so that every branch of a layer matters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.checkpoints import Shape, write_tokenizer

VOCAB_SIZE = 320
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def write_family(path: Path, model_type: str, keys: dict[str, Any], *, seed: int = 1) -> Any:
    """Fill a directory with a checkpoint of a model with SIZES, but for `keys`; a key that is None there is
    left out. Return transformers' model, in float32.
    """
    path.mkdir(parents=True, exist_ok=True)
    sizes = {key: value for key, value in {**SIZES, **keys}.items() if value is not None or key in SIZES}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **sizes)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _randomize(name, parameter)
        for name, buffer in model.named_buffers():
            if "correction" in name:
                _randomize(f"{name}_bias", buffer)
    model.save_pretrained(path)
    write_tokenizer(path, Shape(vocab_size=VOCAB_SIZE))
    return model


def _randomize(name: str, parameter: torch.Tensor) -> None:
    noise = torch.randn_like(parameter)
    if name.endswith("bias") or "sinks" in name:
        parameter.copy_(0.3 * noise)
    elif "norm" in name or "ln_" in name:
        parameter.add_(0.2 * noise)
    elif parameter.dim() >= 2:
        parameter.copy_(noise * parameter.shape[-1] ** -0.5)
