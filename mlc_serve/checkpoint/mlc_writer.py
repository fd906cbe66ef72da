"""Writes a model directory in MLC's form: weights fused and quantized, chat config, tokenizer files.

The name of a scheme says how its weights are stored. MLC can read the schemes that it has itself (q0f32,
q0f16, q0bf16, q4f16_1, q4f32_1, q3f16_1). q8f32_1 is not one of these, but is written by the same rules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.conversion import cast, plain_tensor
from mlc_serve.checkpoint.mlc import CONFIG_NAME, MLCCheckpoint
from mlc_serve.checkpoint.quantized_weights import read_quantized
from mlc_serve.checkpoint.sources import Sources
from mlc_serve.checkpoint.tensor_cache import ShardWriter
from mlc_serve.errors import CheckpointError
from mlc_serve.models.weight_changes import Reversible, Unchanged
from mlc_serve.models.weight_names import Part
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

_LARGEST_ROUTER = 256  # of which MLC does not quantize the matrix

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
            writer.add(stored_name, tensor)
            copy = sources.names.copy_in_mlc(stored_name)
            if copy is not None:
                writer.add(copy, tensor)
        progress(prod(shape))
    writer.close(sum(map(prod, shapes.values())))
    present = _copy_tokenizer(tokenizer_directory(checkpoint), directory)
    config = _chat_config(checkpoint, scheme, present)
    (directory / CONFIG_NAME).write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _stored(
    sources: Sources, name: str, shape: tuple[int, ...], scheme: Scheme
) -> Iterator[tuple[str, NDArray[Any]]]:
    """A weight as the scheme stores it, under MLC's names. A matrix of integers is two tensors."""
    if scheme.groups is None or not _is_product(name, shape):
        yield from _plain_parts(sources, _Plain(name, scheme.weight_dtype, shape))
        return
    weight = name.removesuffix(".weight")
    quantized = read_quantized(sources, weight, shape, scheme.groups)
    words = pack_words(quantized.stored, shape[1], scheme.groups)
    for tensor_name, tensor in ((f"{weight}.q_weight", words), (f"{weight}.q_scale", quantized.scale)):
        yield from _cut(sources.names.in_mlc(tensor_name), tensor)


def _is_product(name: str, shape: tuple[int, ...]) -> bool:
    """Whether MLC quantizes a weight: matrices and tables, except small ones that choose experts. The norms
    of several heads have two dimensions as well.
    """
    if name.endswith(("router.weight", "shared_gate.weight")):
        return shape[0] > _LARGEST_ROUTER
    return len(shape) == 2 and not name.endswith("norm.weight")


def _plain_parts(sources: Sources, spec: _Plain) -> Iterator[tuple[str, NDArray[Any]]]:
    """The tensors that MLC has for a weight in floating point. Values are changed in float32."""
    parts = sources.names.in_mlc(spec.name)
    if all(isinstance(part.change, Unchanged) for part in parts):
        yield from _cut(parts, plain_tensor(sources, spec))
        return
    for name, tensor in _cut(parts, plain_tensor(sources, replace(spec, dtype="float32"))):
        yield name, cast(sources, replace(spec, name=name), tensor)


def _cut(parts: Sequence[Part], rows: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Each part's name and its share of the rows, as they are stored."""
    first = 0
    for part in parts:
        end = len(rows) if part.num_rows is None else first + part.num_rows
        if not isinstance(part.change, Reversible):
            raise CheckpointError(f"{part.name} can't be written in MLC's form")
        yield part.name, part.change.undone(rows[first:end])
        first = end


def tokenizer_directory(checkpoint: Checkpoint) -> Path:
    """The directory of the tokenizer's files, which are copied. Raises CheckpointError if there are none."""
    if checkpoint.tokenizer_directory is None:
        raise CheckpointError(
            f"{checkpoint.directory}: a model in a GGUF file is served as it is, and can't be converted"
        )
    return checkpoint.tokenizer_directory


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
    """The model's own configuration, and the values that MLC reads under other names, if it states them."""
    base = _rope_base(config)
    return {
        **config,
        "context_window_size": _context_window(config),
        **({} if base is None else {"position_embedding_base": base}),
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
    }


def _rope_base(config: Mapping[str, Any]) -> Any:
    """The base of rotary positions, or that of the layers without a window if these have their own."""
    parameters = config.get("rope_parameters") or {}
    places = (config, parameters, parameters.get("full_attention") or {})
    stated = (place.get(key) for place in places for key in ("rope_theta", "rotary_emb_base"))
    return next((base for base in stated if base is not None), None)


def _context_window(config: Mapping[str, Any]) -> Any:
    keys = ("max_position_embeddings", "n_positions", "context_window_size")
    return next((config[key] for key in keys if config.get(key)), None)
