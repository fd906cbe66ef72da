"""Writes a model directory in MLC's form: weights fused and quantized, chat config, tokenizer files.

The name of a scheme says how its weights are stored. MLC can read the schemes that it has itself (q0f32,
q0f16, q0bf16, q4f16_1, q4f32_1, q3f16_1). q8f32_1 is not one of these, but is written by the same rules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.conversion import plain_tensor
from mlc_serve.checkpoint.mlc import CONFIG_NAME, MLCCheckpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.checkpoint.tensor_cache import ShardWriter
from mlc_serve.quantization.groups import pack_words
from mlc_serve.quantization.scheme import Scheme

# MLC lists the tokenizer's files in the chat config. Only this package reads the others.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)
_TEMPLATE_FILES = ("special_tokens_map.json", "chat_template.jinja", "additional_chat_templates")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Plain:
    """Implements conversion.WantedTensor: a tensor in floating point."""

    name: str
    dtype: str
    logical_shape: tuple[int, ...]
    layout: str = "plain"


def write_mlc_directory(
    sources: Sources, shapes: Shapes, scheme: Scheme, directory: Path, progress: Callable[[int], object]
) -> None:
    """Fill `directory`. `shapes` has the shapes of the architecture's weights. `progress` is called with the
    number of weights written since the last call.

    Raises CheckpointError as `conversion.convert` does.
    """
    checkpoint = sources.checkpoint
    writer = ShardWriter(directory)
    for name, shape in shapes.items():
        for stored_name, tensor in _stored(sources, name, shape, scheme):
            writer.add(sources.names.in_mlc(stored_name), tensor)
        progress(prod(shape))
    writer.close(sum(map(prod, shapes.values())))
    present = _copy_tokenizer(checkpoint.tokenizer_directory, directory)
    config = _chat_config(checkpoint, scheme, present)
    (directory / CONFIG_NAME).write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _stored(
    sources: Sources, name: str, shape: tuple[int, ...], scheme: Scheme
) -> Iterator[tuple[str, NDArray[Any]]]:
    """A weight as the scheme stores it. A matrix of integers is two tensors."""
    if scheme.groups is None or len(shape) == 1:
        yield name, plain_tensor(sources, _Plain(name, scheme.weight_dtype, shape))
        return
    weight = name.removesuffix(".weight")
    quantized = read_quantized(sources, weight, shape, scheme.groups)
    yield f"{weight}.q_weight", pack_words(quantized.stored, shape[1], scheme.groups)
    yield f"{weight}.q_scale", quantized.scale


def _copy_tokenizer(source: Path, directory: Path) -> list[str]:
    """Copy the files that exist, and return the names of those that belong to the tokenizer."""
    for name in (*_TOKENIZER_FILES, *_TEMPLATE_FILES):
        if (source / name).is_dir():
            shutil.copytree(source / name, directory / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, directory / name)
    return [name for name in _TOKENIZER_FILES if (directory / name).exists()]


def _chat_config(checkpoint: Checkpoint, scheme: Scheme, tokenizer_files: list[str]) -> dict[str, Any]:
    """The content of mlc-chat-config.json. An MLC directory keeps its own, but with the new scheme."""
    if isinstance(checkpoint, MLCCheckpoint):
        return checkpoint.chat_config | {"quantization": scheme.name}
    config, defaults = checkpoint.config, checkpoint.generation_defaults()
    sampling = {
        "temperature": defaults.temperature,
        "top_p": defaults.top_p,
        "top_k": defaults.top_k,
        "min_p": defaults.min_p,
        "repetition_penalty": defaults.repetition_penalty,
        "presence_penalty": defaults.presence_penalty,
        "frequency_penalty": defaults.frequency_penalty,
    }
    return {
        "version": "0.1.0",
        "model_type": checkpoint.model_type,
        "quantization": scheme.name,
        "model_config": _model_config(config),
        "vocab_size": config.get("vocab_size"),
        "context_window_size": _context_window(config),
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        **{name: value for name, value in sampling.items() if value is not None},
        "tokenizer_files": tokenizer_files,
        "eos_token_id": sorted(defaults.eos_token_ids),
        "bos_token_id": config.get("bos_token_id"),
        "pad_token_id": config.get("pad_token_id"),
    }


def _model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own configuration, and the values that MLC reads under other names."""
    rope = config.get("rope_parameters") or {}
    return {
        **config,
        "context_window_size": _context_window(config),
        "position_embedding_base": config.get("rope_theta") or rope.get("rope_theta") or 10000.0,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
    }


def _context_window(config: Mapping[str, Any]) -> Any:
    return config.get("max_position_embeddings") or config.get("context_window_size")
