"""Loads a model that makes embeddings: an encoder, or a model that generates text."""

from __future__ import annotations

from mlc_serve.checkpoint.checkpoint import Checkpoint
from mlc_serve.checkpoint.pooling import MODULES_NAME, read_pooling
from mlc_serve.config import EngineConfig
from mlc_serve.engine.embedder import EmbeddingLimits
from mlc_serve.engine.pooling import Pooling, PoolingMode
from mlc_serve.errors import ConfigError
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.loading.artifacts import Report
from mlc_serve.loading.library import find_embedding_library
from mlc_serve.loading.weights import find_weights
from mlc_serve.models.families import is_encoder
from mlc_serve.runtime.device import DeviceName
from mlc_serve.runtime.encoder import EncoderEmbedder
from mlc_serve.runtime.library import ENCODER_FUNCTIONS, Library

# A batch this long keeps matrix products efficient, and inputs that arrive meanwhile do not wait long.
_BATCH_TOKENS = 1024


def makes_embeddings(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is made for embeddings: an encoder, or what sentence-transformers writes."""
    return is_encoder(checkpoint.model_type) or (checkpoint.directory / MODULES_NAME).is_file()


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
