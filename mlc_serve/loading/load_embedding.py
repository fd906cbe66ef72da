"""Loads a model that makes embeddings: an encoder, or a model that generates text."""

from __future__ import annotations

from dataclasses import replace

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.pooling import read_pooling
from mlc_serve.config import EngineConfig
from mlc_serve.engine.embedder import EmbeddingLimits
from mlc_serve.engine.limits import EngineLimits
from mlc_serve.engine.pooling import Pooling, PoolingMode
from mlc_serve.errors import ConfigError
from mlc_serve.host.memory import free_host_bytes
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.chosen_limits import choose_limits
from mlc_serve.loading.library import find_embedding_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.models.config_values import size
from mlc_serve.runtime.decoder_embedder import DecoderEmbedder
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.encoder import EncoderEmbedder
from mlc_serve.runtime.library import DECODER_EMBEDDING_FUNCTIONS, ENCODER_FUNCTIONS, Library

# The longest input of a model that generates text, unless a longer one is set: its KV cache takes memory.
_LONGEST_INPUT = 8192
_BATCH_INPUTS = 32
# A batch this long keeps matrix products efficient, and inputs that arrive meanwhile do not wait long.
_BATCH_TOKENS = 1024


def load_encoder(
    config: EngineConfig, name: str, checkpoint: Checkpoint, device: str, report: Report
) -> LoadedEmbeddingModel:
    """Load an encoder, which runs on the CPU. Raises StartupError."""
    if device not in ("auto", "cpu"):
        report(f"{name} is an encoder, which runs on the CPU, not on {device}.")
    pooling = read_pooling(checkpoint.directory, PoolingMode.MEAN)
    tokenizer = checkpoint.tokenizer
    library = find_embedding_library(config, checkpoint, DeviceName("cpu"), ENCODER_FUNCTIONS, report)
    limits = _limits(config, library, pooling)
    check_memory(name, library.param_bytes, sum(library.metadata["memory_usage"].values()), free_host_bytes())
    weights = find_weights(checkpoint, library, report)
    return LoadedEmbeddingModel(
        name=name,
        device="cpu",
        quantization=library.quantization,
        embedder=EncoderEmbedder(library, weights, pooling),
        limits=limits,
        tokenizer=tokenizer,
        vocab_size=int(library.metadata["vocab_size"]),
    )


def check_memory(name: str, param_bytes: int, workspace_bytes: int, free: int) -> None:
    """Raise ConfigError if the weights and the activations of a pass need more bytes than are free."""
    if param_bytes + workspace_bytes > free:
        raise ConfigError(
            f"{name}: not enough memory for an encoder: its weights take {param_bytes >> 20} MiB and a pass "
            f"{workspace_bytes >> 20} MiB, and {free >> 20} MiB are free. Free some memory, or serve a "
            "smaller model or q0f16"
        )


def load_decoder(
    config: EngineConfig, name: str, checkpoint: Checkpoint, place: DeviceName, report: Report
) -> LoadedEmbeddingModel:
    """Load a model that generates text, to make embeddings of its hidden states. Raises StartupError."""
    pooling = read_pooling(checkpoint.directory, PoolingMode.LAST)
    tokenizer = checkpoint.tokenizer
    library = find_embedding_library(config, checkpoint, place, DECODER_EMBEDDING_FUNCTIONS, report)
    limits = choose_limits(_sized(config, pooling), library.info, place, report)
    weights = find_weights(checkpoint, library, report)
    width = size(checkpoint.config, "hidden_size")
    return LoadedEmbeddingModel(
        name=name,
        device=str(place),
        quantization=library.quantization,
        embedder=DecoderEmbedder(library, weights, width, limits, pooling),
        limits=_batch_limits(limits, library.info.page_size),
        tokenizer=tokenizer,
        vocab_size=library.info.vocab_size,
        end_id=_end_id(checkpoint),
    )


def _sized(config: EngineConfig, pooling: Pooling) -> EngineConfig:
    """The configuration with limits that suit embeddings, where it sets none."""
    longest = min(_LONGEST_INPUT, pooling.max_tokens or _LONGEST_INPUT)
    return replace(
        config,
        max_num_sequence=config.max_num_sequence or _BATCH_INPUTS,
        context_window_limit=config.context_window_limit or longest,
    )


def _batch_limits(limits: EngineLimits, page_size: int) -> EmbeddingLimits:
    """Limits of batches whose inputs fit into the KV cache, where each may leave a page half empty."""
    total = limits.max_total_sequence_length
    most_tokens = min(limits.prefill_chunk_size, max(total // 2, 1))
    return EmbeddingLimits(
        context_length=limits.max_single_sequence_length,
        max_batch_tokens=most_tokens,
        max_batch_inputs=max(min(limits.max_num_sequence, (total - most_tokens) // page_size), 1),
        max_queued_requests=limits.max_queued_requests,
    )


def _end_id(checkpoint: Checkpoint) -> int | None:
    """The end token to put after each text; None if the tokenizer does it, or if there is none."""
    encode = checkpoint.tokenizer.encode
    alone, around = encode("a", add_special_tokens=False), encode("a", add_special_tokens=True)
    if around[-len(alone) :] != alone:
        return None
    ends = checkpoint.config.get("eos_token_id")
    first = ends[0] if isinstance(ends, list) and ends else ends
    return first if isinstance(first, int) else None


def _limits(config: EngineConfig, library: Library, pooling: Pooling) -> EmbeddingLimits:
    window = int(library.metadata["context_window_size"])
    wanted = config.max_single_sequence_length
    if wanted is not None and wanted > window:
        raise ConfigError(f"context_window_size={wanted} exceeds the {window} positions of the model")
    context = wanted or min(window, pooling.max_tokens or window, config.context_window_limit or window)
    chunk = int(library.metadata["prefill_chunk_size"])
    most_inputs = int(library.metadata["max_batch_size"])
    return EmbeddingLimits(
        context_length=context,
        max_batch_tokens=min(config.prefill_chunk_size or _BATCH_TOKENS, chunk),
        max_batch_inputs=min(config.max_num_sequence or most_inputs, most_inputs),
        max_queued_requests=config.max_queued_requests,
    )
